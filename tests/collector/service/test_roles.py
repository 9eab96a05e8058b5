"""A process does what its roles say, and says so where it is asked for more.

The processes of a fleet are apps in one loop here, over one log in memory; tests/system/test_scale.py has
real ones over Kafka and ClickHouse.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.journal.memory import MemoryConsumer, MemoryJournal
from collector.model.errors import Reason, Unavailable
from collector.service import app as composition
from collector.service.app import open_app
from collector.service.background import Running
from collector.settings import Role, Settings, load
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fake_mlflow import running as running_mlflow
from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.serve import serve

PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryJournal:
    """What takes the place of Kafka and ClickHouse."""
    journal = MemoryJournal(consumers=("delivery",), log_consumers=("logs",))

    @asynccontextmanager
    async def open_log(*_: Any, **__: Any) -> AsyncIterator[MemoryJournal]:
        yield journal

    monkeypatch.setattr(composition, "open_journal_of", open_log)
    return journal


def settings_of(folder: Path, mlflow_url: str, *roles: Role) -> Settings:
    return load(
        environment={
            "SIDESPAN_DATA_DIR": str(folder / "none"),
            "SIDESPAN_JOURNAL__URL": "kafka://nowhere/x",
            "SIDESPAN_INDEX__ENABLED": "false",
            "SIDESPAN_LOG__REQUESTS_TO": "stdout",
            "SIDESPAN_RECEIVER__GRPC_PORT": "0",
            "SIDESPAN_DELIVERY__LINGER_SECONDS": "0",
            "SIDESPAN_MLFLOW__URL": mlflow_url,
            "SIDESPAN_ROLES": ",".join(roles),
        }
    )


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[tuple[str, Running]]:
    """One of them, at a port of its own."""
    async with open_app(settings) as (app, running), serve(app) as url:
        yield url, running


async def test_roles_in_processes_of_their_own_bring_a_span_to_mlflow(
    log: MemoryJournal, tmp_path: Path
) -> None:
    mlflow = FakeMlflow()
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as client:
        behind = await stack.enter_async_context(running_mlflow(mlflow, free_port()))
        urls = {}
        for role in (Role.RECEIVE, Role.DELIVER, Role.QUERY):
            settings = settings_of(tmp_path, behind, role)
            urls[role], _ = await stack.enter_async_context(process(settings))
        body = export(spans=2).SerializeToString()
        async with client.post(f"{urls[Role.RECEIVE]}/v1/traces", data=body, headers=PROTOBUF) as answer:
            assert answer.status == 200
            assert not ExportTraceServiceResponse.FromString(await answer.read()).HasField("partial_success")
        while len(mlflow.stored) < 2:
            await asyncio.sleep(0.01)
        async with client.get(f"{urls[Role.QUERY]}/-/ready") as answer:
            parts = (await answer.json())["parts"]
        assert {"journal", "delivery", "logs"} <= parts.keys()
        assert "receiver" not in parts
        async with client.get(f"{urls[Role.DELIVER]}/-/ready") as answer:
            delivery = (await answer.json())["parts"]["delivery"]
        assert delivery["ok"]
        assert "pending_spans" not in delivery, "one kind of process counts what is shared"
    assert not (tmp_path / "none").exists(), "replicas keep nothing"


NOT_ITS_ROLE = [
    ("POST", "/v1/traces", 503, "without the role receive"),
    ("GET", "/api/2.0/mlflow/experiments/search", 404, "without the role proxy"),
    ("GET", "/-/traces", 503, "the role query"),
    ("GET", "/-/dead-letters", 503, "the role query"),
    ("POST", "/-/index/rebuild", 503, "the role index"),
]


async def test_those_that_deliver_replay_what_is_theirs(log: MemoryJournal, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as client:
        for role, status in ((Role.DELIVER, 200), (Role.QUERY, 503)):
            settings = settings_of(tmp_path, "http://127.0.0.1:9", role)
            url, _ = await stack.enter_async_context(process(settings))
            async with client.post(f"{url}/-/replay", json={"since_unix_ns": 0}) as answer:
                assert answer.status == status


@pytest.mark.parametrize(("method", "path", "status", "said"), NOT_ITS_ROLE, ids=lambda each: str(each)[:30])
async def test_what_is_not_its_role_is_refused_so_that_nothing_is_lost(
    log: MemoryJournal, tmp_path: Path, method: str, path: str, status: int, said: str
) -> None:
    async with (
        process(settings_of(tmp_path, "http://127.0.0.1:9", Role.DELIVER)) as (url, _),
        aiohttp.ClientSession() as client,
        client.request(method, f"{url}{path}", headers={"content-type": "application/json"}) as answer,
    ):
        assert (answer.status, said in await answer.text()) == (status, True)


async def test_exports_to_who_takes_none_are_counted(log: MemoryJournal, tmp_path: Path) -> None:
    async with (
        process(settings_of(tmp_path, "http://127.0.0.1:9", Role.DELIVER)) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        for path in ("/v1/traces", "/v1/logs"):
            async with client.post(f"{url}{path}", headers=PROTOBUF) as answer:
                assert answer.status == 503
        async with client.get(f"{url}/-/metrics") as answer:
            counted = await answer.text()
    assert 'sidespan_requests_refused_total{reason="wrong_role"} 2.0' in counted


# those that need more than a log are in tests/system/test_scale.py
@pytest.mark.parametrize("role", [Role.RECEIVE, Role.DELIVER, Role.QUERY, Role.PROXY])
async def test_each_role_answers_probes_and_metrics(log: MemoryJournal, tmp_path: Path, role: Role) -> None:
    async with (
        process(settings_of(tmp_path, "http://127.0.0.1:9", role)) as (url, running),
        aiohttp.ClientSession() as client,
    ):
        for path in ("/-/healthy", "/-/ready", "/-/metrics"):
            async with client.get(f"{url}{path}") as answer:
                assert answer.status == 200
        running.begin_to_stop()
        async with client.get(f"{url}/-/ready") as answer:
            assert answer.status == 503


async def test_a_log_that_cannot_be_counted_now_is_a_part_in_trouble_and_nothing_more(
    log: MemoryJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: MemoryConsumer) -> NoReturn:
        raise Unavailable(Reason.JOURNAL_FAILED, "Kafka does not answer")

    monkeypatch.setattr(MemoryConsumer, "state", away)
    async with (
        process(settings_of(tmp_path, "http://127.0.0.1:9", Role.QUERY)) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        found, part = {}, {}
        for path in ("/-/ready", "/-/metrics", "/-/dead-letters"):
            async with client.get(f"{url}{path}") as answer:
                found[path] = answer.status
                part = (await answer.json())["parts"]["journal"] if path == "/-/ready" else part
    assert found == {"/-/ready": 200, "/-/metrics": 200, "/-/dead-letters": 503}
    assert (part["ok"], part["reason"]) == (False, "Kafka does not answer")
