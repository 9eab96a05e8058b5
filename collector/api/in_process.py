"""Requests to our own port within the process, in the name of the client of another request.

They go through the same checks as any other: the same Host, credentials and peer, the same policy.
"""

import asyncio
import json

from starlette.types import ASGIApp, Message, Scope

from collector.mcp.asking import Ask, Question, Reply

# in the scope of a request for us: the app that answers every path of the port
WHOLE_APP = "sidespan.app"
# of the body that was sent, or of how its answer may be written
NOT_PASSED_ON = frozenset(
    {b"accept", b"accept-encoding", b"content-encoding", b"content-length", b"content-type", b"expect"}
    | {b"transfer-encoding"}
)
PASSED_ON = ("type", "asgi", "http_version", "scheme", "server", "client")
HEADERS = ((b"accept", b"application/json"), (b"content-type", b"application/json"))


def asking_as(scope: Scope) -> Ask:
    """Asks our own port in the name of the client of this request."""
    app: ASGIApp = scope[WHOLE_APP]

    async def ask(question: Question) -> Reply:
        body = b"" if question.document is None else json.dumps(question.document).encode()
        return await _asked(app, _scope(scope, question, body), body)

    return ask


def _scope(scope: Scope, question: Question, body: bytes) -> Scope:
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in NOT_PASSED_ON and not name.lower().startswith(b"mcp-")
    ]
    length = [(b"content-length", str(len(body)).encode())] if body else []
    return {
        **{name: scope[name] for name in PASSED_ON if name in scope},
        "method": question.method,
        "path": question.path,
        "raw_path": question.quoted_path.encode(),
        "query_string": question.query_string.encode(),
        "root_path": "",
        "headers": [*headers, *HEADERS, *length],
    }


async def _asked(app: ASGIApp, scope: Scope, body: bytes) -> Reply:
    """The whole answer. Who asks doesn't leave before it is there."""
    requests = iter([{"type": "http.request", "body": body, "more_body": False}])
    status, parts = 500, list[bytes]()

    async def receive() -> Message:
        given = next(requests, None)
        if given is None:
            await asyncio.Event().wait()
        assert given is not None
        return given

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return Reply(status=status, body=b"".join(parts))
