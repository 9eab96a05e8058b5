"""Acknowledged and durable spans a second: Sidespan, MLflow's own endpoint, an app that only reads.

Sidespan has no MLflow behind it while it is measured: its deliveries would share the two cores with the load.
"""

import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.benchmarks.load import post_all, wrk
from tests.benchmarks.payloads import SPANS_A_TRACE, body, write_wrk_script
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 5


def run(directory: Path) -> None:
    print("== acknowledged and durable, spans/s")
    mlflow = _mlflow_rate(directory)
    print(f"   MLflow's own /v1/traces, 16 clients, 1 trace a request   {mlflow:>10,.0f}")
    for name, traces, connections, bar in (("34 kB", 1, 64, 0.25), ("1.7 MB", 50, 16, 0.30)):
        bare, ours, rss = _compare(directory, traces, connections)
        spans = traces * SPANS_A_TRACE
        print(f"   an app that only reads, {name} requests {bare * spans:>26,.0f}")
        print(
            f"   Sidespan, {name} requests {ours * spans:>40,.0f}   "
            f"{ours / bare:.2f} of reading only (bar {bar}), {ours * spans / mlflow:,.0f} x MLflow (bar 20), "
            f"RSS {rss // 2**20} MiB"
        )


def _mlflow_rate(directory: Path) -> float:
    server = MlflowServer(directory=_made(directory / "direct"))
    server.start()
    try:
        post_all(server.url, [body(1)], clients=1)  # its first request loads half of it
        bodies = [body(1) for _ in range(500)]
        return len(bodies) * SPANS_A_TRACE / post_all(server.url, bodies, clients=16)
    finally:
        server.stop()


def _compare(directory: Path, traces: int, connections: int) -> tuple[float, float, int]:
    """Requests/s of the bare app and of Sidespan (medians of alternating rounds), Sidespan's RSS."""
    script = write_wrk_script(directory / f"bodies-{traces}", traces=traces, count=max(4, 64 // traces))
    nobody = f"http://127.0.0.1:{free_port()}"
    service = Sidespan(data_dir=directory / f"ack-{traces}", mlflow_url=nobody)
    service.start()
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bare", str(port)])
    try:
        _wait_for(f"http://127.0.0.1:{port}/")
        bare_rates, our_rates = [], []
        rss = 0
        for _ in range(ROUNDS):
            bare_rates.append(
                wrk(f"http://127.0.0.1:{port}", script, connections=connections, seconds=SECONDS)
            )
            our_rates.append(wrk(service.url, script, connections=connections, seconds=SECONDS))
            rss = max(rss, service.rss_bytes())
        return statistics.median(bare_rates), statistics.median(our_rates), rss
    finally:
        bare.terminate()
        bare.wait()
        service.stop()


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"nothing answers at {url}")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
