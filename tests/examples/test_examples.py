"""Each example runs offline, and shows in Sidespan and MLflow what its docstring says."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from collector.cli import remote
from tests.instrumentation.test_situations import clean
from tests.support.forked import PYDANTIC_AI, run_forked
from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def service(shared_sidespan: Sidespan) -> Sidespan:
    return shared_sidespan


class Place:
    """An experiment of its own, and what came into it."""

    def __init__(self, service: Sidespan, server: MlflowServer) -> None:
        self.service, self.server = service, server
        self.name = f"examples-{uuid.uuid4().hex[:12]}"
        self.id = server.create_experiment(self.name)
        self.grpc = f"http://127.0.0.1:{service.grpc_port}"

    def run(self, *command: str, **environment: str) -> str:
        """What it printed."""
        environment = clean(
            SIDESPAN_ENDPOINT=self.service.url,
            SIDESPAN_EXPERIMENT=self.id,
            SIDESPAN_EXPERIMENT_NAME=self.name,
            MLFLOW_DISABLE_TELEMETRY="true",
            **environment,
        )
        if command[0] == sys.executable:
            done = run_forked(
                *command[1:], imported=PYDANTIC_AI, environment=environment, timeout_seconds=100
            )
        else:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=100, check=False, env=environment
            )
        assert done.returncode == 0, done.stderr
        self.service.wait_delivered(60)
        return done.stdout

    def example(self, name: str) -> str:
        """Its own experiment's name is replaced: configure's argument comes before the environment."""
        source = (EXAMPLES / name).read_text().replace('experiment="examples"', f'experiment="{self.id}"')
        copy = Path(os.environ["PYTEST_EXAMPLES"]) / name
        copy.write_text(source)
        return self.run(sys.executable, str(copy))

    def wait_for_logs(self) -> None:
        """Until each log record is processed: a process's last ones come after its spans."""
        deadline = time.monotonic() + 60
        while self.service.health()["parts"]["logs"]["pending_records"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def traces(self) -> list[dict[str, Any]]:
        """MLflow's traces, oldest first."""
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self.id}}
        found = remote.post_json(self.server.url, "/api/3.0/mlflow/traces/search", {"locations": [location]})
        return sorted(found.get("traces", []), key=lambda trace: trace["request_time"])

    def summaries(self) -> list[dict[str, Any]]:
        ids = [trace["trace_id"] for trace in self.traces()]
        return [remote.get_json(self.service.url, f"/-/traces/{trace_id}") for trace_id in ids]


@pytest.fixture
def place(
    service: Sidespan, mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    shutil.copy(EXAMPLES / "offline_model.py", tmp_path)
    monkeypatch.setenv("PYTEST_EXAMPLES", str(tmp_path))
    return Place(service, mlflow_server)


def test_handoff_is_one_trace_of_two_agents(place: Place) -> None:
    assert "closed on Sundays" in place.example("handoff.py")
    (found,) = place.summaries()
    agents = {span["agent"] for span in found["spans"]}
    assert agents == {"front desk", "opening hours expert"}
    assert (found["model_call_count"], found["tool_call_count"]) == (4, 2)
    assert found["tokens"]["output"] == 80


def test_streaming_chat_is_one_session_of_one_user(place: Place) -> None:
    assert place.example("streaming_chat.py").count("one word after the other") == 3
    traces = place.traces()
    assert len(traces) == 3
    assert {trace["trace_metadata"]["mlflow.trace.session"] for trace in traces} == {"streaming-chat-1"}
    assert {trace["trace_metadata"]["mlflow.trace.user"] for trace in traces} == {"ann"}
    assert {trace["tags"]["channel"] for trace in traces} == {"terminal"}
    calls = [span for found in place.summaries() for span in found["spans"] if span["kind"] == "LLM"]
    assert all(span["time_to_first_token_seconds"] is not None for span in calls)


def test_failing_tool_tells_a_retry_from_an_error(place: Place) -> None:
    assert "failed as expected" in place.example("failing_tool.py")
    patient, unlucky = place.summaries()
    assert (patient["status"], patient["recovered_retry_count"], patient["error_span_count"]) == ("OK", 1, 0)
    assert unlucky["status"] == "ERROR"
    assert "the station does not answer" in unlucky["errors"][0]["message"]
    assert [trace["state"] for trace in place.traces()] == ["OK", "ERROR"]


def test_the_daily_report_tells_agents_costs_and_errors(place: Place) -> None:
    place.example("failing_tool.py")
    deadline = time.monotonic() + 60
    command = (sys.executable, str(EXAMPLES / "daily_report.py"), place.name)
    while "the station" not in (report := place.run(*command)):
        assert time.monotonic() < deadline, report
        time.sleep(0.2)
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| ")]
    assert rows[0][0] == "| agent"
    assert rows[-1][0] == "| **all**"
    assert rows[-1][1:3] == ["2", "50 %"]


def test_web_service_is_one_trace_across_two_processes(place: Place) -> None:
    assert "Three umbrellas" in place.example("web_service.py")
    (found,) = place.summaries()
    names = [span["name"] for span in found["spans"]]  # FastAPI may add some of its own
    assert names[:2] == ["GET", "GET /ask"]
    assert "invoke_agent shop assistant" in names
    assert found["missing_parents"] == 0
    (trace,) = place.traces()
    assert trace["tags"]["mlflow.traceName"] == "invoke_agent shop assistant"
    assert "How many umbrellas" in trace["request_preview"]


def test_evaluation_links_its_traces_to_its_run(place: Place) -> None:
    told = json.loads(place.example("evaluation.py").strip().splitlines()[-1])
    place.wait_for_logs()
    assert told["accuracy"] == 0.75
    run = remote.get_json(place.server.url, f"/api/2.0/mlflow/runs/get?run_id={told['run_id']}")["run"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert metrics["accuracy"] == 0.75
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": place.id}}
    document = {"locations": [location], "filter": f"attributes.run_id = '{told['run_id']}'"}
    linked = remote.post_json(place.server.url, "/api/3.0/mlflow/traces/search", document)["traces"]
    assert len(linked) == 4
    judged = [trace["assessments"][0]["feedback"]["value"] for trace in linked]
    assert sorted(judged) == [False, True, True, True]


def test_online_evaluation_judges_each_run(place: Place) -> None:
    told = json.loads(place.example("online_evaluation.py").strip().splitlines()[-1])
    place.wait_for_logs()
    traces = {trace["trace_id"].removeprefix("tr-"): trace for trace in place.traces()}
    values = [
        {each["assessment_name"]: each["feedback"] for each in traces[trace_id]["assessments"]}
        for trace_id in told["trace_ids"]
    ]
    assert [found["NamesThePlace"]["value"] for found in values] == [True, False]
    assert [found["Words"]["value"] for found in values] == [6.0, 6.0]
    assert [found["Grammar"]["error"]["error_code"] for found in values] == ["LookupError"] * 2
    (named,) = (
        each
        for each in traces[told["trace_ids"][0]]["assessments"]
        if each["assessment_name"] == "NamesThePlace"
    )
    assert named["rationale"] == "the answer names Lisbon"
    assert named["source"] == {"source_type": "CODE", "source_id": "NamesThePlace"}
    spans = remote.get_json(place.service.url, f"/-/traces/{told['trace_ids'][0]}")["spans"]
    judged = next(span for span in spans if span["span_id"] == named["span_id"])
    assert judged["name"] == "invoke_agent adviser"
    assert {each.pop("score"): each for each in told["scores"]} == {
        "NamesThePlace": {"count": 2, "score_mean": 0.5, "pass_rate": 0.5, "error_rate": 0},
        "Words": {"count": 2, "score_mean": 6, "pass_rate": None, "error_rate": 0},
        "Grammar": {"count": 2, "score_mean": None, "pass_rate": None, "error_rate": 1},
    }


def test_autolog_beside_otlp_gives_two_whole_traces(place: Place) -> None:
    place.example("autolog_beside_otlp.py")
    names = sorted(trace["tags"]["mlflow.traceName"] for trace in place.traces())
    assert names == ["invoke_agent new agent", "old code"]


def test_javascript_needs_no_package(place: Place) -> None:
    node = shutil.which("node")
    assert node, "node is missing; on Debian: apt-get install nodejs"
    trace_id = place.run(node, str(EXAMPLES / "javascript" / "trace.mjs")).strip()
    found = remote.get_json(place.service.url, f"/-/traces/{trace_id}")
    assert (found["name"], found["tokens"]["input"], found["session"]) == (
        "invoke_agent greeter",
        120,
        "javascript-1",
    )


def test_the_grpc_exporters_trace_is_in_its_experiment(place: Place) -> None:
    trace_id = place.run(sys.executable, str(EXAMPLES / "grpc_exporter.py"), SIDESPAN_GRPC=place.grpc).strip()
    found = remote.get_json(place.service.url, f"/-/traces/{trace_id}")
    assert (found["name"], found["session"], found["span_count"]) == ("question", "grpc-1", 2)
    assert len(place.traces()) == 1


def test_every_example_says_what_to_look_at() -> None:
    for file in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("javascript/*.mjs")]:
        if file.name not in ("offline_model.py", "run.py"):
            assert "Look at:" in file.read_text(), file.name
