"""The journal's honest twin in memory, for tests and benchmarks: the same promises, but for the disk."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from collector.journal import (
    FOLLOWED_SHARE,
    ISOLATE_FROM_ATTEMPTS,
    NOTHING,
    JournalState,
    PendingLane,
    Subscriptions,
)
from collector.journal.memory_entries import HeldClaim, HeldEntry
from collector.journal.memory_traces import MemoryPendingTraces, MemoryTraces
from collector.model.batch import (
    FOREIGN_TRACE,
    DeadLetter,
    Draft,
    Entry,
    FollowUp,
    Parked,
    Position,
    Signal,
    merge,
    signal_of,
)
from collector.model.errors import JournalClosed, Reason, Unavailable


class MemoryJournal:
    """See `Journal`. `crash` does what a killed process does to marks."""

    def __init__(
        self,
        *,
        consumers: Sequence[str] = ("delivery",),
        followers: Sequence[str] = (),
        log_consumers: Sequence[str] = (),
        log_followers: Sequence[str] = (),
        max_bytes: int = 2**62,
        retention_seconds: float = 0.0,
    ) -> None:
        self.log = MemoryLog(self)
        self.traces = MemoryTraces(self)
        self.pending_traces = MemoryPendingTraces(self)
        self._appended = asyncio.Event()
        self._awaited = {Signal.TRACES: consumers, Signal.LOGS: log_consumers}
        self._followers = {Signal.TRACES: followers, Signal.LOGS: log_followers}
        self._subscribed: frozenset[str] = frozenset()
        self._max_bytes = max_bytes
        self._retention_ns = int(retention_seconds * 1e9)
        self._entries: list[HeldEntry] = []
        self._sequence = 0
        self._cursors: dict[tuple[str, str], int] = {}
        self._marks: dict[tuple[str, str], int] = {}
        self._claims: dict[bytes, HeldClaim] = {}
        self._notes: dict[tuple[str, bytes], bytes] = {}
        self._letters: dict[int, DeadLetter] = {}
        self._letter_id = 0
        self._closed = False

    def consumer(self, name: str) -> "MemoryConsumer":
        return MemoryConsumer(self, name)

    def dead_letters(self, consumer: str) -> "MemoryDeadLetters":
        return MemoryDeadLetters(self, consumer)

    async def subscribe(self, names: Collection[str]) -> Subscriptions:
        self._check_open()
        gone, begun = self._subscribed - frozenset(names), frozenset(names) - self._subscribed
        self._subscribed = frozenset(names)
        self._cursors |= {
            (name, held.content.lane): self._sequence for name in begun for held in self._entries
        }
        return Subscriptions(begun=begun, ended={name: self._end(name) for name in gone})

    def _end(self, consumer: str) -> int:
        letters = self._letters_of(consumer)
        for letter in letters:
            del self._letters[letter.id]
        self._entries = [held for held in self._entries if held.consumer != consumer]
        for held in self._entries:
            del held.attempts[consumer]
        self._cursors = {key: at for key, at in self._cursors.items() if key[0] != consumer}
        self._marks = {key: at for key, at in self._marks.items() if key[0] != consumer}
        self._notes = {key: note for key, note in self._notes.items() if key[0] != consumer}
        return len(letters)

    async def sweep(self) -> int:
        self._check_open()
        return self._sweep()

    async def close(self) -> None:
        """Twice is harmless."""
        self._closed = True

    def crash(self) -> None:
        """What a start after a killed process does: marked entries have had an attempt."""
        for (consumer, lane), through in self._marks.items():
            for held in self._after(consumer, lane):
                held.attempts[consumer] += held.sequence <= through
        self._marks.clear()

    def _add(self, content: Draft, *, received_unix_ns: int, consumer: str | None = None) -> None:
        self._sequence += 1
        held = HeldEntry(
            sequence=self._sequence, received_unix_ns=received_unix_ns, content=content, consumer=consumer
        )
        self._entries.append(held)

    def _announce(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()

    def _letters_of(self, consumer: str) -> list[DeadLetter]:
        return [letter for letter in self._letters.values() if letter.consumer == consumer]

    def _holders(self, trace_id: bytes) -> Iterator[Draft | DeadLetter]:
        contents = [held.content for held in self._entries if held.consumer not in self._subscribed]
        letters = [each for each in self._letters.values() if each.consumer not in self._subscribed]
        holders: Sequence[Draft | DeadLetter] = (*letters, *contents)
        for holder in holders:
            if trace_id in holder.trace_ids and signal_of(holder.lane) is Signal.TRACES:
                yield holder

    def _reads(self, consumer: str, lane: str) -> bool:
        """Whether the lane holds a signal that the consumer reads; spans, if nobody has said it."""
        read = [each for each in Signal if consumer in (*self._awaited[each], *self._followers[each])]
        return signal_of(lane) in (read or [Signal.TRACES])

    def _lanes(self, consumer: str) -> list[str]:
        """Those that the consumer reads."""
        lanes = dict.fromkeys(held.content.lane for held in self._entries)
        return [lane for lane in lanes if self._reads(consumer, lane)]

    def _after(self, consumer: str, lane: str) -> list[HeldEntry]:
        """What the consumer sees of a lane after its cursor."""
        return self._behind(consumer, lane, self._cursor(consumer, lane))

    def _behind(self, consumer: str, lane: str, sequence: int) -> list[HeldEntry]:
        of_lane = (held for held in self._entries if held.content.lane == lane)
        return [held for held in of_lane if held.sequence > sequence and held.is_for(consumer)]

    def _passed_by(self, behind: str | None, lane: str) -> float:
        """Everything before this was passed by the other consumer, or is none of its concern."""
        bound = behind is not None and self._reads(behind, lane)
        waiting = self._after(behind, lane) if behind is not None and bound else []
        return waiting[0].sequence if waiting else float("inf")

    def _cursor(self, consumer: str, lane: str) -> int:
        return self._cursors.get((consumer, lane), 0)

    def _size(self) -> int:
        letters = sum(len(letter.payload) for letter in self._letters.values())
        return letters + sum(len(held.content.payload) for held in self._entries)

    def _sweep(self) -> int:
        before = len(self._entries)
        cutoff = time.time_ns() - self._retention_ns
        roomy = self._size() < self._max_bytes * FOLLOWED_SHARE
        self._entries = [
            held for held in self._entries if held.received_unix_ns > cutoff or self._waits(held, roomy)
        ]
        return before - len(self._entries)

    def _waits(self, held: HeldEntry, roomy: bool) -> bool:
        signal = signal_of(held.content.lane)
        of_signal = (*self._awaited[signal], *(self._followers[signal] if roomy else ()))
        readers = of_signal if held.consumer is None else (held.consumer,)
        return any(held.sequence > self._cursor(reader, held.content.lane) for reader in readers)

    def _check_open(self) -> None:
        if self._closed:
            raise JournalClosed("the journal is closed")


@dataclass(frozen=True, slots=True)
class MemoryLog:
    """See `Log`."""

    journal: MemoryJournal

    @property
    def refusing(self) -> str | None:
        size = self.journal._size()
        return f"the journal is full ({size} bytes)" if size >= self.journal._max_bytes else None

    async def append(self, drafts: Sequence[Draft]) -> Position:
        self.journal._check_open()
        if self.refusing:
            raise Unavailable(Reason.JOURNAL_FULL, f"{self.refusing}; send it again")
        for draft in merge(drafts):
            # receivers hand over a view of what they have read
            self.journal._add(replace(draft, payload=bytes(draft.payload)), received_unix_ns=time.time_ns())
        self.journal._announce()
        return Position(self.journal._sequence)


@dataclass(frozen=True, slots=True)
class MemoryConsumer:
    """See `Consumer`."""

    journal: MemoryJournal
    name: str

    @property
    def appended(self) -> asyncio.Event:
        return self.journal._appended

    async def pending(self, *, behind: str | None = None) -> list[PendingLane]:
        self.journal._check_open()
        found = []
        for lane in self.journal._lanes(self.name):
            until = self.journal._passed_by(behind, lane)
            waiting = self.journal._after(self.name, lane)
            if waiting and waiting[0].sequence < until:
                found.append(waiting[0])
        return [
            PendingLane(
                lane=held.content.lane,
                first=Position(held.sequence),
                first_received_unix_ns=held.received_unix_ns,
            )
            for held in sorted(found, key=lambda held: held.sequence)
        ]

    async def read(self, lane: str, *, limit_bytes: int, behind: str | None = None) -> list[Entry]:
        self.journal._check_open()
        until = self.journal._passed_by(behind, lane)
        waiting = [held for held in self.journal._after(self.name, lane) if held.sequence < until]
        return self._window(waiting, limit_bytes)

    async def read_ahead(self, lane: str, *, limit_bytes: int, after: Position | None) -> list[Entry]:
        self.journal._check_open()
        start = self.journal._cursor(self.name, lane) if after is None else after.token
        return self._window(self.journal._behind(self.name, lane, start), limit_bytes)

    async def awaiting(self, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        self.journal._check_open()
        lanes = self.journal._lanes(self.name)
        waiting = [held for lane in lanes for held in self.journal._after(self.name, lane)]
        return trace_ids & frozenset().union(*(held.content.trace_ids for held in waiting))

    def _window(self, waiting: Sequence[HeldEntry], limit_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        total = 0
        for held in waiting:
            entry = held.entry(self.name)
            total += len(entry.payload)
            alone = entry.attempts >= ISOLATE_FROM_ATTEMPTS
            if found and (total > limit_bytes or alone):
                break
            found.append(entry)
            if alone:
                break
        return found

    async def mark(self, lane: str, *, through: Position) -> None:
        self.journal._check_open()
        self.journal._marks[self.name, lane] = through.token

    async def processed(self, lane: str) -> None:
        self.journal._check_open()
        self.journal._marks.pop((self.name, lane), None)

    async def commit(
        self,
        lane: str,
        *,
        through: Position,
        parked: Sequence[Parked] = (),
        first: Position | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
        follow_ups: Sequence[FollowUp] = (),
    ) -> None:
        journal = self.journal
        journal._check_open()
        journal._marks.pop((self.name, lane), None)
        waiting = journal._after(self.name, lane)
        if first is not None and waiting and waiting[0].sequence < first.token:
            return
        journal._cursors[self.name, lane] = max(journal._cursor(self.name, lane), through.token)
        journal._notes |= {(self.name, trace_id): note for trace_id, note in (remember or {}).items()}
        for trace_id, target in delivered.items():
            if trace_id not in journal._claims or not journal._claims[trace_id].delivered:
                journal._claims[trace_id] = HeldClaim(target=target, delivered=True)
        for part in parked:
            self._park(part)
        for each in follow_ups:
            journal._add(each.draft, received_unix_ns=each.received_unix_ns, consumer=each.consumer)
        journal._sweep()
        journal._announce()

    def _park(self, part: Parked) -> None:
        self.journal._letter_id += 1
        id = self.journal._letter_id
        self.journal._letters[id] = DeadLetter(
            id=id,
            consumer=self.name,
            parked_unix_ns=time.time_ns(),
            size_bytes=len(part.payload),
            **{each.name: getattr(part, each.name) for each in fields(Parked)},
        )

    async def replay(self, *, since_unix_ns: int) -> int:
        journal = self.journal
        journal._check_open()
        again = 0
        for lane in {held.content.lane for held in journal._entries}:
            cursor = journal._cursor(self.name, lane)
            passed = [held for held in journal._behind(self.name, lane, 0) if held.sequence <= cursor]
            since = [held.sequence for held in passed if held.received_unix_ns >= since_unix_ns]
            if since:
                again += len(since)
                journal._cursors[self.name, lane] = since[0] - 1
        journal._announce()
        return again

    async def state(self) -> JournalState:
        journal = self.journal
        journal._check_open()
        lanes = journal._lanes(self.name)
        waiting = [held for lane in lanes for held in journal._after(self.name, lane)]
        letters = journal._letters_of(self.name)
        return JournalState(
            size_bytes=journal._size(),
            pending_entries=len(waiting),
            pending_spans=sum(held.content.span_count for held in waiting),
            oldest_received_unix_ns=min((held.received_unix_ns for held in waiting), default=None),
            dead_letters=len(letters),
            dead_letter_spans=sum(letter.span_count for letter in letters),
        )


@dataclass(frozen=True, slots=True)
class MemoryDeadLetters:
    """See `DeadLetters`."""

    journal: MemoryJournal
    consumer: str

    async def list(self, *, limit: int = 100, after: int = 0) -> Sequence[DeadLetter]:
        self.journal._check_open()
        letters = self.journal._letters_of(self.consumer)
        return [replace(letter, payload=b"") for letter in letters if letter.id > after][:limit]

    async def one(self, id: int) -> DeadLetter | None:
        self.journal._check_open()
        return next((letter for letter in self.journal._letters_of(self.consumer) if letter.id == id), None)

    async def retry(self, ids: Sequence[int] | None) -> int:
        self.journal._check_open()
        wanted = [letter.id for letter in self.journal._letters_of(self.consumer)] if ids is None else ids
        letters = [letter for id in dict.fromkeys(wanted) if (letter := self._take(id))]
        for letter in letters:
            self._again(letter)
        self.journal._announce()
        return len(letters)

    async def drop(self, ids: Sequence[int]) -> int:
        self.journal._check_open()
        return sum(self._take(id) is not None for id in ids)

    def _take(self, id: int) -> DeadLetter | None:
        letter = self.journal._letters.get(id)
        return self.journal._letters.pop(id) if letter and letter.consumer == self.consumer else None

    def _again(self, letter: DeadLetter) -> None:
        claims = self.journal._claims
        if letter.reason == FOREIGN_TRACE:
            for trace_id in letter.trace_ids & {id for id, claim in claims.items() if claim.delivered}:
                del claims[trace_id]
        content = Draft(**{each.name: getattr(letter, each.name) for each in fields(Draft)})
        self.journal._add(content, received_unix_ns=letter.received_unix_ns, consumer=self.consumer)
