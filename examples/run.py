"""`make run`: starts Sidespan with its own MLflow server, and sends one real agent's trace through both.

Look at: the address it prints; the one-line summary of the trace (its tokens and tool calls); the MLflow UI
on the same port, where the trace is in the experiment "weather-agent". Ctrl-C stops everything.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START_SECONDS = 120
# the service logs only warnings, as text; this program prints the rest
LOG = {"SIDESPAN_LOG__LEVEL": "warning", "SIDESPAN_LOG__FORMAT": "text"}


def main() -> int:
    service = subprocess.Popen(
        [sys.executable, "-m", "collector", "up", "--json", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        env=LOG | os.environ,
    )
    signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    try:
        return _show(service)
    except KeyboardInterrupt:
        print("\nstopping ...", flush=True)
        return 0
    finally:
        # Ctrl-C has reached the service too; the first of both signals counts
        if service.poll() is None:
            service.send_signal(signal.SIGTERM)
        service.wait()


def _show(service: subprocess.Popen[str]) -> int:
    print("Starting Sidespan and MLflow ...", flush=True)
    assert service.stdout is not None
    line = service.stdout.readline()
    if not line:  # it has written the reason to stderr
        return service.wait()
    announced = json.loads(line)
    url = announced["url"]
    if not _wait_for_mlflow(url, service):
        return service.wait()
    trace_id = _run_agent(url)
    _report(url, announced.get("grpc_url"), trace_id)
    return service.wait()


def _wait_for_mlflow(url: str, service: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    print("Waiting for MLflow (the first start takes a few seconds) ", end="", flush=True)
    while time.monotonic() < deadline and service.poll() is None:
        if _health(url).get("parts", {}).get("mlflow", {}).get("ok"):
            print(" ready", flush=True)
            return True
        print(".", end="", flush=True)
        time.sleep(0.5)
    print(f" MLflow does not answer; see {url}/-/ready and .sidespan/mlflow/mlflow.log", flush=True)
    return service.poll() is None


def _health(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            health: dict[str, Any] = json.loads(answer.read())
            return health
    except (urllib.error.URLError, OSError, ValueError):
        return {}


def _run_agent(url: str) -> str:
    print("Running an agent (examples/weather_agent.py) ...", flush=True)
    environment = os.environ | {"SIDESPAN_ENDPOINT": url, "SIDESPAN_EXPERIMENT": "weather-agent"}
    done = subprocess.run(
        [sys.executable, str(HERE / "weather_agent.py"), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"The agent failed:\n{done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    print(f"  answer: {answer['answer']}", flush=True)
    return str(answer["trace_id"])


def _report(url: str, grpc_url: str | None, trace_id: str) -> None:
    command = [sys.executable, "-m", "collector", "summary", "trace", trace_id, "--url", url]
    line = subprocess.run([*command, "--one-line"], capture_output=True, text=True, check=True).stdout
    print(
        f"\n  {line.strip()}\n\n"
        f"Sidespan    {url}/-/\n"
        f"MLflow UI   {url}/\n"
        f"OTLP        {url} (HTTP), {grpc_url or 'off'} (gRPC)\n"
        "Try next\n"
        f"  .venv/bin/sidespan summary trace {trace_id}\n"
        "  .venv/bin/sidespan doctor\n"
        f"  OTEL_EXPORTER_OTLP_ENDPOINT={url} python your_agent.py\n"
        "Ctrl-C stops everything.",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
