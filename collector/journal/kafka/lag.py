"""How far the groups are behind: the bound at which receivers refuse, the purge, and operators' numbers.

Kafka counts records, not bytes: bytes are records times the mean size of those that this process appended.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.journal import FOLLOWED_SHARE, PartitionLag
from collector.journal.kafka.client import ASK_SECONDS, CALL_SECONDS, AdminCalls, KafkaConnection
from collector.journal.kafka.owned import GroupMembers
from collector.journal.kafka.records import Kind, Names
from collector.model.errors import Reason, Unavailable

LOOK_SECONDS = 1.0
# until this process has appended any
ASSUMED_BYTES = 16 * 1024

Stream = tuple[int, Kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOffsets:
    """Where the log begins and ends, and where each group is, by partition and kind."""

    begins: Mapping[Stream, int]
    ends: Mapping[Stream, int]
    groups: Mapping[str, Mapping[Stream, int]]

    def behind(self, group: GroupMembers) -> dict[Stream, int]:
        """Records that the group hasn't passed."""
        at = self.groups[group.name]
        return {
            stream: max(0, end - max(at.get(stream, 0), self.begins[stream]))
            for stream, end in self.ends.items()
            if stream[1] in group.kinds
        }


@dataclass(slots=True)
class LagBound:
    """Asks the brokers, now and then. Entries wait for `groups`, and for `followers` while there is room."""

    connection: KafkaConnection
    groups: Sequence[GroupMembers]
    followers: Sequence[GroupMembers]
    _offsets: LogOffsets | None = None
    _asked_at: float = float("-inf")
    _appended_bytes: int = 0
    _appended_entries: int = 0
    _since_bytes: int = 0
    _admin: AdminCalls = field(init=False)
    _askers: dict[str, Any] = field(default_factory=dict)
    _asking: "asyncio.Task[LogOffsets] | None" = field(default=None)

    def __post_init__(self) -> None:
        self._admin = AdminCalls(self.connection)

    @property
    def names(self) -> Names:
        """Of the topics and groups."""
        return Names(self.connection.place.name)

    def appended(self, size_bytes: int) -> None:
        """Count an entry of this process."""
        self._appended_bytes += size_bytes
        self._appended_entries += 1
        self._since_bytes += size_bytes

    def moved(self) -> None:
        """A commit of this process: the next question is to the brokers."""
        self._asked_at = float("-inf")

    def bytes_of(self, entries: int) -> int:
        """About so many."""
        if not self._appended_entries:
            return entries * ASSUMED_BYTES
        return entries * self._appended_bytes // self._appended_entries

    @property
    def waiting_bytes(self) -> int:
        """What waits for the groups, about."""
        if self._offsets is None:
            return self._since_bytes
        return self.bytes_of(self._most(self.groups, self._offsets)) + self._since_bytes

    @property
    def refusing(self) -> str | None:
        """Why nothing more is taken, or None."""
        if self.waiting_bytes < self.connection.settings.max_lag_bytes:
            return None
        return f"the journal is full (about {self.waiting_bytes} bytes wait, kafka.max_lag_bytes is reached)"

    async def look(self, *, at_once: bool = False) -> LogOffsets:
        """Where everything is; asked again after LOOK_SECONDS. Raises Unavailable.

        With `at_once` the answer is to a question that is asked now.
        """
        now = time.monotonic()
        if self._offsets is not None and not at_once and now - self._asked_at < LOOK_SECONDS:
            return self._offsets
        if at_once and self._asking is not None:
            await asyncio.wait([self._asking])
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._look())
        return await asyncio.shield(self._asking)

    def look_beside(self) -> None:
        """Ask without waiting for the answer."""
        if time.monotonic() - self._asked_at >= LOOK_SECONDS and (
            self._asking is None or self._asking.done()
        ):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._look())
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _look(self) -> LogOffsets:
        from confluent_kafka import KafkaException

        before = self._since_bytes
        try:
            self._offsets = await asyncio.to_thread(self.ask)
        except KafkaException as error:
            told = error.args[0].str()
            raise Unavailable(Reason.JOURNAL_FAILED, f"Kafka does not answer ({told}); try again") from error
        self._since_bytes -= before  # what came meanwhile may be counted twice
        return self._offsets

    async def purge(self, partitions: Iterable[int], *, kept_since_unix_ns: int) -> tuple[int, LogOffsets]:
        """Delete what every group has passed and nobody keeps; how many records, and how the log is now.

        Raises Unavailable, KafkaException.
        """
        offsets = await self.look(at_once=True)
        followed = self.bytes_of(self._most(self.followers, offsets))
        is_roomy = followed < self.connection.settings.max_lag_bytes * FOLLOWED_SHARE
        awaited = (*self.groups, *self.followers) if is_roomy else tuple(self.groups)
        until: dict[Stream, int] = {}
        for number in partitions:
            for kind in Kind:
                stream = (number, kind)
                passed = [offsets.groups[g.name].get(stream, 0) for g in awaited if kind in g.kinds]
                until[stream] = min(passed, default=offsets.ends[stream])
        count = await asyncio.to_thread(self._delete, until, offsets, kept_since_unix_ns)
        return count, await self.look(at_once=True)

    def lags(self, offsets: LogOffsets) -> list[PartitionLag]:
        """For metrics and the doctor."""
        found = []
        for group in (*self.groups, *self.followers):
            entries: defaultdict[int, int] = defaultdict(int)
            for (number, _), lag in offsets.behind(group).items():
                entries[number] += lag
            found += [
                PartitionLag(group=group.name, partition=number, entries=lag)
                for number, lag in sorted(entries.items())
            ]
        return found

    def _most(self, groups: Sequence[GroupMembers], offsets: LogOffsets) -> int:
        lags = [offsets.behind(group) for group in groups]
        return sum(max((lag.get(stream, 0) for lag in lags), default=0) for stream in offsets.ends)

    # in a thread

    def ask(self) -> LogOffsets:
        """Ask the brokers. Raises KafkaException."""
        from confluent_kafka.admin import OffsetSpec

        begins = self._spots(OffsetSpec.earliest())
        ends = self._spots(OffsetSpec.latest())
        groups = {group.name: self._of_group(group) for group in (*self.groups, *self.followers)}
        return LogOffsets(begins=begins, ends=ends, groups=groups)

    def _spots(self, spec: Any, streams: Iterable[Stream] | None = None) -> dict[Stream, int]:
        asked = {self._partition(stream): spec for stream in streams or self._streams()}
        kinds = {self.names.data(kind): kind for kind in Kind}

        def offsets(admin: Any) -> dict[Stream, int]:
            answers = admin.list_offsets(asked, request_timeout=ASK_SECONDS)
            return {(s.partition, kinds[s.topic]): future.result().offset for s, future in answers.items()}

        return self._admin.ask(offsets)

    def _of_group(self, group: GroupMembers) -> dict[Stream, int]:
        """Where a group is, asked by a consumer of it that never joins.

        The admin client can't be asked: an answer that the group's coordinator has moved ends the process
        (librdkafka 2.16, `rd_kafka_handle_OffsetFetch`, looks for the consumer that an admin client lacks).
        """
        kinds = {self.names.data(kind): kind for kind in Kind}
        asked = [self._partition(stream) for stream in self._streams() if stream[1] in group.kinds]
        found = self._committed(group, asked)
        return {(f.partition, kinds[f.topic]): f.offset for f in found if f.offset >= 0}

    def _committed(self, group: GroupMembers, asked: Sequence[Any]) -> Sequence[Any]:
        """Once more if the group's coordinator has moved: with the answer the client learns of it."""
        from confluent_kafka import KafkaException

        try:
            found: Sequence[Any] = self._asker(group).committed(asked, timeout=CALL_SECONDS)
        except KafkaException:
            self._askers.pop(group.name).close()
            found = self._asker(group).committed(asked, timeout=CALL_SECONDS)
        return found

    def _asker(self, group: GroupMembers) -> Any:
        if group.name not in self._askers:
            self._askers[group.name] = self.connection.asker(self.names.group(group.name))
        return self._askers[group.name]

    def close(self) -> None:
        """Let go of the clients. Blocks."""
        for asker in self._askers.values():
            asker.close()
        self._askers.clear()

    def _delete(self, until: Mapping[Stream, int], offsets: LogOffsets, kept_since_unix_ns: int) -> int:
        from confluent_kafka.admin import OffsetSpec

        wanted = {stream: offset for stream, offset in until.items() if offset > offsets.begins[stream]}
        if not wanted:
            return 0
        kept = self._spots(OffsetSpec.for_timestamp(kept_since_unix_ns // 10**6), wanted)
        bounds = {s: min(offset, kept[s]) if kept[s] >= 0 else offset for s, offset in wanted.items()}
        bounds = {stream: offset for stream, offset in bounds.items() if offset > offsets.begins[stream]}
        spots = [self._partition(stream, offset) for stream, offset in bounds.items()]
        if spots:
            self._admin.ask(lambda admin: _wait(admin.delete_records(spots, request_timeout=ASK_SECONDS)))
        return sum(offset - offsets.begins[stream] for stream, offset in bounds.items())

    def _streams(self) -> list[Stream]:
        return [(number, kind) for number in range(self.connection.settings.partitions) for kind in Kind]

    def _partition(self, stream: Stream, offset: int = -1001) -> Any:
        from confluent_kafka import TopicPartition

        return TopicPartition(self.names.data(stream[1]), stream[0], offset)


def _wait(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result()
