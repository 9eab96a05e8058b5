"""The journal on Kafka: how it opens, and an object for each of its roles."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from collector.journal import NOTHING, JournalState, PartitionLag, PendingLane, Subscriptions
from collector.journal.kafka.appending import Appender
from collector.journal.kafka.client import KafkaConnection, require_client
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.group import KafkaGroup
from collector.journal.kafka.lag import LagBound
from collector.journal.kafka.letters import LetterTable
from collector.journal.kafka.owned import DELIVER, GroupMembers, groups_of
from collector.journal.kafka.partitioning import key_of, partition_of
from collector.journal.kafka.pending_traces import KafkaPendingTraces
from collector.journal.kafka.records import Kind, Spot
from collector.journal.kafka.topics import prepare_topics
from collector.model.batch import (
    DeadLetter,
    Draft,
    Entry,
    FollowUp,
    Parked,
    Position,
)
from collector.model.errors import JournalClosed, Reason, Unavailable
from collector.settings import JournalSettings
from collector.settings.engines import EnginePlace, KafkaSettings

_log = logging.getLogger("sidespan.kafka")


@asynccontextmanager
async def open_kafka_journal(
    place: EnginePlace,
    *,
    settings: KafkaSettings,
    journal: JournalSettings,
    consumers: Sequence[str],
    followers: Sequence[str] = (),
    log_consumers: Sequence[str] = (),
    log_followers: Sequence[str] = (),
    running: Collection[str] = (),
    keep_claims: int,
    observe_commit: Callable[[float], None] = lambda seconds: None,
) -> AsyncIterator["KafkaJournal"]:
    """The journal at `place`, until the block ends.

    `consumers`, `followers` and `log_consumers` are all that there are, in any process; `running` those that
    this process runs.
    Raises Misconfigured: the client isn't installed, no broker answers, or a topic isn't as it must be.
    """
    require_client()
    connection = KafkaConnection(place, settings)
    await asyncio.to_thread(prepare_topics, connection)
    deliver = GroupMembers(name=DELIVER, spans=tuple(consumers), logs=tuple(log_consumers))
    groups = [deliver, *groups_of(followers, log_followers)]
    opened = KafkaJournal(
        connection,
        settings=journal,
        groups=groups,
        joined=[group for group in groups if set(group.consumers) & set(running)],
        keep_claims=keep_claims,
        observe_commit=observe_commit,
    )
    try:
        await opened.start()
        yield opened
    finally:
        await opened.close()


class KafkaJournal:
    """The journal in Kafka's topics (see the protocol). Opened by `open_kafka_journal`."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        settings: JournalSettings,
        groups: Sequence[GroupMembers],
        joined: Sequence[GroupMembers],
        keep_claims: int,
        observe_commit: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._keep_claims = keep_claims
        self._closed = False
        self.fetcher = Fetcher(connection)
        self.letters = LetterTable(connection, self.fetcher, retried=self._retried)
        self.lag_bound = LagBound(connection, groups[:1], groups[1:])
        self.appender = Appender(connection, observe=observe_commit)
        self.groups = {
            group.name: KafkaGroup(connection, group, fetcher=self.fetcher, letters=self.letters)
            for group in joined
        }
        self._all_groups = groups
        self._nobody = asyncio.Event()
        self.log = KafkaLog(self)
        self.traces = KafkaTraceMemory(self)
        self.pending_traces = KafkaPendingTraces(self)

    def consumer(self, name: str) -> "KafkaConsumer":
        return KafkaConsumer(journal=self, name=name)

    def dead_letters(self, consumer: str) -> "KafkaDeadLetters":
        return KafkaDeadLetters(journal=self, consumer=consumer)

    async def start(self) -> None:
        """Join the groups."""
        for group in self.groups.values():
            group.start()

    async def sweep(self) -> int:
        from confluent_kafka import KafkaException

        self.check_open()
        deliver = self.groups.get(DELIVER)
        owned = set(deliver.state.tenures) if deliver is not None else set()
        try:
            count, offsets = await self.lag_bound.purge(owned, kept_since_unix_ns=self.kept_since_unix_ns)
        except (Unavailable, KafkaException) as error:
            _log.warning("nothing is deleted while Kafka does not answer", extra={"why": str(error)})
            return 0
        for group in self.groups.values():
            for (number, kind), begin in offsets.begins.items():
                group.drop_before(number, Kind(kind), begin)
            await group.writing.forget(max_notes=self._settings.max_notes, max_claims=self._keep_claims)
        return count

    async def subscribe(self, names: Collection[str]) -> Subscriptions:
        """Nobody: settings refuse other backends where the log is on Kafka."""
        self.check_open()
        assert not names
        return Subscriptions(begun=frozenset(), ended={})

    async def lag(self) -> Sequence[PartitionLag]:
        """How far each group is behind, by partition. Raises Unavailable."""
        self.check_open()
        return self.lag_bound.lags(await self.lag_bound.look())

    def partition_of(self, trace_id: bytes) -> int:
        """The partition that holds a trace."""
        return partition_of(key_of(trace_id), self.lag_bound.connection.settings.partitions)

    async def close(self, *, is_abandoned: bool = False) -> None:
        """Finish what was asked for, then leave the groups. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        await self.appender.close()
        for group in self.groups.values():
            await group.close(is_abandoned=is_abandoned)
        await self.letters.close()
        await asyncio.to_thread(self.lag_bound.close)
        await self.fetcher.close()

    @property
    def kept_since_unix_ns(self) -> int:
        """What was received since then is kept for a replay."""
        return time.time_ns() - int(self._settings.retention_seconds * 1e9)

    def group_of(self, consumer: str) -> KafkaGroup | None:
        """The consumer's group, if this process is in it. Raises JournalClosed."""
        self.check_open()
        return next((g for g in self.groups.values() if consumer in g.members.consumers), None)

    def appended_of(self, consumer: str) -> asyncio.Event:
        """What sets when there is more for a consumer; of a group that isn't ours: never."""
        group = next((g for g in self.groups.values() if consumer in g.members.consumers), None)
        return self._nobody if group is None else group.state.appended

    def members_of(self, consumer: str) -> GroupMembers | None:
        """The consumer's group, whoever is in it."""
        return next((group for group in self._all_groups if consumer in group.consumers), None)

    def expect(self, spots: Sequence[Spot]) -> None:
        """This process wrote there: its consumers see it at once."""
        for group in self.groups.values():
            group.expect(spots)

    def _retried(self, partition: int, offset: int) -> None:
        self.expect([Spot(partition, Kind.FOLLOW_UPS, offset)])

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def check_open(self) -> None:
        """Raises JournalClosed."""
        if self._closed:
            raise JournalClosed("the journal is closed")


@dataclass(frozen=True, slots=True)
class KafkaLog:
    """See `Log`."""

    journal: KafkaJournal

    @property
    def refusing(self) -> str | None:
        if not self.journal.is_closed:
            self.journal.lag_bound.look_beside()
        return self.journal.lag_bound.refusing

    async def append(self, drafts: Sequence[Draft]) -> Position:
        self.journal.check_open()
        bound = self.journal.lag_bound
        await self._look(bound)
        if bound.refusing:
            raise Unavailable(Reason.JOURNAL_FULL, f"{bound.refusing}; send it again")
        spots = await self.journal.appender.append(drafts, received_unix_ns=time.time_ns())
        for draft in drafts:
            bound.appended(len(draft.payload))
        self.journal.expect(spots)
        return max(spots).position

    async def _look(self, bound: LagBound) -> None:
        """Beside the append, unless nothing is taken now."""
        if bound.refusing:
            await bound.look()
        else:
            bound.look_beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConsumer:
    """See `Consumer`. In a process that isn't in the consumer's group nothing ever waits for it."""

    journal: KafkaJournal
    name: str

    @property
    def appended(self) -> asyncio.Event:
        return self.journal.appended_of(self.name)

    async def pending(self, *, behind: str | None = None) -> list[PendingLane]:
        group = self.journal.group_of(self.name)
        return [] if group is None else await group.reading.pending(self.name, behind=behind)

    async def read(self, lane: str, *, limit_bytes: int, behind: str | None = None) -> list[Entry]:
        group = self.journal.group_of(self.name)
        if group is None:
            return []
        return await group.reading.read(self.name, lane, limit_bytes=limit_bytes, behind=behind)

    async def read_ahead(self, lane: str, *, limit_bytes: int, after: Position | None) -> list[Entry]:
        group = self.journal.group_of(self.name)
        if group is None:
            return []
        return await group.reading.read_ahead(self.name, lane, limit_bytes=limit_bytes, after=after)

    async def awaiting(self, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        group = self.journal.group_of(self.name)
        return frozenset() if group is None else await group.reading.awaiting(self.name, trace_ids)

    async def mark(self, lane: str, *, through: Position) -> None:
        if (group := self.journal.group_of(self.name)) is not None:
            await group.writing.mark(self.name, lane, through=through)

    async def processed(self, lane: str) -> None:
        if (group := self.journal.group_of(self.name)) is not None:
            await group.writing.processed(self.name, lane)

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
        if (group := self.journal.group_of(self.name)) is None:
            return
        await group.writing.commit(
            self.name,
            lane,
            through=through,
            parked=parked,
            first=first,
            remember=remember or {},
            delivered=delivered,
            follow_ups=follow_ups,
        )
        self.journal.lag_bound.moved()

    async def replay(self, *, since_unix_ns: int) -> int:
        group = self.journal.group_of(self.name)
        if group is None:
            return 0
        return await group.replaying.replay(
            self.name, since_unix_ns=since_unix_ns, kept_since_unix_ns=self.journal.kept_since_unix_ns
        )

    async def state(self) -> JournalState:
        group = self.journal.group_of(self.name)
        if group is not None:
            return await group.reading.state(self.name)
        letters = await self.journal.letters.of(self.name)
        entries = await self._lag()
        return JournalState(
            size_bytes=self.journal.lag_bound.bytes_of(entries),
            pending_entries=entries,
            pending_spans=entries,
            oldest_received_unix_ns=None,
            dead_letters=len(letters),
            dead_letter_spans=sum(letter.span_count for letter in letters),
        )

    async def _lag(self) -> int:
        members = self.journal.members_of(self.name)
        if members is None:
            return 0
        return sum(each.entries for each in await self.journal.lag() if each.group == members.name)


@dataclass(frozen=True, slots=True)
class KafkaTraceMemory:
    """See `TraceMemory`: of the traces whose partitions this process owns."""

    journal: KafkaJournal

    async def claim(
        self, claims: Mapping[bytes, str], *, clients: Mapping[bytes, str] = NOTHING
    ) -> Mapping[bytes, str]:
        self.journal.check_open()
        deliver = self.journal.groups.get(DELIVER)
        return dict(claims) if deliver is None else await deliver.writing.claim(claims, clients)

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        group = self.journal.group_of(consumer)
        return {} if group is None else group.reading.recall(consumer, trace_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaDeadLetters:
    """See `DeadLetters`. Any process may ask."""

    journal: KafkaJournal
    consumer: str

    async def list(self, *, limit: int = 100, after: int = 0) -> Sequence[DeadLetter]:
        self.journal.check_open()
        letters = await self.journal.letters.of(self.consumer)
        return [letter for letter in letters if letter.id > after][:limit]

    async def one(self, id: int) -> DeadLetter | None:
        found = await self._chosen([id])
        whole = await self.journal.letters.whole(found)
        return whole[0] if whole else None

    async def retry(self, ids: Sequence[int] | None) -> int:
        return await self.journal.letters.retry(await self._chosen(ids))

    async def drop(self, ids: Sequence[int]) -> int:
        return await self.journal.letters.drop(await self._chosen(ids))

    async def _chosen(self, ids: Sequence[int] | None) -> Sequence[DeadLetter]:
        self.journal.check_open()
        letters = {letter.id: letter for letter in await self.journal.letters.of(self.consumer)}
        return [letters[id] for id in dict.fromkeys(letters if ids is None else ids) if id in letters]
