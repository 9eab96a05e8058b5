"""Who waits for MLflow is known, whichever way the request takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import ClientSession, web

from collector.mlflow.client import Mlflow, open_mlflow
from collector.mlflow.traffic import Traffic
from collector.settings import MlflowSettings
from tests.support.ports import free_port
from tests.support.proxied import proxied, upstream_at


@asynccontextmanager
async def stalling() -> AsyncIterator[tuple[Mlflow, asyncio.Event, asyncio.Event]]:
    """MLflow that answers when it may; the events are "it was asked" and "it may"."""
    asked, may = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        asked.set()
        await may.wait()
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with open_mlflow(MlflowSettings(url=f"http://127.0.0.1:{port}"), max_connections=2) as mlflow:
        yield mlflow, asked, may
    await runner.cleanup()


async def test_a_request_counts_while_it_is_in_flight() -> None:
    async with stalling() as (mlflow, asked, may):
        assert not mlflow.traffic.is_busy
        asking = asyncio.create_task(mlflow.get("/x"))
        await asked.wait()
        assert mlflow.traffic.in_flight == 1
        may.set()
        await asking
        assert mlflow.traffic.in_flight == 0
        assert mlflow.traffic.is_busy  # others may follow
        assert mlflow.traffic.usual_seconds is not None


async def test_what_nobody_waits_for_does_not_count() -> None:
    async with stalling() as (mlflow, asked, may):
        asking = asyncio.create_task(mlflow.behind_others().get("/x"))
        await asked.wait()
        assert mlflow.traffic.in_flight == 0
        may.set()
        await asking
        assert not mlflow.traffic.is_busy


async def test_a_request_that_fails_is_not_in_flight_any_more() -> None:
    async with stalling() as (mlflow, asked, _):
        asking = asyncio.create_task(mlflow.get("/x"))
        await asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert mlflow.traffic.in_flight == 0
        await mlflow.traffic.quiet(at_most_seconds=60)


async def test_a_proxied_request_counts_while_mlflow_answers() -> None:
    traffic = Traffic()
    async with (
        stalling() as (mlflow, asked, may),
        proxied(replace(upstream_at(mlflow.url), counted=traffic.request)) as (url, _),
        ClientSession() as session,
    ):
        asking = asyncio.create_task(session.get(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"))
        await asked.wait()
        assert traffic.in_flight == 1
        may.set()
        (await asking).close()
        assert traffic.in_flight == 0
