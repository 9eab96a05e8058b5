"""The route of the Model Context Protocol where it can't answer, and requests within the process."""

import json
import sys
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from collector.api import mcp
from collector.api.in_process import WHOLE_APP, asking_as
from collector.mcp.asking import Question
from collector.settings import McpSettings
from tests.support.answers import own_app_with

GIVEN = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/-/mcp",
    "raw_path": b"/-/mcp",
    "query_string": b"",
    "scheme": "http",
    "server": ("127.0.0.1", 4318),
    "client": ("192.0.2.1", 1),
    "headers": [
        (b"host", b"sidespan.example.com"),
        (b"authorization", b"Bearer secret"),
        (b"content-length", b"999"),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"gzip"),
        (b"mcp-name", b"get_trace"),
    ],
}


async def status_of(app: Any) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**GIVEN, WHOLE_APP: app}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]


async def test_switched_off_it_is_not_there() -> None:
    app = own_app_with(mcp.ROUTES, mcp=McpSettings(enabled=False))
    status, error = await status_of(app)
    assert (status, error["parameter"]) == (404, "mcp.enabled")


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(_: str) -> None:
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")

    monkeypatch.delitem(sys.modules, mcp.SERVING, raising=False)
    monkeypatch.setattr(mcp, "import_module", import_module)
    status, error = await status_of(own_app_with(mcp.ROUTES, mcp=McpSettings()))
    assert status == 501
    assert "pip install 'sidespan[server,mcp]'" in error["message"]


async def asked(question: Question) -> tuple[Scope, bytes]:
    """The request within the process, as the app gets it."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, (await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        await send({"type": "http.response.body", "body": b"}"})

    reply = await asking_as({**GIVEN, WHOLE_APP: app})(question)
    assert (reply.status, reply.body) == (200, b"{}")
    return seen[0], seen[1]


async def test_a_request_within_the_process_is_the_clients_own() -> None:
    scope, body = await asked(Question(path="/-/sessions/a b/ü", query={"limit": ["1"], "x": ["a", "b"]}))
    assert (scope["method"], scope["path"], body) == ("GET", "/-/sessions/a b/ü", b"")
    assert scope["raw_path"] == b"/-/sessions/a%20b/%C3%BC"
    assert scope["query_string"] == b"limit=1&x=a&x=b"
    assert (scope["client"], scope["scheme"]) == (GIVEN["client"], "http")
    assert scope["headers"] == [
        (b"host", b"sidespan.example.com"),
        (b"authorization", b"Bearer secret"),
        (b"accept", b"application/json"),
        (b"content-type", b"application/json"),
    ]


async def test_a_document_is_posted_with_its_length() -> None:
    scope, body = await asked(Question(path="/api", document={"a": 1}))
    assert (scope["method"], json.loads(body)) == ("POST", {"a": 1})
    assert (b"content-length", str(len(body)).encode()) in scope["headers"]
    assert sum(name == b"content-length" for name, _ in scope["headers"]) == 1
