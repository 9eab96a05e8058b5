"""What a member of a group has in memory: its partitions, kept up by what the membership's thread tells.

Runs in the event loop, without input or output.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from collector.journal.kafka.membership import Assigned, Event, Loaded, Revoked, Seen, StateRecord
from collector.journal.kafka.owned import GroupMembers, OwnedPartition
from collector.journal.kafka.partitioning import key_of, partition_of
from collector.journal.kafka.records import (
    HeldRecord,
    HeldTraceClaim,
    Kind,
    LaneProgress,
    Names,
    Record,
    Spot,
    claim_key,
    lane_key,
    read_state_key,
)
from collector.settings.engines import KafkaSettings

_log = logging.getLogger("sidespan.kafka")

# how long a question waits to see what this process itself has written
SEE_OWN_SECONDS = 5.0

# progress that has changed with the loading of a partition
Recounted = Callable[[OwnedPartition, Sequence[tuple[str, str]]], None]


class ConsumerGroupState:
    """See above. `recounted` is told of attempts that were counted."""

    def __init__(
        self, members: GroupMembers, *, names: Names, settings: KafkaSettings, recounted: Recounted
    ) -> None:
        self.members = members
        self.partitions: dict[int, OwnedPartition] = {}
        self.tenures: dict[int, int] = {}
        self.appended = asyncio.Event()
        self.moved = asyncio.Event()
        self.reopened: list[Record] = []
        self._names = names
        self._settings = settings
        self._recounted = recounted
        self._order = 0
        self._held_bytes = 0
        self._own: dict[tuple[int, Kind], int] = {}

    def announce(self) -> None:
        """Wake the consumers."""
        self.appended.set()
        self.appended = asyncio.Event()

    def expect(self, spots: Iterable[Spot]) -> None:
        """This process has written there: its consumers see it with their next question."""
        for spot in spots:
            at = spot.partition, spot.kind
            self._own[at] = max(self._own.get(at, 0), spot.offset)

    def take(self, events: Sequence[Event]) -> None:
        """What the thread tells, in order."""
        for event in events:
            match event:
                case Assigned(partition=number, tenure=tenure, begins=begins):
                    self.partitions[number] = OwnedPartition(
                        number=number, members=self.members, begins=begins
                    )
                    self.tenures[number] = tenure
                case Revoked(partition=number):
                    self.drop(number)
                case StateRecord():
                    self._remember(event)
                case Seen(spot=spot, held=held):
                    self._see(spot, held)
                case Loaded(partition=number, tenure=tenure):
                    if self.tenures.get(number) == tenure:
                        self._loaded(self.partitions[number])
        self.moved.set()
        self.moved = asyncio.Event()
        self.announce()

    def drop(self, number: int) -> None:
        """Forget a partition: it is another's, or to be read anew."""
        self.tenures.pop(number, None)
        if (partition := self.partitions.pop(number, None)) is not None:
            for held in self.all_held(partition):
                self.let_go(held)

    def all_held(self, partition: OwnedPartition) -> Iterator[HeldRecord]:
        """Everything that is in memory of it."""
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
                self.reopened.append(Record(self._names.state, partition.number, claim_key(trace_id), None))
        return True

    def _hold(self, held: HeldRecord) -> None:
        """Keep its payload, if there is memory for it."""
        if self._held_bytes + held.size_bytes > self._settings.max_held_bytes:
            held.payload = None
        else:
            self._held_bytes += held.size_bytes

    def let_go(self, held: HeldRecord) -> None:
        """Its payload is wanted no more."""
        if held.payload is not None:
            self._held_bytes -= held.size_bytes

    def _loaded(self, partition: OwnedPartition) -> None:
        for held in partition.loaded():
            if not self._enter(partition, held):
                self.let_go(held)
        if changed := partition.count_attempts():
            _log.warning("the owner before was cut short", extra={"partition": partition.number})
            self._recounted(partition, changed)

    async def see_own(self) -> None:
        """Wait for what this process has written itself, unless the brokers are slow."""
        until = time.monotonic() + SEE_OWN_SECONDS
        while self._has_unseen() and (left := until - time.monotonic()) > 0:
            moved = self.moved
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

    def ready(self) -> list[OwnedPartition]:
        """The partitions that are loaded."""
        return [partition for partition in self.partitions.values() if partition.loading is None]

    def home(self, trace_id: bytes) -> int:
        """The partition of a trace."""
        return partition_of(key_of(trace_id), self._settings.partitions)

    def owned(self, trace_id: bytes) -> OwnedPartition | None:
        """The partition of a trace, if it is ours and loaded."""
        partition = self.partitions.get(self.home(trace_id))
        return None if partition is None or partition.loading is not None else partition

    def find(self, spot: Spot) -> HeldRecord | None:
        """The entry there, if a consumer waits for it."""
        partition = self.partitions.get(spot.partition)
        return None if partition is None else partition.find(spot)

    def progress_record(self, partition: OwnedPartition, consumer: str, lane: str) -> Record:
        """A consumer's progress, to be written."""
        value = partition.progress_of(consumer, lane).to_bytes()
        return Record(self._names.state, partition.number, lane_key(consumer, lane), value)

    def drop_before(self, number: int, kind: Kind, offset: int) -> None:
        """Entries were deleted from the log: what only follows does without them."""
        partition = self.partitions.get(number)
        if partition is not None and partition.loading is None:
            for held in partition.held[kind].values():
                if held.spot.offset < offset:
                    self.let_go(held)
            partition.drop_before(kind, offset)
