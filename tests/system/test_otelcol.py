"""The OpenTelemetry Collector as another backend: it has every span and log record, and the rest goes on."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs import logs, record
from tests.support.mlflow_server import MlflowServer
from tests.support.otelcol import CannotBuild, OtelCollector, otelcol_binary
from tests.support.otlp import agent_export, all_spans, export
from tests.support.ports import free_port
from tests.support.senders import Senders, post
from tests.support.sidespan import Sidespan

MAX_BODY_BYTES = 30_000

pytestmark = [pytest.mark.foreign, pytest.mark.xdist_group("otelcol"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def binary() -> Path:
    try:
        return otelcol_binary()
    except CannotBuild as error:
        pytest.skip(f"the OpenTelemetry Collector can't be built here: {error}")


@pytest.fixture
def collector(binary: Path, tmp_path: Path) -> Iterator[OtelCollector]:
    port = free_port()
    pipeline = {"receivers": ["otlp"], "exporters": ["file"]}
    http = {"endpoint": f"127.0.0.1:{port}", "max_request_body_size": MAX_BODY_BYTES}
    config = {
        "receivers": {"otlp": {"protocols": {"http": http}}},
        "exporters": {"file": {"path": str(tmp_path / "stored.json"), "append": True}},
        "service": {"pipelines": {"traces": pipeline, "logs": pipeline}},
    }
    running = OtelCollector(binary=binary, directory=tmp_path, config=config, port=port)
    running.start()
    yield running
    running.stop()


def stored(collector: OtelCollector) -> list[dict[str, Any]]:
    """The exports that it has written, as OTLP JSON."""
    return [json.loads(line) for line in (collector.directory / "stored.json").read_text().splitlines()]


def items(collector: OtelCollector, *names: str) -> list[dict[str, Any]]:
    found: list[Any] = stored(collector)
    for name in names:
        found = [inner for each in found for inner in each.get(name, [])]
    return found


def spans(collector: OtelCollector) -> list[tuple[str, str]]:
    found = items(collector, "resourceSpans", "scopeSpans", "spans")
    return [(f"tr-{span['traceId']}", span["spanId"]) for span in found]


def forwarding(collector: OtelCollector, more: str = "") -> dict[str, str]:
    url = f"http://127.0.0.1:{collector.port}"
    table = f'name = "otelcol", url = "{url}", signals = ["traces", "logs"], compression = "gzip"{more}'
    return {"SIDESPAN_FORWARD": f"[{{ {table} }}]", "SIDESPAN_INDEX__ENABLED": "false"}


def until(condition: Callable[[], bool], service: Sidespan, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{service.health()}\n{service.log.read_text()[-2000:]}"
        time.sleep(0.1)


def is_done(service: Sidespan) -> bool:
    part = service.health()["parts"]["forward:otelcol"]
    assert part["dead_letters"] == 0, part
    return bool(part["pending"] == 0)


def test_it_gets_spans_and_log_records_as_they_were_sent_whatever_is_killed(
    mlflow_server: MlflowServer, sidespan: Sidespan, collector: OtelCollector, experiment_id: str
) -> None:
    sidespan.environment = forwarding(collector)
    sidespan.start()
    headers = {"x-mlflow-experiment-id": experiment_id}
    records = logs(record("app.started", body="hello"), record("app.stopped"))
    assert post(sidespan.port, records.SerializeToString(), headers, path="/v1/logs")[0] == 200
    with Senders(sidespan.port, headers=headers) as senders:
        senders.wait_for(30)
        collector.stop()
        senders.wait_for(60)
        before = set(senders.acknowledged)
        until(lambda: mlflow_server.spans(experiment_id) >= before, sidespan)  # it is not kept waiting
        sidespan.kill()
        sidespan.start()
        senders.wait_for(90)
        collector.start()
    until(lambda: is_done(sidespan), sidespan)
    sidespan.wait_delivered(60)
    collector.stop()  # it writes what it has
    assert set(spans(collector)) >= senders.acknowledged
    assert mlflow_server.spans(experiment_id) >= senders.acknowledged
    names = [each.get("eventName") for each in items(collector, "resourceLogs", "scopeLogs", "logRecords")]
    assert len(names) == 2


def test_without_a_lost_answer_it_has_each_span_once(
    sidespan: Sidespan, collector: OtelCollector, experiment_id: str
) -> None:
    sidespan.environment = forwarding(collector)
    sidespan.start()
    headers = {"x-mlflow-experiment-id": experiment_id}
    request = agent_export()
    collector.stop()
    for _ in range(5):
        post(sidespan.port, export(spans=3).SerializeToString(), headers)
    post(sidespan.port, request.SerializeToString(), headers)
    until(lambda: not sidespan.health()["parts"]["forward:otelcol"]["ok"], sidespan)
    collector.start()
    until(lambda: is_done(sidespan), sidespan)
    collector.stop()
    found = spans(collector)
    assert len(found) == len(set(found)) == 15 + len(all_spans(request))


def test_what_is_too_large_for_it_arrives_in_parts(
    sidespan: Sidespan, collector: OtelCollector, experiment_id: str
) -> None:
    sidespan.environment = forwarding(collector)
    sidespan.start()
    request = export(traces=40, spans=30)
    assert request.ByteSize() > 2 * MAX_BODY_BYTES
    post(sidespan.port, request.SerializeToString(), {"x-mlflow-experiment-id": experiment_id})
    until(lambda: is_done(sidespan), sidespan)
    collector.stop()
    assert len(set(spans(collector))) == 1200
