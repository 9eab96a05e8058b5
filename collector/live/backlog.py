"""What waits for one reader, within bounds: the oldest goes first, and is counted. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from collector.live.frames import missed_event


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Events that were found together, encoded once for all readers who get them.

    `missed` others came before them and are not here; None: nobody knows how many.
    """

    events: int
    data: bytes
    missed: int | None = 0


@dataclass(slots=True)
class Backlog:
    """At most `max_events` and `max_bytes`, but always the newest chunk."""

    max_events: int
    max_bytes: int
    events: int = 0
    size_bytes: int = 0
    _chunks: deque[Chunk] = field(default_factory=deque)
    # before the first chunk
    _missed: int | None = 0

    def __bool__(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._chunks)

    def add(self, chunk: Chunk) -> None:
        """Put events behind the others; the oldest make room."""
        if not chunk.events and chunk.missed == 0:
            return
        self._chunks.append(chunk)
        self.events += chunk.events
        self.size_bytes += len(chunk.data)
        while len(self._chunks) > 1 and self._is_over():
            self._drop()

    def take(self) -> bytes:
        """What there is to tell, in order; nothing of it waits any more."""
        told = b"".join(self._told())
        self._chunks.clear()
        self.events = self.size_bytes = 0
        self._missed = 0
        return told

    def _told(self) -> Iterator[bytes]:
        before = self._missed
        for chunk in self._chunks:
            missed = _sum(before, chunk.missed)
            if missed != 0:
                yield missed_event(missed)
            yield chunk.data
            before = 0

    def _is_over(self) -> bool:
        return self.events > self.max_events or self.size_bytes > self.max_bytes

    def _drop(self) -> None:
        chunk = self._chunks.popleft()
        self.events -= chunk.events
        self.size_bytes -= len(chunk.data)
        self._missed = _sum(self._missed, chunk.missed, chunk.events)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
