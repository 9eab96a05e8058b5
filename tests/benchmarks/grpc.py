"""OTLP/gRPC: acknowledged and durable, beside a bare handler of grpc.aio that throws the message away.

The load comes from one Python process, which may be the slower side: so the processor's time a request is
compared too. An answer waits for the disk, so how many requests are in flight counts. The service's time is
that of its own process, with its thread that writes the journal.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import psutil

from tests.benchmarks.payloads import SPANS_A_TRACE
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 5
SECONDS = 5
IN_FLIGHT = (64, 128)

Figures = tuple[float, float]


def run(directory: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    service = Sidespan(data_dir=directory / "grpc", mlflow_url=nobody, grpc_port=free_port())
    service.start()
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bare_grpc", str(port)])
    try:
        assert service.process is not None
        for in_flight in IN_FLIGHT:
            _compare(bare.pid, port, service.process.pid, service.grpc_port or 0, in_flight)
    finally:
        bare.terminate()
        bare.wait()
        service.stop()


def _compare(bare: int, bare_port: int, service: int, service_port: int, in_flight: int) -> None:
    print(f"== acknowledged and durable over gRPC, 34 kB requests, {in_flight} in flight")
    rounds = [
        (_figures(bare, bare_port, in_flight), _figures(service, service_port, in_flight))
        for _ in range(ROUNDS)
    ]
    bares, ours = zip(*rounds, strict=True)
    _print("a bare handler of grpc.aio", bares, bares)
    _print("Sidespan", ours, bares)


def _figures(process_id: int, port: int, in_flight: int) -> Figures:
    """Requests/s, and the processor's seconds a request."""
    process = psutil.Process(process_id)
    before = process.cpu_times()
    command = [sys.executable, "-m", "tests.benchmarks.grpc_load", str(port), str(SECONDS), str(in_flight)]
    answered = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return answered / SECONDS, spent / answered


def _print(name: str, found: tuple[Figures, ...], ceiling: tuple[Figures, ...]) -> None:
    rate, spent = (statistics.median(column) for column in zip(*found, strict=True))
    most, least = (statistics.median(column) for column in zip(*ceiling, strict=True))
    print(
        f"   {name:<28} {rate:>7,.0f} requests/s ({rate / most:.2f}, bar 0.50)  "
        f"{rate * SPANS_A_TRACE:>8,.0f} spans/s  {spent * 1e6:>5,.0f} µs of a core a request "
        f"({least / spent:.2f}, bar 0.50)"
    )
