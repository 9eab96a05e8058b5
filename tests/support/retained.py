"""A service with retention rules in front of a real MLflow, and what tests ask of both."""

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli import remote
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import trace_ids_of
from tests.support.sidespan import Sidespan
from tests.support.timing import patient

V3 = "/api/3.0/mlflow"


def call(url: str, method: str, path: str, document: Any = None) -> dict[str, Any]:
    """MLflow's answer to a request."""
    request = urllib.request.Request(
        url + path,
        method=method,
        data=None if document is None else json.dumps(document).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


@dataclass
class Retained:
    """The service and its MLflow."""

    service: Sidespan
    mlflow: MlflowServer

    def send(self, request: ExportTraceServiceRequest, experiment_id: str) -> list[str]:
        """The ids (hex) of the traces, once MLflow has them."""
        self.export(request, experiment_id)
        self.service.wait_delivered(60)
        return sorted(id.hex() for id in trace_ids_of(request))

    def export(self, request: ExportTraceServiceRequest, experiment_id: str) -> None:
        asked = urllib.request.Request(
            f"{self.service.url}/v1/traces",
            data=request.SerializeToString(),
            headers={
                "content-type": "application/x-protobuf",
                "x-mlflow-experiment-id": experiment_id,
            },
        )
        urllib.request.urlopen(asked, timeout=60).close()

    def plan(self, experiment_id: str, *, limit: int = 0) -> dict[str, dict[str, Any]]:
        """What the rules would do in an experiment, by rule."""
        answer = remote.get_json(self.service.url, f"/-/retention/plan?limit={limit}", timeout_seconds=120)
        return self._of(answer["rules"], experiment_id)

    def run(self, experiment_id: str) -> dict[str, dict[str, Any]]:
        """What the rules did in an experiment, by rule."""
        self.begin()
        state = self.ended()
        assert state["trouble"] is None, state
        return self._of(state["rules"], experiment_id)

    def begin(self) -> None:
        remote.post_json(self.service.url, "/-/retention/run", {})

    @patient
    def ended(self, seconds: float = 120) -> dict[str, Any]:
        """The run, once it has ended."""
        import time

        deadline = time.monotonic() + seconds
        while (state := self.state()["run"])["running"]:
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def state(self) -> dict[str, Any]:
        return remote.get_json(self.service.url, "/-/retention")

    def restore(self, **which: str) -> dict[str, Any]:
        return remote.post_json(self.service.url, "/-/archive/restore", which)

    def letters(self, trace_id: str) -> list[dict[str, Any]]:
        """The dead letters of a trace."""
        found = remote.get_json(self.service.url, "/-/dead-letters?limit=1000")["dead_letters"]
        return [letter for letter in found if trace_id in letter["trace_ids"]]

    def stored(self, trace_id: str) -> dict[str, Any] | None:
        """The trace as MLflow has it."""
        found = call(self.mlflow.url, "GET", f"{V3}/traces/batchGet?trace_ids=tr-{trace_id}")
        return next(iter(found.get("traces") or ()), None)

    def ids(self, experiment_id: str) -> set[str]:
        """The traces that MLflow has in an experiment (hex)."""
        return {id.removeprefix("tr-") for id, _ in self.mlflow.spans(experiment_id)}

    def linked(self, run_id: str, experiment_id: str) -> set[str]:
        """The traces of an experiment that MLflow has linked to a run (hex)."""
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
        asked = {"locations": [place], "filter": f"attributes.run_id = '{run_id}'"}
        found = call(self.mlflow.url, "POST", f"{V3}/traces/search", asked)
        return {each["trace_id"].removeprefix("tr-") for each in found.get("traces", ())}

    def archive(self, experiment_id: str) -> list[Path]:
        """The files of an experiment in the archive."""
        return sorted((self.service.data_dir / "archive" / experiment_id).glob("*"))

    @staticmethod
    def _of(rules: list[dict[str, Any]], experiment_id: str) -> dict[str, dict[str, Any]]:
        return {rule["rule"]: rule for rule in rules if rule["experiment_id"] == experiment_id}
