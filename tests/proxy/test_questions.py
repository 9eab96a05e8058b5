"""What may be answered in MLflow's place, who may ask, and which writes are heard of."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.policy import RuleText, build_policy
from proxy.questions import MlflowQuestion
from tests.proxy.upstream import Upstream, running_upstream
from tests.support.proxied import EVERYBODY, proxied, tokens_for, upstream_at

METRICS = "/ajax-api/3.0/mlflow/traces/metrics"
QUESTION = {"experiment_ids": ["1"], "view_type": "TRACES"}
OTHER = "https://other.example"
TRACE = "tr-" + "ab" * 16


@dataclass
class Answers:
    """An Answering: what it says, and what it was asked and told."""

    says: bytes | None = b'{"data_points": []}'
    asked: list[tuple[Any, bool, bool]] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)

    async def answer(self, asked: MlflowQuestion, *, workspace: bool, credentials: bool) -> bytes | None:
        text = asked.text.decode()
        self.forms.append(asked.form)
        self.asked.append((text if asked.form == "search_v2" else json.loads(text), workspace, credentials))
        return self.says

    def write_begins(self) -> "Answers":
        self.told.append("begins")
        return self

    def ended(self, trace_ids: Iterable[str], *, all_known: bool = True, answered: bool = True) -> None:
        self.told.append((tuple(trace_ids), all_known, *([] if answered else ["lost"])))

    def other_write_begins(self) -> Callable[[], None]:
        self.told.append("other begins")
        return lambda: self.told.append("other ended")


@asynccontextmanager
async def stage(
    answers: Answers, **options: Any
) -> AsyncIterator[tuple[str, Upstream, aiohttp.ClientSession]]:
    async with running_upstream() as upstream:
        options = {"public_origins": (OTHER,), **options}
        proxy = proxied(upstream_at(upstream.url), answering=answers, **options)
        async with proxy as (url, _), aiohttp.ClientSession() as client:
            yield url, upstream, client


async def test_an_answer_is_sent_in_mlflows_place_and_marked() -> None:
    answers = Answers()
    async with stage(answers) as (url, upstream, client):
        async with client.post(url + METRICS, json=QUESTION) as answer:
            assert await answer.json() == {"data_points": []}
            assert answer.headers["sidespan-answered-by"] == "index"
        assert upstream.seen == []
    assert answers.asked == [(QUESTION, False, False)]


async def test_searches_are_asked_for_in_both_forms() -> None:
    answers = Answers()
    async with stage(answers) as (url, upstream, client):
        async with client.post(url + "/ajax-api/3.0/mlflow/traces/search", json={"filter": ""}) as answer:
            assert answer.headers["sidespan-answered-by"] == "index"
        async with client.get(url + "/api/2.0/mlflow/traces?experiment_ids=1&filter=a+b") as answer:
            assert answer.headers["sidespan-answered-by"] == "index"
        assert upstream.seen == []
    assert answers.forms == ["search", "search_v2"]
    assert [asked[0] for asked in answers.asked] == [{"filter": ""}, "experiment_ids=1&filter=a+b"]


async def test_what_is_not_answered_reaches_mlflow_whole() -> None:
    async with stage(Answers(says=None)) as (url, upstream, client):
        async with client.post(url + METRICS, json=QUESTION) as answer:
            assert "sidespan-answered-by" not in answer.headers
        assert upstream.seen[0].body_bytes == len(json.dumps(QUESTION))


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        pytest.param("/api/3.0/mlflow/datasets/search", b"{}", {}, id="another_route"),
        pytest.param(METRICS + "?x=1", b"{}", {}, id="parameters_in_the_query"),
        pytest.param(METRICS, b"{}", {"content-type": "text/plain"}, id="no_JSON"),
        pytest.param(METRICS, b"{}", {"content-encoding": "gzip"}, id="a_packed_body"),
        pytest.param(METRICS, b" " * 70_000, {}, id="a_long_body"),
        pytest.param(METRICS, b"{}", {"origin": OTHER}, id="a_page_of_another_origin"),
    ],
)
async def test_nothing_else_is_asked_for(path: str, body: bytes, headers: Mapping[str, str]) -> None:
    answers = Answers()
    async with stage(answers) as (url, upstream, client):
        headers = {"content-type": "application/json", **headers}
        async with client.post(url + path, data=body, headers=headers):
            assert len(upstream.seen) == 1
    assert answers.asked == []


@pytest.mark.parametrize("name", ["authorization", "cookie"])
async def test_credentials_that_mlflow_would_see_are_told_of(name: str) -> None:
    answers = Answers()
    async with stage(answers) as (url, _, client):
        async with client.post(url + METRICS, json=QUESTION, headers={name: "Bearer x"}):
            pass
        async with client.post(url + METRICS, json=QUESTION, headers={"x-mlflow-workspace": "w"}):
            pass
    assert [asked[1:] for asked in answers.asked] == [(False, True), (True, False)]


async def test_only_what_a_client_may_see_is_asked_for(tmp_path: Path) -> None:
    rule = RuleText(allow=("traces:read",), experiments=("1",))
    policy = build_policy(roles={"one": [rule]}, clients={"ann": ["one"]})
    token = tokens_for(tmp_path / "tokens.json", "ann")["ann"]
    answers = Answers()
    async with stage(answers, policy=policy, tokens_file=tmp_path / "tokens.json") as (url, _, client):
        asked = QUESTION | {"experiment_ids": ["1", "2"]}
        async with client.post(url + METRICS, json=asked) as answer:
            assert answer.status == 401
        headers = {"authorization": f"Bearer {token}"}
        async with client.post(url + METRICS, json=asked, headers=headers) as answer:
            assert answer.headers["sidespan-answered-by"] == "index"
        path = "/api/2.0/mlflow/traces?experiment_ids=1&experiment_ids=2"
        async with client.get(url + path, headers=headers) as answer:
            assert answer.headers["sidespan-answered-by"] == "index"
        asked = {"locations": [{"mlflow_experiment": {"experiment_id": id}} for id in ("2", "1")]}
        path = "/api/3.0/mlflow/traces/search"
        async with client.post(url + path, json=asked, headers=headers) as answer:
            assert answer.headers["sidespan-answered-by"] == "index"
    assert [each[0] for each in answers.asked] == [
        QUESTION,
        "experiment_ids=1",
        {"locations": [{"mlflow_experiment": {"experiment_id": "1"}}]},
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        pytest.param(
            "PATCH",
            f"/api/3.0/mlflow/traces/{TRACE}/tags",
            {"key": "a"},
            ["begins", ((TRACE,), True)],
            id="a_tag",
        ),
        pytest.param(
            "POST",
            "/api/3.0/mlflow/traces/delete-traces",
            {"experiment_id": "1", "request_ids": [TRACE]},
            ["begins", ((TRACE,), True)],
            id="a_delete_of_one",
        ),
        pytest.param(
            "POST",
            "/api/3.0/mlflow/traces/delete-traces",
            {"experiment_id": "1", "max_timestamp_millis": 5},
            ["begins", ((), False)],
            id="a_delete_by_age",
        ),
        pytest.param(
            "POST",
            "/api/2.0/mlflow/runs/delete",
            {"run_id": "r"},
            ["other begins", "other ended"],
            id="a_runs_delete",
        ),
        pytest.param("POST", "/api/3.0/mlflow/traces/search", {}, [], id="a_search"),
    ],
)
async def test_writes_are_told_of(method: str, path: str, body: dict[str, Any], told: list[Any]) -> None:
    answers = Answers()
    async with stage(answers, policy=EVERYBODY) as (url, _, client):
        async with client.request(method, url + path, json=body):
            pass
    assert answers.told == told


async def test_a_write_whose_client_gave_up_is_told_of_as_lost() -> None:
    answers = Answers()
    async with stage(answers, policy=EVERYBODY) as (url, upstream, client):
        upstream.behaviour = "stall"
        path = f"/api/3.0/mlflow/traces/{TRACE}/tags"
        writing = asyncio.create_task(client.patch(url + path, json={"key": "a"}))
        async with asyncio.timeout(60):
            while not upstream.seen:
                await asyncio.sleep(0.01)
            writing.cancel()
            while len(answers.told) < 2:
                await asyncio.sleep(0.01)
    assert answers.told == ["begins", ((TRACE,), True, "lost")]
