"""A group of consumers in this process: the partitions that it owns, and what its consumers do with them.

Memory is changed first and then written; a write that fails takes the partitions with it, and they are read anew.
Nothing is ever written for a partition that another member has: each transaction carries the group's generation.
"""

import asyncio
import heapq
import logging
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from collector.journal import ISOLATE_FROM_ATTEMPTS, JournalState, PendingLane
from collector.journal.kafka.client import Connection
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.letters import LetterTable, letter_record
from collector.journal.kafka.membership import (
    Assigned,
    Event,
    GroupMembership,
    Loaded,
    Revoked,
    Seen,
    StateRecord,
)
from collector.journal.kafka.owned import GroupMembers, OwnedPartition
from collector.journal.kafka.partitioning import home_of, key_of, partition_of, pieces_of
from collector.journal.kafka.records import (
    HeldRecord,
    HeldTraceClaim,
    Kind,
    LaneProgress,
    Names,
    Record,
    Spot,
    claim_key,
    entry_headers,
    lane_key,
    note_key,
    read_state_key,
)
from collector.journal.kafka.transactions import Membership, TransactionFailed, TransactionWriter
from collector.model.batch import Draft, Entry, FollowUp, Parked, Position

_log = logging.getLogger("sidespan.kafka")

# how long a question waits to see what this process itself has written
SEE_OWN_SECONDS = 5.0
RELOAD_SECONDS = 15.0


class KafkaGroup:
    """Opened in an event loop. Each method runs there."""

    def __init__(
        self, connection: Connection, members: GroupMembers, *, fetcher: Fetcher, letters: LetterTable
    ) -> None:
        self.members = members
        self.partitions: dict[int, OwnedPartition] = {}
        self.tenures: dict[int, int] = {}
        self.appended = asyncio.Event()
        self._names = Names(connection.place.name)
        self._settings = connection.settings
        self._fetcher = fetcher
        self._letters = letters
        self._membership = GroupMembership(connection, members, self._take)
        whose = connection.settings.member or secrets.token_hex(8)
        self._writer = TransactionWriter(
            connection,
            f"{self._names.group(members.name)}-{whose}",
            Membership(self._membership.metadata, self._membership.holds),
        )
        self._order = 0
        self._held_bytes = 0
        self._own: dict[tuple[int, Kind], int] = {}
        self._moved = asyncio.Event()
        # what each consumer was given last of a lane
        self._given: dict[tuple[str, str], list[HeldRecord]] = {}
        self._reopened: list[Record] = []

    async def start(self) -> None:
        """Join; partitions come later."""
        self._membership.start()

    async def close(self, *, is_abandoned: bool = False) -> None:
        """Write what was asked for and leave."""
        if not is_abandoned:
            await self._writer.close()
        await self._membership.close()

    def announce(self) -> None:
        """Wake the consumers."""
        self.appended.set()
        self.appended = asyncio.Event()

    def expect(self, spots: Iterable[Spot]) -> None:
        """This process has written there: its consumers see it with their next question."""
        for spot in spots:
            at = spot.partition, spot.kind
            self._own[at] = max(self._own.get(at, 0), spot.offset)

    # what the thread tells

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Assigned(partition=number, tenure=tenure, begins=begins):
                    self.partitions[number] = OwnedPartition(
                        number=number, members=self.members, begins=begins
                    )
                    self.tenures[number] = tenure
                case Revoked(partition=number):
                    self._drop(number)
                case StateRecord():
                    self._remember(event)
                case Seen(spot=spot, held=held):
                    self._see(spot, held)
                case Loaded(partition=number, tenure=tenure):
                    if self.tenures.get(number) == tenure:
                        self._loaded(self.partitions[number])
        self._moved.set()
        self._moved = asyncio.Event()
        self.announce()

    def _drop(self, number: int) -> None:
        self.tenures.pop(number, None)
        if (partition := self.partitions.pop(number, None)) is not None:
            for held in self._all_held(partition):
                self._let_go(held)

    def _all_held(self, partition: OwnedPartition) -> Iterator[HeldRecord]:
        for of_kind in partition.held.values():
            yield from of_kind.values()
        yield from partition.loading or ()

    def _remember(self, record: StateRecord) -> None:
        """State counts while a partition is loaded; later it only repeats what this process wrote."""
        partition = self.partitions.get(record.partition)
        if partition is None or partition.loading is None:
            return
        what, consumer, key = read_state_key(record.key)
        if what == b"C" and isinstance(key, bytes):
            partition.claims.pop(key, None)
            if record.value is not None:
                partition.claims[key] = HeldTraceClaim.from_bytes(record.value)
        elif consumer in self.members.consumers and isinstance(key, bytes):
            partition.notes.pop((consumer, key), None)
            if record.value is not None:
                partition.notes[consumer, key] = record.value
        elif consumer in self.members.consumers and isinstance(key, str):
            partition.progress.pop((consumer, key), None)
            if record.value is not None:
                partition.progress[consumer, key] = LaneProgress.from_bytes(record.value)

    def _see(self, spot: Spot, held: HeldRecord | None) -> None:
        partition = self.partitions.get(spot.partition)
        if partition is None or spot.offset < partition.nexts[spot.kind]:
            return
        partition.nexts[spot.kind] = spot.offset + 1
        if held is None:
            return
        if partition.loading is not None:
            self._hold(held)
            partition.loading.append(held)
        elif self._enter(partition, held):
            self._hold(held)

    def _enter(self, partition: OwnedPartition, held: HeldRecord) -> bool:
        self._order += 1
        held.order = self._order
        if not partition.see(held):
            return False
        for trace_id in held.reopens:
            if (claim := partition.claims.get(trace_id)) is not None and claim.delivered:
                del partition.claims[trace_id]
                self._reopened.append(Record(self._names.state, partition.number, claim_key(trace_id), None))
        return True

    def _hold(self, held: HeldRecord) -> None:
        """Keep its payload, if there is memory for it."""
        if self._held_bytes + held.size_bytes > self._settings.max_held_bytes:
            held.payload = None
        else:
            self._held_bytes += held.size_bytes

    def _let_go(self, held: HeldRecord) -> None:
        if held.payload is not None:
            self._held_bytes -= held.size_bytes

    def _loaded(self, partition: OwnedPartition) -> None:
        for held in partition.loaded():
            if not self._enter(partition, held):
                self._let_go(held)
        if changed := partition.count_attempts():
            _log.warning("the owner before was cut short", extra={"partition": partition.number})
            records = [self._progress(partition, *key) for key in changed]
            task = asyncio.create_task(self._write(records, [partition.number]))
            self._counting = task  # or nobody would hold it

    # questions

    async def pending(self, consumer: str, *, behind: str | None) -> list[PendingLane]:
        await self._see_own()
        firsts: dict[str, HeldRecord] = {}
        for partition in self._ready():
            for lane, _ in partition.lanes_of(consumer):
                first = next(partition.seen_by(consumer, lane, behind=behind), None)
                if first and (lane not in firsts or first.order < firsts[lane].order):
                    firsts[lane] = first
        return [
            PendingLane(lane=lane, first=held.spot.position, first_received_unix_ns=held.received_unix_ns)
            for lane, held in sorted(firsts.items(), key=lambda item: item[1].order)
        ]

    async def read(self, consumer: str, lane: str, *, limit_bytes: int, behind: str | None) -> list[Entry]:
        await self._see_own()
        window = self._window(consumer, lane, limit_bytes, behind=behind, after=None)
        self._given[consumer, lane] = window
        return await self._entries(consumer, window)

    async def read_ahead(
        self, consumer: str, lane: str, *, limit_bytes: int, after: Position | None
    ) -> list[Entry]:
        await self._see_own()
        window = self._window(consumer, lane, limit_bytes, behind=None, after=after)
        return await self._entries(consumer, window)

    async def awaiting(self, consumer: str, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        await self._see_own()
        loading = {p.number for p in self.partitions.values() if p.loading is not None}
        found = {
            trace_id
            for partition in self._ready()
            for _, waiting in partition.lanes_of(consumer)
            for held in waiting
            for trace_id in held.trace_ids & trace_ids
        }
        unknown = {id for id in trace_ids if self._home(id) in loading} if loading else set()
        return frozenset(found | unknown)

    async def state(self, consumer: str) -> JournalState:
        await self._see_own()
        waiting = [held for p in self._ready() for _, waiting in p.lanes_of(consumer) for held in waiting]
        letters = await self._letters.of(consumer)
        return JournalState(
            size_bytes=sum(held.size_bytes for p in self.partitions.values() for held in self._all_held(p)),
            pending_entries=len(waiting),
            pending_spans=sum(held.span_count for held in waiting),
            oldest_received_unix_ns=min((held.received_unix_ns for held in waiting), default=None),
            dead_letters=len(letters),
            dead_letter_spans=sum(letter.span_count for letter in letters),
        )

    async def holders(self, trace_id: bytes) -> list[HeldRecord] | None:
        """What waits of a trace, in order; None: its partition is not ours."""
        await self._see_own()
        partition = self.partitions.get(self._home(trace_id))
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

    def _ready(self) -> list[OwnedPartition]:
        return [partition for partition in self.partitions.values() if partition.loading is None]

    def _home(self, trace_id: bytes) -> int:
        return partition_of(key_of(trace_id), self._settings.partitions)

    def _window(
        self, consumer: str, lane: str, limit_bytes: int, *, behind: str | None, after: Position | None
    ) -> list[HeldRecord]:
        seen = [p.seen_by(consumer, lane, behind=behind) for p in self._ready()]
        window: list[HeldRecord] = []
        total = 0
        for held in heapq.merge(*seen, key=lambda held: held.order):
            if after is not None and not self._is_after(held, after):
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
        if (other := self._find(spot)) is not None:
            return held.order > other.order
        return held.spot[:2] != spot[:2] or held.spot.offset > spot.offset

    def _find(self, spot: Spot) -> HeldRecord | None:
        partition = self.partitions.get(spot.partition)
        return None if partition is None else partition.find(spot)

    async def _entries(self, consumer: str, window: Sequence[HeldRecord]) -> list[Entry]:
        missing = [held.spot for held in window if held.payload is None]
        fetched = await self._fetcher.payloads(missing) if missing else {}
        entries = []
        for held in window:
            payload = held.payload if held.payload is not None else fetched.get(held.spot)
            if payload is None:  # deleted for those that only follow, or the brokers are away
                continue
            entries.append(
                Entry(
                    position=held.spot.position,
                    received_unix_ns=held.received_unix_ns,
                    lane=held.lane,
                    payload=payload,
                    span_count=held.span_count,
                    trace_ids=held.trace_ids,
                    client=held.client,
                    attempts=held.attempts.get(consumer, 0),
                )
            )
        return entries

    async def _see_own(self) -> None:
        """Wait for what this process has written itself, unless the brokers are slow."""
        until = time.monotonic() + SEE_OWN_SECONDS
        while self._has_unseen() and (left := until - time.monotonic()) > 0:
            moved = self._moved
            try:
                await asyncio.wait_for(moved.wait(), left)
            except TimeoutError:
                return

    def _has_unseen(self) -> bool:
        unseen = False
        for (number, kind), offset in list(self._own.items()):
            partition = self.partitions.get(number)
            if partition is None or kind not in self.members.kinds:
                del self._own[number, kind]
            elif partition.loading is not None or partition.nexts[kind] <= offset:
                unseen = True
            else:
                del self._own[number, kind]
        return unseen

    # changes

    async def mark(self, consumer: str, lane: str, *, through: Position) -> None:
        records, numbers = [], []
        for partition, order in self._orders(consumer, lane, through):
            partition.mark(consumer, lane, order)
            records.append(self._progress(partition, consumer, lane))
            numbers.append(partition.number)
        await self._write(records, numbers)

    async def processed(self, consumer: str, lane: str) -> None:
        marked = [p for p in self._ready() if (found := p.progress.get((consumer, lane))) and found.marked]
        for partition in marked:
            partition.progress_of(consumer, lane).marked = None
        await self._write([self._progress(p, consumer, lane) for p in marked], [p.number for p in marked])

    async def commit(
        self,
        consumer: str,
        lane: str,
        *,
        through: Position,
        parked: Sequence[Parked],
        first: Position | None,
        remember: Mapping[bytes, bytes],
        delivered: Mapping[bytes, str],
        follow_ups: Sequence[FollowUp],
    ) -> None:
        await self._see_own()
        if first is not None and self._is_overtaken(consumer, lane, first, through):
            await self.processed(consumer, lane)
            return
        records, numbers = [], set()
        for partition, order in self._orders(consumer, lane, through):
            for held in partition.pass_through(consumer, lane, order):
                self._let_go(held)
            records.append(self._progress(partition, consumer, lane))
            numbers.add(partition.number)
        for record in (*self._noted(consumer, remember), *self._settled(delivered)):
            records.append(record)
            numbers.add(record.partition)
        records += self._parked(consumer, parked) + self._followed(follow_ups)
        await self._write(records, numbers)

    def _is_overtaken(self, consumer: str, lane: str, first: Position, through: Position) -> bool:
        """Whether entries wait before `first` again, or some of the window aren't ours any more."""
        begin = self._find(Spot.of(first))
        if begin is None:
            return True
        seen = heapq.merge(
            *[p.seen_by(consumer, lane, behind=None) for p in self._ready()], key=lambda held: held.order
        )
        if (now_first := next(iter(seen), None)) is None or now_first.order < begin.order:
            return True
        end = self._find(Spot.of(through))
        given = self._given.pop((consumer, lane), [])
        return any(
            self._find(held.spot) is not held for held in given if end is None or held.order <= end.order
        )

    def _orders(self, consumer: str, lane: str, through: Position) -> list[tuple[OwnedPartition, int]]:
        """The partitions that hold some of a lane up to `through`, and up to which of it."""
        spot = Spot.of(through)
        end = self._find(spot)
        found = []
        for partition in self._ready():
            waiting = partition.waiting.get((consumer, lane), ())
            if end is not None:
                order = end.order
            else:
                order = max(
                    (h.order for h in waiting if h.spot[:2] == spot[:2] and h.spot <= spot), default=0
                )
            if any(held.order <= order for held in waiting) or (consumer, lane) in partition.progress:
                found.append((partition, order))
        return found

    def _progress(self, partition: OwnedPartition, consumer: str, lane: str) -> Record:
        value = partition.progress_of(consumer, lane).to_bytes()
        return Record(self._names.state, partition.number, lane_key(consumer, lane), value)

    def _noted(self, consumer: str, remember: Mapping[bytes, bytes]) -> Iterator[Record]:
        for trace_id, note in remember.items():
            if (partition := self._owned(trace_id)) is not None:
                partition.notes.pop((consumer, trace_id), None)  # the newest last
                partition.notes[consumer, trace_id] = note
                yield Record(self._names.state, partition.number, note_key(consumer, trace_id), note)

    def _settled(self, delivered: Mapping[bytes, str]) -> Iterator[Record]:
        for trace_id, target in delivered.items():
            if (partition := self._owned(trace_id)) is None:
                continue
            known = partition.claims.get(trace_id)
            if known is None or not known.delivered:
                claim = HeldTraceClaim(target=target, delivered=True)
                yield self._claimed(partition, trace_id, claim)

    def _claimed(self, partition: OwnedPartition, trace_id: bytes, claim: HeldTraceClaim) -> Record:
        partition.claims.pop(trace_id, None)
        partition.claims[trace_id] = claim
        return Record(self._names.state, partition.number, claim_key(trace_id), claim.to_bytes())

    def _owned(self, trace_id: bytes) -> OwnedPartition | None:
        partition = self.partitions.get(self._home(trace_id))
        return None if partition is None or partition.loading is not None else partition

    def _parked(self, consumer: str, parked: Sequence[Parked]) -> list[Record]:
        return [
            letter_record(self._names, replace(part, **_content(piece)), consumer=consumer)
            for part in parked
            for piece in pieces_of(_draft(part), max_bytes=self._settings.max_message_bytes)
        ]

    def _followed(self, follow_ups: Sequence[FollowUp]) -> list[Record]:
        records = []
        for each in follow_ups:
            for draft in pieces_of(each.draft, max_bytes=self._settings.max_message_bytes):
                partition = home_of(draft.trace_ids, draft.lane, self._settings.partitions)
                key = key_of(next(iter(draft.trace_ids))) if len(draft.trace_ids) == 1 else None
                headers = entry_headers(draft, received_unix_ns=each.received_unix_ns, consumer=each.consumer)
                topic = self._names.data(Kind.FOLLOW_UPS)
                records.append(Record(topic, partition, key, bytes(draft.payload), headers))
        return records

    async def claim(self, claims: Mapping[bytes, str], clients: Mapping[bytes, str]) -> Mapping[bytes, str]:
        await self._see_own()
        records, numbers, found = [], set(), {}
        for trace_id, target in claims.items():
            found[trace_id] = target
            if (partition := self._owned(trace_id)) is None:  # nothing can be written for it
                continue
            client = clients.get(trace_id, "")
            known = partition.claims.get(trace_id)
            if known is None or (not known.delivered and known.client != client):
                claim = HeldTraceClaim(target=target, client=client)
                records.append(self._claimed(partition, trace_id, claim))
                numbers.add(partition.number)
            else:
                found[trace_id] = known.target
        await self._write(records, numbers)
        return found

    def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """The notes of traces whose partitions are ours."""
        found: dict[bytes, bytes] = {}
        for trace_id in trace_ids:
            partition = self._owned(trace_id)
            if partition is not None and (note := partition.notes.get((consumer, trace_id))) is not None:
                found[trace_id] = note
        return found

    async def _write(self, records: Sequence[Record], numbers: Collection[int]) -> None:
        """In one transaction with the group's offsets of these partitions. What fails is read anew."""
        records = [*records, *self._reopened]
        if not records:
            return
        numbers = {*numbers, *(record.partition for record in self._reopened)}
        self._reopened = []
        numbers = [n for n in numbers if n in self.tenures] or list(self.tenures)[:1]
        if not numbers:  # nothing is ours
            return
        tenures = {number: self.tenures[number] for number in numbers}
        offsets = {
            (self._names.data(kind), number): self.partitions[number].low[kind]
            for number in numbers
            for kind in self.members.kinds
        }
        try:
            written = await self._writer.write(records, offsets=offsets, tenures=tenures)
        except TransactionFailed as error:
            _log.warning("a commit was not written; its entries come again", extra={"why": str(error)})
            await self._load_again(tenures)
            return
        self._expect_written(records, written)
        self.announce()

    def _expect_written(self, records: Sequence[Record], offsets: Sequence[int]) -> None:
        for record, offset in zip(records, offsets, strict=True):
            if record.topic == self._names.dead_letters:
                self._letters.expect(offset)
            elif record.topic == self._names.data(Kind.FOLLOW_UPS):
                self.expect([Spot(record.partition, Kind.FOLLOW_UPS, offset)])

    async def _load_again(self, tenures: Mapping[int, int]) -> None:
        """Read partitions anew, as far as they are still ours; returns when that is done."""
        again = [number for number, tenure in tenures.items() if self.tenures.get(number) == tenure]
        for number in again:
            self._drop(number)
        self._membership.load_again(again)
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                while not {partition.number for partition in self._ready()}.issuperset(again):
                    await self._moved.wait()
        except TimeoutError:  # they are another's by now, or the brokers are slow
            return

    async def assigned(self) -> None:
        """Wait until the group has given this process its partitions, and they are loaded."""
        while (
            not self._membership.has_joined
            or len(self._ready()) < len(self.partitions)
            or not self.partitions
        ):
            await self._moved.wait()

    # replay and upkeep

    async def replay(self, consumer: str, *, since_unix_ns: int, kept_since_unix_ns: int) -> int:
        """Move the consumer back; entries come again that another waits for, or that are kept so long."""
        await self._see_own()
        count = 0
        for partition in self._ready():
            if consumer in self.members.consumers:
                count += await self._replay(partition, consumer, since_unix_ns, kept_since_unix_ns)
        self.announce()
        return count

    async def _replay(
        self, partition: OwnedPartition, consumer: str, since_unix_ns: int, kept_since_unix_ns: int
    ) -> int:
        tenure, low = self.tenures[partition.number], partition.low
        heads: list[HeldRecord] = []
        for kind in self.members.kinds:
            since_ms = max(since_unix_ns, kept_since_unix_ns) // 10**6
            if since_ms > time.time_ns() // 10**6:
                since_ms = time.time_ns() // 10**6
            heads += await self._fetcher.heads(
                partition.number, kind, since_unix_ms=since_ms, low=low[kind], end=partition.nexts[kind]
            )
        if self.tenures.get(partition.number) != tenure:
            return 0
        kept = [h for h in heads if partition.find(h.spot) or h.received_unix_ns >= kept_since_unix_ns]
        passed = [
            h
            for h in kept
            if consumer in self.members.readers(h) and self._has_passed(partition, consumer, h)
        ]
        again = [held for held in passed if held.received_unix_ns >= since_unix_ns]
        if not again:
            return 0
        self._settle_all(partition, {held.lane for held in kept}, low)
        lows = self._move_back(partition, consumer, again)
        records = [self._progress(partition, *key) for key in partition.progress]
        offsets = {
            (self._names.data(kind), partition.number): min(low[kind], lows[kind])
            for kind in self.members.kinds
        }
        tenures = {partition.number: tenure}
        try:
            await self._writer.write(records, offsets=offsets, tenures=tenures)
        except TransactionFailed as error:
            _log.warning("a replay was not written", extra={"why": str(error)})
            again = []
        await self._load_again(tenures)
        return len(again)

    def _has_passed(self, partition: OwnedPartition, consumer: str, held: HeldRecord) -> bool:
        progress = partition.progress.get((consumer, held.lane))
        before = partition.begins[held.spot.kind] if progress is None else progress.following[held.spot.kind]
        return held.spot.offset < max(before, partition.low[held.spot.kind])

    def _settle_all(self, partition: OwnedPartition, lanes: Collection[str], low: Sequence[int]) -> None:
        """Write out what the group's offsets alone have said: before them everything is passed."""
        for consumer in self.members.consumers:
            for lane in lanes:
                progress = partition.progress_of(consumer, lane)
                progress.following = [max(pair) for pair in zip(progress.following, low, strict=True)]

    def _move_back(
        self, partition: OwnedPartition, consumer: str, again: Sequence[HeldRecord]
    ) -> dict[Kind, int]:
        lows = {kind: partition.nexts[kind] for kind in Kind}
        for held in reversed(sorted(again, key=lambda held: held.spot)):
            kind, offset = held.spot.kind, held.spot.offset
            partition.progress_of(consumer, held.lane).following[kind] = offset
            lows[kind] = offset
        return lows

    async def forget(self, *, max_notes: int, max_claims: int) -> None:
        """Drop the oldest notes and claims over their bounds, and progress that says nothing."""
        for partition in self._ready():
            share = max(1, len(self.partitions))
            records = []
            for key in list(partition.notes)[: max(0, len(partition.notes) - max_notes // share)]:
                del partition.notes[key]
                records.append(Record(self._names.state, partition.number, note_key(*key), None))
            for id in list(partition.claims)[: max(0, len(partition.claims) - max_claims // share)]:
                del partition.claims[id]
                records.append(Record(self._names.state, partition.number, claim_key(id), None))
            for key in partition.idle_progress(partition.low):
                del partition.progress[key]
                records.append(Record(self._names.state, partition.number, lane_key(*key), None))
            await self._write(records, [partition.number])

    def drop_before(self, number: int, kind: Kind, offset: int) -> None:
        """Entries were deleted from the log: what only follows does without them."""
        partition = self.partitions.get(number)
        if partition is not None and partition.loading is None:
            for held in partition.held[kind].values():
                if held.spot.offset < offset:
                    self._let_go(held)
            partition.drop_before(kind, offset)


def _draft(part: Parked) -> Draft:
    return Draft(
        lane=part.lane,
        payload=part.payload,
        span_count=part.span_count,
        trace_ids=part.trace_ids,
        client=part.client,
    )


def _content(draft: Draft) -> dict[str, object]:
    return {
        "payload": bytes(draft.payload),
        "span_count": draft.span_count,
        "trace_ids": draft.trace_ids,
    }
