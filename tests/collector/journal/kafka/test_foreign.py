"""Topics that the OpenTelemetry Collector's kafka exporter writes are taken into the log."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal.kafka.foreign import ForeignTopics
from collector.journal.kafka.journal import KafkaJournal
from collector.journal.kafka.letters import ROUTE
from collector.model.batch import Route
from collector.receivers.foreign import foreign_drafts
from collector.receivers.prepare import Prepared, Rules
from collector.settings import ReceiverSettings, RoutingSettings
from tests.support.kafka_brokers import Brokers
from tests.support.kafka_logs import KafkaLogPlace, place_of, take_all, until

pytestmark = pytest.mark.scale

RULES = Rules(limits=ReceiverSettings(), routing=RoutingSettings(default_experiment="0"))


def export(trace_ids: Sequence[bytes], *, experiment: str | None = None) -> bytes:
    """As a batch of the Collector: one resource, spans of several traces."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    if experiment is not None:
        attribute = of_resource.resource.attributes.add(key="mlflow.experiment.name")
        attribute.value.string_value = experiment
    scope = of_resource.scope_spans.add()
    for trace_id in trace_ids:
        scope.spans.add(
            trace_id=trace_id,
            span_id=os.urandom(8),
            name="s",
            start_time_unix_nano=10**18,
            end_time_unix_nano=10**18 + 1,
        )
    return request.SerializeToString()


def with_topic(brokers: Brokers, topic: str | None = None) -> tuple[KafkaLogPlace, str]:
    """A log, and a topic that others write to."""
    from confluent_kafka.admin import NewTopic

    place = place_of(brokers)
    topic = topic or f"{place.name}-otlp_spans"
    place.more["foreign_topics"] = (topic,)
    admin = place.connection().admin()
    for future in admin.create_topics([NewTopic(topic, 3, 1)]).values():
        future.result()
    return place, topic


async def write(place: KafkaLogPlace, topic: str, values: Sequence[bytes], **headers: str) -> None:
    """Without a key, as the Collector's exporter does by default."""
    producer = place.connection().producer()
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 3, headers=list(headers.items()))
    await asyncio.to_thread(producer.flush, 10)


@asynccontextmanager
async def routing(place: KafkaLogPlace, journal: KafkaJournal) -> AsyncIterator["asyncio.Task[None]"]:
    """The role `route`, until the block ends."""
    counted: list[Prepared] = []
    bring = ForeignTopics(
        place.connection(),
        prepare=foreign_drafts(RULES, count=counted.append),
        refusing=lambda: journal.log.refusing,
    )
    task = asyncio.create_task(bring.run())
    yield task
    task.cancel()
    await asyncio.wait([task])


async def spans_of(journal: KafkaJournal, count: int) -> dict[bytes, list[str]]:
    """Wait for so many spans; their routes by trace."""
    found: dict[bytes, list[str]] = {}
    delivery = journal.consumer("delivery")

    async def all_there() -> bool:
        return (await delivery.state()).pending_spans >= count

    await until(all_there)
    for pending in await delivery.pending():
        for entry in await delivery.read(pending.lane, limit_bytes=2**30):
            request: Any = ExportTraceServiceRequest.FromString(entry.payload)
            for of_resource in request.resource_spans:
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        assert span.trace_id in entry.trace_ids
                        found.setdefault(span.trace_id, []).append(entry.lane)
    return found


async def test_unkeyed_messages_are_split_by_trace_and_routed_by_headers(one_broker: Brokers) -> None:
    place, topic = with_topic(one_broker)
    ids = [os.urandom(16) for _ in range(20)]
    async with place.open() as journal, routing(place, journal):
        await write(place, topic, [export(ids), export(ids)], **{"X-MLflow-Experiment-Id": "7"})
        found = await spans_of(journal, 40)
        assert found == {trace_id: [Route(experiment_id="7").lane] * 2 for trace_id in ids}


async def test_without_headers_resource_attributes_decide(one_broker: Brokers) -> None:
    place, topic = with_topic(one_broker)
    ids = [os.urandom(16) for _ in range(2)]
    async with place.open() as journal, routing(place, journal):
        await write(place, topic, [export(ids[:1], experiment="agents"), export(ids[1:])])
        found = await spans_of(journal, 2)
    assert found == {
        ids[0]: [Route(experiment_name="agents").lane],
        ids[1]: [Route(experiment_id="0").lane],
    }


async def test_a_restart_in_the_middle_repeats_and_loses_nothing(one_broker: Brokers) -> None:
    place, topic = with_topic(one_broker)
    ids = [os.urandom(16) for _ in range(300)]
    async with place.open() as journal:
        await write(place, topic, [export([trace_id]) for trace_id in ids[:150]])
        async with routing(place, journal):
            await spans_of(journal, 1)
        await write(place, topic, [export([trace_id]) for trace_id in ids[150:]])
        async with routing(place, journal):
            found = await spans_of(journal, 300)
            await asyncio.sleep(0.5)
            assert (await journal.consumer("delivery").state()).pending_spans == 300
    assert {trace_id: len(lanes) for trace_id, lanes in found.items()} == dict.fromkeys(ids, 1)


async def test_what_is_no_export_goes_to_the_dead_letters_and_can_be_tried_again(one_broker: Brokers) -> None:
    place, topic = with_topic(one_broker)
    good = os.urandom(16)
    async with place.open() as journal, routing(place, journal):
        await write(place, topic, [b"not protobuf", export([good])], **{"x-mlflow-experiment-id": "7"})
        assert list(await spans_of(journal, 1)) == [good]
        letters = journal.dead_letters(ROUTE)

        async def is_parked() -> bool:
            return len(await letters.list()) == 1

        await until(is_parked)
        (letter,) = await letters.list()
        assert (letter.reason, topic in letter.message) == ("malformed", True)
        whole = await letters.one(letter.id)
        assert whole is not None
        assert whole.payload == b"not protobuf"
        assert await letters.retry(None) == 1

        async def is_back() -> bool:
            again = await letters.list()
            return len(again) == 1 and again[0].id != letter.id

        await until(is_back)
        assert len(await take_all(journal)) == 1
