"""The server over Streamable HTTP, without sessions: each request is a server of its own, for its client.

Answers are JSON, not streams: nothing here takes long or has progress to tell.

Source: https://modelcontextprotocol.io/specification/2026-07-28/basic/transports
"""

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from collector.mcp.server import ServedTools, server_of

MAX_BODY_BYTES = 1024 * 1024


class McpResponse(Response):
    """The answer to one request, made while it is sent. Host, Origin and client are checked before."""

    def __init__(self, served: ServedTools) -> None:
        super().__init__()
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the request and answer it."""
        manager = StreamableHTTPSessionManager(
            server_of(self._served), json_response=True, stateless=True, max_request_body_size=MAX_BODY_BYTES
        )
        async with manager.run():
            await manager.handle_request(_trimmed(scope), receive, send)


def _trimmed(scope: Scope) -> Scope:
    """Header values without the spaces around them (RFC 9110, section 5.5): the SDK compares them."""
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
