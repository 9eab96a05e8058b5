"""A real MLflow says the same through the proxy as directly, header by header and byte by byte."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export, trace_ids_of
from tests.support.proxied import proxied, upstream_at

API = "/api/2.0/mlflow"
API3 = "/api/3.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
# the last is ours: a file of a run gets no origin to act in
UNSTEADY = frozenset({"date", "connection", "transfer-encoding", "content-security-policy"})


@dataclass
class Two:
    """MLflow and the proxy in front of it, with something in them."""

    mlflow: str
    proxy: str
    client: aiohttp.ClientSession
    names: dict[str, str]

    async def ask(self, base: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Status, headers and body of an answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if data is not None else {}
        url = URL(base + path.format_map(self.names), encoded=True)
        async with self.client.request(
            method, url, data=data, headers=kind | headers, allow_redirects=False
        ) as answer:
            names = sorted((n.lower(), v) for n, v in answer.headers.items() if n.lower() not in UNSTEADY)
            return answer.status, names, await answer.read()


@pytest.fixture
async def two(mlflow_server: MlflowServer) -> AsyncIterator[Two]:
    proxy = proxied(upstream_at(mlflow_server.url))
    async with proxy as (url, _), aiohttp.ClientSession(auto_decompress=False) as client:
        two = Two(mlflow_server.url, url, client, {})
        await _fill(two, mlflow_server)
        yield two


async def _fill(two: Two, server: MlflowServer) -> None:
    """An experiment with a run, metrics, files, a model and a trace, all written through the proxy."""
    name = f"same {os.urandom(4).hex()}"
    _, _, body = await two.ask(two.proxy, "POST", f"{API}/experiments/create", {"name": name})
    experiment = json.loads(body)["experiment_id"]
    new_run = {"experiment_id": experiment, "start_time": 1}
    _, _, body = await two.ask(two.proxy, "POST", f"{API}/runs/create", new_run)
    run = json.loads(body)["run"]["info"]["run_id"]
    otlp = export(spans=3)
    (trace_id,) = trace_ids_of(otlp)
    two.names = {
        "experiment": experiment,
        "name": name.replace(" ", "%20"),
        "run": run,
        "trace": f"tr-{trace_id.hex()}",
    }
    writes = [
        ("POST", f"{API}/runs/log-metric", {"run_id": run, "key": "m", "value": 1.5, "timestamp": 1}),
        ("POST", f"{API}/runs/log-batch", {"run_id": run, "params": [{"key": "p", "value": "1"}]}),
        ("POST", f"{API}/runs/set-tag", {"run_id": run, "key": "t", "value": "ü"}),
        ("PUT", f"{ARTIFACTS}/{experiment}/{run}/artifacts/a.txt", b"text"),
        ("PUT", f"{ARTIFACTS}/{experiment}/{run}/artifacts/f/b%20%C3%BC.bin", os.urandom(900_000)),
        ("POST", f"{API}/registered-models/create", {"name": name}),
        ("POST", f"{API}/model-versions/create", {"name": name, "source": f"runs:/{run}/f", "run_id": run}),
    ]
    for method, path, document in writes:
        status, _, body = await two.ask(two.proxy, method, path, document)
        assert status == 200, body
    async with two.client.post(  # the collector's path, not the proxy's
        f"{server.url}/v1/traces",
        data=otlp.SerializeToString(),
        headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment},
    ) as answer:
        assert answer.status == 200


READS: list[tuple[str, str, Any]] = [
    ("GET", "/", None),
    ("GET", "/version", None),
    ("HEAD", "/version", None),
    ("GET", "/health", None),
    ("GET", "/ajax-api/3.0/mlflow/server-info", None),
    ("GET", "/static-files/no-such-file.js", None),
    ("GET", f"{API}/experiments/get?experiment_id={{experiment}}", None),
    ("GET", f"{API}/experiments/get-by-name?experiment_name={{name}}", None),
    ("GET", f"{API}/experiments/get?experiment_id=987654321", None),
    ("POST", f"{API}/experiments/search", {"max_results": 1000}),
    ("GET", f"{API}/runs/get?run_id={{run}}", None),
    ("POST", f"{API}/runs/search", {"experiment_ids": ["0"], "filter": "metrics.m > 1"}),
    ("POST", f"{API}/runs/search", {"filter": "not a filter"}),
    ("GET", f"{API}/metrics/get-history?run_id={{run}}&metric_key=m", None),
    ("GET", f"{API}/artifacts/list?run_id={{run}}&path=f", None),
    ("GET", f"{ARTIFACTS}/{{experiment}}/{{run}}/artifacts/a.txt", None),
    ("GET", f"{ARTIFACTS}/{{experiment}}/{{run}}/artifacts/f/b%20%C3%BC.bin", None),
    ("GET", f"{ARTIFACTS}/{{experiment}}/{{run}}/artifacts/none", None),
    ("GET", f"{ARTIFACTS}?path={{experiment}}/{{run}}/artifacts", None),
    ("GET", "/get-artifact?run_uuid={run}&path=a.txt", None),
    ("GET", f"{API}/registered-models/get?name={{name}}", None),
    ("GET", f"{API}/model-versions/get?name={{name}}&version=1", None),
    ("GET", f"{API3}/traces/get?trace_id={{trace}}", None),
    ("GET", f"{API3}/traces/batchGet?trace_ids={{trace}}", None),
    ("GET", f"{API3}/traces/{{trace}}", None),
    ("GET", "/ajax-api/3.0/mlflow/get-trace-artifact?request_id={trace}", None),
    ("POST", "/graphql", {"operationName": "q", "query": "query q { test(inputString: \"x\") { output } }"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "987654321"}),
    ("DELETE", f"{API}/model-versions/delete", {"name": "no such model", "version": "1"}),
    ("OPTIONS", f"{API}/runs/search", None),
]  # fmt: skip


@pytest.mark.slow
async def test_mlflow_says_the_same_through_the_proxy_as_directly(two: Two) -> None:
    differences = []
    for method, path, body in READS:
        direct = await two.ask(two.mlflow, method, path, body)
        proxied = await two.ask(two.proxy, method, path, body)
        if direct != proxied:
            differences.append((method, path, direct[:2], proxied[:2], direct[2][:200], proxied[2][:200]))
        assert direct[0] < 500, (method, path, direct)
    assert differences == []


@pytest.mark.slow
async def test_a_part_of_an_artifact_is_what_mlflow_makes_of_it(two: Two) -> None:
    path = f"{ARTIFACTS}/{{experiment}}/{{run}}/artifacts/f/b%20%C3%BC.bin"
    direct = await two.ask(two.mlflow, "GET", path, range="bytes=5-9")
    assert await two.ask(two.proxy, "GET", path, range="bytes=5-9") == direct


@pytest.mark.slow
async def test_deletes_and_restores_reach_mlflow(two: Two) -> None:
    for verb, stage in (("delete", "deleted"), ("restore", "active")):
        status, _, _ = await two.ask(two.proxy, "POST", f"{API}/runs/{verb}", {"run_id": two.names["run"]})
        assert status == 200
        _, _, body = await two.ask(two.mlflow, "GET", f"{API}/runs/get?run_id={{run}}")
        assert json.loads(body)["run"]["info"]["lifecycle_stage"] == stage


@pytest.mark.slow
async def test_what_is_denied_would_have_been_answered_by_mlflow(two: Two) -> None:
    for method, path in [
        ("GET", f"{API}/webhooks"),
        ("GET", "/ajax-api/3.0/mlflow/gateway/secrets/list"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ]:
        direct, _, _ = await two.ask(two.mlflow, method, path)
        proxied, _, body = await two.ask(two.proxy, method, path)
        assert (proxied, json.loads(body)["error_code"]) == (403, "PERMISSION_DENIED"), path
        assert direct != 404, path
