"""Without a line of code: `opentelemetry-instrument`, also under servers that fork, spawn and preload."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.instrumentation.recorder import Recorder, recording
from tests.instrumentation.test_situations import clean
from tests.support.ports import free_port

PROGRAM = str(Path(sys.executable).with_name("opentelemetry-instrument"))
AGENT = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
Agent(TestModel(), name="auto").run_sync("x")
"""
APP = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel(), name="served")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await agent.run("x")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""
WSGI = """
import os
import instrumentation
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
instrumentation.configure(service_name="preloaded")
agent = Agent(TestModel(), name="served")


def app(environ, start_response):
    agent.run_sync("x")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as made:
        yield made


def test_the_entry_point_is_registered() -> None:
    (found,) = entry_points(group="opentelemetry_instrumentor", name="sidespan")
    assert found.value == "instrumentation.auto:SidespanInstrumentor"


def instrumented(script: Path, recorder: Recorder, **environment: str) -> None:
    done = subprocess.run(
        [PROGRAM, sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean(OTEL_EXPORTER_OTLP_ENDPOINT=recorder.url, OTEL_SERVICE_NAME="auto", **environment),
    )
    assert done.returncode == 0, done.stderr


def test_an_agent_is_traced_without_a_line_of_code(recorder: Recorder, tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    instrumented(script, recorder)
    assert recorder.names == ["chat", "invoke_agent"]
    assert recorder.resource["service.name"] == "auto"


def test_a_provider_that_exports_already_sends_each_span_once(recorder: Recorder, tmp_path: Path) -> None:
    """What a distribution sets up before instrumentors are loaded."""
    script = tmp_path / "agent.py"
    script.write_text(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))\n"
        "trace.set_tracer_provider(provider)\n"
        "from instrumentation.auto import SidespanInstrumentor\n"
        "SidespanInstrumentor().instrument()\n"
        "import instrumentation\n"
        "with instrumentation.session('s'):\n" + textwrap.indent(AGENT, "    ")
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean(OTEL_EXPORTER_OTLP_ENDPOINT=recorder.url),
    )
    assert done.returncode == 0, done.stderr
    assert recorder.names == ["chat", "invoke_agent"]
    sessions = {a.value.string_value for s in recorder.spans for a in s.attributes if a.key == "session.id"}
    assert sessions == {"s"}


@contextmanager
def serving(command: list[str], port: int, directory: Path, **environment: str) -> Iterator[None]:
    """A server as a process group of its own, from when it answers until it has ended by SIGTERM."""
    log = (directory / "server.log").open("wb")
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env=clean(**environment) | {"PYTHONPATH": f"{directory}{os.pathsep}{Path(__file__).parents[2]}"},
    )
    try:
        deadline = time.monotonic() + 40
        while process.poll() is None and time.monotonic() < deadline:
            try:
                ask(port)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError((directory / "server.log").read_text()[-2000:])
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            log.close()


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        return str(answer.read().decode())


def agents_runs(recorder: Recorder) -> int:
    return sum(span.name.startswith("invoke_agent") for span in recorder.spans)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--workers", "2", "--timeout-worker-healthcheck", "60"], ["--reload"]],
    ids=["workers", "reload"],
)
def test_under_uvicorn_each_worker_sends_its_spans(
    arguments: list[str], recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(APP)
    port = free_port()
    uvicorn = str(Path(sys.executable).with_name("uvicorn"))
    command = [PROGRAM, uvicorn, "service:app", "--port", str(port), *arguments]
    with serving(command, port, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=recorder.url):
        for _ in range(9):
            ask(port)
    assert agents_runs(recorder) == 10  # the one that found it ready, too


@pytest.mark.slow
def test_under_gunicorn_what_was_set_up_before_the_fork_works_in_every_worker(
    recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(WSGI)
    port = free_port()
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    command = [gunicorn, "service:app", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    with serving(command, port, tmp_path, SIDESPAN_ENDPOINT=recorder.url):
        workers = {ask(port) for _ in range(29)}
    assert agents_runs(recorder) == 30
    assert recorder.resource["service.name"] == "preloaded"
    assert len(workers) >= 1
