"""Another backend beside MLflow, on the running service: another Sidespan, and a server that refuses."""

import json
import random
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal.sqlite.opening import FILE_NAME
from collector.journal.sqlite.statements import decompress
from tests.support.forked import sidespan_command
from tests.support.logs import logs, record
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export
from tests.support.ports import free_port
from tests.support.senders import Senders, post
from tests.support.sidespan import Sidespan


def forward(name: str, url: str, *, more: str = "") -> dict[str, str]:
    return {"SIDESPAN_FORWARD": f'[{{ name = "{name}", url = "{url}", signals = ["traces", "logs"]{more} }}]'}


def part(service: Sidespan, name: str) -> dict[str, Any]:
    found: dict[str, Any] = service.health()["parts"][f"forward:{name}"]
    return found


def wait_until(service: Sidespan, name: str, key: str, value: int, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while part(service, name)[key] != value:
        assert time.monotonic() < deadline, f"{service.health()}\n{service.log.read_text()[-2000:]}"
        time.sleep(0.05)


def stored_spans(directory: Path) -> set[tuple[str, str]]:
    """What the journal of a Sidespan without MLflow holds."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as db:
        payloads = [row[0] for row in db.execute("SELECT payload FROM entries")]
    found = [ExportTraceServiceRequest.FromString(decompress(each) or b"") for each in payloads]
    return {(f"tr-{span.trace_id.hex()}", span.span_id.hex()) for each in found for span in all_spans(each)}


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Sidespan]:
    """Another Sidespan, whose MLflow is away: what it gets stays in its journal."""
    service = Sidespan(data_dir=tmp_path / "second", mlflow_url=f"http://127.0.0.1:{free_port()}")
    service.environment = {"SIDESPAN_INDEX__ENABLED": "false"}
    yield service
    service.kill()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_of_either_side_lose_nothing_in_either_target(
    mlflow_server: MlflowServer, sidespan: Sidespan, second: Sidespan, experiment_id: str
) -> None:
    moment = random.Random(7)
    sidespan.environment = {"SIDESPAN_INDEX__ENABLED": "false"} | forward("second", second.url)
    second.start()
    sidespan.start()
    with Senders(sidespan.port, headers={"x-mlflow-experiment-id": experiment_id}) as senders:
        for number in range(8):
            time.sleep(moment.uniform(0.1, 0.6))
            killed = second if number % 4 == 3 else sidespan
            killed.kill()
            killed.start()
        senders.wait_for(150)
    sidespan.wait_delivered(120)
    wait_until(sidespan, "second", "pending", 0, seconds=120)
    assert mlflow_server.spans(experiment_id) >= senders.acknowledged
    second.stop()
    assert stored_spans(second.data_dir) >= senders.acknowledged
    assert part(sidespan, "second")["dead_letters"] == 0


@dataclass
class Refusing:
    """A server that answers every export with `status`, and counts them."""

    status: int = 400
    paths: list[str] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)

    def start(self) -> ThreadingHTTPServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append(self.path)
                outer.authorizations.add(self.headers["authorization"])
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture
def refusing() -> Iterator[tuple[Refusing, str]]:
    answers = Refusing()
    server = answers.start()
    yield answers, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def cli(service: Sidespan, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sidespan_command(*arguments, "--url", service.url)


def listed(service: Sidespan, *arguments: str) -> list[dict[str, Any]]:
    found = json.loads(cli(service, "dead-letters", "list", "--json", *arguments).stdout)
    letters: list[dict[str, Any]] = found["dead_letters"]
    assert found["total"] == len(letters)
    return letters


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Sidespan]:
    """Started by the test that uses it; its MLflow is away."""
    service = Sidespan(data_dir=tmp_path / "alone", mlflow_url=f"http://127.0.0.1:{free_port()}")
    yield service
    service.kill()


def test_dead_letters_by_target_and_a_target_that_comes_and_goes(
    alone: Sidespan, refusing: tuple[Refusing, str]
) -> None:
    """MLflow is away all the time, so what arrives stays in the journal."""
    answers, url = refusing
    sidespan, headers = alone, {"x-mlflow-experiment-id": "0"}
    sidespan.environment = {"SIDESPAN_INDEX__ENABLED": "false"}
    sidespan.start()
    post(sidespan.port, export().SerializeToString(), headers)
    sidespan.stop()

    more = ', headers_variable = "TEE_HEADERS"'
    sidespan.environment |= forward("tee", url, more=more) | {"TEE_HEADERS": "authorization=s3cret"}
    sidespan.start()
    assert part(sidespan, "tee")["pending"] == 0, "it starts at the present"
    post(sidespan.port, export().SerializeToString(), headers)
    body = logs(record("app.started")).SerializeToString()
    assert post(sidespan.port, body, headers, path="/v1/logs")[0] == 200
    wait_until(sidespan, "tee", "dead_letters", 2)

    assert listed(sidespan, "--target", "mlflow") == []
    assert listed(sidespan, "--target", "tee") == (tee := listed(sidespan))
    assert {each["target"] for each in tee} == {"tee"}
    assert {(each["consumer"], each["signal"]) for each in tee} == {
        ("forward:tee", "traces"),
        ("forward:tee", "logs"),
    }
    assert cli(sidespan, "dead-letters", "list", "--target", "nobody").returncode != 0

    answers.status = 200
    answers.paths.clear()
    assert cli(sidespan, "dead-letters", "retry", "--all", "--target", "tee").returncode == 0
    wait_until(sidespan, "tee", "pending", 0)
    assert sorted(answers.paths) == ["/v1/logs", "/v1/traces"]
    assert listed(sidespan) == []

    answers.paths.clear()
    replayed = json.loads(cli(sidespan, "replay", "--since", "1h", "--target", "tee", "--json").stdout)
    assert replayed["replayed"] == 2
    wait_until(sidespan, "tee", "pending", 0)
    assert answers.paths == ["/v1/traces"] * len(answers.paths) != [], "also what came before it was there"

    answers.status = 400
    post(sidespan.port, export().SerializeToString(), headers)
    wait_until(sidespan, "tee", "dead_letters", 1)
    assert cli(sidespan, "dead-letters", "drop", "--all").returncode == 2
    assert cli(sidespan, "dead-letters", "drop", "--all", "--target", "mlflow").returncode == 1
    assert cli(sidespan, "dead-letters", "drop", "--all", "--target", "tee").returncode == 0
    assert listed(sidespan) == []
    post(sidespan.port, export().SerializeToString(), headers)
    wait_until(sidespan, "tee", "dead_letters", 1)
    metrics = sidespan_metrics(sidespan)
    for line in (
        'sidespan_forwarded_total{outcome="delivered",target="tee"}',
        'sidespan_forward_dead_lettered_total{reason="refused",target="tee"}',
        'sidespan_forward_requests_total{outcome="taken",target="tee"}',
        'sidespan_forward_pending{target="tee"} 0.0',
        'sidespan_forward_dead_letters{target="tee"} 1.0',
    ):
        assert line in metrics, line
    sidespan.stop()
    del sidespan.environment["SIDESPAN_FORWARD"]
    sidespan.start()
    assert "forward:tee" not in sidespan.health()["parts"]
    assert listed(sidespan) == []
    log = sidespan.log.read_text()
    assert "a target is gone from the settings" in log
    assert "s3cret" not in log
    assert answers.authorizations == {"s3cret"}


def sidespan_metrics(service: Sidespan) -> str:
    with urllib.request.urlopen(f"{service.url}/-/metrics", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (', headers_file = "/not/there"', "headers_file = '/not/there' can't be read"),
        (', ca_file = "/not/there"', "ca_file = '/not/there'"),
        (', client_certificate_file = "/dev/null"', "client_certificate_file = '/dev/null'"),
    ],
    ids=["headers", "ca", "certificate"],
)
def test_files_that_are_not_what_they_should_be_are_refused_at_the_start(
    tmp_path: Path, more: str, said: str
) -> None:
    data = str(tmp_path / "data")
    found = sidespan_command(
        *("serve", "--mlflow-url", "http://127.0.0.1:9", "--port", "0", "--data-dir", data),
        **forward("tee", "https://127.0.0.1:9", more=more),
        SIDESPAN_RECEIVER__GRPC_PORT="0",
    )
    assert found.returncode == 2
    assert "forward 'tee'" in found.stderr + found.stdout
    assert said in found.stderr + found.stdout
