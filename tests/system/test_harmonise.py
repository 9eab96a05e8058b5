"""The same payloads sent to MLflow directly and through Sidespan: through Sidespan every cell is right."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.cli.doctor import explain_trace
from collector.settings import Settings
from tests.support.mlflow_server import MlflowServer
from tests.support.senders import post
from tests.support.sidespan import Sidespan
from tests.system.harmonise_table import Shown, fresh, render, shown, span_contents

README = Path(__file__).parents[2] / "README.md"
PARIS = "What is the weather in Paris"
SUNNY = "It is sunny in Paris"

# payload -> (title in the README, what MLflow's API must say of it through Sidespan)
AGENT_RUN = {"AGENT": 1, "CHAT_MODEL": 3, "TOOL": 2}
RUN_TOKENS = {"input_tokens": 829, "output_tokens": 134, "total_tokens": 963}
ONE_CALL = {
    "input_tokens": 120,
    "output_tokens": 20,
    "total_tokens": 140,
    "cache_read_input_tokens": 40,
}
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "pydantic_ai_v2_openinference": (
        "pydantic-ai, format 2, OpenInference",
        {"types": AGENT_RUN, "name": "agent run", "tokens": RUN_TOKENS, "cost": 0.0034125, "session": True},
    ),
    "pydantic_ai_v5_openinference": (
        "pydantic-ai, format 5, OpenInference",
        {
            "types": AGENT_RUN,
            "name": "invoke_agent weather",
            "tokens": RUN_TOKENS,
            "cost": 0.0034125,
            "session": True,
        },
    ),
    "pydantic_ai_v6_openinference": (
        "pydantic-ai, format 6, OpenInference",
        {
            "types": AGENT_RUN,
            "name": "invoke_agent weather",
            "tokens": RUN_TOKENS,
            "cost": 0.0034125,
            "session": True,
        },
    ),
    "pydantic_ai_v5_plain": (
        "pydantic-ai alone (OpenTelemetry GenAI)",
        {
            "types": AGENT_RUN,
            "name": "invoke_agent weather",
            "tokens": RUN_TOKENS,
            "cost": 0.0034125,
            "session": True,
        },
    ),
    "pydantic_ai_cached": (
        "pydantic-ai as installed, OpenInference, cached tokens",
        {
            "types": {"AGENT": 1, "CHAT_MODEL": 1},
            "name": "invoke_agent weather",
            "tokens": {
                "input_tokens": 1000,
                "output_tokens": 100,
                "total_tokens": 1100,
                "cache_read_input_tokens": 400,
            },
            "cost": 600 * 2.5e-6 + 400 * 1.25e-6 + 100 * 10e-6,
            "session": True,
        },
    ),
    "openai_openllmetry": (
        "openai by OpenLLMetry, in a web service",
        {
            "types": {"CHAT_MODEL": 1, "UNKNOWN": 1},
            "name": "openai.chat",
            "tokens": ONE_CALL,
            "cost": 80 * 2.5e-6 + 40 * 1.25e-6 + 20 * 10e-6,
            "session": "web-session",
            "user": "web-user",
        },
    ),
    "vercel_ai_v6": (
        "Vercel AI SDK 6",
        {
            "types": {"LLM": 3, "TOOL": 1},
            "name": "ai.generateText",
            "tokens": {
                "input_tokens": 300,
                "output_tokens": 50,
                "total_tokens": 350,
                "cache_read_input_tokens": 140,
                "cache_creation_input_tokens": 0,
            },
            "cost": 160 * 2.5e-6 + 140 * 1.25e-6 + 50 * 10e-6,
            "session": "vercel-session",
            "user": "vercel-user",
        },
    ),
    "langchain_openinference": (
        "LangChain by OpenInference",
        {
            "types": {"CHAIN": 4, "LLM": 2, "TOOL": 1},
            "name": "weather",
            "tokens": {key: 2 * count for key, count in ONE_CALL.items()},
            "cost": 2 * (80 * 2.5e-6 + 40 * 1.25e-6 + 20 * 10e-6),
            "session": "langchain-session",
            "user": "langchain-user",
        },
    ),
    "claude_code": (
        "Claude Code",
        {
            "types": {"AGENT": 1, "LLM": 1, "TOOL": 1},
            "name": "claude_code.interaction",
            "tokens": {
                "input_tokens": 1000,
                "output_tokens": 50,
                "total_tokens": 1050,
                "cache_read_input_tokens": 900,
                "cache_creation_input_tokens": 0,
            },
            "cost": 100 * 3e-6 + 900 * 0.3e-6 + 50 * 15e-6,
            "session": "claude-session",
            "user": "claude-user",
            "request": "List the files.",
            "response": None,
        },
    ),
}

Both = tuple[Shown, Shown]
SERVICE = pytest.StashKey[str]()


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[bytes, Both]]]:
    """Each payload: its trace id through Sidespan, and what MLflow shows without and with Sidespan."""
    service = Sidespan(data_dir=tmp_path_factory.mktemp("harmonise") / "data", mlflow_url=mlflow_server.url)
    service.start()
    sent: dict[str, list[tuple[str, bytes]]] = {}
    request.config.stash[SERVICE] = service.url
    try:
        for name in TABLE:
            for port in (mlflow_server.port, service.port):
                experiment_id = mlflow_server.create_experiment(f"harmonise-{uuid.uuid4().hex[:12]}")
                trace_id, export = fresh(name)
                headers = {"x-mlflow-experiment-id": experiment_id}
                assert post(port, export.SerializeToString(), headers)[0] == 200
                sent.setdefault(name, []).append((experiment_id, trace_id))
        service.wait_delivered(60)
        yield {
            name: (
                through[1],
                (shown(mlflow_server, *direct), shown(mlflow_server, *through)),
            )
            for name, (direct, through) in sent.items()
        }
    finally:
        service.kill()


@pytest.mark.parametrize("name", TABLE)
def test_through_sidespan_mlflow_shows_everything(name: str, results: Mapping[str, Any]) -> None:
    expected = TABLE[name][1]
    _, (_, found) = results[name]
    assert found.types == expected["types"]
    assert found.name == expected["name"]
    assert found.named_in_metrics == (expected["name"],)
    assert found.tokens == expected["tokens"]
    assert found.cost_usd == pytest.approx(expected["cost"], abs=1e-9)
    session = expected["session"]
    assert bool(found.session) if session is True else found.session == session
    assert found.user == expected.get("user")
    assert expected.get("request", PARIS) in (found.request or "")
    if (response := expected.get("response", SUNNY)) is not None:
        assert response in (found.response or "")


def test_without_sidespan_they_are_wrong_or_missing(results: Mapping[str, Any]) -> None:
    """A version of MLflow that puts one of these right itself shows here."""
    assert all(alone.types == {} and alone.name is None for _, (alone, _) in results.values())
    _, (vercel, _) = results["vercel_ai_v6"]
    assert vercel.tokens.get("cache_read_input_tokens") is None
    assert vercel.session is None
    _, (cached, _) = results["pydantic_ai_cached"]
    assert cached.cost_usd == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    _, (plain, _) = results["pydantic_ai_v5_plain"]
    assert (plain.request, plain.response) == (None, None)


def test_a_model_call_shows_its_whole_conversation(
    mlflow_server: MlflowServer, results: Mapping[str, Any]
) -> None:
    """OpenInference leaves the last user text alone in `input.value`, and MLflow looks no further."""
    trace_id, _ = results["pydantic_ai_v5_openinference"]
    inputs = [
        str(attributes["mlflow.spanInputs"])
        for type, attributes in span_contents(mlflow_server, trace_id)
        if type == "CHAT_MODEL"
    ]
    assert all('"role":"system"' in text.replace('\\"', '"') for text in inputs)


def test_doctor_explains_a_trace_that_mlflow_has(
    request: pytest.FixtureRequest, results: Mapping[str, Any]
) -> None:
    trace_id, _ = results["vercel_ai_v6"]
    url = request.config.stash[SERVICE]
    spans = explain_trace(f"tr-{trace_id.hex()}", Settings(), url=url)["spans"]
    calls = [span for span in spans if span["name"] == "ai.generateText.doGenerate"]
    assert len(calls) == 2
    for span in calls:
        assert "Vercel AI SDK" in span["conventions"]
        assert {
            "name": "session",
            "value": "vercel-session",
            "source": "ai.telemetry.metadata.sessionId",
        } in span["facts"]
        assert "mlflow.chat.tokenUsage" in {change["key"] for change in span["changes"]}


def test_the_readme_shows_what_was_measured(results: Mapping[str, Any]) -> None:
    table = render({TABLE[name][0]: both for name, (_, both) in results.items()})
    assert table in README.read_text(encoding="utf-8"), f"put this table into the README:\n{table}"


@pytest.mark.slow
def test_a_web_services_trace_is_named_right_though_its_agent_comes_after_a_restart(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    trace_id, whole = fresh("openai_openllmetry")
    spans = {span.name: span for scope in whole.resource_spans[0].scope_spans for span in scope.spans}
    headers = {"x-mlflow-experiment-id": experiment_id}
    sidespan.start()
    for name in ("POST /ask", "openai.chat"):
        part = fresh("openai_openllmetry")[1]
        for scope_spans in part.resource_spans[0].scope_spans:
            del scope_spans.spans[:]
        part.resource_spans[0].scope_spans[0].spans.append(spans[name])
        assert post(sidespan.port, part.SerializeToString(), headers)[0] == 200
        sidespan.wait_delivered(60)
        if name == "POST /ask":
            assert shown(mlflow_server, experiment_id, trace_id).name == "POST /ask"
            sidespan.kill()
            sidespan.start()
    found = shown(mlflow_server, experiment_id, trace_id)
    assert (found.name, found.session, found.user) == ("openai.chat", "web-session", "web-user")
    assert PARIS in (found.request or "")
    assert found.tokens == ONE_CALL
