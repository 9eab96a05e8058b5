"""The log on a real broker: what it promises beyond the contract that all forms share."""

import asyncio
import os
import sys
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal import CannotTell
from collector.journal.kafka import open_kafka_journal
from collector.journal.kafka.examining import examine_kafka
from collector.journal.kafka.journal import KafkaJournal
from collector.journal.kafka.owned import DELIVER, GroupMembers
from collector.journal.kafka.partitioning import key_of, partition_of
from collector.journal.kafka.records import Kind, Names
from collector.model.batch import Route
from collector.model.errors import Misconfigured, Unavailable
from collector.settings import JournalSettings
from tests.collector.journal.kafka.test_partitioning import export
from tests.support.kafka_brokers import Brokers
from tests.support.kafka_logs import LANE, MIB, draft, parked, place_of, take_all, until

pytestmark = pytest.mark.scale

OTHER = Route(experiment_id="2").lane


def messages(place: Any, topic: str, count: int) -> list[Any]:
    """What any other consumer reads of a topic."""
    consumer = place.connection().consumer("somebody-else", topics=[topic])
    consumer.subscribe([topic])
    found: list[Any] = []
    while len(found) < count:
        found += [message for message in consumer.consume(100, 1.0) if message.error() is None]
    consumer.close()
    return found


async def expect_swept(journal: KafkaJournal, count: int) -> None:
    """Sweep until so many records are gone, and no more: the brokers tell of a commit a moment later."""
    swept = 0

    async def are_gone() -> bool:
        nonlocal swept
        swept += await journal.sweep()
        return swept >= count

    await until(are_gone)
    assert swept == count


async def test_others_read_exports_by_the_key_and_partition_of_their_trace(one_broker: Brokers) -> None:
    from confluent_kafka import Producer

    place = place_of(one_broker, partitions=7)
    ids = [os.urandom(16) for _ in range(30)]
    async with place.open(running=()) as journal:
        for trace_id in ids:
            await journal.log.append([export({trace_id: 1})])
    found = await asyncio.to_thread(messages, place, f"{place.name}-spans", len(ids))
    for message in found:
        request = ExportTraceServiceRequest.FromString(message.value())
        (trace_id,) = {s.trace_id for r in request.resource_spans for c in r.scope_spans for s in c.spans}
        assert message.key() == trace_id.hex().encode()
    chosen: dict[bytes, int] = {}
    told = {"bootstrap.servers": ",".join(place.hosts), "partitioner": "fnv1a_random"}
    producer = Producer(told)
    for trace_id in ids:
        producer.produce(
            f"{place.name}-spans",
            b"",
            key_of(trace_id),
            on_delivery=lambda _, message: chosen.setdefault(message.key(), message.partition()),
        )
    producer.flush(10)
    assert {message.key(): message.partition() for message in found} == chosen


async def test_a_request_of_many_traces_is_split_and_read_whole(one_broker: Brokers) -> None:
    place = place_of(one_broker)
    async with place.open() as journal:
        whole = export({os.urandom(16): 2 for _ in range(50)}, span_bytes=20_000)
        await journal.log.append([whole])
        taken = await take_all(journal)
        found = ExportTraceServiceRequest.FromString(b"".join(taken))
        spans = [s.span_id for r in found.resource_spans for c in r.scope_spans for s in c.spans]
        assert len(spans) == len(set(spans)) == whole.span_count


async def test_a_lane_that_waits_holds_up_no_other(one_broker: Brokers) -> None:
    place = place_of(one_broker, partitions=1)
    async with place.open() as journal:
        await journal.log.append([draft(b"waits")])
        for number in range(20):
            await journal.log.append([draft(bytes([number]), lane=OTHER)])
        delivery = journal.consumer("delivery")
        entries = await delivery.read(OTHER, limit_bytes=MIB)
        assert [entry.payload for entry in entries] == [bytes([number]) for number in range(20)]
        await delivery.commit(OTHER, first=entries[0].position, through=entries[-1].position)
        await journal.log.append([draft(b"later", lane=OTHER)])
        assert await journal.sweep() == 0, "what waits is kept, and with it what came later"
    async with place.open() as journal:
        delivery = journal.consumer("delivery")
        assert [e.payload for e in await delivery.read(OTHER, limit_bytes=MIB)] == [b"later"]
        assert [e.payload for e in await delivery.read(LANE, limit_bytes=MIB)] == [b"waits"]


async def test_a_sweep_deletes_up_to_the_slowest_group(one_broker: Brokers) -> None:
    place = place_of(one_broker, followers=("index",))
    async with place.open(running=("delivery", "index")) as journal:
        for _ in range(20):
            await journal.log.append([draft()])
        await take_all(journal)
        assert await journal.sweep() == 0
        lags = await journal.lag()
        assert {lag.group: 0 for lag in lags} == {DELIVER: 0, "index": 0}
        assert sum(lag.entries for lag in lags if lag.group == "index") == 20
        await take_all(journal, consumer="index")
        await expect_swept(journal, 20)
        assert await journal.sweep() == 0

        async def nothing_waits() -> bool:
            return sum(lag.entries for lag in await journal.lag()) == 0

        await until(nothing_waits)


async def test_over_the_lag_bound_appends_are_refused_in_every_process(one_broker: Brokers) -> None:
    place = place_of(one_broker, more={"max_lag_bytes": MIB})
    async with place.open() as owner, place.open(running=()) as receiver:
        taken = 0
        with pytest.raises(Unavailable) as raised:
            while taken < 50:
                await receiver.log.append([draft(os.urandom(100_000))])
                taken += 1
        assert raised.value.reason == "journal_full"
        assert receiver.log.refusing
        assert len(await take_all(owner)) == taken

        async def takes_again() -> bool:
            try:
                await receiver.log.append([draft(b"again")])
            except Unavailable:
                return False
            return True

        await until(takes_again)


async def test_payloads_that_memory_has_no_room_for_are_read_again(one_broker: Brokers) -> None:
    place = place_of(one_broker, more={"max_held_bytes": MIB})
    payloads = [os.urandom(200_000) for _ in range(30)]
    async with place.open() as journal:
        for payload in payloads:
            await journal.log.append([draft(payload)])
        group = journal.groups[DELIVER]
        entries = await journal.consumer("delivery").read(LANE, limit_bytes=100 * MIB)
        assert sorted(entry.payload for entry in entries) == sorted(payloads)
        held = [h for p in group.state.partitions.values() for h in group.state.all_held(p)]
        assert sum(len(each.payload or b"") for each in held) <= MIB
        assert len(await take_all(journal)) == 30


async def test_any_process_lists_retries_and_drops_dead_letters(one_broker: Brokers) -> None:
    place = place_of(one_broker)
    async with place.open() as owner, place.open(running=()) as operator:
        for payload in (b"again", b"gone", b"stays"):
            await owner.log.append([draft(payload)])
        await take_all(owner, letters=True)
        letters = operator.dead_letters("delivery")
        ids = {(await letters.one(each.id)).payload: each.id for each in await letters.list()}  # type: ignore[union-attr]
        assert set(ids) == {b"again", b"gone", b"stays"}
        assert await letters.retry([ids[b"again"]]) == 1
        assert await letters.drop([ids[b"gone"]]) == 1
        assert [each.id for each in await letters.list()] == [ids[b"stays"]]

        async def comes_again() -> bool:
            return [p.lane for p in await owner.consumer("delivery").pending()] == [LANE]

        await until(comes_again)
        assert await take_all(owner) == [b"again"]

        async def one_letter_is_left() -> bool:
            state = await operator.consumer("delivery").state()
            return (state.pending_entries, state.dead_letters) == (0, 1)

        await until(one_letter_is_left)


async def test_where_a_traces_partition_is_anothers_it_cannot_be_told(one_broker: Brokers) -> None:
    place = place_of(one_broker)
    trace_id = os.urandom(16)
    async with place.open() as owner, place.open(running=()) as query:
        await owner.log.append([draft(b"spans", trace_id=trace_id)])
        assert await owner.pending_traces.payloads(trace_id) == [b"spans"]
        assert isinstance(await query.pending_traces.payloads(trace_id), CannotTell)
        assert isinstance(await query.pending_traces.routes(trace_id), CannotTell)
        state = await query.consumer("delivery").state()
        assert state.pending_entries == 1


async def test_partitions_that_move_lose_nothing_and_repeat_no_effect(one_broker: Brokers) -> None:
    place = place_of(one_broker, partitions=8)
    async with place.open() as first:
        sent: list[bytes] = []
        stop = asyncio.Event()

        async def send() -> None:
            while not stop.is_set():
                sent.append(os.urandom(16))
                await first.log.append([draft(trace_id=sent[-1])])

        async def work(journal: Any) -> None:
            while True:
                await take_all(journal, letters=True, limit_bytes=20)
                await asyncio.sleep(0.01)

        sending = asyncio.create_task(send())
        working = asyncio.create_task(work(first))
        for _ in range(2):
            async with place.open() as second:
                helping = asyncio.create_task(work(second))
                await asyncio.sleep(0.5)
                helping.cancel()
                await asyncio.wait([helping])
        stop.set()
        await sending
        working.cancel()
        await asyncio.wait([working])
        letters = first.dead_letters("delivery")

        async def done() -> bool:
            await take_all(first, letters=True)
            return len(await letters.list(limit=100_000)) >= len(sent)

        await until(done)
        found = [id for each in await letters.list(limit=100_000) for id in each.trace_ids]
        assert sorted(found) == sorted(sent)


async def test_a_member_whose_name_another_has_taken_writes_nothing_more(one_broker: Brokers) -> None:
    place = place_of(one_broker, partitions=1)
    async with place.open(member="a") as zombie:
        await zombie.log.append([draft(b"x")])
        delivery = zombie.consumer("delivery")
        entries = await delivery.read(LANE, limit_bytes=MIB)
        async with place.open(member="a") as owner:
            await take_all(owner)
            await delivery.commit(
                LANE,
                first=entries[0].position,
                through=entries[0].position,
                parked=[parked(entries[0])],
                remember={b"1" * 16: b"note"},
            )
            assert await owner.dead_letters("delivery").list() == []
            assert await owner.traces.recall("delivery", [b"1" * 16]) == {}
            assert await delivery.pending() == []


async def test_notes_and_claims_move_with_the_partition(one_broker: Brokers) -> None:
    place, trace_id = place_of(one_broker), os.urandom(16)
    async with place.open() as first:
        await first.log.append([draft(trace_id=trace_id)])
        assert await first.traces.claim({trace_id: "/1"}) == {trace_id: "/1"}
        (pending,) = await first.consumer("delivery").pending()
        await first.consumer("delivery").commit(LANE, through=pending.first, remember={trace_id: b"a name"})
    async with place.open() as second:
        assert await second.traces.recall("delivery", [trace_id]) == {trace_id: b"a name"}
        assert await second.traces.claim({trace_id: "/2"}) == {trace_id: "/1"}


# refused at the start

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "forgets": ({"config": {"retention.ms": "1000"}}, "forgets records"),
    "forgets_by_size": ({"config": {"retention.bytes": "1000"}}, "forgets records"),
    "compacts": ({"config": {"cleanup.policy": "compact", "retention.ms": "-1"}}, "cleanup.policy"),
    "other_partitions": ({"num_partitions": 3}, "kafka.partitions is 4"),
    "too_small_records": (
        {"config": {"retention.ms": "-1", "max.message.bytes": "1000"}},
        "max.message.bytes",
    ),
}


@pytest.mark.parametrize(("topic", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_topic_that_would_lose_data_is_refused(
    one_broker: Brokers, topic: dict[str, Any], reason: str
) -> None:
    from confluent_kafka.admin import NewTopic

    place = place_of(one_broker)
    spans = Names(place.name).data(Kind.SPANS)
    new = NewTopic(spans, **{"num_partitions": 4, "replication_factor": 1} | topic)
    admin = place.connection().admin()
    for future in admin.create_topics([new]).values():
        future.result()
    with pytest.raises(Misconfigured, match=reason) as raised:
        async with place.open():
            pass
    assert spans in str(raised.value)


async def test_too_few_copies_are_refused(one_broker: Brokers) -> None:
    place = place_of(one_broker)
    async with place.open(running=()):
        pass
    place.replicas = 3
    with pytest.raises(Misconfigured, match=r"keeps 1 copies, and kafka\.replicas asks for 3"):
        async with place.open():
            pass


async def test_missing_topics_are_refused_if_they_may_not_be_created(one_broker: Brokers) -> None:
    with pytest.raises(Misconfigured, match=r"kafka\.create_topics is off"):
        async with place_of(one_broker).open(create_topics=False):
            pass


async def test_without_brokers_the_start_stops_with_their_names_and_no_password() -> None:
    from tests.support.kafka_logs import KafkaLogPlace

    place = KafkaLogPlace(hosts=("127.0.0.1:1",), more={"username": "u", "password": "hunter2"})
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1:1") as raised:
        async with place.open():
            pass
    assert "hunter2" not in str(raised.value)


async def test_without_the_client_the_start_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.kafka_logs import KafkaLogPlace

    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    place = KafkaLogPlace(hosts=("127.0.0.1:1",))
    with pytest.raises(Misconfigured, match=r"pip install 'sidespan\[server,kafka\]'"):
        async with open_kafka_journal(
            place.place,
            settings=place.settings(),
            journal=JournalSettings(),
            consumers=("delivery",),
            keep_claims=1,
        ):
            pass


async def test_brokers_are_examined_without_joining(one_broker: Brokers) -> None:
    place = place_of(one_broker)
    groups = [GroupMembers(name=DELIVER, spans=("delivery",), logs=("logs",))]
    before = await examine_kafka(place.place, place.settings(), groups=groups)
    assert (len(before.missing), before.topics, before.lags) == (5, [], ())
    trace_id = os.urandom(16)
    async with place.open(running=()) as journal:
        await journal.log.append([draft(trace_id=trace_id)])
    found = await examine_kafka(place.place, place.settings(), groups=groups)
    assert found.brokers == list(place.hosts)
    assert [(t.problems, t.offline, t.lagging, t.replicas) for t in found.topics] == [([], [], [], 1)] * 5
    assert [lag.partition for lag in found.lags if lag.entries] == [
        partition_of(key_of(trace_id), place.partitions)
    ]
    place.replicas = 3
    (problem, *_) = (await examine_kafka(place.place, place.settings(), groups=groups)).topics[0].problems
    assert "kafka.replicas asks for 3" in problem
