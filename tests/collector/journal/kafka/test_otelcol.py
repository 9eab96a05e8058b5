"""The OpenTelemetry Collector itself on the same brokers: what either writes, the other reads."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.journal.kafka.partitioning import key_of, partition_of
from collector.journal.kafka.records import Kind, Names
from collector.model.batch import Route
from tests.collector.journal.kafka.test_foreign import export, routing, spans_of, with_topic
from tests.collector.journal.kafka.test_partitioning import export as draft_of_traces
from tests.support.kafka_brokers import Brokers
from tests.support.kafka_logs import KafkaLogPlace, place_of, until
from tests.support.otelcol import WITH_KAFKA, CannotBuild, OtelCollector, otelcol_binary
from tests.support.ports import free_port
from tests.support.senders import post

# with the first build
pytestmark = [pytest.mark.foreign, pytest.mark.xdist_group("otelcol"), pytest.mark.timeout(1800)]

HEADER = "x-mlflow-experiment-id"
# the exporter's default
TOPIC = "otlp_spans"


@pytest.fixture(scope="module")
def binary() -> Path:
    try:
        return otelcol_binary(WITH_KAFKA)
    except CannotBuild as error:
        pytest.skip(f"the OpenTelemetry Collector can't be built here: {error}")


@contextmanager
def running(
    binary: Path,
    folder: Path,
    *,
    receivers: Mapping[str, Any] | None = None,
    exporters: Mapping[str, Any],
) -> Iterator[OtelCollector]:
    """A Collector with these beside its OTLP receiver, whose port it listens on."""
    port, receivers = free_port(), receivers or {}
    http = {"endpoint": f"127.0.0.1:{port}", "include_metadata": True}
    config = {
        "receivers": {"otlp": {"protocols": {"http": http}}, **receivers},
        "exporters": exporters,
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp", *receivers], "exporters": list(exporters)}}
        },
    }
    collector = OtelCollector(binary=binary, directory=folder, config=config, port=port)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def exporter_of(place: KafkaLogPlace, **settings: Any) -> Mapping[str, Any]:
    return {"kafka": {"brokers": list(place.hosts), "include_metadata_keys": [HEADER], **settings}}


async def send(collector: OtelCollector, body: bytes, headers: dict[str, str]) -> None:
    answer = await asyncio.to_thread(post, collector.port, body, headers)
    assert answer[0] == 200, answer


EXPORTERS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "unkeyed_as_by_default": (TOPIC, {}),
    "keyed_by_trace": (None, {"partition_traces_by_id": True}),
}


@pytest.mark.parametrize(("topic", "settings"), EXPORTERS.values(), ids=EXPORTERS)
async def test_what_its_exporter_writes_is_taken_with_the_headers_of_the_client(
    one_broker: Brokers, binary: Path, tmp_path: Path, topic: str | None, settings: dict[str, Any]
) -> None:
    place, topic = with_topic(one_broker, topic)
    told = settings if topic == TOPIC else settings | {"traces": {"topic": topic, "encoding": "otlp_proto"}}
    ids = [os.urandom(16) for _ in range(5)]
    with running(binary, tmp_path, exporters=exporter_of(place, **told)) as collector:
        async with place.open() as journal, routing(place, journal):
            await send(collector, export(ids), {HEADER: "7"})
            found = await spans_of(journal, len(ids))
    assert found == {trace_id: [Route(experiment_id="7").lane] for trace_id in ids}


async def test_without_the_header_its_resources_decide(
    one_broker: Brokers, binary: Path, tmp_path: Path
) -> None:
    place, topic = with_topic(one_broker)
    (trace_id,) = ids = [os.urandom(16)]
    exporters = exporter_of(place, traces={"topic": topic})
    with running(binary, tmp_path, exporters=exporters) as collector:
        async with place.open() as journal, routing(place, journal):
            await send(collector, export(ids, experiment="agents"), {})
            found = await spans_of(journal, 1)
    assert found == {trace_id: [Route(experiment_name="agents").lane]}


async def test_its_keys_and_its_choice_of_partitions_are_ours(
    one_broker: Brokers, binary: Path, tmp_path: Path
) -> None:
    place, topic = with_topic(one_broker)
    ids = [os.urandom(16) for _ in range(50)]
    exporters = exporter_of(place, traces={"topic": topic}, partition_traces_by_id=True)
    with running(binary, tmp_path, exporters=exporters) as collector:
        for trace_id in ids:
            await send(collector, export([trace_id]), {})
        found = await asyncio.to_thread(partitions_by_key, place, topic, len(ids))
    assert found == {key_of(trace_id): partition_of(key_of(trace_id), 3) for trace_id in ids}
    assert set(found.values()) == {0, 1, 2}


def partitions_by_key(place: KafkaLogPlace, topic: str, count: int) -> dict[bytes, int]:
    """Of so many messages."""
    consumer = place.connection().consumer(f"{topic}-reader", topics=[topic])
    consumer.subscribe([topic])
    found = {}
    try:
        while len(found) < count:
            message = consumer.poll(60)
            assert message is not None, f"only {len(found)} messages"
            assert message.error() is None
            found[message.key()] = message.partition()
    finally:
        consumer.close()
    return found


async def test_its_receiver_reads_what_is_in_the_log(
    one_broker: Brokers, binary: Path, tmp_path: Path
) -> None:
    place, stored = place_of(one_broker), tmp_path / "stored.json"
    ids = [os.urandom(16) for _ in range(5)]
    kafka = {
        "brokers": list(place.hosts),
        "traces": {"topics": [Names(place.name).data(Kind.SPANS)], "encoding": "otlp_proto"},
        "group_id": f"{place.name}-collector",
        "initial_offset": "earliest",
    }
    drafts = [draft_of_traces({trace_id: 2}) for trace_id in ids]
    spans = sum(draft.span_count for draft in drafts)
    async with place.open(running=()) as journal:
        await journal.log.append(drafts)
        file = {"file": {"path": str(stored)}}
        with running(binary, tmp_path, receivers={"kafka": kafka}, exporters=file):

            async def all_are_there() -> bool:
                return len(trace_ids_in(stored)) >= spans

            await until(all_are_there)
    assert Counter(trace_ids_in(stored)) == {trace_id.hex(): spans // len(ids) for trace_id in ids}


def trace_ids_in(stored: Path) -> list[str]:
    """Of the spans in a file of OTLP JSON; the last line may be half written."""
    lines = stored.read_text().splitlines(keepends=True) if stored.exists() else []
    return [
        span["traceId"]
        for line in lines
        if line.endswith("\n")
        for of_resource in json.loads(line)["resourceSpans"]
        for of_scope in of_resource["scopeSpans"]
        for span in of_scope["spans"]
    ]
