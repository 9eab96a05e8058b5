"""A body is as long as its Content-Length says, or the request is refused.

A server that loses count of a body hands on less than the client sent; MLflow or a path of our own would
take the rest for the whole. Source: RFC 9112, section 8.
"""

from starlette.types import Message, Receive, Scope

from proxy.errors import bad_request
from proxy.headers import header_of


def whole(scope: Scope, receive: Receive) -> Receive:
    """`receive`, which raises Refusal (400) where the body ends at another length than Content-Length."""
    length = header_of(scope["headers"], b"content-length") or ""
    if not length.isdigit():
        return receive
    declared = int(length)
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > declared or (size < declared and not message.get("more_body", False)):
                raise bad_request(f"the body has {size} bytes, Content-Length says {declared}")
        return message

    return counted
