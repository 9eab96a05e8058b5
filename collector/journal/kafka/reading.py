"""What the consumers of a group ask of the partitions that this process owns."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile

from collector.journal import ISOLATE_FROM_ATTEMPTS, JournalState, PendingLane
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.given import GivenEntries, GivenEntry
from collector.journal.kafka.letters import LetterTable
from collector.journal.kafka.records import HeldRecord, Kind, Spot
from collector.journal.kafka.state import ConsumerGroupState
from collector.model.batch import Entry, Position
from collector.model.errors import Unavailable


class GroupReading:
    """What it gives is remembered until it is committed (`given_of`)."""

    def __init__(self, state: ConsumerGroupState, fetcher: Fetcher, letters: LetterTable) -> None:
        self._given: dict[tuple[str, str], GivenEntries] = {}
        self._state = state
        self._fetcher = fetcher
        self._letters = letters

    async def pending(self, consumer: str, *, behind: str | None) -> list[PendingLane]:
        await self._state.see_own()
        firsts: dict[str, HeldRecord] = {}
        for partition in self._state.ready():
            for lane, _ in partition.lanes_of(consumer):
                first = next(partition.seen_by(consumer, lane, behind=behind), None)
                if first and (lane not in firsts or first.order < firsts[lane].order):
                    firsts[lane] = first
        return [
            PendingLane(lane=lane, first=held.spot.position, first_received_unix_ns=held.received_unix_ns)
            for lane, held in sorted(firsts.items(), key=lambda item: _age(item[1]))
        ]

    async def read(self, consumer: str, lane: str, *, limit_bytes: int, behind: str | None) -> list[Entry]:
        await self._state.see_own()
        self.given_of(consumer, lane).cut(None)
        window = self._window(consumer, lane, limit_bytes, behind=behind, after=None)
        return await self._give(consumer, lane, window)

    async def read_ahead(
        self, consumer: str, lane: str, *, limit_bytes: int, after: Position | None
    ) -> list[Entry]:
        await self._state.see_own()
        is_known = self.given_of(consumer, lane).cut(None if after is None else Spot.of(after))
        after = None if is_known else after
        window = self._window(consumer, lane, limit_bytes, behind=None, after=after)
        return await self._give(consumer, lane, window)

    def given_of(self, consumer: str, lane: str) -> GivenEntries:
        """What a consumer was given of a lane and has not committed."""
        return self._given.setdefault((consumer, lane), GivenEntries())

    async def _give(self, consumer: str, lane: str, window: Sequence[HeldRecord]) -> list[Entry]:
        given = [GivenEntry(held.spot, held.order) for held in window]
        count, entries = await self._entries(consumer, window)
        self.given_of(consumer, lane).add(given[:count])
        return entries

    async def awaiting(self, consumer: str, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        await self._state.see_own()
        loading = {p.number for p in self._state.partitions.values() if p.loading is not None}
        found = {
            trace_id
            for partition in self._state.ready()
            for _, waiting in partition.lanes_of(consumer)
            for held in waiting
            for trace_id in held.trace_ids & trace_ids
        }
        unknown = {id for id in trace_ids if self._state.home(id) in loading} if loading else set()
        return frozenset(found | unknown)

    async def state(self, consumer: str) -> JournalState:
        await self._state.see_own()
        waiting = [
            held for p in self._state.ready() for _, waiting in p.lanes_of(consumer) for held in waiting
        ]
        letters = await self._letters.of(consumer)
        return JournalState(
            size_bytes=sum(
                held.size_bytes for p in self._state.partitions.values() for held in self._state.all_held(p)
            ),
            pending_entries=len(waiting),
            pending_spans=sum(held.span_count for held in waiting),
            oldest_received_unix_ns=min((held.received_unix_ns for held in waiting), default=None),
            dead_letters=len(letters),
            dead_letter_spans=sum(letter.span_count for letter in letters),
        )

    async def holders(self, trace_id: bytes) -> list[HeldRecord] | None:
        """What waits of a trace, in order; None: its partition is not ours."""
        await self._state.see_own()
        partition = self._state.partitions.get(self._state.home(trace_id))
        if partition is None or partition.loading is not None:
            return None
        held = [held for held in partition.held[Kind.SPANS].values() if trace_id in held.trace_ids] + [
            held for held in partition.held[Kind.FOLLOW_UPS].values() if trace_id in held.trace_ids
        ]
        return sorted(held, key=lambda held: held.order)

    async def payloads(self, held: Sequence[HeldRecord]) -> list[bytes]:
        """What entries hold; those that are deleted meanwhile are left out."""
        missing = [each.spot for each in held if each.payload is None]
        fetched = await self._fetcher.payloads(missing) if missing else {}
        found = [each.payload if each.payload is not None else fetched.get(each.spot) for each in held]
        return [payload for payload in found if payload is not None]

    def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """The notes of traces whose partitions are ours."""
        found: dict[bytes, bytes] = {}
        for trace_id in trace_ids:
            partition = self._state.owned(trace_id)
            if partition is not None and (note := partition.notes.get((consumer, trace_id))) is not None:
                found[trace_id] = note
        return found

    def _window(
        self, consumer: str, lane: str, limit_bytes: int, *, behind: str | None, after: Position | None
    ) -> list[HeldRecord]:
        seen = [p.seen_by(consumer, lane, behind=behind) for p in self._state.ready()]
        given = self.given_of(consumer, lane).orders
        window: list[HeldRecord] = []
        total = 0
        for held in heapq.merge(*seen, key=lambda held: held.order):
            if held.order in given or (after is not None and not self._is_after(held, after)):
                continue
            total += held.size_bytes
            alone = held.attempts.get(consumer, 0) >= ISOLATE_FROM_ATTEMPTS
            if window and (total > limit_bytes or alone):
                break
            window.append(held)
            if alone:
                break
        return window

    def _is_after(self, held: HeldRecord, after: Position) -> bool:
        spot = Spot.of(after)
        if (other := self._state.find(spot)) is not None:
            return held.order > other.order
        return held.spot[:2] != spot[:2] or held.spot.offset > spot.offset

    async def _entries(self, consumer: str, window: Sequence[HeldRecord]) -> tuple[int, list[Entry]]:
        """The entries of the window's first records, and of how many: up to one that can't be read now."""
        missing = [held.spot for held in window if held.payload is None]
        fetched: dict[Spot, bytes] = {}
        try:
            fetched = await self._fetcher.payloads(missing) if missing else {}
        except Unavailable:  # what comes before can be worked on meanwhile
            window = list(takewhile(lambda held: held.payload is not None, window))
        entries = []
        for held in window:
            payload = held.payload if held.payload is not None else fetched.get(held.spot)
            if payload is not None:  # else deleted, for those that only follow
                entries.append(_entry(held, payload, held.attempts.get(consumer, 0)))
        return len(window), entries


def _age(held: HeldRecord) -> tuple[int, Kind, int]:
    """Sorts the oldest first. Entries are seen in another order: topics are read side by side."""
    return held.received_unix_ns, held.spot.kind, held.order


def _entry(held: HeldRecord, payload: bytes, attempts: int) -> Entry:
    return Entry(
        position=held.spot.position,
        received_unix_ns=held.received_unix_ns,
        lane=held.lane,
        payload=payload,
        span_count=held.span_count,
        trace_ids=held.trace_ids,
        client=held.client,
        attempts=attempts,
    )
