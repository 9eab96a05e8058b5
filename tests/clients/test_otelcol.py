"""The OpenTelemetry Collector in front of Sidespan: its gRPC exporter, with gzip, its queue and its retries.

`SIDESPAN_TEST_OTELCOL` names a Collector that has the `otlp` receiver and exporter; else `otelcol` is taken
from the path, else one is built with Go.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.otlp import agent_export, all_spans, export
from tests.support.ports import free_port
from tests.support.restarts import built
from tests.support.senders import post
from tests.support.sidespan import Sidespan

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(900), pytest.mark.xdist_group("otelcol")]

HERE = Path(__file__).parent / "otelcol"
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.120.0"


@pytest.fixture(scope="module")
def otelcol(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Collector's program."""
    if found := os.environ.get("SIDESPAN_TEST_OTELCOL") or shutil.which("otelcol"):
        return found
    if shutil.which("go") is None:
        pytest.skip("neither otelcol nor go is here")
    folder = tmp_path_factory.mktemp("otelcol")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOBIN": str(folder)}
    built(["go", "install", BUILDER], HERE, environment)
    place = f"dist:\n  output_path: {folder / 'build'}\n"
    (folder / "builder.yaml").write_text((HERE / "builder.yaml").read_text().replace("dist:\n", place))
    generate = ["--config", "builder.yaml", "--skip-compilation", "--skip-get-modules"]
    built([str(folder / "builder"), *generate], folder, environment)
    program = folder / "otelcol-test"
    built(["go", "build", "-mod=mod", "-o", str(program), "."], folder / "build", environment)
    return str(program)


@dataclass(frozen=True)
class Running:
    """A Collector that takes OTLP/HTTP and sends to Sidespan."""

    port: int
    log: Path

    def sends(self, request: ExportTraceServiceRequest) -> None:
        status, _, _ = post(self.port, request.SerializeToString(), {})
        assert status == 200


def configuration(port: int, grpc_port: int) -> dict[str, Any]:
    """Everything that its exporter does by default, sooner; and gzip."""
    exporter = {
        "endpoint": f"127.0.0.1:{grpc_port}",
        "tls": {"insecure": True},
        "compression": "gzip",
        "headers": {"x-mlflow-experiment-id": "1"},
        "sending_queue": {"enabled": True, "queue_size": 10_000},
        "retry_on_failure": {"initial_interval": "100ms", "max_interval": "1s", "max_elapsed_time": "0s"},
    }
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"otlp": exporter},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp"]}},
        },
    }


@contextmanager
def collecting(program: str, grpc_port: int, folder: Path) -> Iterator[Running]:
    """A Collector until the block ends."""
    port, file, log = free_port(), folder / "otelcol.yaml", folder / "otelcol.log"
    file.write_text(json.dumps(configuration(port, grpc_port)))  # JSON is YAML
    with log.open("wb") as written:
        process = subprocess.Popen([program, "--config", str(file)], stdout=written, stderr=written)
    try:
        until(lambda: "Everything is ready" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()[-3000:]
        yield Running(port, log)
    finally:
        process.terminate()
        process.wait(60)


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Sidespan, FakeMlflow]]:
    """Sidespan, not started yet, and the MLflow behind it."""
    fake = FakeMlflow()
    async with running(fake, free_port()) as url:
        service = Sidespan(data_dir=tmp_path / "data", mlflow_url=url, grpc_port=free_port())
        yield service, fake
        await asyncio.to_thread(service.kill)


def large() -> ExportTraceServiceRequest:
    """Two spans, and 50 kB that can't be made smaller."""
    request = export(spans=2)
    all_spans(request)[1].attributes.add(key="noise").value.bytes_value = os.urandom(50_000)
    return request


async def delivered(service: Sidespan, mlflow: FakeMlflow, count: int) -> None:
    await asyncio.to_thread(until, lambda: len(mlflow.stored) >= count)
    await asyncio.to_thread(service.wait_delivered, 60)
    assert len(mlflow.stored) == count


async def test_what_a_collector_sends_is_stored(
    otelcol: str, stage: tuple[Sidespan, FakeMlflow], tmp_path: Path
) -> None:
    service, mlflow = stage
    await asyncio.to_thread(service.start)
    exports = [agent_export() for _ in range(50)]
    with collecting(otelcol, service.grpc_port or 0, tmp_path) as collector:
        for each in exports:
            await asyncio.to_thread(collector.sends, each)
        await delivered(service, mlflow, sum(len(all_spans(each)) for each in exports))
    assert "error" not in collector.log.read_text().lower()


async def test_a_collector_sends_again_what_was_unavailable(
    otelcol: str, stage: tuple[Sidespan, FakeMlflow], tmp_path: Path
) -> None:
    """First nobody listens, then the journal is full: the Collector's queue keeps both."""
    service, mlflow = stage
    away = f"http://127.0.0.1:{free_port()}"
    service.mlflow_url, mlflow_url = away, service.mlflow_url
    service.environment["SIDESPAN_JOURNAL__MAX_BYTES"] = "1048576"
    service.environment["SIDESPAN_JOURNAL__MIN_FREE_DISK_BYTES"] = "0"
    exports = [large() for _ in range(60)]
    with collecting(otelcol, service.grpc_port or 0, tmp_path) as collector:
        for each in exports[:10]:
            await asyncio.to_thread(collector.sends, each)
        await asyncio.to_thread(until, lambda: "Will retry the request" in collector.log.read_text())
        await asyncio.to_thread(service.start)
        for each in exports[10:]:
            await asyncio.to_thread(collector.sends, each)
        await asyncio.to_thread(until, lambda: "the journal is full" in collector.log.read_text())
        assert await asyncio.to_thread(service.stop) == 0
        service.mlflow_url = mlflow_url
        await asyncio.to_thread(service.start)
        await delivered(service, mlflow, sum(len(all_spans(each)) for each in exports))


async def test_a_collector_is_told_what_was_refused_and_does_not_send_it_again(
    otelcol: str, stage: tuple[Sidespan, FakeMlflow], tmp_path: Path
) -> None:
    service, mlflow = stage
    await asyncio.to_thread(service.start)
    request = export(spans=3)
    all_spans(request)[1].trace_id = bytes(16)
    with collecting(otelcol, service.grpc_port or 0, tmp_path) as collector:
        await asyncio.to_thread(collector.sends, request)
        await asyncio.to_thread(until, lambda: "artial success" in collector.log.read_text())
        await delivered(service, mlflow, 2)
        assert "Will retry" not in collector.log.read_text()
