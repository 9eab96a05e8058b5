"""What a commit passes, while partitions come, go and are read anew: exactly what its consumer was given."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.letters import LetterTable
from collector.journal.kafka.membership import Assigned, Loaded, Revoked, Seen
from collector.journal.kafka.owned import GroupMembers
from collector.journal.kafka.reading import GroupReading
from collector.journal.kafka.records import HeldRecord, Kind, Names, Record, Spot
from collector.journal.kafka.state import ConsumerGroupState
from collector.journal.kafka.transactions import TransactionWriter
from collector.journal.kafka.writing import GroupWriting
from collector.model.batch import Entry, Parked, Route
from collector.model.errors import Reason, Rejected, Unavailable
from collector.settings.engines import KafkaSettings

LANE = Route(experiment_id="1").lane
MIB = 1024 * 1024


@dataclass
class Written:
    """Takes every transaction."""

    records: list[Record] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    async def write(self, records: Sequence[Record], *, offsets: Any, tenures: Any) -> list[int]:
        self.records += records
        self.offsets |= offsets
        return list(range(len(records)))


@dataclass
class Brokers:
    """Has the payloads that memory had no room for; `away`: of partitions that nobody leads."""

    away: set[int] = field(default_factory=set)

    async def payloads(self, spots: Iterable[Spot]) -> dict[Spot, bytes]:
        spots = list(spots)
        if any(spot.partition in self.away for spot in spots):
            raise Unavailable(Reason.JOURNAL_FAILED, "nobody leads it")
        return dict.fromkeys(spots, b"fetched")


class Group:
    """Members of one process, whose topics are this test's."""

    def __init__(self, settings: KafkaSettings | None = None) -> None:
        settings = settings or KafkaSettings(partitions=4)
        names = Names("log")
        self.brokers, self.written = Brokers(), Written()
        self.log: dict[int, list[HeldRecord]] = {}
        self.tenure = 0
        members = GroupMembers(name="deliver", spans=("delivery", "sampling"))
        self.state = ConsumerGroupState(members, names=names, settings=settings, recounted=lambda *_: None)
        letters = cast(LetterTable, type("Letters", (), {"expect": lambda *_: None})())
        self.reading = GroupReading(self.state, cast(Fetcher, self.brokers), letters)
        self.writing = GroupWriting(
            self.state,
            cast(TransactionWriter, self.written),
            reading=self.reading,
            letters=letters,
            names=names,
            settings=settings,
            load_again=lambda _: None,
        )

    def append(
        self, partition: int, payload: bytes | None, *, lane: str = LANE, received_unix_ns: int = 1
    ) -> Spot:
        entries = self.log.setdefault(partition, [])
        spot = Spot(partition, Kind.SPANS, len(entries))
        entries.append(
            HeldRecord(
                spot=spot,
                order=0,
                received_unix_ns=received_unix_ns,
                written_unix_ms=len(entries),
                lane=lane,
                span_count=1,
                size_bytes=10,
                trace_ids=frozenset({os.urandom(16)}),
                client="",
                consumer=None,
                payload=payload,
            )
        )
        if partition in self.state.partitions:
            self.state.take([Seen(spot, entries[-1])])
        return spot

    def assign(self, partition: int, *, is_loaded: bool = True) -> None:
        """From the start of its log, as after a commit that was not written."""
        self.tenure += 1
        self.state.take([Revoked(partition)])
        self.state.take([Assigned(partition=partition, tenure=self.tenure, begins=[0, 0, 0])])
        self.state.take([Seen(held.spot, held) for held in self.log.get(partition, ())])
        if is_loaded:
            self.state.take([Loaded(partition, self.tenure)])

    async def given(self, consumer: str = "delivery", behind: str | None = None) -> list[Entry]:
        return await self.reading.read(consumer, LANE, limit_bytes=MIB, behind=behind)

    async def waiting(self, consumer: str = "delivery") -> list[bytes]:
        return [entry.payload for entry in await self.given(consumer)]

    async def commit(
        self, entries: Sequence[Entry], *, consumer: str = "delivery", is_first: bool = True, **more: Any
    ) -> None:
        told = {"parked": (), "remember": {}, "delivered": {}, "follow_ups": ()} | more
        await self.writing.commit(
            consumer,
            LANE,
            through=entries[-1].position,
            first=entries[0].position if is_first else None,
            **told,
        )


@pytest.fixture
async def group() -> Group:
    """Two partitions, an entry in each, given in this order."""
    group = Group()
    for partition, payload in ((0, b"a"), (1, b"b")):
        group.assign(partition)
        group.append(partition, payload)
    return group


@pytest.mark.parametrize("is_first", [True, False], ids=["a deliverer", "an indexer"])
async def test_an_entry_that_nobody_was_given_is_not_passed_when_a_partition_was_read_anew(
    group: Group, is_first: bool
) -> None:
    entries = await group.given()
    group.append(0, b"a2")
    group.assign(1)  # b stands after a2 now
    await group.commit(entries, is_first=is_first)
    assert b"a2" in await group.waiting()


async def test_an_entry_that_comes_behind_another_partition_s_is_given_next(group: Group) -> None:
    first = await group.reading.read_ahead("delivery", LANE, limit_bytes=MIB, after=None)
    group.append(0, b"a2")
    group.assign(1)
    after = first[-1].position
    again = await group.reading.read_ahead("delivery", LANE, limit_bytes=MIB, after=after)
    assert [entry.payload for entry in again] == [b"a2", b"b"]


async def test_reading_ahead_of_what_nobody_was_given_has_no_effect(group: Group) -> None:
    after = Spot(0, Kind.SPANS, 0).position
    for _ in range(2):
        entries = await group.reading.read_ahead("delivery", LANE, limit_bytes=MIB, after=after)
        assert [entry.payload for entry in entries] == [b"b"]


async def test_an_entry_that_another_consumer_has_not_passed_is_not_passed_with_others() -> None:
    group = Group()
    group.assign(0)
    for payload in (b"a", b"a2"):
        group.append(0, payload)
    await group.commit((await group.given("sampling"))[:1], consumer="sampling")
    group.assign(1)
    group.append(1, b"b")
    partition = group.state.partitions[1]  # the owner before has passed it for sampling
    partition.pass_through("sampling", LANE, partition.held[Kind.SPANS][0].order)
    entries = await group.given(behind="sampling")
    assert [entry.payload for entry in entries] == [b"a", b"b"]
    await group.commit(entries)
    assert await group.waiting() == [b"a2"]


async def test_lanes_are_listed_by_the_age_of_what_waits_not_as_it_was_read() -> None:
    group = Group()
    for partition, (lane, received) in enumerate((("younger", 3), ("oldest", 1), ("old", 2))):
        group.assign(partition)
        group.append(partition, b"x", lane=Route(experiment_id=lane).lane, received_unix_ns=received)
    pending = await group.reading.pending("delivery", behind=None)
    assert [Route.from_lane(each.lane).experiment_id for each in pending] == ["oldest", "old", "younger"]


async def test_a_window_ends_before_what_can_not_be_read_now() -> None:
    group = Group()
    group.assign(0)
    group.assign(1)
    for partition, payload in ((0, b"a"), (1, None), (0, b"a2")):
        group.append(partition, payload)
    group.brokers.away = {1}
    entries = await group.given()
    assert [entry.payload for entry in entries] == [b"a"]
    await group.commit(entries)
    group.brokers.away = set()
    assert await group.waiting() == [b"fetched", b"a2"]


async def test_a_commit_that_is_refused_passes_nothing() -> None:
    group = Group(KafkaSettings(partitions=4, max_message_bytes=10_000))
    group.assign(0)
    group.append(0, b"a")
    entries = await group.given()
    too_large = Parked(
        lane=LANE,
        payload=b"x" * 20_000,
        span_count=1,
        trace_ids=entries[0].trace_ids,
        reason="poison",
        message="",
        received_unix_ns=1,
    )
    with pytest.raises(Rejected):
        await group.commit(entries, parked=[too_large])
    assert await group.waiting() == [b"a"]


async def test_a_partition_that_is_being_loaded_is_not_written_as_read() -> None:
    group = Group()
    group.append(0, b"a")
    group.assign(0, is_loaded=False)
    await group.writing.write([Record("log-state", 0, b"key", b"note")], [0])
    assert group.written.offsets["log-spans", 0] == 0
