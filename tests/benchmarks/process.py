"""What putting traces right costs: spans/s on one core, acknowledgements meanwhile, MLflow's rate and bytes.

as sent       parse and serialize, nothing else
harmonised    what every span gets by default
slim          the same, and copies dropped
redacted      at the door, every preset
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.mlflow.forward import forwarder
from collector.processors.redact import redactor
from collector.settings import HarmoniseSettings
from collector.settings.processors import RedactSettings, SlimSettings
from tests.benchmarks.acknowledge import _wait_for
from tests.benchmarks.load import post_all, wrk
from tests.benchmarks.payloads import SPANS_A_TRACE, body, write_wrk_script
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

BATCH_TRACES = 50
BATCHES = 20
ROUNDS = 5
SECONDS = 5
MLFLOW_SPANS_A_SECOND = 1400

Change = Callable[[bytes], bytes]


def run(directory: Path) -> None:
    changes = {
        "as sent": _as_sent,
        "harmonised": _forwarded(),
        "slim": _forwarded(slim=True),
        "redacted": _redact,
    }
    print("== on one core, spans/s (a trace at a time)")
    plain = _rate(_as_sent)
    for name, change in changes.items():
        rate = plain if change is _as_sent else _rate(change)
        size = len(change(body(1)))
        print(f"   {name:<12} {rate:>10,.0f}   {rate / plain:.2f} of as sent, {size:,} bytes a trace")
    _acknowledge(directory)
    print("== MLflow's rate and its database, one request at a time")
    base = None
    for name in ("as sent", "harmonised", "slim"):
        spans_s, bytes_a_trace = _mlflow(directory / f"mlflow-{name.replace(' ', '-')}", changes[name])
        base = base or (spans_s, bytes_a_trace)
        print(
            f"   {name:<12} {spans_s:>8,.0f} spans/s ({spans_s / base[0]:.2f}), "
            f"{bytes_a_trace:,.0f} bytes a trace ({bytes_a_trace / base[1]:.2f})"
        )


def _as_sent(payload: bytes) -> bytes:
    return ExportTraceServiceRequest.FromString(payload).SerializeToString()


def _forwarded(*, slim: bool = False) -> Change:
    forward = forwarder(HarmoniseSettings(), [SlimSettings(type="slim")] if slim else [])
    assert forward is not None
    return lambda payload: forward(payload, {}, {}).body


def _redact(payload: bytes) -> bytes:
    redact = redactor([RedactSettings(type="redact")], print)
    assert redact is not None
    export = ExportTraceServiceRequest.FromString(payload)
    redact(export)
    return export.SerializeToString()


def _rate(change: Change) -> float:
    payloads = [body(1) for _ in range(BATCH_TRACES)]
    change(payloads[0])  # the price list loads on its first use
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for payload in payloads:
            change(payload)
        rates.append(BATCH_TRACES * SPANS_A_TRACE / (time.process_time() - started))
    return statistics.median(rates)


def _mlflow(directory: Path, change: Change) -> tuple[float, float]:
    """Spans/s that MLflow takes, and the bytes by which its database grows a trace."""
    directory.mkdir()
    server = MlflowServer(directory=directory)
    server.start()
    try:
        post_all(server.url, [change(body(1))], clients=1)
        before = _size(server)
        bodies = [change(body(BATCH_TRACES)) for _ in range(BATCHES)]
        seconds = post_all(server.url, bodies, clients=1)
        traces = BATCHES * BATCH_TRACES
        return traces * SPANS_A_TRACE / seconds, (_size(server) - before) / traces
    finally:
        server.stop()


def _size(server: MlflowServer) -> int:
    return sum(file.stat().st_size for file in server.directory.glob("mlflow.db*"))


def _acknowledge(directory: Path) -> None:
    """Acknowledged spans/s while delivery runs, with and without harmonising, in alternating rounds."""
    print(f"== acknowledged while an MLflow takes {MLFLOW_SPANS_A_SECOND:,} spans/s, 34 kB requests")
    script = write_wrk_script(directory / "process-bodies", traces=1, count=64)
    port = free_port()
    target = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.paced_mlflow", str(port), str(MLFLOW_SPANS_A_SECOND)]
    )
    rates: dict[str, list[float]] = {"off": [], "on": [], "keep": []}
    environments = {
        "off": {"SIDESPAN_HARMONISE__ENABLED": "false"},
        "on": {},
        "keep": {"SIDESPAN_PROCESSORS": '[{type = "keep", one_in = 10}]'},
    }
    try:
        _wait_for(f"http://127.0.0.1:{port}/")
        for round in range(ROUNDS):
            for name, environment in environments.items():
                service = Sidespan(
                    data_dir=directory / f"process-{name}-{round}",
                    mlflow_url=f"http://127.0.0.1:{port}",
                    environment={**environment, "SIDESPAN_SERVER__SHUTDOWN_SECONDS": "1"},
                )
                service.start()
                try:
                    rate = wrk(service.url, script, connections=64, seconds=SECONDS)
                    rates[name].append(rate * SPANS_A_TRACE)
                finally:
                    service.kill()
    finally:
        target.terminate()
        target.wait()
    off = statistics.median(rates["off"])
    print(f"   nothing added {off:>10,.0f}")
    for name, title in (("on", "harmonised"), ("keep", "and sampled")):
        median = statistics.median(rates[name])
        print(f"   {title:<13} {median:>10,.0f}   {median / off:.2f} of it (bar 0.90)")
