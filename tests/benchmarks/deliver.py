"""Spans a second that arrive in MLflow: through Sidespan, from small clients, from the best batching client.

Each way has a fresh MLflow; all post the same number of traces.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.load import post_all
from tests.benchmarks.payloads import SPANS_A_TRACE, body
from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan

TRACES = 2400


def run(directory: Path) -> None:
    print("== delivered into MLflow, spans/s")
    small = _measure(directory, "small", _small_clients)
    print(f"   16 small clients, directly, 1 trace a request  {small:>10,.0f}")
    best = 0.0
    for traces, clients in ((50, 1), (50, 2), (100, 1), (100, 2)):
        rate = _measure(directory, f"batch-{traces}-{clients}", _batches(traces, clients))
        print(f"   directly, {traces:>3} traces a request, {clients} at a time {rate:>13,.0f}")
        best = max(best, rate)
    fed = _measure(directory, "fed", _through_sidespan(directory / "fed"))
    backlog = _measure(directory, "backlog", _from_the_journal(directory / "backlog"))
    for what, rate in (("fed by 16 small clients meanwhile", fed), ("from a full journal", backlog)):
        print(
            f"   Sidespan, {what:<35} {rate:>10,.0f}   "
            f"{rate / small:.2f} x small clients (bar 2), {rate / best:.2f} of the best batches (bar 0.9)"
        )


def _measure(directory: Path, name: str, deliver: Callable[[str], float]) -> float:
    home = directory / f"mlflow-{name}"
    home.mkdir()
    server = MlflowServer(directory=home)
    server.start()
    try:
        post_all(server.url, [body(1)], clients=1)  # its first request loads half of it
        return TRACES * SPANS_A_TRACE / deliver(server.url)
    finally:
        server.stop()


def _small_clients(url: str) -> float:
    return post_all(url, [body(1) for _ in range(TRACES)], clients=16)


def _batches(traces: int, clients: int) -> Callable[[str], float]:
    def deliver(url: str) -> float:
        return post_all(url, [body(traces) for _ in range(TRACES // traces)], clients=clients)

    return deliver


def _through_sidespan(directory: Path) -> Callable[[str], float]:
    def deliver(url: str) -> float:
        service = Sidespan(data_dir=directory, mlflow_url=url)
        service.start()
        try:
            bodies = [body(1) for _ in range(TRACES)]
            started = time.monotonic()
            post_all(service.url, bodies, clients=16)
            service.wait_delivered(600)
            return time.monotonic() - started
        finally:
            service.stop()

    return deliver


def _from_the_journal(directory: Path) -> Callable[[str], float]:
    """Everything is accepted first, then delivered: no client takes part of the two cores."""

    def deliver(url: str) -> float:
        service = Sidespan(data_dir=directory, mlflow_url=url)
        service.environment = {"SIDESPAN_DELIVERY__LINGER_SECONDS": "600"}
        service.start()
        try:
            post_all(service.url, [body(1) for _ in range(TRACES)], clients=16)
            service.stop()
            service.environment = {}
            started = time.monotonic()
            service.start()
            service.wait_delivered(600)
            return time.monotonic() - started
        finally:
            service.stop()

    return deliver
