"""What is remembered of MLflow's experiments and objects, and for how long."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from proxy import lookup as module
from proxy.locations import ObjectKind
from proxy.lookup import V2, V3, Lookup


@dataclass
class Server:
    """MLflow with as many experiments as there are ids; each run and trace is in experiment 1."""

    ids: list[str]
    asked: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        end = request.path.rsplit("/", 1)[-1]
        self.asked[request.path.removeprefix("/api/")] += 1
        match end:
            case "search":
                return web.json_response({"experiments": [experiment(id) for id in self.ids]})
            case "batchGetInfos":
                location = {"mlflow_experiment": {"experiment_id": "1"}}
                ids = (await request.json())["trace_ids"]
                infos = [{"trace_id": id, "trace_location": location} for id in ids]
                return web.json_response({"trace_infos": infos})
        if "runs" in request.path:
            return web.json_response({"run": {"info": {"experiment_id": "1"}}})
        return web.json_response({"experiment": experiment(request.query["experiment_id"])})


def experiment(id: str) -> dict[str, str]:
    return {"experiment_id": id, "name": f"named-{id}", "artifact_location": f"mlflow-artifacts:/{id}"}


@pytest.fixture
def server() -> Server:
    return Server(ids=["1", "2"])


@pytest.fixture
async def lookup(server: Server) -> AsyncIterator[Lookup]:
    runner = web.ServerRunner(web.Server(server.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Lookup(session, f"http://127.0.0.1:{runner.addresses[0][1]}", None)
    finally:
        await runner.cleanup()


async def listed(lookup: Lookup, *, fresh: bool = False) -> list[str]:
    return [place.experiment.id for place in await lookup.everything(fresh=fresh)]


LISTING = f"{V2}/experiments/search".removeprefix("/api/")
TRACES = f"{V3}/traces/batchGetInfos".removeprefix("/api/")
RUNS = f"{V2}/runs/get".removeprefix("/api/")


async def test_a_listing_is_whole_and_remembered(lookup: Lookup, server: Server) -> None:
    assert await listed(lookup) == await listed(lookup) == ["1", "2"]
    assert await listed(lookup, fresh=True) == ["1", "2"], "not more often than once a pause"
    assert server.asked[LISTING] == 1
    assert (await lookup.experiment("2")) == lookup.remembered("2")
    assert set(server.asked) == {LISTING}


async def test_what_was_asked_for_since_is_in_the_listing(lookup: Lookup, server: Server) -> None:
    await lookup.everything()
    await lookup.experiment("3")
    assert await listed(lookup) == ["1", "2", "3"]


async def test_a_listing_that_is_too_old_is_asked_for_again(
    lookup: Lookup, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPERIMENT_SECONDS", 0.05)
    await lookup.everything()
    server.ids = ["2", "4"]
    await asyncio.sleep(0.06)
    assert await listed(lookup) == ["2", "4"]
    assert server.asked[LISTING] == 2


async def test_a_change_forgets_experiments_and_traces_but_no_runs(lookup: Lookup, server: Server) -> None:
    for _ in range(2):
        assert await lookup.owners(ObjectKind.RUN, ["r", "r"]) == {"r": {"1"}}
        assert await lookup.owners(ObjectKind.TRACE, ["tr-1"]) == {"tr-1": {"1"}}
        await lookup.everything()
    assert server.asked == {RUNS: 1, TRACES: 1, LISTING: 1}
    lookup.forget()
    assert lookup.remembered("1") is None
    await lookup.owners(ObjectKind.RUN, ["r"])
    await lookup.owners(ObjectKind.TRACE, ["tr-1"])
    await lookup.everything()
    assert server.asked == {RUNS: 1, TRACES: 2, LISTING: 2}


async def test_the_owners_of_a_trace_are_remembered_for_seconds(
    lookup: Lookup, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOVING_SECONDS", 0.05)
    await lookup.owners(ObjectKind.TRACE, ["tr-1"])
    await asyncio.sleep(0.06)
    await lookup.owners(ObjectKind.TRACE, ["tr-1"])
    assert server.asked[TRACES] == 2


async def test_what_is_remembered_is_bounded(
    server: Server, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    small = Lookup(lookup._session, lookup._url, None)
    for number in range(10):
        await small.owners(ObjectKind.RUN, [f"r{number}"])
    await small.owners(ObjectKind.RUN, ["r9"])
    assert server.asked[RUNS] == 10
    await small.owners(ObjectKind.RUN, ["r0"])
    assert server.asked[RUNS] == 11
