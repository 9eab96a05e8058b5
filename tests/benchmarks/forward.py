"""What another backend costs: acknowledged spans/s with one that takes all, and with one that is away."""

import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.acknowledge import _wait_for
from tests.benchmarks.load import wrk
from tests.benchmarks.payloads import SPANS_A_TRACE, write_wrk_script
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 5
MLFLOW_SPANS_A_SECOND = 1400
BACKEND_SPANS_A_SECOND = 14_000


def run(directory: Path) -> None:
    print(f"== acknowledged while an MLflow takes {MLFLOW_SPANS_A_SECOND:,} spans/s, 34 kB requests")
    script = write_wrk_script(directory / "forward-bodies", traces=1, count=64)
    mlflow, backend, away = free_port(), free_port(), free_port()
    servers = [_paced(mlflow, MLFLOW_SPANS_A_SECOND), _paced(backend, BACKEND_SPANS_A_SECOND)]
    environments = {
        "MLflow alone": {},
        f"and a backend that takes {BACKEND_SPANS_A_SECOND:,} spans/s": _forward(backend),
        "and one that is away": _forward(away),
    }
    rates: dict[str, list[float]] = {name: [] for name in environments}
    try:
        for port in (mlflow, backend):
            _wait_for(f"http://127.0.0.1:{port}/")
        for round in range(ROUNDS):
            for number, (name, environment) in enumerate(environments.items()):
                home = directory / f"forward-{round}-{number}"
                rates[name].append(_acknowledged(home, f"http://127.0.0.1:{mlflow}", environment, script))
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    alone = statistics.median(rates["MLflow alone"])
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"   {name:<45} {median:>10,.0f}   {median / alone:.2f} of MLflow alone")


def _acknowledged(home: Path, mlflow_url: str, environment: dict[str, str], script: Path) -> float:
    service = Sidespan(data_dir=home, mlflow_url=mlflow_url)
    service.environment = {**environment, "SIDESPAN_SERVER__SHUTDOWN_SECONDS": "1"}
    service.start()
    try:
        return wrk(service.url, script, connections=64, seconds=SECONDS) * SPANS_A_TRACE
    finally:
        service.kill()


def _paced(port: int, spans_a_second: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.benchmarks.paced_mlflow", str(port), str(spans_a_second)]
    return subprocess.Popen(command)


def _forward(port: int) -> dict[str, str]:
    return {"SIDESPAN_FORWARD": f'[{{ name = "other", url = "http://127.0.0.1:{port}" }}]'}
