"""The service's own paths and the commands over them, on the running service."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.forked import sidespan_command
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export
from tests.support.proxied import tokens_for
from tests.support.senders import post
from tests.support.sidespan import Sidespan


def ask(
    service: Sidespan, method: str, path: str, *, body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        lowered = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, lowered, answer.read().decode()
    finally:
        connection.close()


def cli(service: Sidespan, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sidespan_command(*arguments, "--url", service.url)


def test_metrics_count_what_happened(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.index = False
    sidespan.start()
    request = export(spans=3)
    all_spans(request)[0].span_id = b""
    post(sidespan.port, request.SerializeToString(), {"x-mlflow-experiment-id": experiment_id})
    post(sidespan.port, b"\xff\xff")
    sidespan.wait_delivered(120)
    ask(sidespan, "GET", "/version")
    status, headers, text = ask(sidespan, "GET", "/-/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    for line in (
        "sidespan_spans_accepted_total 2.0",
        'sidespan_spans_rejected_total{reason="invalid_span_id"} 1.0',
        'sidespan_requests_refused_total{reason="malformed"} 1.0',
        "sidespan_spans_delivered_total 2.0",
        "sidespan_journal_pending_spans 0.0",
        'sidespan_proxy_requests_total{action="read",decision="allowed",resource="server"} 1.0',
    ):
        assert line in text, line


def test_dead_letters_by_the_command_line(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str, tmp_path: Path
) -> None:
    sidespan.index = False
    sidespan.start()
    request = export(spans=2)
    body = request.SerializeToString()
    headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": "0" * 32}
    assert post(sidespan.port, body, headers)[0] == 200
    sidespan.wait_delivered(120)

    listed = json.loads(cli(sidespan, "dead-letters", "list", "--json").stdout)
    assert listed["total"] == 1
    letter = listed["dead_letters"][0]
    assert letter["consumer"] == "delivery"
    assert letter["reason"] == "unknown_run"
    assert letter["route"] == {"experiment_id": experiment_id, "run_id": "0" * 32}
    id = str(letter["id"])
    assert "unknown_run" in cli(sidespan, "dead-letters", "list").stdout

    shown = json.loads(cli(sidespan, "dead-letters", "show", id).stdout)
    span = shown["export"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span["traceId"] == all_spans(request)[0].trace_id.hex()

    exported = cli(sidespan, "dead-letters", "export", id, "--directory", str(tmp_path))
    assert exported.returncode == 0
    file = tmp_path / f"dead-letter-{id}.binpb"
    assert ExportTraceServiceRequest.FromString(file.read_bytes()) == request
    # an export can be posted again, to the right place this time
    assert post(sidespan.port, file.read_bytes(), {"x-mlflow-experiment-id": experiment_id})[0] == 200

    assert cli(sidespan, "dead-letters", "retry", id).returncode == 0
    sidespan.wait_delivered(120)
    again = json.loads(cli(sidespan, "dead-letters", "list", "--json").stdout)["dead_letters"]
    assert [found["reason"] for found in again] == ["unknown_run"]
    assert cli(sidespan, "dead-letters", "drop", str(again[0]["id"])).returncode == 0
    assert cli(sidespan, "dead-letters", "drop", str(again[0]["id"])).returncode == 1
    assert cli(sidespan, "dead-letters", "show", "999").returncode == 1
    assert cli(sidespan, "dead-letters", "retry").returncode == 2
    assert len(mlflow_server.spans(experiment_id)) == 2


def test_a_bad_parameter_is_named(sidespan: Sidespan) -> None:
    sidespan.index = False
    sidespan.start()
    cases = [
        ("GET", "/-/dead-letters?limit=0", None, "limit"),
        ("GET", "/-/dead-letters?after=x", None, "after"),
        ("POST", "/-/dead-letters/retry", "{}", "ids"),
        ("POST", "/-/dead-letters/drop", '{"ids": ["1"]}', "ids"),
        ("POST", "/-/dead-letters/drop", "not json", "body"),
        ("POST", "/-/replay", '{"since_unix_ns": "now"}', "since_unix_ns"),
    ]
    for method, path, body, parameter in cases:
        status, _, text = ask(sidespan, method, path, body=body)
        assert (status, json.loads(text)["error"]["parameter"]) == (400, parameter), path


def test_our_own_paths_are_for_our_own_names_and_pages(sidespan: Sidespan) -> None:
    sidespan.index = False
    sidespan.start()
    assert ask(sidespan, "GET", "/-/ready", host="evil.example")[0] == 403
    assert ask(sidespan, "GET", "/-/ready", host="localhost")[0] == 200
    drop = {"body": '{"ids": [1]}'}
    path = "/-/dead-letters/drop"
    assert ask(sidespan, "POST", path, **drop, origin="https://evil.example")[0] == 403
    assert ask(sidespan, "POST", path, **drop, **{"sec-fetch-site": "cross-site"})[0] == 403
    assert ask(sidespan, "POST", path, **drop, origin=sidespan.url)[0] == 200


def test_browser_sdks_may_send_where_their_origin_is_listed(sidespan: Sidespan) -> None:
    sidespan.environment = {"SIDESPAN_RECEIVER__CORS_ALLOWED_ORIGINS": "https://app.example"}
    sidespan.index = False
    sidespan.start()
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    status, headers, _ = ask(sidespan, "OPTIONS", "/v1/traces", origin="https://app.example", **asked)
    assert status == 200
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert ask(sidespan, "OPTIONS", "/v1/traces", origin="https://evil.example", **asked)[0] == 400

    body = '{"resourceSpans": []}'
    json_type = {"content-type": "application/json"}
    status, headers, _ = ask(
        sidespan, "POST", "/v1/traces", body=body, origin="https://app.example", **json_type
    )
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert (
        ask(sidespan, "POST", "/v1/traces", body=body, origin="https://evil.example", **json_type)[0] == 403
    )


def test_logs_are_json_lines_without_content(sidespan: Sidespan, experiment_id: str) -> None:
    sidespan.index = False
    sidespan.start()
    request = export()
    all_spans(request)[0].attributes.add(key="secret").value.string_value = "planted-content"
    headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": "0" * 32}
    post(sidespan.port, request.SerializeToString(), headers)
    sidespan.wait_delivered(120)
    sidespan.stop()
    text = sidespan.log.read_text()
    assert "planted-content" not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines] == [
        "serving",
        "spans went to the dead letters",
        "stopping",
        "stopped",
    ]
    assert lines[1]["reason"] == "unknown_run"


@pytest.mark.parametrize(
    "path",
    [
        "/-/traces",
        "/-/traces/0af7651916cd43dd8448eb211c80319c",
        "/-/sessions",
        "/-/runs?experiment_id=0",
        "/-/runs/none",
        "/-/dead-letters",
        "/-/dead-letters/1",
        "/-/ready",
        "/-/metrics",
        "/-/index",
        "/-/openapi.json",
        "/-/made-up",
    ],
)
def test_what_is_answered_with_data_is_kept_by_no_cache(shared: Sidespan, path: str) -> None:
    assert ask(shared, "GET", path)[1]["cache-control"] == "no-store"


def test_the_pages_files_may_be_asked_for_again(shared: Sidespan) -> None:
    assert ask(shared, "GET", "/-/static/app.js")[1]["cache-control"] == "no-cache"


CHANGES = [
    ("/-/replay", '{"since_unix_ns": 0}', 200),
    ("/-/index/rebuild", "{}", 200),
    ("/-/index/backfill", "{}", 400),
    ("/-/dead-letters/drop", '{"ids": [1]}', 200),
    ("/-/dead-letters/retry", '{"all": true}', 200),
]


@pytest.mark.parametrize(("path", "body", "status"), CHANGES, ids=[path for path, _, _ in CHANGES])
def test_nobody_in_particular_changes_a_service_that_others_can_reach(
    shared: Sidespan, exposed: Sidespan, path: str, body: str, status: int
) -> None:
    kind = {"content-type": "application/json"}
    found, headers, text = ask(exposed, "POST", path, body=body, **kind)
    assert found == 403
    assert headers["cache-control"] == "no-store"
    message = json.loads(text)["error"]["message"]
    assert "client 'anonymous' may not" in message
    assert 'auth.mode = "clients"' in message
    key = {"authorization": f"Bearer {exposed.token}"}
    assert ask(exposed, "POST", path, body=body, **kind, **key)[0] == status
    assert ask(shared, "POST", path, body=body, **kind)[0] == status, "this machine only: as before"


def test_reads_and_the_wrong_method_are_as_before_on_such_a_service(exposed: Sidespan) -> None:
    for path in ("/-/dead-letters", "/-/traces", "/-/index", "/-/metrics"):
        assert ask(exposed, "GET", path)[0] == 200
    assert ask(exposed, "GET", "/-/replay")[0] == 405


@pytest.fixture(scope="module")
def shared(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    service = Sidespan(tmp_path_factory.mktemp("shared") / "data", mlflow_server.url)
    service.start()
    service.wait_index()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def exposed(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """It listens for other machines, and whoever shows no token may do what `open` allows."""
    home = tmp_path_factory.mktemp("exposed")
    config = home / "sidespan.toml"
    config.write_text(
        '[server]\nhost = "0.0.0.0"\n[auth]\nmode = "clients"\n'
        '[policy.clients]\nanonymous = ["open"]\nops = ["open"]\n'
    )
    tokens = tokens_for(home / "data" / "tokens.json", "ops")
    service = Sidespan(home / "data", mlflow_server.url)
    service.arguments = ("--config", str(config))
    service.token = tokens["ops"]
    service.start()
    service.wait_index()
    yield service
    service.stop()
