"""`configure` in real processes: the provider is the process's own, so each case is a script."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from instrumentation.pydantic_ai import _format_version
from instrumentation.settings import destination
from tests.instrumentation.recorder import Recorder, recording
from tests.support.forked import PYDANTIC_AI, run_forked
from tests.support.timing import patient, within

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
    if code.startswith(AGENT):
        return run_forked("-c", code, imported=PYDANTIC_AI, environment=clean | environment)
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


def test_an_experiment_that_is_given_replaces_what_the_standard_variables_say(recorder: Recorder) -> None:
    succeed(
        AGENT + "t = instrumentation.configure(experiment='mine')\nagent.run_sync('x')\nt.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-name=shared,authorization=Bearer%20t",
        OTEL_RESOURCE_ATTRIBUTES="mlflow.experiment.id=7,team=a",
    )
    headers, resource = recorder.requests[0][0], recorder.resource
    assert headers["x-mlflow-experiment-name"] == "mine"
    assert headers["authorization"] == "Bearer t"
    assert resource["mlflow.experiment.name"] == "mine"
    assert "mlflow.experiment.id" not in resource
    assert resource["team"] == "a"


def test_an_experiment_name_that_cannot_hold_is_said() -> None:
    done = run(
        "import instrumentation; instrumentation.configure(experiment='mine')",
        OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=3",
    )
    assert done.returncode == 0
    assert "x-mlflow-experiment-id; it takes precedence over the experiment name" in done.stderr


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
agent.run_sync("later")
print(seen, len(memory.get_finished_spans()))
"""
)


def test_a_provider_that_is_set_is_joined_and_outlives_us(recorder: Recorder) -> None:
    done = run(JOIN, SIDESPAN_ENDPOINT=recorder.url, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20t")
    assert done.returncode == 0, done.stderr
    seen, after = map(int, done.stdout.split())
    assert seen == len(recorder.spans) > 2
    assert after == 2 * seen
    assert done.stderr == ""  # nor a word for each span that we no longer take
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


def test_configuring_after_a_shutdown_sends_each_span_once(recorder: Recorder) -> None:
    succeed(
        AGENT + "t = instrumentation.configure()\nagent.run_sync('x')\nt.shutdown()\n"
        "assert not t.flush()\nagent.run_sync('nobody takes this')\n"
        "u = instrumentation.configure()\nassert u is not t\nagent.run_sync('y')\nassert u.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    assert recorder.names == sorted(2 * ["invoke_agent", "chat", "chat", "execute_tool"])
    assert len({span.span_id for span in recorder.spans}) == len(recorder.spans)


@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_an_endpoint_that_stalls_holds_nobody_longer_than_asked(call: str) -> None:
    with recording(delay_seconds=30) as recorder:
        out = succeed(
            AGENT + "import os, time\nt = instrumentation.configure()\nagent.run_sync('x')\n"
            f"s = time.monotonic()\nanswer = t.{call}(timeout_seconds=0.3)\n"
            "print(answer, time.monotonic() - s, flush=True)\nos._exit(0)",
            SIDESPAN_ENDPOINT=recorder.url,
        )
    answer, seconds = out.split()
    assert answer in ("False", "None")
    assert 0.2 < float(seconds) < 5


def test_flush_says_what_was_lost_before_it_and_says_it_once() -> None:
    with recording(status=400) as recorder:
        out = succeed(
            AGENT + "import logging, threading\nfailed = threading.Event()\n"
            "class Told(logging.Handler):\n    def emit(self, record): failed.set()\n"
            "logging.getLogger('instrumentation').addHandler(Told(logging.WARNING))\n"
            "t = instrumentation.configure()\nagent.run_sync('x')\n"
            "assert failed.wait(30)\nprint(t.flush(), t.flush())",
            SIDESPAN_ENDPOINT=recorder.url,
        )
    assert out.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("pydantic_ai", "pydantic-ai is not installed; only spans that the program creates itself"),
        ("openinference", "openinference-instrumentation-pydantic-ai is not installed"),
    ],
    ids=["no_agent_library", "no_openinference"],
)
def test_without_a_library_other_spans_are_sent(recorder: Recorder, missing: str, words: str) -> None:
    done = run(
        f"""
import importlib.abc, logging, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == {missing!r} else found(name, *a)
sys.meta_path.insert(0, Missing())
logging.basicConfig(level=logging.INFO)
import instrumentation
from opentelemetry import trace
t = instrumentation.configure()
trace.get_tracer("mine").start_span("own").end()
assert t.flush()
""",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    assert done.returncode == 0, done.stderr
    assert words in done.stderr
    assert recorder.names == ["own"]


def test_an_endpoint_that_is_away_neither_breaks_nor_slows_the_agent() -> None:
    out = succeed(
        AGENT + "import time\nt = instrumentation.configure()\nagent.run_sync('warm')\n"
        "took = []\nfor _ in range(5):\n"
        "    s = time.monotonic()\n    agent.run_sync('x')\n    took.append(time.monotonic() - s)\n"
        "print(min(took))\nassert not t.flush(1)\nt.shutdown(0.1)",
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
    script = str(REPOSITORY / "examples/weather_agent.py")
    return run_forked(script, *arguments, imported=PYDANTIC_AI, environment=clean | environment)


def test_the_weather_agent_prints_its_answer_and_its_trace(recorder: Recorder) -> None:
    done = example("What should I wear in Oslo?", SIDESPAN_ENDPOINT=recorder.url)
    assert done.returncode == 0, done.stderr
    answer, trace = done.stdout.splitlines()
    assert "raincoat" in answer
    assert {f"trace {span.trace_id.hex()}" for span in recorder.spans} == {trace}
    assert recorder.names == ["chat", "chat", "chat", "execute_tool", "execute_tool", "invoke_agent"]


@patient
def test_the_weather_agent_says_when_its_trace_could_not_be_sent() -> None:
    with within(30):
        done = example("--json", SIDESPAN_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert done.returncode == 1
    assert json.loads(done.stdout)["answer"]
    assert "Is Sidespan running?" in done.stderr
