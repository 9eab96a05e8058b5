"""A consumer is moved back: what it has passed and what is still in the log comes again."""

import logging
import time
from collections.abc import Collection, Sequence

from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.owned import OwnedPartition
from collector.journal.kafka.records import HeldRecord, Kind, Names
from collector.journal.kafka.state import ConsumerGroupState
from collector.journal.kafka.transactions import TransactionFailed, TransactionWriter
from collector.journal.kafka.writing import GroupWriting

_log = logging.getLogger("sidespan.kafka")


class GroupReplay:
    """Over the partitions that this process owns."""

    def __init__(
        self,
        state: ConsumerGroupState,
        writing: GroupWriting,
        writer: TransactionWriter,
        fetcher: Fetcher,
        names: Names,
    ) -> None:
        self._state = state
        self._writing = writing
        self._writer = writer
        self._fetcher = fetcher
        self._names = names

    async def replay(self, consumer: str, *, since_unix_ns: int, kept_since_unix_ns: int) -> int:
        """Move the consumer back; entries come again that another waits for, or that are kept so long."""
        await self._state.see_own()
        count = 0
        for partition in self._state.ready():
            if consumer in self._state.members.consumers:
                count += await self._replay(partition, consumer, since_unix_ns, kept_since_unix_ns)
        self._state.announce()
        return count

    async def _replay(
        self, partition: OwnedPartition, consumer: str, since_unix_ns: int, kept_since_unix_ns: int
    ) -> int:
        tenure, low = self._state.tenures[partition.number], partition.low
        heads: list[HeldRecord] = []
        for kind in self._state.members.kinds:
            since_ms = max(since_unix_ns, kept_since_unix_ns) // 10**6
            if since_ms > time.time_ns() // 10**6:
                since_ms = time.time_ns() // 10**6
            heads += await self._fetcher.heads(
                partition.number, kind, since_unix_ms=since_ms, low=low[kind], end=partition.nexts[kind]
            )
        if self._state.tenures.get(partition.number) != tenure:
            return 0
        kept = [h for h in heads if partition.find(h.spot) or h.received_unix_ns >= kept_since_unix_ns]
        passed = [
            h
            for h in kept
            if consumer in self._state.members.readers(h) and self._has_passed(partition, consumer, h)
        ]
        again = [held for held in passed if held.received_unix_ns >= since_unix_ns]
        if not again:
            return 0
        self._settle_all(partition, {held.lane for held in kept}, low)
        lows = self._move_back(partition, consumer, again)
        records = [self._state.progress_record(partition, *key) for key in partition.progress]
        offsets = {
            (self._names.data(kind), partition.number): min(low[kind], lows[kind])
            for kind in self._state.members.kinds
        }
        tenures = {partition.number: tenure}
        try:
            await self._writer.write(records, offsets=offsets, tenures=tenures)
        except TransactionFailed as error:
            _log.warning("a replay was not written", extra={"why": str(error)})
            again = []
        await self._writing.read_anew(tenures)
        return len(again)

    def _has_passed(self, partition: OwnedPartition, consumer: str, held: HeldRecord) -> bool:
        progress = partition.progress.get((consumer, held.lane))
        before = partition.begins[held.spot.kind] if progress is None else progress.following[held.spot.kind]
        return held.spot.offset < max(before, partition.low[held.spot.kind])

    def _settle_all(self, partition: OwnedPartition, lanes: Collection[str], low: Sequence[int]) -> None:
        """Write out what the group's offsets alone have said: before them everything is passed."""
        for consumer in self._state.members.consumers:
            for lane in lanes:
                progress = partition.progress_of(consumer, lane)
                progress.following = [max(pair) for pair in zip(progress.following, low, strict=True)]

    def _move_back(
        self, partition: OwnedPartition, consumer: str, again: Sequence[HeldRecord]
    ) -> dict[Kind, int]:
        lows = {kind: partition.nexts[kind] for kind in Kind}
        for held in sorted(again, key=lambda held: held.spot, reverse=True):
            kind, offset = held.spot.kind, held.spot.offset
            partition.progress_of(consumer, held.lane).following[kind] = offset
            lows[kind] = offset
        return lows
