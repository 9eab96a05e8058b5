"""check, trace_url, feedback and run against a real Sidespan and MLflow; `configure` and its arguments
over the wire."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from collector.cli import remote
from collector.cli.remote import Refused
from tests.instrumentation.recorder import Recorder, recording
from tests.instrumentation.test_situations import clean
from tests.support.forked import COMMAND_LINE, PYDANTIC_AI, run_forked
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

AGENT = """
import json
import instrumentation
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel(), name="test")
"""


def run_code(code: str, **environment: str) -> str:
    done = run_forked("-c", AGENT + code, imported=PYDANTIC_AI, environment=clean(**environment))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def service(shared_sidespan: Sidespan) -> Sidespan:
    return shared_sidespan


def test_check_says_that_a_span_arrived(service: Sidespan) -> None:
    told = json.loads(
        run_code(
            "instrumentation.configure(service_name='checked')\nc = instrumentation.check()\n"
            "print(json.dumps([bool(c), c.reason, c.trace_id]))",
            SIDESPAN_ENDPOINT=service.url,
        )
    )
    assert told[0] is True
    service.wait_delivered(120)
    found = remote.get_json(service.url, f"/-/traces/{told[2]}")
    assert (found["name"], found["service"]) == ("sidespan check", "checked")


TROUBLES = {
    "nobody_there": (None, "no server answers there: start Sidespan"),
    "not_an_otlp_receiver": (405, "it refuses the span"),
    "no_token": (401, "give token, or set SIDESPAN_TOKEN"),
    "no_right": (403, "may not send traces"),
    "no_path": (404, "check the endpoint"),
}


@pytest.mark.parametrize(("status", "words"), TROUBLES.values(), ids=TROUBLES)
def test_check_says_why_a_span_did_not_arrive(status: int | None, words: str) -> None:
    code = "instrumentation.configure()\nc = instrumentation.check()\nprint(c.ok, c.reason)"
    if status is None:
        told = run_code(
            code, SIDESPAN_ENDPOINT=f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="1"
        )
    else:
        with recording(status=status) as recorder:
            told = run_code(code, SIDESPAN_ENDPOINT=recorder.url)
    assert told.startswith("False")
    assert words in told


def test_before_configure_the_way_out_is_said() -> None:
    code = "try:\n    instrumentation.check()\nexcept RuntimeError as error:\n    print(error)"
    assert run_code(code) == "call instrumentation.configure() first"


def test_feedback_is_an_assessment_of_the_trace(service: Sidespan, mlflow_server: MlflowServer) -> None:
    experiment_id = mlflow_server.create_experiment("feedback")
    told = json.loads(
        run_code(
            "instrumentation.configure()\n"
            "from opentelemetry import trace\n"
            "with instrumentation.user('ann'), trace.get_tracer('t').start_as_current_span('work'):\n"
            "    agent.run_sync('x')\n"
            "    trace_id = instrumentation.current_trace_id()\n"
            "with instrumentation.user('ann'):\n"
            "    id = instrumentation.feedback('tr-' + trace_id, 'helpful', True, rationale='it was right')\n"
            "print(json.dumps([trace_id, id, instrumentation.trace_url(trace_id)]))",
            SIDESPAN_ENDPOINT=service.url,
            SIDESPAN_EXPERIMENT=experiment_id,
        )
    )
    trace_id, identifier, url = told
    (assessment,) = _assessments(mlflow_server, trace_id)
    assert assessment["metadata"]["sidespan.identifier"] == identifier
    assert assessment["source"]["source_type"] == "HUMAN"
    assert (assessment["assessment_name"], assessment["feedback"]["value"]) == ("helpful", True)
    assert (assessment["source"]["source_id"], assessment["rationale"]) == ("ann", "it was right")
    assert url == f"{service.url}/-/#trace={trace_id}"


def _assessments(mlflow_server: MlflowServer, trace_id: str) -> list[dict[str, Any]]:
    """Those of a trace, once there are any: its process has ended before they are written."""
    path = f"/api/3.0/mlflow/traces/tr-{trace_id}"
    deadline = time.monotonic() + 120
    while True:
        with suppress(Refused):
            info = remote.get_json(mlflow_server.url, path)["trace"]["trace_info"]
            if found := info.get("assessments"):
                return list(found)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_feedback_given_while_the_endpoint_is_away_is_recorded(
    service: Sidespan, mlflow_server: MlflowServer
) -> None:
    experiment_id = mlflow_server.create_experiment("feedback later")
    port = free_port()
    told = run_code(
        "import threading, socket\n"
        "handle = instrumentation.configure()\n"
        "agent.run_sync('x')\n"
        "trace_id = f'{1:032x}'\n"
        "print(instrumentation.feedback(trace_id, 'helpful', 0.5, timeout_seconds=0.2))\n"
        "print(handle.flush(0.2))",
        SIDESPAN_ENDPOINT=f"http://127.0.0.1:{port}",
        SIDESPAN_EXPERIMENT=experiment_id,
    )
    identifier, sent = told.split()
    assert (len(identifier), sent) == (32, "False"), "it waits in the queue, and nothing was raised"


def test_feedback_that_is_refused_says_what_is_wrong() -> None:
    code = (
        "instrumentation.configure()\ntry:\n"
        "    instrumentation.feedback('0' * 31 + '1', 'x', 1, timeout_seconds=5)\n"
        "except RuntimeError as error:\n    print(error)"
    )
    with recording(status=404) as recorder:
        told = run_code(code, SIDESPAN_ENDPOINT=recorder.url)
    assert "was refused: status 404" in told


def test_traces_are_linked_to_the_run_of_their_block(service: Sidespan, mlflow_server: MlflowServer) -> None:
    experiment_id = mlflow_server.create_experiment("runs")
    run_id = mlflow_server.create_run(experiment_id)
    run_code(
        "t = instrumentation.configure()\n"
        f"with instrumentation.run({run_id!r}):\n    agent.run_sync('linked')\n"
        "agent.run_sync('not linked')\nassert t.flush()",
        SIDESPAN_ENDPOINT=service.url,
        SIDESPAN_EXPERIMENT=experiment_id,
    )
    service.wait_delivered(120)
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
    for filter_, count in ((f"attributes.run_id = '{run_id}'", 1), (None, 2)):
        document = {"locations": [location], **({"filter": filter_} if filter_ else {})}
        found = remote.post_json(mlflow_server.url, "/api/3.0/mlflow/traces/search", document)
        assert len(found["traces"]) == count


# arguments, over the wire


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as made:
        yield made


def sent_headers(recorder: Recorder) -> dict[str, str]:
    return recorder.requests[0][0]


RUN = "; agent.run_sync('x'); assert t.flush()"


def test_token_headers_and_compression_are_sent(recorder: Recorder) -> None:
    run_code(
        "t = instrumentation.configure(token='abc', headers={'X-Team': 'search'}, compression='none')" + RUN,
        SIDESPAN_ENDPOINT=recorder.url,
    )
    headers = sent_headers(recorder)
    assert (headers["authorization"], headers["x-team"]) == ("Bearer abc", "search")
    assert "content-encoding" not in headers


def test_variables_stand_for_arguments(recorder: Recorder) -> None:
    run_code(
        "t = instrumentation.configure()" + RUN,
        SIDESPAN_ENDPOINT=recorder.url,
        SIDESPAN_TOKEN="from-env",
        SIDESPAN_OPENINFERENCE="false",
        OPENINFERENCE_HIDE_INPUTS="true",
        OTEL_RESOURCE_ATTRIBUTES="service.version=9",
    )
    assert sent_headers(recorder)["authorization"] == "Bearer from-env"
    names = {attribute.key for span in recorder.spans for attribute in span.attributes}
    assert not any(name.startswith("openinference.") for name in names)
    assert "gen_ai.input.messages" not in names
    assert recorder.resource["service.version"] == "9"


def test_a_switch_that_is_neither_is_named() -> None:
    code = "try:\n    instrumentation.configure()\nexcept ValueError as error:\n    print(error)"
    assert (
        run_code(code, SIDESPAN_HIDE_INPUTS="maybe")
        == "SIDESPAN_HIDE_INPUTS: 'maybe' is neither true nor false"
    )


def test_of_a_sampled_process_only_some_traces_leave(recorder: Recorder) -> None:
    run_code(
        "t = instrumentation.configure(sampling_ratio=0.0)\n"
        "for _ in range(5): agent.run_sync('x')\nt.flush()",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    assert recorder.spans == []


def test_simple_mode_needs_no_flush(recorder: Recorder) -> None:
    run_code(
        "import os\nt = instrumentation.configure(batch=False)\nagent.run_sync('x')\nos._exit(0)",
        SIDESPAN_ENDPOINT=recorder.url,
    )
    assert len(recorder.spans) == 2


def test_a_process_that_only_ends_has_sent_everything(recorder: Recorder) -> None:
    run_code("instrumentation.configure(); agent.run_sync('x')", SIDESPAN_ENDPOINT=recorder.url)
    assert len(recorder.spans) == 2


def run_sidespan(*arguments: str, **environment: str) -> Any:
    return run_forked(
        "-m", "collector", "run", *arguments, imported=COMMAND_LINE, environment=clean(**environment)
    )


def test_run_sets_the_variables_for_a_program_in_any_language() -> None:
    done = run_sidespan(
        "--service", "shop", "--experiment", "my shop", "--url", "http://127.0.0.1:9", "--", "env"
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:9"
    assert found["OTEL_SERVICE_NAME"] == "shop"
    assert found["OTEL_EXPORTER_OTLP_HEADERS"] == "x-mlflow-experiment-name=my%20shop"
    assert (found["OTEL_METRICS_EXPORTER"], found["OTEL_LOGS_EXPORTER"]) == ("none", "otlp")


def test_run_keeps_what_is_set_and_passes_arguments_and_exit_code() -> None:
    done = run_sidespan(
        "--",
        "sh",
        "-c",
        'echo "$OTEL_SERVICE_NAME $1 $2"; exit 7',
        "sh",
        "--port",
        "1",
        OTEL_SERVICE_NAME="mine",
    )
    assert (done.stdout.strip(), done.returncode) == ("mine --port 1", 7)


def test_run_says_when_there_is_no_such_program() -> None:
    done = run_sidespan("--", "no-such-program")
    assert (done.returncode, "program 'no-such-program' not found" in done.stderr) == (2, True)


def test_run_brings_the_traces_of_a_program_here(service: Sidespan, tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text(AGENT + "instrumentation.configure()\nagent.run_sync('x')\n")
    done = run_sidespan(
        *("--service", "launched", "--experiment", "launched", "--url", service.url),
        *("--", sys.executable, str(script)),
    )
    assert done.returncode == 0, done.stderr
    service.wait_delivered(120)
    document = {"filter": "name = 'launched'"}
    found = remote.post_json(
        service.url, "/api/2.0/mlflow/experiments/search", {**document, "max_results": 1}
    )
    assert found["experiments"]
