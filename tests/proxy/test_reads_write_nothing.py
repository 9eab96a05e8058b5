"""What the catalog calls a read changes nothing in MLflow: each is sent to a real one, and its tables and
files are compared before and after.

Every read is tried twice: on an experiment that has one of everything, and on one that has nothing yet,
because MLflow creates some things when they are first asked for.
"""

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.catalog import PARAMETER, Action, Operation, load_catalog
from tests.proxy.inside_mlflow import is_too_new
from tests.proxy.populate import V2, V3, call, make_endpoint, populate
from tests.proxy.worlds import World, requests_of
from tests.support.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

# what a row needs beside the ids of its `scope`
QUERIES: Mapping[str, Mapping[str, str]] = {
    "GET /2.0/mlflow/metrics/get-history": {"metric_key": "{marker}"},
    "GET /2.0/mlflow/metrics/get-history-bulk": {"metric_key": "{marker}"},
    "GET /2.0/mlflow/metrics/get-history-bulk-interval": {"metric_key": "{marker}", "max_results": "5"},
    "GET /2.0/mlflow/experiments/search": {"max_results": "10"},
    "GET /2.0/mlflow/registered-models/alias": {"name": "{model}", "alias": "champion"},
    "GET /2.0/mlflow/registered-models/get": {"name": "{model}"},
    "GET /2.0/mlflow/registered-models/get-latest-versions": {"name": "{model}"},
    "GET /2.0/mlflow/model-versions/get": {"name": "{model}", "version": "1"},
    "GET /2.0/mlflow/model-versions/get-download-uri": {"name": "{model}", "version": "1"},
    "GET /model-versions/get-artifact": {"path": "{marker}.txt"},
    "GET /2.0/mlflow/get-trace-artifact": {"path": "traces.json"},
    "GET /3.0/mlflow/get-trace-artifact": {"path": "traces.json"},
    "GET /get-artifact": {"path": "{marker}.txt"},
    "GET /2.0/mlflow/logged-models/{model_id}/artifacts/files": {"artifact_file_path": "{marker}.txt"},
    "GET /3.0/mlflow/label-schemas/get-by-name": {"name": "s_{marker}"},
    "GET /3.0/mlflow/review-queues/get-by-name": {"name": "{marker}"},
    "GET /3.0/mlflow/scorers/get": {"name": "{marker}"},
    "GET /3.0/mlflow/scorers/list": {"max_results": "5"},
    "GET /3.0/mlflow/scorers/versions": {"name": "{marker}"},
    "GET /3.0/mlflow/scorers/online-configs": {"scorer_ids": "x1"},
    "GET /3.0/mlflow/gateway/provider-config": {"provider": "openai"},
    "GET /3.0/mlflow/gateway/supported-models": {"provider": "openai"},
    "GET /3.0/mlflow/gateway/endpoints/get": {"endpoint_id": "{endpoint}"},
    "GET /3.0/mlflow/gateway/model-definitions/get": {"model_definition_id": "{definition}"},
    "GET /3.0/mlflow/gateway/guardrails/list-for-endpoint": {"endpoint_id": "{endpoint}"},
}
BODIES: Mapping[str, Mapping[str, Any]] = {
    "POST /2.0/mlflow/experiments/search": {"max_results": 10},
    "POST /2.0/mlflow/registered-models/get-latest-versions": {"name": "{model}"},
    "POST /3.0/mlflow/traces/metrics": {
        "view_type": "TRACES",
        "metric_name": "trace_count",
        "aggregations": [{"aggregation_type": "COUNT"}],
    },
    "POST /3.0/mlflow/traces/calculate-filter-correlation": {
        "filter_string1": "trace.status = 'OK'",
        "filter_string2": "trace.status = 'ERROR'",
    },
    "POST /graphql": {
        "query": "query Q($input: MlflowSearchRunsInput) "
        "{ mlflowSearchRuns(input: $input) { runs { info { runId } } } }",
        "operationName": "Q",
        "variables": {"input": {"experimentIds": ["{experiment}"]}},
    },
}
# what a test's MLflow has no answer for: no sign-in, no job runner, no workspaces, storage without addresses,
# a registry that reads files by a client of its own, and objects that nobody has made
NO_ANSWER = re.compile(
    r"/users/|/jobs/|/workspaces|ui-telemetry|/presigned|^GET /model-versions/get-artifact|favicon"
    r"|^GET /graphql"
    r"|/static-files/|/build/|/mcp-servers/|/assessments/|/gateway/(budgets|guardrails)/get|get-trace-artifact"
)
NOT_IN_A_BARE_ONE = re.compile(r"/(label-schemas|review-queues)/get-by-name|/scorers/(get|versions)")


def reads() -> list[tuple[str, Operation]]:
    catalog = load_catalog()
    found = [(method, operation) for (method, _), operation in catalog.exact.items()]
    found += [(method, each) for method, rows in catalog.patterns.items() for _, each in rows]
    return [
        (method, operation)
        for method, operation in found
        if operation.action is Action.READ and not is_too_new(operation.route)
    ]


def request_for(
    method: str, operation: Operation, world: World, gateway: Mapping[str, str]
) -> tuple[str, bytes | None]:
    """A target and a body that MLflow can answer."""
    words = {"marker": world.marker, "model": world.model_name, "experiment": world.experiment, **gateway}
    target, body = operation.route, {}
    if operation.reach.locations:
        built = next(requests_of(method, operation, world, world))
        target, body = built.target, json.loads(built.body or b"{}")
        if operation.row == "GET /3.0/mlflow/scorers/list":  # it takes one experiment or several
            target = target.partition("&")[0]
    target = PARAMETER.sub("x1", target.replace("{version}", "1"))
    extra = {key: value.format(**words) for key, value in QUERIES.get(operation.row, {}).items()}
    if extra:
        target += ("&" if "?" in target else "?") + urlencode(extra)
    if method == "GET":
        return target, None
    template = json.dumps(BODIES.get(operation.row, {}))
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return target, json.dumps(body | json.loads(template)).encode()


def send(server: MlflowServer, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
    headers = {} if body is None else {"content-type": "application/json"}
    request = urllib.request.Request(server.url + target, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def filled(mlflow_server: MlflowServer) -> World:
    world = populate(mlflow_server, "r", f"quillwort{os.urandom(4).hex()}")
    call(
        mlflow_server.url,
        "POST",
        f"{V2}/registered-models/alias",
        {"name": world.model_name, "alias": "champion", "version": "1"},
    )
    scorer = {"name": world.marker, "builtin_scorer_class": "Safety", "builtin_scorer_pydantic_data": {}}
    call(
        mlflow_server.url,
        "POST",
        f"{V3}/scorers/register",
        {
            "experiment_id": world.experiment,
            "name": world.marker,
            "serialized_scorer": json.dumps(scorer),
        },
    )
    if not is_too_new(f"{V3}/skills"):
        for skill in ("x1", "@x1/x1"):
            version = {"source": "https://example.com/skills.git", "source_type": "git", "ref": "main"}
            call(mlflow_server.url, "POST", f"{V3}/skills/{skill}/versions", version)
            alias = {"alias": "x1", "version": 1}
            call(mlflow_server.url, "POST", f"{V3}/skills/{skill}/aliases", alias)
    return world


@pytest.fixture(scope="module")
def gateway(mlflow_server: MlflowServer, filled: World) -> dict[str, str]:
    return make_endpoint(mlflow_server.url, filled.marker)


@pytest.fixture
def bare(mlflow_server: MlflowServer, filled: World) -> Iterator[World]:
    name = f"bare {os.urandom(4).hex()}"
    made = call(mlflow_server.url, "POST", f"{V2}/experiments/create", {"name": name})
    yield replace(filled, experiment=made["experiment_id"], name=name)


def test_a_write_would_be_seen(mlflow_server: MlflowServer, filled: World) -> None:
    with mlflow_server.watched() as changed:
        assert changed() == set()
        mlflow_server.create_experiment(f"seen {os.urandom(4).hex()}")
        assert "experiments" in changed()
        assert changed() == set()
        file = f"{filled.experiment}/models/seen.txt"
        call(mlflow_server.url, "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{file}", b"seen")
        assert any(name.endswith("seen.txt") for name in changed())


@pytest.mark.parametrize("kind", ["filled", "bare"])
@pytest.mark.timeout(300)
def test_what_is_called_a_read_changes_nothing(
    mlflow_server: MlflowServer, gateway: dict[str, str], kind: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(kind)
    writers, unanswered = {}, []
    with mlflow_server.watched() as changed:
        for method, operation in reads():
            target, body = request_for(method, operation, world, gateway)
            status, answer = send(mlflow_server, method, target, body)
            if written := changed():
                writers[f"{method} {operation.route}"] = written
            missing = NO_ANSWER.search(operation.row) or (
                kind == "bare" and NOT_IN_A_BARE_ONE.search(operation.row)
            )
            if status != 200 and not missing:
                unanswered.append((target, status, answer[:200]))
    assert writers == {}
    assert unanswered == [], "a read that fails says nothing of what it does"
