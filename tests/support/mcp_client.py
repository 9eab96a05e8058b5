"""The SDK's own client, connected to a running service."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.sidespan import Sidespan

# how the client says which revision it speaks
REVISIONS = {"2025-11-25": "legacy", "2026-07-28": "2026-07-28"}


@asynccontextmanager
async def connected(
    service: Sidespan, *, token: str | None = None, revision: str = "2026-07-28"
) -> AsyncIterator[Client]:
    """A client that speaks one revision."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        transport = streamable_http_client(f"{service.url}/-/mcp", http_client=http)
        async with Client(transport, mode=REVISIONS[revision], cache=None) as client:  # type: ignore[arg-type]
            yield client


async def call(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a tool, which must succeed; its text is the same."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    document: dict[str, Any] = result.structured_content
    assert json.loads(result.content[0].text) == document  # type: ignore[union-attr]
    return document


async def refused(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    """The error of a tool, which must fail."""
    result = await client.call_tool(name, arguments)
    assert result.is_error, result.structured_content
    error: dict[str, Any] = json.loads(result.content[0].text)["error"]  # type: ignore[union-attr]
    return error
