"""What presets deny of deleting and spending, against a real MLflow: its tables say what has happened."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.locations import ObjectKind
from proxy.policy import ANONYMOUS, build_policy
from tests.proxy.populate import V2, V3, call, make_endpoint, populate
from tests.proxy.worlds import World
from tests.support.mlflow_server import MlflowServer
from tests.support.proxied import proxied, upstream_at

pytestmark = pytest.mark.slow

Changed = Callable[[], set[str]]


@dataclass(frozen=True)
class House:
    """One of everything that can be taken away by a request that isn't a DELETE of an object."""

    server: MlflowServer
    world: World
    endpoint: str
    mcp: str

    async def send(self, preset: str, method: str, path: str, body: Any) -> tuple[int, str]:
        """The answer through a proxy with that preset."""
        policy = build_policy(roles={}, clients={ANONYMOUS: [preset]})
        async with proxied(upstream_at(self.server.url), policy=policy) as (url, _):
            return await asyncio.to_thread(send, url + path, method, body)


def send(url: str, method: str, body: Any) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"content-type": "application/json"}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def house(mlflow_server: MlflowServer) -> House:
    url, marker = mlflow_server.url, f"moonwort{os.urandom(4).hex()}"
    world = populate(mlflow_server, "d", marker)
    ids, model, tag = world.ids, world.model_name, {"key": "k", "value": "v"}
    trace, dataset = ids[ObjectKind.TRACE], ids[ObjectKind.DATASET]
    call(url, "POST", f"{V2}/experiments/set-experiment-tag", {"experiment_id": world.experiment} | tag)
    call(url, "POST", f"{V2}/runs/set-tag", {"run_id": ids[ObjectKind.RUN]} | tag)
    for key in ("k", "l"):
        call(url, "PATCH", f"{V3}/traces/{trace}/tags", {"key": key, "value": "v"})
    call(url, "PATCH", f"{V2}/logged-models/{ids[ObjectKind.MODEL]}/tags", {"tags": [tag]})
    call(url, "POST", f"{V2}/registered-models/set-tag", {"name": model} | tag)
    call(url, "POST", f"{V2}/registered-models/alias", {"name": model, "alias": "champion", "version": "1"})
    call(url, "POST", f"{V2}/model-versions/set-tag", {"name": model, "version": "1"} | tag)
    call(url, "PATCH", f"{V3}/datasets/{dataset}/tags", {"tags": json.dumps({"k": "v"})})
    call(
        url, "POST", f"{V3}/review-queues/items/add", {"queue_id": ids[ObjectKind.QUEUE], "item_ids": [trace]}
    )
    mcp = f"com.example/{marker}"
    call(
        url,
        "POST",
        f"{V3}/mcp-servers/{mcp}/versions",
        {
            "server_json": {"name": mcp, "version": "1.0.0", "description": "d"},
            "status": "active",
        },
    )
    call(url, "POST", f"{V3}/mcp-servers/{mcp}/tags", tag)
    call(url, "POST", f"{V3}/mcp-servers/{mcp}/versions/1.0.0/tags", tag)
    call(url, "POST", f"{V3}/mcp-servers/{mcp}/aliases", {"alias": "champion", "version": "1.0.0"})
    return House(mlflow_server, world, make_endpoint(url, marker)["endpoint"], mcp)


@pytest.fixture(scope="module")
def since_the_beginning(house: House) -> Iterator[Changed]:
    with house.server.watched() as changed:
        yield changed


@pytest.fixture
def changed(since_the_beginning: Changed) -> Changed:
    """What has changed since it was asked last, from the beginning of the test."""
    since_the_beginning()
    return since_the_beginning


REMOVALS = (
    ("POST", f"{V2}/experiments/delete-experiment-tag", {"experiment_id": "{experiment}", "key": "k"}),
    ("POST", f"{V2}/runs/delete-tag", {"run_id": "{run}", "key": "k"}),
    ("DELETE", f"{V2}/traces/{{trace}}/tags", {"key": "k"}),
    ("DELETE", f"{V3}/traces/{{trace}}/tags", {"key": "l"}),
    ("DELETE", f"{V2}/logged-models/{{logged}}/tags/k", None),
    ("DELETE", f"{V2}/registered-models/alias", {"name": "{model}", "alias": "champion"}),
    ("DELETE", f"{V2}/registered-models/delete-tag", {"name": "{model}", "key": "k"}),
    ("DELETE", f"{V2}/model-versions/delete-tag", {"name": "{model}", "version": "1", "key": "k"}),
    ("DELETE", f"{V3}/datasets/{{dataset}}/tags/k", None),
    ("POST", f"{V3}/review-queues/items/remove", {"queue_id": "{queue}", "item_ids": ["{trace}"]}),
    ("POST", f"{V3}/datasets/{{dataset}}/remove-experiments", {"experiment_ids": ["{experiment}"]}),
    ("DELETE", f"{V3}/mcp-servers/{{mcp}}/versions/1.0.0/tags/k", None),
    ("DELETE", f"{V3}/mcp-servers/{{mcp}}/tags/k", None),
    ("DELETE", f"{V3}/mcp-servers/{{mcp}}/aliases/champion", None),
)


@pytest.mark.parametrize(("method", "path", "body"), REMOVALS, ids=[f"{m} {p}" for m, p, _ in REMOVALS])
async def test_what_takes_something_away_needs_delete(
    house: House, changed: Changed, method: str, path: str, body: dict[str, Any] | None
) -> None:
    ids = house.world.ids
    words = {
        "experiment": house.world.experiment,
        "model": house.world.model_name,
        "run": ids[ObjectKind.RUN],
        "trace": ids[ObjectKind.TRACE],
        "logged": ids[ObjectKind.MODEL],
        "dataset": ids[ObjectKind.DATASET],
        "queue": ids[ObjectKind.QUEUE],
        "mcp": house.mcp,
    }
    path = path.format(**words)
    text = json.dumps(body)
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    for preset in ("no-delete", "read-only", "ingest-only"):
        status, answer = await house.send(preset, method, path, json.loads(text))
        assert (status, "may not delete" in answer) == (403, True), (preset, answer)
    assert changed() == set()
    status, answer = await house.send("standard", method, path, json.loads(text))
    assert status == 200, answer
    assert changed() != set(), "it must take something away, or the denial shows nothing"


PRESETS_WITHOUT_SPEND = ("open", "standard", "no-delete", "read-only", "ingest-only")


async def test_nobody_but_the_trusted_starts_a_scheduled_scorer(house: House, changed: Changed) -> None:
    experiment, name = house.world.experiment, f"s{os.urandom(4).hex()}"
    gateway = f"gateway:/{house.world.marker}"
    said = {"model": gateway, "name": name, "instructions": "Is {{ outputs }} polite?"}
    scorer = {"name": name, "instructions_judge_pydantic_data": said}
    register = {"experiment_id": experiment, "name": name, "serialized_scorer": json.dumps(scorer)}
    start = {"experiment_id": experiment, "name": name, "sample_rate": 1.0}
    steps = (("POST", f"{V3}/scorers/register", register), ("PUT", f"{V3}/scorers/online-config", start))
    for preset in PRESETS_WITHOUT_SPEND:
        for method, path, body in steps:
            status, answer = await house.send(preset, method, path, body)
            assert status == 403, (preset, path, answer)
            assert "may not" in answer
    assert changed() == set()
    for method, path, body in steps:
        status, answer = await house.send("open-trusted", method, path, body)
        assert status == 200, answer
    stop = start | {"sample_rate": 0.0}
    assert call(house.server.url, "PUT", f"{V3}/scorers/online-config", stop)


@pytest.mark.parametrize("preset", [name for name in PRESETS_WITHOUT_SPEND if name != "open"])
async def test_nobody_who_may_not_call_an_endpoint_sees_its_name(house: House, preset: str) -> None:
    for path in (
        f"{V3}/gateway/endpoints/list",
        f"{V3}/gateway/endpoints/get?endpoint_id={house.endpoint}",
        f"{V3}/gateway/endpoints/bindings/list",
        f"{V3}/gateway/model-definitions/list",
        f"{V3}/gateway/guardrails/list",
        f"{V3}/gateway/budgets/list",
        "/gateway/mlflow/v1/models",
    ):
        status, answer = await house.send(preset, "GET", path, None)
        assert status == 403, path
        assert house.world.marker not in answer
