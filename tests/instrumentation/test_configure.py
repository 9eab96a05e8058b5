"""`configure` in real processes: the provider is the process's own, so each case is a script."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instrumentation.pydantic_ai import _format_version
from instrumentation.settings import destination
from tests.instrumentation.recorder import Recorder, recording

REPOSITORY = Path(__file__).parents[2]

AGENT = """
import instrumentation
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel(), name="tester")
@agent.tool_plain
def add(a: int, b: int) -> int:
    return a + b
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
        env=clean | environment,
    )


def succeed(code: str, **environment: str) -> str:
    done = run(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


def test_an_agent_run_is_one_trace_with_both_conventions(recorder: Recorder) -> None:
    succeed(
        AGENT + "t = instrumentation.configure(service_name='svc')\nagent.run_sync('secret words')\n"
        "assert t.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    spans = {span.name.split(" ")[0]: span for span in recorder.spans}
    assert set(spans) == {"invoke_agent", "chat", "execute_tool"}
    assert len({span.trace_id for span in recorder.spans}) == 1
    assert spans["chat"].parent_span_id == spans["invoke_agent"].span_id
    kinds = {
        pair.value.string_value
        for span in recorder.spans
        for pair in span.attributes
        if pair.key == "openinference.span.kind"
    }
    assert kinds == {"AGENT", "LLM", "TOOL"}
    headers, request = recorder.requests[0]
    assert headers["content-encoding"] == "gzip"
    assert recorder.resource["service.name"] == "svc"
    assert b"secret words" in request.SerializeToString()


def test_without_content_no_prompt_leaves_the_process(recorder: Recorder) -> None:
    succeed(
        AGENT
        + "t = instrumentation.configure(include_content=False)\nagent.run_sync('secret words')\nt.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    assert recorder.spans
    assert all(b"secret words" not in request.SerializeToString() for _, request in recorder.requests)


@pytest.mark.parametrize(
    ("experiment", "attributes"),
    [
        ("12", {"mlflow.experiment.id": "12"}),
        ("Agents ö", {"mlflow.experiment.name": "Agents ö"}),
    ],
    ids=["by_id", "by_name"],
)
def test_the_experiment_travels_in_the_resource(
    recorder: Recorder, experiment: str, attributes: dict[str, str]
) -> None:
    succeed(
        AGENT + "t = instrumentation.configure()\nagent.run_sync('x')\nt.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
        SIDESPAN_EXPERIMENT=experiment,
    )
    assert attributes.items() <= recorder.resource.items()


JOIN = (
    AGENT
    + """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
own, memory = TracerProvider(), InMemorySpanExporter()
own.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(own)
t = instrumentation.configure(experiment="Agents ö")
assert trace.get_tracer_provider() is own
agent.run_sync("x")
assert t.flush()
seen = len(memory.get_finished_spans())
t.shutdown()
t.shutdown()
trace.get_tracer("after").start_span("later").end()
print(seen, len(memory.get_finished_spans()))
"""
)


def test_a_provider_that_is_set_is_joined_and_outlives_us(recorder: Recorder) -> None:
    out = succeed(JOIN, SIDESPAN_ENDPOINT=recorder.url, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20t")
    seen, after = map(int, out.split())
    assert seen == len(recorder.spans) > 2
    assert after == seen + 1
    headers = recorder.requests[0][0]
    assert headers["x-mlflow-experiment-name"] == "Agents %C3%B6"
    assert headers["authorization"] == "Bearer t"


def test_standard_headers_are_sent_by_our_own_provider(recorder: Recorder) -> None:
    succeed(
        AGENT + "t = instrumentation.configure()\nagent.run_sync('x')\nt.flush()",
        OTEL_EXPORTER_OTLP_ENDPOINT=recorder.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=3",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
    )
    headers = recorder.requests[0][0]
    assert headers["x-mlflow-experiment-id"] == "3"
    assert "content-encoding" not in headers


def test_configuring_twice_sends_each_span_once(recorder: Recorder) -> None:
    succeed(
        AGENT + "t = instrumentation.configure()\nassert instrumentation.configure() is t\n"
        "agent.run_sync('x')\nt.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    ids = [span.span_id for span in recorder.spans]
    assert len(ids) == len(set(ids)) > 2


def test_an_endpoint_that_is_away_neither_breaks_nor_slows_the_agent() -> None:
    out = succeed(
        AGENT + "import time\nt = instrumentation.configure()\nagent.run_sync('warm')\n"
        "s = time.monotonic()\nagent.run_sync('x')\nprint(time.monotonic() - s)\nassert not t.flush()",
        SIDESPAN_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert float(out) < 1.0


def test_a_bad_endpoint_is_named_with_where_it_came_from() -> None:
    done = run("import instrumentation; instrumentation.configure()", SIDESPAN_ENDPOINT="localhost:4318")
    assert "SIDESPAN_ENDPOINT: 'localhost:4318' is not an http:// or https:// URL" in done.stderr


def test_importing_is_light() -> None:
    loaded = json.loads(
        succeed(
            "import json, sys, instrumentation\n"
            "heavy = ['pydantic_ai', 'mlflow', 'starlette', 'aiohttp', 'opentelemetry.sdk', 'requests']\n"
            "print(json.dumps([name for name in heavy if name in sys.modules]))"
        )
    )
    assert loaded == []


BASE, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        (None, {}, "http://127.0.0.1:4318/v1/traces"),
        (None, {"SIDESPAN_ENDPOINT": "http://s:1/"}, "http://s:1/v1/traces"),
        (None, {"SIDESPAN_ENDPOINT": "http://s", BASE: "http://otel"}, "http://otel/v1/traces"),
        (None, {BASE: "http://otel", TRACES: "http://as/it/is"}, "http://as/it/is"),
        ("http://mine", {TRACES: "http://as/it/is"}, "http://mine/v1/traces"),
        ("http://mine/v1/traces", {}, "http://mine/v1/traces"),
        ("https://host/mlflow/", {}, "https://host/mlflow/v1/traces"),
    ],
    ids=[
        "default",
        "ours",
        "standard_wins",
        "traces_variable_as_it_is",
        "argument_wins",
        "path_given",
        "sub_path",
    ],
)
def test_where_spans_go(endpoint: str | None, environment: dict[str, str], expected: str) -> None:
    assert destination(endpoint=endpoint, experiment=None, environment=environment).url == expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [("Literal[2, 3, 4, 5, 6]", 5), ("Literal[1, 2, 3]", 3), ("", 5)],
    ids=["newest_wanted", "older_library", "unknown"],
)
def test_the_format_is_the_newest_that_the_library_has(annotation: str, expected: int) -> None:
    assert _format_version(annotation) == expected


def example(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("SIDESPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_"))
    }
    return subprocess.run(
        [sys.executable, "examples/weather_agent.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
        env=clean | environment,
    )


def test_the_weather_agent_prints_its_answer_and_its_trace(recorder: Recorder) -> None:
    done = example("What should I wear in Oslo?", SIDESPAN_ENDPOINT=recorder.url)
    assert done.returncode == 0, done.stderr
    answer, trace = done.stdout.splitlines()
    assert "raincoat" in answer
    assert {f"trace {span.trace_id.hex()}" for span in recorder.spans} == {trace}
    assert sorted(span.name.split(" ")[0] for span in recorder.spans) == sorted(
        ["invoke_agent", "chat", "chat", "chat", "execute_tool", "execute_tool"]
    )


def test_the_weather_agent_says_when_its_trace_could_not_be_sent() -> None:
    started = time.monotonic()
    done = example("--json", SIDESPAN_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert done.returncode == 1
    assert json.loads(done.stdout)["answer"]
    assert "is Sidespan running?" in done.stderr
    assert time.monotonic() - started < 30
