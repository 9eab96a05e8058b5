"""The OpenTelemetry Collector itself on the same brokers: what either writes, the other reads."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.journal.kafka.records import Kind, Names
from collector.model.batch import Route
from tests.collector.journal.kafka.test_foreign import export, routing, spans_of, with_topic
from tests.collector.journal.kafka.test_partitioning import export as draft_of_traces
from tests.support.kafka_brokers import Brokers
from tests.support.kafka_logs import place_of, until
from tests.support.otelcol import WITH_KAFKA, CannotBuild, OtelCollector, otelcol_binary
from tests.support.ports import free_port
from tests.support.senders import post

# with the first build
pytestmark = [pytest.mark.scale, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def binary() -> Path:
    try:
        return otelcol_binary(WITH_KAFKA)
    except CannotBuild as error:
        pytest.skip(f"the OpenTelemetry Collector can't be built here: {error}")


@contextmanager
def running(
    binary: Path, folder: Path, *, receivers: Mapping[str, Any], exporters: Mapping[str, Any]
) -> Iterator[OtelCollector]:
    """A Collector with these beside its OTLP receiver, whose port it listens on."""
    port = free_port()
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


@pytest.mark.parametrize("partitioned", [False, True], ids=["unkeyed", "keyed_by_trace"])
async def test_what_its_exporter_writes_is_taken_with_the_headers_of_the_client(
    one_broker: Brokers, binary: Path, tmp_path: Path, partitioned: bool
) -> None:
    place, topic = with_topic(one_broker)
    ids = [os.urandom(16) for _ in range(5)]
    kafka = {
        "brokers": list(place.hosts),
        "topic": topic,
        "encoding": "otlp_proto",
        "partition_traces_by_id": partitioned,
        "include_metadata_keys": ["x-mlflow-experiment-id"],
    }
    with running(binary, tmp_path, receivers={}, exporters={"kafka": kafka}) as collector:
        async with place.open() as journal, routing(place, journal):
            sent = await asyncio.to_thread(post, collector.port, export(ids), {"x-mlflow-experiment-id": "7"})
            assert sent[0] == 200
            found = await spans_of(journal, len(ids))
    assert found == {trace_id: [Route(experiment_id="7").lane] for trace_id in ids}


async def test_its_receiver_reads_what_is_in_the_log(
    one_broker: Brokers, binary: Path, tmp_path: Path
) -> None:
    place = place_of(one_broker)
    ids = [os.urandom(16) for _ in range(5)]
    stored = tmp_path / "stored.json"
    kafka = {
        "brokers": list(place.hosts),
        "topic": Names(place.name).data(Kind.SPANS),
        "encoding": "otlp_proto",
        "group_id": f"{place.name}-collector",
        "initial_offset": "earliest",
    }
    file = {"file": {"path": str(stored)}}
    async with place.open(running=()) as journal:
        for trace_id in ids:
            await journal.log.append([draft_of_traces({trace_id: 2})])
        with running(binary, tmp_path, receivers={"kafka": kafka}, exporters=file):

            async def all_are_there() -> bool:
                return set(trace_ids_in(stored)) >= {trace_id.hex() for trace_id in ids}

            await until(all_are_there)
    assert sorted(trace_ids_in(stored)) == sorted(trace_id.hex() for trace_id in ids for _ in range(2))


def trace_ids_in(stored: Path) -> list[str]:
    """Of the spans in a file of OTLP JSON."""
    lines = stored.read_text().splitlines() if stored.exists() else []
    return [
        span["traceId"]
        for line in lines
        for of_resource in json.loads(line)["resourceSpans"]
        for of_scope in of_resource["scopeSpans"]
        for span in of_scope["spans"]
    ]
