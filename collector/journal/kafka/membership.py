"""A process as a member of a group: which partitions are its own, and what is read of them.

A thread does both. One client is the group's member: it fetches nothing. Another one reads the topics of
the partitions that are ours, from where the group is. What comes is handed to the event loop.

    assigned -> settled (no transaction of the owner before is open) -> state and entries read -> owned

The group is over the topic of spans; who has its partition n has n of every other topic, too.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.journal.kafka.client import ASK_SECONDS, CALL_SECONDS, AdminCalls, KafkaConnection
from collector.journal.kafka.owned import GroupMembers
from collector.journal.kafka.records import HeldRecord, Kind, Names, Spot, held_of
from collector.telemetry.fault_log import FaultLog

_log = logging.getLogger("sidespan.kafka")

READ_RECORDS = 500
READ_SECONDS = 0.02
IDLE_SECONDS = 0.1
SETTLE_SECONDS = 0.1
# after a question that failed
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A partition is ours, and being read. `tenure` says which time it is."""

    partition: int
    tenure: int
    begins: list[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A partition is another's now."""

    partition: int


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A record of the compacted topic; `value` None: it is forgotten."""

    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry was read, or a record that is none (`held` None)."""

    spot: Spot
    held: HeldRecord | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The state and the entries of a partition were read to their end."""

    partition: int
    tenure: int


Event = Assigned | Revoked | StateRecord | Seen | Loaded


@dataclass(slots=True)
class _Loading:
    tenure: int
    unread: set[str]


class GroupMembership:
    """Started by `start`. `tell` gets events in the event loop, in order."""

    def __init__(
        self, connection: KafkaConnection, members: GroupMembers, tell: Callable[[Sequence[Event]], None]
    ) -> None:
        self.members = members
        self._connection = connection
        self._names = Names(connection.place.name)
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._kinds = {self._names.data(kind): kind for kind in members.kinds}
        # partition -> which time it is ours; changed in the thread only, read by writers
        self._tenures: dict[int, int] = {}
        self._tenure = 0
        self._to_load: set[int] = set()
        self._loading: dict[int, _Loading] = {}
        self._again: set[int] = set()
        self._events: list[Event] = []
        self._ends = threading.Event()
        self._leaves = True
        self._faults = FaultLog()
        self._thread = threading.Thread(target=self._run, name=f"sidespan-kafka-{members.name}", daemon=True)
        self._admin = AdminCalls(connection)
        self._group: Any = None

    def start(self) -> None:
        """Join."""
        self._thread.start()

    def metadata(self) -> Any:
        """What a transaction says to be let in."""
        return self._group.consumer_group_metadata()

    def holds(self, tenures: Mapping[int, int]) -> bool:
        """Whether the partitions have been ours all the time."""
        return all(self._tenures.get(partition) == tenure for partition, tenure in tenures.items())

    def load_again(self, partitions: Sequence[int]) -> None:
        """What the event loop has of them isn't what the topics say."""
        self._again.update(partitions)

    async def close(self) -> None:
        """Leave the group. Twice is harmless."""
        self._ends.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    # in the thread

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                self._serve()
            except Exception as error:  # the brokers are away for long, or a bug: begin anew
                self._faults.tell_of("the log's group is joined again", error, group=self.members.name)
                self._to_load.clear()
                self._flush()
                self._ends.wait(1.0)

    def _serve(self) -> None:
        settings = self._connection.settings
        told: dict[str, Any] = {"session.timeout.ms": int(settings.session_timeout_seconds * 1000)}
        told["heartbeat.interval.ms"] = int(settings.session_timeout_seconds * 1000 / 4)
        told["partition.assignment.strategy"] = "cooperative-sticky"
        if settings.member:
            told["group.instance.id"] = settings.member
        spans = self._names.data(Kind.SPANS)
        self._group = self._connection.consumer(self._names.group(self.members.name), topics=[spans], **told)
        reading = {"enable.partition.eof": True, "queued.max.messages.kbytes": 32 * 1024}
        self._reader = self._connection.consumer(
            self._names.group(f"{self.members.name}-reader"),
            topics=[self._names.state, *self._kinds],
            **reading,
        )
        try:
            self._group.subscribe(
                [spans],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
            while not self._ends.is_set():
                self._step()
        finally:
            self._lose(list(self._tenures))  # while the reader is there; close() tells no fenced member
            self._group.close()
            self._reader.close()

    def _step(self) -> None:
        message = self._group.poll(0)
        if message is not None and message.error() is not None and message.error().fatal():
            raise RuntimeError(message.error().str())
        self._reload()
        self._load()
        if self._tenures:
            self._read()
        else:
            self._ends.wait(READ_SECONDS)
        self._flush()

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell, events)

    def _on_assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        from confluent_kafka import OFFSET_END, TopicPartition

        spots = [TopicPartition(each.topic, each.partition, OFFSET_END) for each in partitions]
        consumer.incremental_assign(spots)
        consumer.pause(spots)
        self._to_load.update(each.partition for each in partitions)

    def _on_revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._lose([each.partition for each in partitions])
        consumer.incremental_unassign(partitions)

    def _lose(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._to_load.discard(partition)
            self._loading.pop(partition, None)
            if self._tenures.pop(partition, None) is not None:
                self._reader.incremental_unassign(self._spots(partition))
            self._events.append(Revoked(partition))

    def _reload(self) -> None:
        while self._again:
            partition = self._again.pop()
            if partition in self._tenures:
                self._lose([partition])
                self._to_load.add(partition)

    def _spots(self, partition: int) -> list[Any]:
        from confluent_kafka import TopicPartition

        return [TopicPartition(topic, partition) for topic in (self._names.state, *self._kinds)]

    def _load(self) -> None:
        """Begin to read the partitions that are ours and have settled."""
        from confluent_kafka import KafkaException

        if not self._to_load:
            return
        try:
            begins = self._begins(self._settled())
        except KafkaException as error:
            _log.warning("a partition can't be loaded now", extra={"why": error.args[0].str()})
            self._ends.wait(PAUSE_SECONDS)
            return
        if not begins:
            self._ends.wait(SETTLE_SECONDS)
        for partition, offsets in begins.items():
            self._begin(partition, offsets)

    def _begin(self, partition: int, begins: list[int]) -> None:
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        self._tenure += 1
        self._tenures[partition] = self._tenure
        self._loading[partition] = _Loading(self._tenure, {self._names.state, *self._kinds})
        self._events.append(Assigned(partition=partition, tenure=self._tenure, begins=begins))
        spots = [
            TopicPartition(topic, partition, begins[kind] or OFFSET_BEGINNING)
            for topic, kind in self._kinds.items()
        ]
        state = TopicPartition(self._names.state, partition, OFFSET_BEGINNING)
        self._reader.incremental_assign([state, *spots])
        self._to_load.discard(partition)

    def _begins(self, partitions: Sequence[int]) -> dict[int, list[int]]:
        """Where the group is in them, by kind. Raises KafkaException: that is not known of all of them."""
        from confluent_kafka import KafkaException, TopicPartition

        begins = {partition: [0, 0, 0] for partition in partitions}
        asked = [TopicPartition(topic, partition) for partition in partitions for topic in self._kinds]
        for found in self._group.committed(asked, CALL_SECONDS) if asked else ():
            if found.error is not None:  # its offset would read as: nothing was ever committed
                raise KafkaException(found.error)
            begins[found.partition][self._kinds[found.topic]] = max(0, found.offset)
        return begins

    def _settled(self) -> list[int]:
        """The partitions whose state is all committed or aborted: no owner before is at it."""
        from confluent_kafka import IsolationLevel, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        asked = {TopicPartition(self._names.state, each): OffsetSpec.latest() for each in self._to_load}

        def ends(admin: Any, level: IsolationLevel) -> dict[int, int]:
            answers = admin.list_offsets(asked, isolation_level=level, request_timeout=ASK_SECONDS)
            return {spot.partition: future.result().offset for spot, future in answers.items()}

        committed = self._admin.ask(lambda admin: ends(admin, IsolationLevel.READ_COMMITTED))
        written = self._admin.ask(lambda admin: ends(admin, IsolationLevel.READ_UNCOMMITTED))
        return sorted(number for number in committed if committed[number] == written[number])

    def _read(self) -> None:
        for message in self._reader.consume(READ_RECORDS, READ_SECONDS):
            topic, partition = message.topic(), message.partition()
            if message.error() is not None:
                self._told(topic, partition, message.error(), message.offset())
            elif topic == self._names.state:
                self._events.append(StateRecord(partition, message.key(), message.value()))
            else:
                self._see(Spot(partition, self._kinds[topic], message.offset()), message)

    def _see(self, spot: Spot, message: Any) -> None:
        held = None
        try:
            _, written_unix_ms = message.timestamp()
            held = held_of(spot, message.value(), message.headers(), written_unix_ms=written_unix_ms)
        except (ValueError, KeyError) as error:
            self._faults.tell_of("a record of the log can't be read and is passed", error, spot=str(spot))
        self._events.append(Seen(spot, held))

    def _told(self, topic: str, partition: int, error: Any, end: int) -> None:
        from confluent_kafka import KafkaError

        if error.code() != KafkaError._PARTITION_EOF:
            _log.warning("Kafka", extra={"error": error.str(), "topic": topic, "partition": partition})
            return
        if topic in self._kinds:  # the marks of transactions count as read, too
            self._events.append(Seen(Spot(partition, self._kinds[topic], end - 1), None))
        loading = self._loading.get(partition)
        if loading is not None:
            loading.unread.discard(topic)
            if not loading.unread:
                del self._loading[partition]
                self._events.append(Loaded(partition, loading.tenure))
