"""What tracing costs an agent: milliseconds a run of 20 model and tool calls, and bytes a trace.

Each variant is a process of its own, in alternating rounds, sending to a recorder on loopback; MLflow's
autolog sends to a real MLflow, whose bytes aren't counted.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.overhead_agent import VARIANTS
from tests.instrumentation.recorder import recording
from tests.support.mlflow_server import MlflowServer

ROUNDS = 3
RUNS = 30
TITLES = {
    "none": "not traced",
    "bare": "OpenTelemetry alone",
    "openinference": "OpenInference's own set-up",
    "autolog": "mlflow.pydantic_ai.autolog()",
    "sidespan": "instrumentation.configure()",
    "sidespan_plain": "the same, openinference=False",
}


def run(directory: Path) -> None:
    print(f"== an agent's run of 20 model and tool calls, median of {ROUNDS} x {RUNS}")
    server = MlflowServer(directory=_made(directory / "overhead-mlflow"))
    server.start()
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    sizes: dict[str, tuple[float, float]] = {}
    try:
        for _ in range(ROUNDS):
            for name in VARIANTS:
                with recording() as recorder:
                    found = _measure(name, server.url if name == "autolog" else recorder.url)
                    if recorder.requests:
                        sizes[name] = (
                            recorder.wire_bytes / found["traces"],
                            sum(request.ByteSize() for _, request in recorder.requests) / found["traces"],
                        )
                times[name].append(found["median_ms"])
    finally:
        server.stop()
    medians = {name: statistics.median(found) for name, found in times.items()}
    fastest = min(medians[name] for name in ("bare", "openinference", "autolog"))
    for name, title in TITLES.items():
        added = medians[name] - medians["none"]
        size = (
            ""
            if name not in sizes
            else f"   {sizes[name][0]:>9,.0f} bytes sent, {sizes[name][1]:>9,.0f} unpacked"
        )
        beside = (
            ""
            if name == "none"
            else f"   +{added:5.2f} ms   {medians[name] / fastest:.2f} of the fastest peer"
        )
        print(f"   {title:<32} {medians[name]:>7.2f} ms{beside}{size}")


def _measure(name: str, endpoint: str) -> dict[str, float]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.overhead_agent", name, endpoint, str(RUNS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=clean,
    )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
