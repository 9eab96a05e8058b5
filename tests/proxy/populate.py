"""Fills an experiment of a real MLflow with one of everything, told apart by a marker in all of its texts."""

import json
import urllib.error
import urllib.request
from typing import Any

from proxy.locations import ObjectKind
from tests.proxy.worlds import World
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export, trace_ids_of

V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"


def call(url: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """MLflow's answer as JSON; raises with its text where it isn't 200."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = {} if isinstance(body, bytes) else {"content-type": "application/json"}
    request = urllib.request.Request(url + path, data=data, method=method, headers=kind | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error
    return json.loads(content) if content.startswith(b"{") else content


def populate(server: MlflowServer, letter: str, marker: str) -> World:
    """A world in an experiment of its own, named `team-<letter>/<marker>`."""
    url, name = server.url, f"team-{letter}/{marker}"
    experiment = call(url, "POST", f"{V2}/experiments/create", {"name": name})["experiment_id"]
    run = call(
        url, "POST", f"{V2}/runs/create", {"experiment_id": experiment, "run_name": marker, "start_time": 1}
    )["run"]["info"]["run_id"]
    call(url, "POST", f"{V2}/runs/log-metric", {"run_id": run, "key": marker, "value": 1, "timestamp": 1})
    call(url, "POST", f"{V2}/runs/log-parameter", {"run_id": run, "key": "p", "value": marker})
    artifact = f"{experiment}/{run}/artifacts/{marker}.txt"
    call(url, "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{artifact}", f"the file of {marker}".encode())
    model = call(
        url,
        "POST",
        f"{V2}/logged-models",
        {"experiment_id": experiment, "name": marker, "source_run_id": run},
    )["model"]["info"]["model_id"]
    call(
        url,
        "PUT",
        f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/models/{model}/artifacts/{marker}.txt",
        b"m",
    )
    otlp = export(spans=3)
    for scope in otlp.resource_spans[0].scope_spans:
        for span in scope.spans:
            span.name = f"{marker} {span.name}"
    (trace,) = trace_ids_of(otlp)
    headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment}
    call(url, "POST", "/v1/traces", otlp.SerializeToString(), **headers)
    assessment = {
        "assessment_name": marker,
        "source": {"source_type": "HUMAN", "source_id": marker},
        "feedback": {"value": True},
        "create_time": "2026-01-01T00:00:00Z",
        "last_update_time": "2026-01-01T00:00:00Z",
    }
    call(url, "POST", f"{V3}/traces/tr-{trace.hex()}/assessments", {"assessment": assessment})
    dataset = call(
        url, "POST", f"{V3}/datasets/create", {"name": f"d {marker}", "experiment_ids": [experiment]}
    )["dataset"]["dataset_id"]
    issue = call(
        url,
        "POST",
        f"{V3}/issues",
        {"experiment_id": experiment, "name": marker, "description": marker, "status": "pending"},
    )["issue"]["issue_id"]
    schema = call(
        url,
        "POST",
        f"{V3}/label-schemas/create",
        {"experiment_id": experiment, "name": f"s_{marker}", "type": "FEEDBACK", "input": {"text": {}}},
    )["label_schema"]["schema_id"]
    queue = call(
        url,
        "POST",
        f"{V3}/review-queues/create",
        {"experiment_id": experiment, "name": marker, "queue_type": "CUSTOM", "schema_ids": [schema]},
    )["review_queue"]["queue_id"]
    call(url, "POST", f"{V2}/registered-models/create", {"name": f"model-{marker}"})
    call(
        url,
        "POST",
        f"{V2}/model-versions/create",
        {"name": f"model-{marker}", "source": f"runs:/{run}/{marker}", "run_id": run},
    )
    return World(
        marker=marker,
        experiment=experiment,
        name=name,
        model_name=f"model-{marker}",
        ids={
            ObjectKind.RUN: run,
            ObjectKind.TRACE: f"tr-{trace.hex()}",
            ObjectKind.ITEM: f"tr-{trace.hex()}",
            ObjectKind.MODEL: model,
            ObjectKind.DATASET: dataset,
            ObjectKind.ISSUE: issue,
            ObjectKind.SCHEMA: schema,
            ObjectKind.QUEUE: queue,
            ObjectKind.JOB: f"job-{letter}",
            ObjectKind.ARTIFACT: artifact,
        },
    )


def make_endpoint(url: str, marker: str) -> dict[str, str]:
    """The ids of an endpoint of MLflow's gateway and of its model."""
    made = f"{V3}/gateway"
    secret = call(
        url,
        "POST",
        f"{made}/secrets/create",
        {"secret_name": marker, "secret_value": {"api_key": "sk-none"}, "provider": "openai"},
    )["secret"]["secret_id"]
    model = {"name": marker, "secret_id": secret, "provider": "openai", "model_name": "gpt-4o"}
    definition = call(url, "POST", f"{made}/model-definitions/create", model)["model_definition"]
    id = definition["model_definition_id"]
    config = {"model_definition_id": id, "linkage_type": "PRIMARY", "weight": 1}
    endpoint = call(url, "POST", f"{made}/endpoints/create", {"name": marker, "model_configs": [config]})
    return {"definition": id, "endpoint": endpoint["endpoint"]["endpoint_id"]}
