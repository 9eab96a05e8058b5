"""The journal's honest twin in memory, for tests and benchmarks: the same promises, but for the disk."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from collector.journal import NOTHING, JournalState, PendingLane
from collector.model.batch import FOREIGN_TRACE, DeadLetter, Draft, Entry, Parked, merge
from collector.model.errors import JournalClosed, Reason, Unavailable

ISOLATE_FROM_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    target: str
    client: str = ""
    delivered: bool = False


class MemoryJournal:
    """See the protocol. `crash` does what a killed process does to marks."""

    def __init__(
        self,
        *,
        consumers: Sequence[str] = ("delivery",),
        max_bytes: int = 2**62,
        retention_seconds: float = 0.0,
    ) -> None:
        self.appended = asyncio.Event()
        self._consumers = consumers
        self._max_bytes = max_bytes
        self._retention_ns = int(retention_seconds * 1e9)
        self._entries: list[Entry] = []
        self._sequence = 0
        self._cursors: dict[tuple[str, str], int] = {}
        self._marks: dict[tuple[str, str], int] = {}
        self._claims: dict[bytes, _Claim] = {}
        self._notes: dict[tuple[str, bytes], bytes] = {}
        self._letters: dict[int, DeadLetter] = {}
        self._letter_id = 0
        self._closed = False

    @property
    def refusing(self) -> str | None:
        return f"the journal is full ({self._size()} bytes)" if self._size() >= self._max_bytes else None

    async def append(self, drafts: Sequence[Draft]) -> int:
        self._check_open()
        if self.refusing:
            raise Unavailable(Reason.JOURNAL_FULL, f"{self.refusing}; send it again")
        for draft in merge(drafts):
            self._add(draft, received_unix_ns=time.time_ns())
        self._announce()
        return self._sequence

    async def pending(self, consumer: str, *, behind: str | None = None) -> list[PendingLane]:
        self._check_open()
        first: dict[str, Entry] = {}
        for entry in self._entries:
            if self._cursor(consumer, entry.lane) < entry.sequence <= self._bound(behind, entry.lane):
                first.setdefault(entry.lane, entry)
        return [
            PendingLane(lane=lane, first_sequence=e.sequence, first_received_unix_ns=e.received_unix_ns)
            for lane, e in first.items()
        ]

    async def read(
        self,
        consumer: str,
        lane: str,
        *,
        limit_bytes: int,
        after: int | None = None,
        behind: str | None = None,
    ) -> list[Entry]:
        self._check_open()
        found: list[Entry] = []
        total = 0
        for entry in self._after(consumer, lane) if after is None else self._behind(lane, after):
            if entry.sequence > self._bound(behind, lane):
                break
            total += len(entry.payload)
            alone = entry.attempts >= ISOLATE_FROM_ATTEMPTS
            if found and (total > limit_bytes or alone):
                break
            found.append(entry)
            if alone:
                break
        return found

    async def begin(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        claims: Mapping[bytes, str],
        clients: Mapping[bytes, str] = NOTHING,
    ) -> Mapping[bytes, str]:
        self._check_open()
        self._marks[consumer, lane] = through
        for trace_id, target in claims.items():
            claim = _Claim(target=target, client=clients.get(trace_id, ""))
            held = self._claims.setdefault(trace_id, claim)
            if not held.delivered and held.client != claim.client:
                self._claims[trace_id] = claim
        return {trace_id: self._claims[trace_id].target for trace_id in claims}

    async def processed(self, consumer: str, lane: str) -> None:
        self._check_open()
        self._marks.pop((consumer, lane), None)

    async def commit(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        parked: Sequence[Parked] = (),
        first: int | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
    ) -> None:
        self._check_open()
        self._marks.pop((consumer, lane), None)
        waiting = self._after(consumer, lane)
        if first is not None and waiting and waiting[0].sequence < first:
            return
        self._cursors[consumer, lane] = max(self._cursor(consumer, lane), through)
        self._notes |= {(consumer, trace_id): note for trace_id, note in (remember or {}).items()}
        for trace_id, target in delivered.items():
            if trace_id not in self._claims or not self._claims[trace_id].delivered:
                self._claims[trace_id] = _Claim(target=target, delivered=True)
        for part in parked:
            self._letter_id += 1
            self._letters[self._letter_id] = DeadLetter(
                id=self._letter_id,
                parked_unix_ns=time.time_ns(),
                size_bytes=len(part.payload),
                **{field.name: getattr(part, field.name) for field in fields(Parked)},
            )
        self._sweep()
        self._announce()

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        self._check_open()
        return {id: self._notes[consumer, id] for id in trace_ids if (consumer, id) in self._notes}

    async def state(self, consumer: str) -> JournalState:
        self._check_open()
        waiting = [e for e in self._entries if e.sequence > self._cursor(consumer, e.lane)]
        return JournalState(
            size_bytes=self._size(),
            pending_entries=len(waiting),
            pending_spans=sum(entry.span_count for entry in waiting),
            oldest_received_unix_ns=min((entry.received_unix_ns for entry in waiting), default=None),
            dead_letters=len(self._letters),
            dead_letter_spans=sum(letter.span_count for letter in self._letters.values()),
        )

    async def find(self, trace_id: bytes) -> list[bytes]:
        self._check_open()
        return [holder.payload for holder in self._holders(trace_id)]

    async def lanes_of(self, trace_id: bytes) -> list[str]:
        self._check_open()
        return [holder.lane for holder in self._holders(trace_id)]

    async def replay(self, consumer: str, *, since_unix_ns: int) -> int:
        self._check_open()
        again = 0
        for lane in {entry.lane for entry in self._entries}:
            cursor = self._cursor(consumer, lane)
            of_lane = [e for e in self._entries if e.lane == lane and e.sequence <= cursor]
            passed = [e.sequence for e in of_lane if e.received_unix_ns >= since_unix_ns]
            if passed:
                again += len(passed)
                self._cursors[consumer, lane] = passed[0] - 1
        self._announce()
        return again

    async def sweep(self) -> int:
        self._check_open()
        return self._sweep()

    async def dead_letters(self, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        self._check_open()
        found = [replace(letter, payload=b"") for id, letter in self._letters.items() if id > after]
        return found[:limit]

    async def dead_letter(self, id: int) -> DeadLetter | None:
        self._check_open()
        return self._letters.get(id)

    async def retry(self, ids: Sequence[int] | None) -> int:
        self._check_open()
        ids = list(self._letters) if ids is None else ids
        letters = [self._letters.pop(id) for id in dict.fromkeys(ids) if id in self._letters]
        for letter in letters:
            if letter.reason == FOREIGN_TRACE:
                self._claims = {
                    id: claim
                    for id, claim in self._claims.items()
                    if not (claim.delivered and id in letter.trace_ids)
                }
            self._add(letter, received_unix_ns=letter.received_unix_ns)
        self._announce()
        return len(letters)

    async def drop(self, ids: Sequence[int]) -> int:
        self._check_open()
        return sum(self._letters.pop(id, None) is not None for id in ids)

    async def close(self) -> None:
        """Twice is harmless."""
        self._closed = True

    def crash(self) -> None:
        """What a start after a killed process does: marked entries have had an attempt."""
        for (consumer, lane), through in self._marks.items():
            cursor = self._cursor(consumer, lane)
            self._entries = [
                replace(entry, attempts=entry.attempts + 1)
                if entry.lane == lane and cursor < entry.sequence <= through
                else entry
                for entry in self._entries
            ]
        self._marks.clear()

    def _add(self, content: Draft | DeadLetter, *, received_unix_ns: int) -> None:
        self._sequence += 1
        copied = {field.name: getattr(content, field.name) for field in fields(Draft)}
        self._entries.append(Entry(sequence=self._sequence, received_unix_ns=received_unix_ns, **copied))

    def _announce(self) -> None:
        self.appended.set()
        self.appended = asyncio.Event()

    def _holders(self, trace_id: bytes) -> list[Entry | DeadLetter]:
        holders: list[Entry | DeadLetter] = [*self._letters.values(), *self._entries]
        return [holder for holder in holders if trace_id in holder.trace_ids]

    def _after(self, consumer: str, lane: str) -> list[Entry]:
        return self._behind(lane, self._cursor(consumer, lane))

    def _behind(self, lane: str, sequence: int) -> list[Entry]:
        return [entry for entry in self._entries if entry.lane == lane and entry.sequence > sequence]

    def _bound(self, behind: str | None, lane: str) -> float:
        return float("inf") if behind is None else self._cursor(behind, lane)

    def _cursor(self, consumer: str, lane: str) -> int:
        return self._cursors.get((consumer, lane), 0)

    def _size(self) -> int:
        letters = sum(len(letter.payload) for letter in self._letters.values())
        return letters + sum(len(entry.payload) for entry in self._entries)

    def _sweep(self) -> int:
        before = len(self._entries)
        cutoff = time.time_ns() - self._retention_ns
        self._entries = [
            entry
            for entry in self._entries
            if entry.received_unix_ns > cutoff
            or any(entry.sequence > self._cursor(consumer, entry.lane) for consumer in self._consumers)
        ]
        return before - len(self._entries)

    def _check_open(self) -> None:
        if self._closed:
            raise JournalClosed("the journal is closed")
