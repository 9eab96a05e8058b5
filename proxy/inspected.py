"""A request's body where a decision needs it: read once, within a bound."""

from starlette.types import Message, Receive, Scope

from proxy.errors import too_large
from proxy.headers import header_of
from proxy.stream import ClientGone


class Inspected:
    """A body that a decision may need: read once, within a bound."""

    def __init__(self, limit_bytes: int, receive: Receive) -> None:
        self._limit_bytes = limit_bytes
        self._receive = receive
        self.content: bytes | None = None

    async def read(self) -> bytes:
        """The whole body. Raises Refusal (413), ClientGone."""
        if self.content is None:
            chunks: list[bytes] = []
            size, more = 0, True
            while more:
                message: Message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(chunk)
                if size > self._limit_bytes:
                    raise too_large(
                        f"a body that the decision depends on may have {self._limit_bytes} bytes "
                        "(proxy.max_inspected_bytes); send it in parts"
                    )
                chunks.append(chunk)
            self.content = b"".join(chunks)
        return self.content


def has_body(scope: Scope) -> bool:
    """RFC 9112, section 6.3: a request has a body if and only if one of these headers says so."""
    if header_of(scope["headers"], b"transfer-encoding") is not None:
        return True
    return (header_of(scope["headers"], b"content-length") or "0") != "0"
