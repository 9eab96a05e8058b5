"""The index in the running service: fresh, whole whatever dies, narrowed to rights, filled from MLflow."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli import remote
from tests.support.forked import sidespan_command
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, all_spans, export, trace_ids_of
from tests.support.proxied import tokens_for
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"


def send(service: Sidespan, request: ExportTraceServiceRequest, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if service.token:
        named["authorization"] = f"Bearer {service.token}"
    asked = urllib.request.Request(
        f"{service.url}/v1/traces",
        data=request.SerializeToString(),
        headers={"content-type": "application/x-protobuf", **named},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.status == 200


def ask(service: Sidespan, path: str, token: str | None = None, **parameters: Any) -> dict[str, Any]:
    query = urlencode(parameters, doseq=True)
    asked = urllib.request.Request(f"{service.url}{path}?{query}")
    if token or service.token:
        asked.add_header("authorization", f"Bearer {token or service.token}")
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def refused(service: Sidespan, path: str, token: str | None = None) -> tuple[int, str]:
    """Status and text of an answer that is no 200."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(service, path, token)
    with raised.value as error:
        return error.code, error.read().decode()


def until(condition: Callable[[], bool], *, seconds: float = 120, service: Sidespan | None = None) -> float:
    """How long it took."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except (urllib.error.URLError, OSError):
            if time.monotonic() - began > seconds:
                raise
        assert time.monotonic() - began < seconds, service.log.read_text()[-3000:] if service else "too late"
        time.sleep(0.05)


def held(service: Sidespan) -> tuple[int, int]:
    found = ask(service, "/-/index")
    return found["traces"], found["spans"]


def started(service: Sidespan) -> Sidespan:
    service.start()
    service.wait_index()
    return service


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Sidespan]:
    """In front of an MLflow that isn't there."""
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=NOWHERE)
    yield started(service)
    service.kill()


@patient
def test_a_span_is_in_the_answers_within_two_seconds_while_mlflow_is_down(alone: Sidespan) -> None:
    before = held(alone)[1]
    for number in range(5):
        sent = agent_export()
        send(alone, sent, x_mlflow_experiment_id="1")
        count = before + 6 * (number + 1)
        with within(2.0, processes=alone.processes()):
            until(lambda count=count: held(alone)[1] == count, service=alone)
    [trace_id] = [each.hex() for each in trace_ids_of(sent)]
    row = ask(alone, "/-/traces", limit=1)["traces"][0]
    assert (row["trace_id"], row["experiment_id"], row["total_tokens"]) == (trace_id, "1", 963)
    assert ask(alone, f"/-/traces/{trace_id}")["complete"] is True


def index_process(service: Sidespan) -> int:
    assert service.process is not None
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    [child] = [
        int(child)
        for child in children
        if b"collector.index.duckdb" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return child


def test_neither_a_death_of_the_index_nor_of_the_service_loses_or_doubles_a_span(alone: Sidespan) -> None:
    sent = 0
    for round in range(4):
        for _ in range(40):
            send(alone, agent_export(), x_mlflow_experiment_id="1")
            sent += 6
        if round == 0:
            os.kill(index_process(alone), signal.SIGKILL)
        elif round == 1:
            alone.kill()
            alone.start()
        elif round == 2:
            alone.stop()
            alone.start()
    until(lambda: held(alone) == (sent // 6, sent), seconds=60, service=alone)
    found = subprocess.run(["pgrep", "-f", f"collector.index.duckdb .*{alone.data_dir}"], capture_output=True)
    assert len(found.stdout.split()) == 1, "the index of a killed service ends by itself"


def test_what_was_sent_twice_is_there_once_and_a_late_child_finds_its_trace(alone: Sidespan) -> None:
    whole = agent_export()
    spans = all_spans(whole)
    late = ExportTraceServiceRequest()
    late.CopyFrom(whole)
    del late.resource_spans[0].scope_spans[0].spans[:]
    for scope in late.resource_spans[0].scope_spans:
        del scope.spans[:]
    late.resource_spans[0].scope_spans[0].spans.append(spans[0])
    early = ExportTraceServiceRequest()
    early.CopyFrom(whole)
    for scope in early.resource_spans[0].scope_spans:
        kept = [span for span in scope.spans if span.span_id != spans[0].span_id]
        del scope.spans[:]
        scope.spans.extend(kept)
    for part, count in ((early, 5), (early, 5), (late, 6), (whole, 6)):
        send(alone, part, x_mlflow_experiment_id="1")
        until(lambda count=count: held(alone)[1] == count, service=alone)
        until(lambda: alone.health()["parts"]["index"]["lag_seconds"] == 0, service=alone)
    row = ask(alone, "/-/traces")["traces"][0]
    assert (row["span_count"], row["complete"], row["total_tokens"]) == (6, True, 963)


def test_an_index_that_is_deleted_is_filled_from_what_the_journal_holds(alone: Sidespan) -> None:
    for _ in range(3):
        send(alone, agent_export(), x_mlflow_experiment_name="shop")
    until(lambda: held(alone)[0] == 3, service=alone)
    alone.stop()
    for file in (alone.data_dir / "index").glob("*.duckdb*"):
        file.unlink()
    started(alone)
    assert held(alone)[0] == 0
    assert remote.post_json(alone.url, "/-/index/rebuild", {})["replayed"] > 0
    until(lambda: held(alone)[0] == 3, service=alone)


def test_switched_off_there_is_no_process_and_questions_say_so(tmp_path: Path) -> None:
    service = Sidespan(
        data_dir=tmp_path / "data", mlflow_url=NOWHERE, environment={"SIDESPAN_INDEX__ENABLED": "false"}
    )
    service.start()
    try:
        send(service, agent_export(), x_mlflow_experiment_id="1")
        status, text = refused(service, "/-/traces")
        assert (status, "index.enabled" in text) == (503, True)
        with pytest.raises(ValueError, match="not enough values"):
            index_process(service)
        assert service.health()["ready"] is True
    finally:
        service.kill()


TEAMS = """
[auth]
mode = "clients"

[policy.clients]
anna = ["team-a"]
bert = ["by-name"]
ops = ["standard"]
writer = ["ingest-only"]

[[policy.roles.team-a]]
preset = "open"
experiments = ["{a}"]

[[policy.roles.by-name]]
preset = "read-only"
experiments = ["{b}"]
"""


def test_every_question_is_narrowed_to_what_the_client_may_see(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    unique = tmp_path.name
    ids = {name: mlflow_server.create_experiment(f"{name}-{unique}") for name in ("a", "b")}
    config = tmp_path / "sidespan.toml"
    config.write_text(TEAMS.format(a=ids["a"], b=f"b-{unique}"))
    tokens = tokens_for(tmp_path / "tokens.json", "anna", "bert", "ops", "writer")
    service = Sidespan(
        data_dir=tmp_path / "data",
        mlflow_url=mlflow_server.url,
        arguments=("--config", str(config)),
        environment={"SIDESPAN_AUTH__TOKENS_FILE": str(tmp_path / "tokens.json")},
        token=tokens["ops"],
    )
    try:
        started(service)
        sent = {}
        for name, id in ids.items():
            for _ in range(2):
                request = agent_export()
                said = all_spans(request)[0].attributes.add(key="annotations.0.annotation.name")
                said.value.string_value = f"{name}-{unique}"
                said = all_spans(request)[0].attributes.add(key="annotations.0.annotation.score")
                said.value.double_value = 0.5
                send(service, request, x_mlflow_experiment_id=id)
                sent[name] = next(iter(trace_ids_of(request))).hex()
        until(lambda: held(service)[0] == 4, service=service)
        service.wait_delivered(120)
        until(
            lambda: ask(service, "/-/traces", experiment_name=f"b-{unique}")["traces"] != [], service=service
        )
        for client, own, other in (("anna", "a", "b"), ("bert", "b", "a")):
            token = tokens[client]
            rows = ask(service, "/-/traces", token)["traces"]
            assert {row["experiment_id"] for row in rows} == {ids[own]}
            for path in ("/-/traces/stats", "/-/traces/overview", "/-/traces/facets", "/-/sessions"):
                text = json.dumps(ask(service, path, token))
                assert sent[other] not in text and f"{other}-{unique}" not in text
            assert ask(service, "/-/traces/stats", token, metric="count")["total"]["count"] == 2
            scores = ask(service, "/-/traces/stats", token, of="scores", by="score", metric="count")
            assert {group["key"]["score"]: group["values"]["count"] for group in scores["groups"]} == {
                f"{own}-{unique}": 2
            }
            assert {one["name"] for row in rows for one in row["scores"]} == {f"{own}-{unique}"}
            assert ask(service, "/-/traces", token, score=f"{other}-{unique}")["traces"] == []
            assert ask(service, f"/-/traces/{sent[own]}", token)["scores"][0]["value"] == 0.5
            asked_other = ask(service, "/-/traces", token, experiment_id=ids[other])
            assert asked_other["traces"] == []
            assert ask(service, f"/-/traces/{sent[own]}", token)["trace_id"] == sent[own]
            assert refused(service, f"/-/traces/{sent[other]}", token)[0] in (403, 404)
            for path in ("/-/index", "/-/index/verify"):
                assert refused(service, path, token)[0] == 403
        for path in ("/-/traces", "/-/sessions", "/-/traces/stats", "/-/traces/overview"):
            assert refused(service, path, tokens["writer"])[0] == 403
        assert ask(service, "/-/traces/stats", metric="count")["total"]["count"] == 4
    finally:
        service.kill()


def cli(service: Sidespan, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sidespan_command(*arguments, "--url", service.url)


def test_the_command_line_draws_prints_and_watches(alone: Sidespan) -> None:
    for number in range(3):
        send(alone, agent_export(), x_mlflow_experiment_id=str(number % 2))
    until(lambda: held(alone)[0] == 3, service=alone)
    drawn = cli(alone, "summary", "traces", "--experiment", "0", "--where", "model=gpt*")
    assert drawn.returncode == 0 and drawn.stdout.count(" OK ") == 2, drawn.stderr
    rows = json.loads(cli(alone, "summary", "traces", "--json", "--sort", "-cost").stdout)["traces"]
    assert len(rows) == 3
    assert len(cli(alone, "summary", "traces", "--csv").stdout.strip().splitlines()) == 4
    assert "01a1fa90-7bc6" in cli(alone, "summary", "sessions").stdout
    stats = cli(alone, "summary", "stats", "model", "--of", "models", "--metric", "count")
    assert "gpt-4o" in stats.stdout and "9" in stats.stdout
    assert "6" in cli(alone, "index", "status").stdout
    assert cli(alone, "index", "rebuild").returncode == 0
    until(lambda: held(alone)[0] == 3, service=alone)
    assert "No traces match" in cli(alone, "summary", "traces", "--service", "nobody").stdout
    for wrong, told in (
        (("summary", "traces", "--since", "soon"), "since = 'soon': must be"),
        (("summary", "traces", "--where", "x"), "name=value"),
        (("summary", "traces", "--watch", "--json"), "--watch"),
        (("summary", "stats", "beauty"), "of traces there are"),
        (
            ("index", "backfill", "--experiment", "x", "--since", "soon"),
            "--since 'soon': must be how long ago",
        ),
    ):
        answer = cli(alone, *wrong)
        assert answer.returncode in (1, 2) and told in answer.stderr, answer.stderr
    command = [sys.executable, "-m", "collector", "summary", "traces", "--watch", "--url", alone.url]
    # a shell's background jobs ignore Ctrl-C, and so would what they start
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    for seconds in (3, 10, 30):  # it draws when it ends, and may not have begun on a busy machine
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=listen) as watching:
            time.sleep(seconds)
            watching.send_signal(signal.SIGINT)
            drawn = watching.communicate(timeout=60)[0]
        if drawn:
            break
    assert " OK " in drawn
    assert watching.returncode == 0


def test_what_mlflows_sdk_sets_through_the_proxy_is_in_the_answers(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """Session, user and tags travel beside the spans: StartTraceV3, and the routes of tags."""
    name = f"told-{tmp_path.name}"
    mlflow_server.create_experiment(name)
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    try:
        started(service)
        logged = subprocess.run(
            [sys.executable, "-c", TOLD, service.url, name], capture_output=True, text=True, timeout=120
        )
        assert logged.returncode == 0, logged.stderr

        def told() -> list[Any]:
            rows = ask(service, "/-/traces", experiment_name=name)["traces"]
            return [(row["session"], row["user"], row["tags"], row["span_count"]) for row in rows]

        whole = [("sdk-session", "sdk-user", ["plan=gold", "tier=later"], 2)]
        until(lambda: told() == whole, service=service)
        (row,) = ask(service, "/-/traces", experiment_name=name)["traces"]
        summary = ask(service, f"/-/traces/{row['trace_id']}")
        assert (summary["session"], summary["user"]) == ("sdk-session", "sdk-user")
        stats = ask(service, "/-/traces/stats", by=["session", "user"], experiment_name=name, metric="count")
        assert stats["groups"][0]["key"] == {"session": "sdk-session", "user": "sdk-user"}
        verified = cli(service, "index", "verify", "--experiment", name)
        assert verified.returncode == 0, verified.stdout
        # what changes beside the proxy is unknown until MLflow is read
        set_tag(mlflow_server, row["trace_id"], "tier", "elsewhere")
        differing = cli(service, "index", "verify", "--experiment", name)
        assert differing.returncode == 1
        assert (
            f"{row['trace_id']}  tags: tier=later in the index, tier=elsewhere in MLflow" in differing.stdout
        )
        assert cli(service, "index", "backfill", "--experiment", name, "--restart").returncode == 0
        assert cli(service, "index", "verify", "--experiment", name).returncode == 0
        assert told() == [("sdk-session", "sdk-user", ["plan=gold", "tier=elsewhere"], 2)]
    finally:
        service.kill()


def set_tag(server: MlflowServer, trace_id: str, key: str, value: str) -> None:
    asked = urllib.request.Request(
        f"{server.url}/api/3.0/mlflow/traces/tr-{trace_id}/tags",
        data=json.dumps({"key": key, "value": value}).encode(),
        headers={"content-type": "application/json"},
        method="PATCH",
    )
    urllib.request.urlopen(asked, timeout=60).close()


TOLD = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_experiment(sys.argv[2])
with mlflow.start_span("sdk root") as root:
    mlflow.update_current_trace(
        tags={"plan": "gold", "tier": "first"},
        metadata={"mlflow.trace.session": "sdk-session", "mlflow.trace.user": "sdk-user"},
    )
    with mlflow.start_span("call", span_type="CHAT_MODEL"):
        pass
mlflow.flush_trace_async_logging()
mlflow.set_trace_tag(root.trace_id, "tier", "later")
"""


def test_what_mlflow_holds_is_read_in_and_counts_agree(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    name = f"history-{tmp_path.name}"
    id = mlflow_server.create_experiment(name)
    for _ in range(7):
        body = urllib.request.Request(
            f"{mlflow_server.url}/v1/traces",
            data=export(traces=50, spans=3).SerializeToString(),
            headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": id},
        )
        urllib.request.urlopen(body, timeout=60).close()
    logged = subprocess.run(
        [sys.executable, "-c", SDK, mlflow_server.url, name], capture_output=True, text=True
    )
    assert logged.returncode == 0, logged.stderr
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    try:
        started(service)
        differing = cli(service, "index", "verify", "--experiment", name)
        assert differing.returncode == 1, differing.stdout + differing.stderr
        first = remote.post_json(service.url, "/-/index/backfill", {"experiment_name": name})
        assert (first["done"], first["traces"], first["total"]) == (False, 200, 351)
        filled = cli(service, "index", "backfill", "--experiment", name)
        assert filled.returncode == 0, filled.stderr
        assert "351" in filled.stdout
        agreeing = cli(service, "index", "verify", "--experiment", name)
        assert agreeing.returncode == 0, agreeing.stdout
        again = cli(service, "index", "backfill", "--experiment", name, "--json")
        assert json.loads(again.stdout)["done"] is True
        rows = ask(service, "/-/traces", experiment_name=name, name="sdk*")["traces"]
        assert [(row["name"], row["span_count"], row["models"]) for row in rows] == [
            ("sdk root", 2, ["gpt-4o"])
        ]
        assert ask(service, "/-/traces/stats", metric="count")["total"]["count"] == 351

        one = remote.post_json(service.url, "/-/index/backfill", {"experiment_name": name, "restart": True})
        (tmp_path / "data" / "index" / "backfill.json").unlink()  # what another replica does not have
        further = {"experiment_name": name, "resume": one["resume"]}
        two = remote.post_json(service.url, "/-/index/backfill", further)
        assert (one["seen"], two["seen"], two["done"]) == (200, 351, True)
        with pytest.raises(remote.Refused, match="must be what an earlier step has answered"):
            remote.post_json(service.url, "/-/index/backfill", further | {"resume": {"seen": 1}})
    finally:
        service.kill()


SDK = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_experiment(sys.argv[2])
with mlflow.start_span("sdk root", span_type="AGENT"):
    with mlflow.start_span("call", span_type="LLM") as span:
        span.set_attribute("mlflow.llm.model", "gpt-4o")
        usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
        span.set_attribute("mlflow.chat.tokenUsage", usage)
mlflow.flush_trace_async_logging()
"""


def points(
    server: MlflowServer, id: str, metric: str, kind: str, by: str, share: float | None = None
) -> dict[Any, float]:
    """MLflow's own numbers. Source: POST /api/3.0/mlflow/traces/metrics."""
    aggregation = {"aggregation_type": kind} | ({"percentile_value": share} if share is not None else {})
    answer = remote.post_json(
        server.url,
        "/api/3.0/mlflow/traces/metrics",
        {
            "experiment_ids": [id],
            "view_type": "SPANS" if by.startswith("span") else "TRACES",
            "metric_name": metric,
            "aggregations": [aggregation],
            "dimensions": [by],
            "max_results": 1000,
        },
    )
    return {
        point.get("dimensions", {}).get(by): next(iter(point["values"].values()))
        for point in answer.get("data_points", [])
    }


PAYLOADS = (
    "benchmark_trace",
    "pydantic_ai_v2_openinference",
    "pydantic_ai_v5_openinference",
    "pydantic_ai_v5_plain",
    "pydantic_ai_v5_tool_error",
    "pydantic_ai_v5_tool_retry",
    "pydantic_ai_v6_openinference",
    "langchain_openinference",
    "openai_openllmetry",
    "vercel_ai_v6",
)


def test_our_numbers_are_mlflows_own(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """Over real agents' traces of several conventions, delivered through us: what MLflow can answer."""
    id = mlflow_server.create_experiment(f"oracle-{tmp_path.name}")
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    try:
        started(service)
        for number in range(30):
            request = agent_export(f"{PAYLOADS[number % len(PAYLOADS)]}.binpb")
            send(service, request, x_mlflow_experiment_id=id)
        service.wait_delivered(60)
        until(lambda: held(service)[0] == 30, service=service)

        def ours(**parameters: Any) -> dict[Any, dict[str, float]]:
            found = ask(service, "/-/traces/stats", experiment_id=id, top=1000, **parameters)
            return {next(iter(group["key"].values())): group["values"] for group in found["groups"]}

        latencies = ["duration_seconds_p50", "duration_seconds_p95"]
        tokens = ["input_tokens", "output_tokens", "total_tokens"]
        by_name = ours(by="name", metric=["count", *tokens, *latencies])
        theirs = points(mlflow_server, id, "trace_count", "COUNT", "trace_name")
        assert {key: values["count"] for key, values in by_name.items()} == theirs
        for metric in tokens:
            sums = points(mlflow_server, id, metric, "SUM", "trace_name")
            assert {key: each[metric] for key, each in by_name.items() if each[metric] is not None} == sums
        spans = ours(of="spans", by="span", metric=["count", *latencies])
        counted = points(mlflow_server, id, "span_count", "COUNT", "span_name")
        assert {key: values["count"] for key, values in spans.items()} == counted
        for by, mine in (("trace_name", by_name), ("span_name", spans)):
            for share in (50, 95):
                theirs = points(mlflow_server, id, "latency", "PERCENTILE", by, share)
                for key, milliseconds in theirs.items():
                    seconds = mine[key][f"duration_seconds_p{share}"]
                    # MLflow keeps whole milliseconds of traces
                    assert seconds * 1000 == pytest.approx(milliseconds, abs=1.5), (by, share, key)
        costs = ours(of="models", by="response_model", metric=["cost_usd"])  # as MLflow groups them
        theirs = points(mlflow_server, id, "total_cost", "SUM", "span_model_name")
        assert len(theirs) >= 2
        for key, usd in theirs.items():
            assert costs[key]["cost_usd"] == pytest.approx(usd, rel=1e-6), key
    finally:
        service.kill()
