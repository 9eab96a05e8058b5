"""Where a body is read, by its size once it is inflated.

up to             16 kB    on the event loop, whatever it is
                  64 kB    protobuf: there too; it takes less than 0.1 s whatever is in it
                   2 MiB   protobuf: there too if a sample says that it is mostly text, one at a time
                 256 kB    JSON and what is redacted: in a thread
over that, and what turns out to take long        in the decoder's process
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from collector.otlp.media import Encoding, OverLimit, inflate
from collector.receivers.ingest import Encoded, Prepare, Reserve
from collector.receivers.prepare import SMALL_BYTES, Prepared, Rules, prepare_quickly, prepare_whole

SMALL_TEXT_BYTES = 16 * 1024
SMALL_PACKED_BYTES = 16 * 1024
MIDDLE_BYTES = 2 * 1024 * 1024
MIDDLE_TEXT_BYTES = 256 * 1024

# reads what doesn't belong here
Elsewhere = Callable[[Encoded, Reserve], Awaitable[Prepared]]


def placing(rules: Rules, elsewhere: Elsewhere | None = None) -> Prepare:
    """How exports are read. `elsewhere` None: large ones in a thread (tests)."""
    place = _Place(rules, elsewhere or in_thread(rules))
    return place.prepare


def in_thread(rules: Rules) -> Elsewhere:
    """Reading in a thread of this process."""

    async def prepare(request: Encoded, reserve: Reserve) -> Prepared:
        prepared = await _in_thread(request, request.chunks, request.content_encoding, rules)
        if request.content_encoding:
            reserve(sum(len(draft.payload) for _, draft in prepared.drafts))
        return prepared

    return prepare


async def _in_thread(
    request: Encoded, chunks: Sequence[bytes], content_encoding: str | None, rules: Rules
) -> Prepared:
    encoding, headers, client = request.encoding, request.headers, request.sender.name
    return await asyncio.to_thread(
        partial(prepare_whole, client=client, signal=request.signal),
        *(list(chunks), encoding, content_encoding, headers, rules),
    )


class _Place:
    def __init__(self, rules: Rules, elsewhere: Elsewhere) -> None:
        self._rules = rules
        self._elsewhere = elsewhere
        self._all_text = rules.redact is not None
        self._turn = asyncio.Lock()

    async def prepare(self, request: Encoded, reserve: Reserve) -> Prepared:
        """What the export holds. Raises Rejected, Unavailable."""
        chunks = request.chunks
        if request.content_encoding:
            body = await self._inflated(request, request.content_encoding)
            if body is None:
                return await self._elsewhere(request, reserve)
            reserve(len(body))
            chunks = (body,)
        size = sum(map(len, chunks))
        if size <= (SMALL_TEXT_BYTES if self._is_text(request) else SMALL_BYTES):
            prepared = self._quickly(request, chunks)
        else:
            prepared = await self._prepare_middle(request, chunks, size)
        return prepared or await self._elsewhere(request, reserve)

    async def _inflated(self, request: Encoded, coding: str) -> bytes | None:
        """The body, or None if it is large. zlib and zstd let others run while they work in a thread."""
        limit = self._rules.limits.max_body_bytes
        size = sum(map(len, request.chunks))
        if size <= SMALL_PACKED_BYTES:
            packed = b"".join(request.chunks)
            body = _inflated_up_to(packed, coding, min(SMALL_BYTES, limit), limit)
            if body is not None:
                return body
        middle = MIDDLE_TEXT_BYTES if self._is_text(request) else MIDDLE_BYTES
        if size > middle:
            return None
        packed = b"".join(request.chunks)
        return await asyncio.to_thread(_inflated_up_to, packed, coding, min(middle, limit), limit)

    async def _prepare_middle(self, request: Encoded, chunks: Sequence[bytes], size: int) -> Prepared | None:
        if self._is_text(request):
            if size > MIDDLE_TEXT_BYTES:
                return None
            return await _in_thread(request, chunks, None, self._rules)
        return await self._in_turn(request, chunks) if size <= MIDDLE_BYTES else None

    async def _in_turn(self, request: Encoded, chunks: Sequence[bytes]) -> Prepared | None:
        async with self._turn:  # so that several of these never keep the loop from looking at its sockets
            prepared = self._quickly(request, chunks)
            await asyncio.sleep(0)
            return prepared

    def _quickly(self, request: Encoded, chunks: Sequence[bytes]) -> Prepared | None:
        client = request.sender.name
        return prepare_quickly(chunks, request.encoding, request.headers, self._rules, client, request.signal)

    def _is_text(self, request: Encoded) -> bool:
        """Whether it takes Python to read it."""
        return self._all_text or request.encoding is Encoding.JSON


def _inflated_up_to(packed: bytes, coding: str, bound_bytes: int, limit_bytes: int) -> bytes | None:
    """The body, or None if it is over the bound. Raises Rejected."""
    try:
        return inflate(packed, coding, limit_bytes=bound_bytes)
    except OverLimit:
        if bound_bytes == limit_bytes:
            raise
        return None
