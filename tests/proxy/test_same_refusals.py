"""What no client of MLflow would send is refused as MLflow refuses it, asked of a real MLflow.

A client that may do everything hears MLflow itself; a limited one hears us, in the same words where MLflow
has words for it. What differs on purpose is in docs/proxy.md, "What is MLflow's answer, and what is ours".
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from proxy.catalog import load_catalog
from proxy.policy import ANONYMOUS, Policy, RuleText, build_policy
from tests.proxy.malformed import Malformed, malformed_bodies, malformed_ids, wrong_methods
from tests.support.mlflow_server import MlflowServer
from tests.support.proxied import EVERYBODY, proxied, upstream_at

API = "/api/2.0/mlflow"
AJAX = "/ajax-api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: `code` and `message` are empty where it isn't MLflow's JSON, `content` is all of it."""

    status: int
    code: str
    message: str
    content: bytes
    allow: frozenset[str]

    @property
    def verdict(self) -> tuple[int, str, str]:
        return self.status, self.code, self.message


@dataclass(frozen=True, slots=True)
class Both:
    """MLflow, and the proxy in front of it."""

    mlflow: str
    proxy: str
    client: aiohttp.ClientSession

    async def ask(self, request: Malformed) -> tuple[Said, Said]:
        """What MLflow says, and what the proxy says."""
        direct, through = await asyncio.gather(
            self._ask(self.mlflow, request), self._ask(self.proxy, request)
        )
        return direct, through

    async def _ask(self, base: str, request: Malformed) -> Said:
        kind = {} if request.body is None else {"content-type": "application/json"}
        url = URL(base + request.target, encoded=True)
        async with self.client.request(
            request.method, url, data=request.body, headers=kind, allow_redirects=False
        ) as answer:
            content = await answer.read()
            allow = frozenset(answer.headers.get("allow", "").replace(" ", "").split(",")) - {""}
            return Said(answer.status, *_error(content), content, allow)


def _error(content: bytes) -> tuple[str, str]:
    try:
        document = json.loads(content)
    except ValueError:
        return "", ""
    if not isinstance(document, dict) or "error_code" not in document:
        return "", ""
    # what a database says of a statement holds the ids and times of that one try
    return str(document["error_code"]), str(document["message"]).partition("[SQL:")[0]


@asynccontextmanager
async def both(server: MlflowServer, policy: Policy) -> AsyncIterator[Both]:
    async with aiohttp.ClientSession() as client:
        async with proxied(upstream_at(server.url), policy=policy) as (url, _):
            yield Both(server.url, url, client)


def one_role(*rules: RuleText) -> Policy:
    return build_policy(roles={"r": list(rules)}, clients={ANONYMOUS: ["r"]})


ALL = one_role(RuleText(allow=("*:*",)))
LIMITED = one_role(RuleText(allow=("*:*",), experiments=("nobody's/*",)))


def _creates(request: Malformed) -> bool:
    """A name that MLflow takes: asked twice, the second time it is there already."""
    return "[body.name " in request.label and "/experiments/create" in request.label


@pytest.mark.slow
@pytest.mark.parametrize("table", [malformed_ids, malformed_bodies])
async def test_who_may_do_everything_hears_mlflow_itself(
    mlflow_server: MlflowServer, table: Callable[[], Iterator[Malformed]]
) -> None:
    requests = [each for each in table() if not _creates(each)]
    assert len(requests) > 200
    different, refused = [], 0
    async with both(mlflow_server, ALL) as stage:
        for request in requests:
            direct, through = await stage.ask(request)
            refused += direct.code == "INVALID_PARAMETER_VALUE"
            if direct.verdict != through.verdict:
                different.append((request.label, direct, through))
    assert different == []
    assert refused > 100, "most of the requests must have been malformed for MLflow too"


def _graphql(query: str) -> Malformed:
    return Malformed(
        label="graphql", method="POST", target="/graphql", body=json.dumps({"query": query}).encode()
    )


def _get(target: str, **query: Any) -> Malformed:
    text = urlencode(query, doseq=True)
    return Malformed(label=target, method="GET", target=target + ("?" + text if text else ""))


def _post(target: str, document: Any) -> Malformed:
    return Malformed(label=target, method="POST", target=target, body=json.dumps(document).encode())


def _nested(levels: int) -> str:
    return "name { " * levels + "name" + " }" * levels


RUNS = [f"run_{n}" for n in range(101)]
EXPERIMENT = 'mlflowGetExperiment(input: {experimentId: "0"})'
ALIASES = " ".join(f"k{n}: experimentId" for n in range(11))
# what it is about -> the request, and a part of MLflow's answer
ODD: dict[str, tuple[Malformed, bytes]] = {
    "file_of_a_trace_without_its_id": (_get(f"{AJAX}/get-trace-artifact"), b"request_id"),
    "file_of_a_trace_that_is_not_there": (_get(f"{AJAX}/get-trace-artifact", request_id="tr-1"), b"tr-1"),
    "file_of_a_trace_outside": (
        _get(f"{AJAX}/get-trace-artifact", request_id="tr-1", path="../../x"),
        b"Invalid path",
    ),
    "history_of_no_run": (_get(f"{AJAX}/metrics/get-history-bulk"), b"at least one run_id"),
    "history_of_too_many_runs": (
        _get(f"{AJAX}/metrics/get-history-bulk", run_id=RUNS),
        b"more than 100",
    ),
    "history_of_no_metric": (_get(f"{AJAX}/metrics/get-history-bulk", run_id="a"), b"metric_key"),
    "history_of_one_run_twice": (
        _get(f"{AJAX}/metrics/get-history-bulk", run_id=["a", "a"], metric_key="m"),
        b"",
    ),
    "samples_of_no_run": (_get(f"{AJAX}/metrics/get-history-bulk-interval"), b"run_ids"),
    "samples_of_too_many_runs": (
        _get(f"{AJAX}/metrics/get-history-bulk-interval", run_ids=RUNS, metric_key="m"),
        b"",
    ),
    "samples_with_an_end_only": (
        _get(f"{AJAX}/metrics/get-history-bulk-interval", run_ids="a", metric_key="m", end_step=1),
        b"start step",
    ),
    "graphql_with_many_root_fields": (
        _graphql("{ " + " ".join(f'k{n}: test(inputString: "a") {{ output }}' for n in range(11)) + " }"),
        b"root fields",
    ),
    "graphql_with_many_aliases": (
        _graphql(f"{{ {EXPERIMENT} {{ experiment {{ {ALIASES} }} }} }}"),
        b"aliases",
    ),
    "graphql_with_many_levels": (
        _graphql(f"{{ {EXPERIMENT} {{ experiment {{ {_nested(20)} }} }} }}"),
        b"depth",
    ),
    "graphql_with_many_selections": (
        _graphql(f"{{ {EXPERIMENT} {{ experiment {{ {'name ' * 1001} }} }} }}"),
        b"selections",
    ),
    "graphql_with_an_unknown_field": (_graphql("{ noSuchField { x } }"), b"noSuchField"),
    "gateway_proxy_without_a_path": (_get(f"{AJAX}/gateway-proxy"), b"endpoints"),
    "gateway_proxy_with_a_path_elsewhere": (
        _post(f"{AJAX}/gateway-proxy", {"gateway_path": "http://127.0.0.1:9/"}),
        b"",
    ),
    "experiment_id_twice": (_get(f"{API}/experiments/get", experiment_id=["0", "1"]), b"experiment"),
    "experiment_id_in_other_digits": (_get(f"{API}/experiments/get", experiment_id="00"), b"experiment"),
    "location_of_another_type": (
        _post(f"{API}/experiments/create", {"name": "e", "artifact_location": 9.0}),
        b"Invalid value 9.0 for parameter 'artifact_location'",
    ),
    "files_outside": (_get(ARTIFACTS, path="../.."), b"Invalid path"),
    "file_of_a_run_outside": (_get("/get-artifact", run_id="a", path="../x"), b"Invalid path"),
    "source_outside": (
        _post(f"{API}/model-versions/create", {"name": "m", "source": "mlflow-artifacts:/1/../../etc"}),
        b"nvalid model version source",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
async def test_odd_requests_are_answered_by_mlflow_where_everything_is_allowed(
    mlflow_server: MlflowServer, name: str
) -> None:
    request, expected = ODD[name]
    async with both(mlflow_server, ALL) as stage:
        direct, through = await stage.ask(request)
    assert expected in direct.content, "MLflow must answer what this row is about"
    assert (through.status, through.content) == (direct.status, direct.content)


@pytest.mark.slow
async def test_a_wrong_method_is_405_and_names_the_right_ones(mlflow_server: MlflowServer) -> None:
    """MLflow says 404 for a wrong method of its newer routes."""
    catalog = load_catalog()
    different = []
    async with both(mlflow_server, EVERYBODY) as stage:
        for request in wrong_methods():
            direct, through = await stage.ask(request)
            expected = frozenset(catalog.methods(request.target))
            theirs = direct.allow | {"HEAD"} if direct.status == 405 else expected
            same = direct.status in (404, 405) and expected <= theirs
            if not same or (through.status, through.allow) != (405, expected):
                different.append((request.label, direct, through))
    assert different == []


async def _wrong_types(stage: Both) -> AsyncIterator[tuple[Malformed, Said, Said]]:
    types = ("number]", "fraction]", "truth]", "list]", "object]")
    for request in malformed_ids():
        if request.body is not None and request.label.endswith(types):
            direct, through = await stage.ask(request)
            missing = direct.message.startswith("Invalid value null ")
            if f"for parameter '{request.parameter}'" in direct.message and not missing:
                yield request, direct, through


@pytest.mark.slow
async def test_a_limited_client_hears_of_a_wrong_type_in_mlflows_words(mlflow_server: MlflowServer) -> None:
    found, different = 0, []
    async with both(mlflow_server, LIMITED) as stage:
        async for request, direct, through in _wrong_types(stage):
            found += 1
            if through.status != 403 and (direct.code, direct.message) != (through.code, through.message):
                different.append((request.label, direct.message, through.message))
    assert found > 50
    assert different == []


@pytest.mark.slow
async def test_a_location_of_another_type_is_refused_in_mlflows_words(mlflow_server: MlflowServer) -> None:
    request, _ = ODD["location_of_another_type"]
    async with both(mlflow_server, EVERYBODY) as stage:
        direct, through = await stage.ask(request)
    assert through.verdict == direct.verdict


PATHS = ["/../x", "/a/../../x", "/%2e%2e/x", "/%252e%252e/x"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", [ALL, EVERYBODY, LIMITED], ids=["all", "standard", "limited"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_climbs_is_invalid_under_mlflows_code(
    mlflow_server: MlflowServer, path: str, policy: Policy
) -> None:
    async with both(mlflow_server, policy) as stage:
        direct, through = await stage.ask(_get(ARTIFACTS + path))
    assert (through.status, through.code) == (direct.status, direct.code) == (400, "INVALID_PARAMETER_VALUE")
    assert through.message.startswith(direct.message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "request_"),
    [
        (EVERYBODY, _get(f"{API}/experiments/get", experiment_id="00")),
        (LIMITED, _get(f"{API}/experiments/get", experiment_id="no id")),
        (LIMITED, _get(f"{API}/runs/get", run_id="../x")),
        (LIMITED, _post(f"{API}/runs/delete", {"run_id": "a/b"})),
    ],
)
async def test_an_id_that_we_refuse_is_refused_in_mlflows_form(
    mlflow_server: MlflowServer, policy: Policy, request_: Malformed
) -> None:
    async with both(mlflow_server, policy) as stage:
        _, through = await stage.ask(request_)
    assert (through.status, through.code) == (400, "INVALID_PARAMETER_VALUE")
    assert through.message.startswith("Invalid value ")
    assert "for parameter '" in through.message
