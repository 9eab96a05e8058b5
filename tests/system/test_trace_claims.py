"""A stranger sends a trace id before its owner does: real clients, a real MLflow, a kill in between."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export, new_trace_id
from tests.support.ports import free_port
from tests.support.proxied import tokens_for
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

POLICY = """
[auth]
mode = "clients"
[delivery]
backoff_max_seconds = 1
[policy.clients]
owner = ["of-owner"]
stranger = ["of-stranger"]
root = ["open"]
[[policy.roles.of-owner]]
preset = "standard"
experiments = ["{owner}"]
[[policy.roles.of-stranger]]
preset = "standard"
experiments = ["{stranger}"]
"""


@dataclass
class House:
    """The service, whose MLflow may be away, and an experiment for each of two clients."""

    sidespan: Sidespan
    server: MlflowServer
    tokens: dict[str, str]
    experiments: dict[str, str]

    def get(self, client: str, path: str) -> Any:
        request = urllib.request.Request(
            self.sidespan.url + path, headers={"authorization": f"Bearer {self.tokens[client]}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def export(self, client: str, trace_id: bytes) -> None:
        otlp = export(trace_ids=[trace_id], spans=2)
        for span in all_spans(otlp):
            span.name = f"of the {client}"
        headers = {
            "content-type": "application/x-protobuf",
            "authorization": f"Bearer {self.tokens[client]}",
            "x-mlflow-experiment-id": self.experiments[client],
        }
        body = otlp.SerializeToString()
        request = urllib.request.Request(f"{self.sidespan.url}/v1/traces", data=body, headers=headers)
        urllib.request.urlopen(request, timeout=60).close()

    def in_mlflow(self, client: str) -> set[str]:
        """The trace ids in the client's experiment."""
        return {trace_id.removeprefix("tr-") for trace_id, _ in self.server.spans(self.experiments[client])}

    def listed(self, client: str) -> set[tuple[str, str]]:
        """(trace id, experiment) of the traces that the client sees on his page."""
        rows = self.get(client, "/-/traces?since=2001-01-01T00:00:00Z")["traces"]
        return {(row["trace_id"], row["experiment_id"]) for row in rows}


@pytest.fixture
def house(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[House]:
    names = ("owner", "stranger")
    experiments = {name: mlflow_server.create_experiment(f"claims-{name}-{tmp_path.name}") for name in names}
    config = tmp_path / "sidespan.toml"
    config.write_text(POLICY.format(**experiments))
    tokens = tokens_for(tmp_path / "data" / "tokens.json", *names, "root")
    sidespan = Sidespan(tmp_path / "data", mlflow_server.url, token=tokens["root"])
    sidespan.arguments = ("--config", str(config))
    yield House(sidespan, mlflow_server, tokens, experiments)
    sidespan.kill()


@pytest.mark.parametrize("first", ["owner", "stranger"])
@pytest.mark.parametrize("away", [False, True], ids=["mlflow_there", "mlflow_away_and_a_kill"])
def test_both_sides_stay_apart_and_neither_is_lost(house: House, first: str, away: bool) -> None:
    (second,) = {"owner", "stranger"} - {first}
    trace_id, there = new_trace_id(), house.sidespan.mlflow_url
    if away:
        house.sidespan.mlflow_url = f"http://127.0.0.1:{free_port()}"
    house.sidespan.start()
    house.export(first, trace_id)
    if not away:
        house.sidespan.wait_delivered(120)
    house.export(second, trace_id)
    if away:
        house.sidespan.kill()
        house.sidespan.mlflow_url = there
        house.sidespan.start()
    house.sidespan.wait_delivered(120)

    (letter,) = house.get("root", "/-/dead-letters")["dead_letters"]
    assert (letter["reason"], letter["span_count"]) == ("foreign_trace", 2)
    lost = letter["client"]
    (kept,) = {"owner", "stranger"} - {lost}
    assert away or kept == first
    assert house.in_mlflow(kept) == {trace_id.hex()}
    assert house.in_mlflow(lost) == set()
    shown = house.get("root", f"/-/dead-letters/{letter['id']}")
    assert json.dumps(shown).count(f"of the {lost}") == 2
    assert f"of the {kept}" not in json.dumps(shown)

    house.sidespan.wait_index()
    for client in ("owner", "stranger"):
        own = {(trace_id.hex(), house.experiments[client])}
        deadline = time.monotonic() + 60
        while (seen := house.listed(client)) != own and time.monotonic() < deadline:
            time.sleep(0.1)
        assert seen == own, house.get("root", "/-/traces?since=2001-01-01T00:00:00Z")
