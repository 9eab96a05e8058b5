"""What the consumers of a group change, each change in a transaction with the group's offsets.

Memory is changed first and then written; a write that fails takes the partitions with it, and they are read
anew.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from collector.journal.kafka.given import GivenEntry
from collector.journal.kafka.letters import LetterTable, letter_record
from collector.journal.kafka.owned import OwnedPartition
from collector.journal.kafka.partitioning import home_of, key_of, pieces_of
from collector.journal.kafka.reading import GroupReading
from collector.journal.kafka.records import (
    HeldTraceClaim,
    Kind,
    Names,
    Record,
    Spot,
    claim_key,
    entry_headers,
    lane_key,
    note_key,
)
from collector.journal.kafka.state import ConsumerGroupState
from collector.journal.kafka.transactions import TransactionFailed, TransactionWriter
from collector.model.batch import Draft, FollowUp, Parked, Position
from collector.settings.engines import KafkaSettings

_log = logging.getLogger("sidespan.kafka")

RELOAD_SECONDS = 15.0


class GroupWriting:
    """`load_again` has partitions read anew."""

    def __init__(
        self,
        state: ConsumerGroupState,
        writer: TransactionWriter,
        *,
        reading: GroupReading,
        letters: LetterTable,
        names: Names,
        settings: KafkaSettings,
        load_again: Callable[[Sequence[int]], None],
    ) -> None:
        self._state = state
        self._writer = writer
        self._reading = reading
        self._letters = letters
        self._names = names
        self._settings = settings
        self._load_again = load_again

    async def mark(self, consumer: str, lane: str, *, through: Position) -> None:
        await self._state.see_own()
        records, numbers = [], []
        given = self._reading.given_of(consumer, lane).through(Spot.of(through))
        for partition, order in self._orders(consumer, lane, through, given):
            partition.mark(consumer, lane, order)
            records.append(self._state.progress_record(partition, consumer, lane))
            numbers.append(partition.number)
        await self.write(records, numbers)

    async def processed(self, consumer: str, lane: str) -> None:
        marked = [
            p for p in self._state.ready() if (found := p.progress.get((consumer, lane))) and found.marked
        ]
        for partition in marked:
            partition.progress_of(consumer, lane).marked = None
        await self.write(
            [self._state.progress_record(p, consumer, lane) for p in marked], [p.number for p in marked]
        )

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
        await self._state.see_own()
        given = self._reading.given_of(consumer, lane).through(Spot.of(through))
        if first is not None and self._is_overtaken(consumer, lane, first, given):
            await self.processed(consumer, lane)
            return
        effects = self._parked(consumer, parked) + self._followed(follow_ups)  # first: it may be refused
        records, numbers = [], set()
        for partition, order in self._orders(consumer, lane, through, given):
            for held in partition.pass_through(consumer, lane, order):
                self._state.let_go(held)
            records.append(self._state.progress_record(partition, consumer, lane))
            numbers.add(partition.number)
        for record in (*self._noted(consumer, remember), *self._settled(delivered)):
            records.append(record)
            numbers.add(record.partition)
        self._reading.given_of(consumer, lane).passed(len(given or ()))
        await self.write([*records, *effects], numbers)

    async def claim(self, claims: Mapping[bytes, str], clients: Mapping[bytes, str]) -> Mapping[bytes, str]:
        await self._state.see_own()
        records, numbers, found = [], set(), {}
        for trace_id, target in claims.items():
            found[trace_id] = target
            if (partition := self._state.owned(trace_id)) is None:  # nothing can be written for it
                continue
            client = clients.get(trace_id, "")
            known = partition.claims.get(trace_id)
            if known is None or (not known.delivered and known.client != client):
                claim = HeldTraceClaim(target=target, client=client)
                records.append(self._claimed(partition, trace_id, claim))
                numbers.add(partition.number)
            else:
                found[trace_id] = known.target
        await self.write(records, numbers)
        return found

    def _is_overtaken(
        self, consumer: str, lane: str, first: Position, given: Sequence[GivenEntry] | None
    ) -> bool:
        """Whether entries wait before those that were given, or some of these aren't ours any more."""
        if given is None:
            begin = self._state.find(Spot.of(first))
            waiting = [p.waiting.get((consumer, lane)) for p in self._state.ready()]
            return begin is None or any(found and found[0].order < begin.order for found in waiting)
        firsts: dict[int, int] = {}
        for entry in given:
            firsts.setdefault(entry.spot.partition, entry.order)
        return not all(map(self._is_as_given, given)) or any(
            partition.waiting[consumer, lane][0].order != firsts[partition.number]
            for partition in self._state.ready()
            if partition.number in firsts and (consumer, lane) in partition.waiting
        )

    def _is_as_given(self, entry: GivenEntry) -> bool:
        held = self._state.find(entry.spot)
        return held is not None and held.order == entry.order

    def _orders(
        self, consumer: str, lane: str, through: Position, given: Sequence[GivenEntry] | None
    ) -> list[tuple[OwnedPartition, int]]:
        """The partitions that hold some of a lane up to `through`, and up to which of it."""
        orders = self._orders_by_place(consumer, lane, through) if given is None else self._last_orders(given)
        return [
            (partition, orders.get(partition.number, 0))
            for partition in self._state.ready()
            if partition.number in orders or (consumer, lane) in partition.progress
        ]

    def _last_orders(self, given: Sequence[GivenEntry]) -> dict[int, int]:
        """By partition the last that was given, before the first that isn't as it was given."""
        orders: dict[int, int] = {}
        changed: set[int] = set()
        for entry in given:
            number = entry.spot.partition
            if number not in changed and self._is_as_given(entry):
                orders[number] = entry.order
            else:
                changed.add(number)
        return orders

    def _orders_by_place(self, consumer: str, lane: str, through: Position) -> dict[int, int]:
        """Of a position that this process gave to nobody."""
        spot = Spot.of(through)
        end = self._state.find(spot)
        orders = {}
        for partition in self._state.ready():
            waiting = partition.waiting.get((consumer, lane), ())
            passed = [
                held.order
                for held in waiting
                if (held.order <= end.order if end else held.spot[:2] == spot[:2] and held.spot <= spot)
            ]
            if passed:
                orders[partition.number] = max(passed)
        return orders

    def _noted(self, consumer: str, remember: Mapping[bytes, bytes]) -> Iterator[Record]:
        for trace_id, note in remember.items():
            if (partition := self._state.owned(trace_id)) is not None:
                partition.notes.pop((consumer, trace_id), None)  # the newest last
                partition.notes[consumer, trace_id] = note
                yield Record(self._names.state, partition.number, note_key(consumer, trace_id), note)

    def _settled(self, delivered: Mapping[bytes, str]) -> Iterator[Record]:
        for trace_id, target in delivered.items():
            if (partition := self._state.owned(trace_id)) is None:
                continue
            known = partition.claims.get(trace_id)
            if known is None or not known.delivered:
                claim = HeldTraceClaim(target=target, delivered=True)
                yield self._claimed(partition, trace_id, claim)

    def _claimed(self, partition: OwnedPartition, trace_id: bytes, claim: HeldTraceClaim) -> Record:
        partition.claims.pop(trace_id, None)
        partition.claims[trace_id] = claim
        return Record(self._names.state, partition.number, claim_key(trace_id), claim.to_bytes())

    def _parked(self, consumer: str, parked: Sequence[Parked]) -> list[Record]:
        return [
            letter_record(self._names, _part_of(part, piece), consumer=consumer)
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

    async def write(self, records: Sequence[Record], numbers: Collection[int]) -> None:
        """In one transaction with the group's offsets of these partitions. What fails is read anew."""
        reopened = [record for record in self._state.reopened if record.partition in self._state.tenures]
        self._state.reopened = []
        records = [*records, *reopened]
        if not records:
            return
        numbers = {*numbers, *(record.partition for record in reopened)}
        numbers = [n for n in numbers if n in self._state.tenures] or list(self._state.tenures)[:1]
        if not numbers:  # nothing is ours
            return
        tenures = {number: self._state.tenures[number] for number in numbers}
        offsets = {
            (self._names.data(kind), number): self._state.partitions[number].low[kind]
            for number in numbers
            for kind in self._state.members.kinds
        }
        try:
            written = await self._writer.write(records, offsets=offsets, tenures=tenures)
        except TransactionFailed as error:
            _log.warning("a commit was not written; its entries come again", extra={"why": str(error)})
            await self.read_anew(tenures)
            return
        self._expect_written(records, written)
        self._state.announce()

    def _expect_written(self, records: Sequence[Record], offsets: Sequence[int]) -> None:
        for record, offset in zip(records, offsets, strict=True):
            if record.topic == self._names.dead_letters:
                self._letters.expect(offset)
            elif record.topic == self._names.data(Kind.FOLLOW_UPS):
                self._state.expect([Spot(record.partition, Kind.FOLLOW_UPS, offset)])

    async def read_anew(self, tenures: Mapping[int, int]) -> None:
        """Read partitions anew, as far as they are still ours; returns when that is done."""
        again = [number for number, tenure in tenures.items() if self._state.tenures.get(number) == tenure]
        for number in again:
            self._state.drop(number)
        self._load_again(again)
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                while not {partition.number for partition in self._state.ready()}.issuperset(again):
                    await self._state.moved.wait()
        except TimeoutError:  # they are another's by now, or the brokers are slow
            return

    async def forget(self, *, max_notes: int, max_claims: int) -> None:
        """Drop the oldest notes and claims over their bounds, and progress that says nothing."""
        for partition in self._state.ready():
            share = max(1, len(self._state.partitions))
            records = []
            for note in list(partition.notes)[: max(0, len(partition.notes) - max_notes // share)]:
                del partition.notes[note]
                records.append(Record(self._names.state, partition.number, note_key(*note), None))
            for id in list(partition.claims)[: max(0, len(partition.claims) - max_claims // share)]:
                del partition.claims[id]
                records.append(Record(self._names.state, partition.number, claim_key(id), None))
            for consumer, lane in partition.idle_progress(partition.low):
                del partition.progress[consumer, lane]
                key = lane_key(consumer, lane)
                records.append(Record(self._names.state, partition.number, key, None))
            await self.write(records, [partition.number])


def _draft(part: Parked) -> Draft:
    return Draft(
        lane=part.lane,
        payload=part.payload,
        span_count=part.span_count,
        trace_ids=part.trace_ids,
        client=part.client,
    )


def _part_of(part: Parked, piece: Draft) -> Parked:
    return replace(part, payload=bytes(piece.payload), span_count=piece.span_count, trace_ids=piece.trace_ids)
