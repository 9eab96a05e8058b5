"""Agents in many situations, for real: through exporter, collector and MLflow, asserted in both views of a
trace."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collector.cli import remote
from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan
from tests.system.harmonise_table import span_contents

ROOT = Path(__file__).parents[2]
PYTHONS = {"pydantic_ai_2": Path(sys.executable), "pydantic_ai_1": ROOT / ".venv/pydantic-ai-1/bin/python"}
CALL_USD = 600 * 2.5e-6 + 400 * 1.25e-6 + 100 * 10e-6


@dataclass(frozen=True, kw_only=True)
class Row:
    """What must be seen of one situation. `shape`: each span's depth and kind, in order of start."""

    shape: tuple[str, ...]
    model_calls: int
    tool_calls: int = 1
    errors: int = 0
    recovered: int = 0
    status: str = "OK"
    session: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    name: str = "invoke_agent weather"


ONE_TOOL = ("0 AGENT", "1 LLM", "1 TOOL", "1 LLM")
TABLE: dict[str, Row] = {
    "synchronous": Row(shape=ONE_TOOL, model_calls=2),
    "asynchronous": Row(shape=ONE_TOOL, model_calls=2),
    "streaming": Row(shape=("0 AGENT", "1 LLM"), model_calls=1, tool_calls=0),
    "retried_tool": Row(
        shape=("0 AGENT", "1 LLM", "1 TOOL", "1 LLM", "1 TOOL", "1 LLM"),
        model_calls=3,
        tool_calls=2,
        recovered=1,
    ),
    "failing_tool": Row(shape=ONE_TOOL[:3], model_calls=1, errors=2, status="ERROR"),
    "hand_off": Row(
        shape=("0 AGENT", "1 LLM", "1 TOOL", "2 AGENT", "3 LLM", "3 TOOL", "3 LLM", "1 LLM"),
        model_calls=4,
        tool_calls=2,
        name="invoke_agent front desk",
    ),
    "output_validator": Row(shape=("0 AGENT", "1 LLM", "1 LLM"), model_calls=2, tool_calls=0),
    "labelled": Row(
        shape=ONE_TOOL,
        model_calls=2,
        session="chat-17",
        user="ann",
        tags={"beta": "true", "plan": "gold"},
    ),
    "labelled_across_threads_and_tasks": Row(shape=ONE_TOOL, model_calls=2, session="thread-session"),
    "mcp_tools": Row(
        shape=(
            *("0 AGENT", "1 OTHER", "1 OTHER", "2 OTHER", "1 LLM"),
            *("1 TOOL", "2 TOOL", "3 OTHER", "1 LLM"),
        ),
        model_calls=2,
        tool_calls=1,  # the MCP client's own span is the same call
    ),
}
NOT_IN_1 = {"mcp_tools"}  # its own server needs a package that 1.x does not go with
CASES = [
    (major, name)
    for major in PYTHONS
    for name in TABLE
    if not (major == "pydantic_ai_1" and name in NOT_IN_1)
]


@dataclass(frozen=True)
class Ran:
    """A process that went through situations, and where its traces are."""

    service: Sidespan
    experiment_id: str
    trace_ids: Mapping[str, str]


@pytest.fixture(scope="module")
def ran(mlflow_server: MlflowServer, shared_sidespan: Sidespan) -> dict[str, Ran]:
    """Every situation, once with each pydantic-ai."""
    found = {}
    for major, python in PYTHONS.items():
        assert python.exists(), f"{python} is missing; `make test` installs it"
        experiment_id = mlflow_server.create_experiment(f"situations-{uuid.uuid4().hex[:12]}")
        names = [name for each, name in CASES if each == major]
        done = subprocess.run(
            [python, "-m", "tests.instrumentation.situations", *names],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=ROOT,
            env=clean(SIDESPAN_ENDPOINT=shared_sidespan.url, SIDESPAN_EXPERIMENT=experiment_id),
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found[major] = Ran(shared_sidespan, experiment_id, json.loads(done.stdout))
    shared_sidespan.wait_delivered(60)
    return found


def clean(**environment: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_", "OPENINFERENCE_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | environment


@pytest.mark.parametrize(("major", "name"), CASES, ids=[f"{name}-{major}" for major, name in CASES])
def test_the_summary_says_what_happened(major: str, name: str, ran: Mapping[str, Ran]) -> None:
    row, here = TABLE[name], ran[major]
    found = remote.get_json(here.service.url, f"/-/traces/{here.trace_ids[name]}")
    in_order = sorted(found["spans"], key=lambda span: span["start_offset_seconds"])
    assert tuple(f"{span['depth']} {span['kind']}" for span in in_order) == row.shape
    assert found["name"] == row.name
    assert found["status"] == row.status
    assert (found["model_call_count"], found["tool_call_count"]) == (row.model_calls, row.tool_calls)
    assert (found["error_span_count"], found["recovered_retry_count"]) == (row.errors, row.recovered)
    assert (found["session"] or "").startswith(row.session or "")
    assert found["user"] == row.user
    assert (found["service"], found["service_version"]) == ("situations", "1.2.3")
    assert found["missing_parents"] == 0
    if name != "streaming":  # whose stand-in model counts words
        assert found["tokens"]["input"] == 1000 * row.model_calls
        assert found["tokens"]["cache_read"] == 400 * row.model_calls
        assert found["cost"]["usd"] == pytest.approx(CALL_USD * row.model_calls)


@pytest.mark.parametrize(("major", "name"), CASES, ids=[f"{name}-{major}" for major, name in CASES])
def test_mlflow_shows_the_same(
    major: str, name: str, ran: Mapping[str, Ran], mlflow_server: MlflowServer
) -> None:
    row, here = TABLE[name], ran[major]
    trace_id = here.trace_ids[name]
    info = remote.get_json(mlflow_server.url, f"/api/3.0/mlflow/traces/tr-{trace_id}")["trace"]["trace_info"]
    tags, metadata = info["tags"], info["trace_metadata"]
    assert tags["mlflow.traceName"] == row.name
    assert info["state"] == row.status
    assert {key: tags.get(key) for key in row.tags} == row.tags
    assert metadata.get("mlflow.trace.user") == row.user
    if row.session is not None:
        assert metadata["mlflow.trace.session"] == row.session
    types = {"LLM": "CHAT_MODEL", "OTHER": "UNKNOWN"}
    wanted = sorted(types.get(kind, kind) for kind in (step.split(" ")[1] for step in row.shape))
    stored = span_contents(mlflow_server, bytes.fromhex(trace_id))
    assert sorted(type for type, _ in stored) == wanted
    if name != "streaming":
        used = json.loads(metadata["mlflow.trace.tokenUsage"])
        assert used["input_tokens"] == 1000 * row.model_calls
        assert used["cache_read_input_tokens"] == 400 * row.model_calls
        cost = json.loads(metadata["mlflow.trace.cost"])
        assert cost["total_cost"] == pytest.approx(CALL_USD * row.model_calls)


def test_content_is_sent_once(ran: Mapping[str, Ran], mlflow_server: MlflowServer) -> None:
    stored = span_contents(mlflow_server, bytes.fromhex(ran["pydantic_ai_2"].trace_ids["synchronous"]))
    names = {key for _, attributes in stored for key in attributes}
    assert "gen_ai.input.messages" in names
    assert not any(
        key.startswith(("llm.input_messages.", "llm.tools.", "logfire.json_schema")) for key in names
    )
    assert "openinference.span.kind" in names
