"""What MLflow's answers are taken for."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from collector.mlflow.client import open_mlflow
from collector.retention.rules import RetainedTrace
from collector.retention.source import StoreTrouble, TraceStore
from collector.settings import MlflowSettings, RetentionSettings
from tests.support.ports import free_port


async def page_to_log_in(_: web.Request) -> web.Response:
    return web.Response(text="<html>log in</html>", content_type="text/html")


@asynccontextmanager
async def asking(answer: Handler) -> AsyncIterator[TraceStore]:
    """MLflow whose every answer is this."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with open_mlflow(MlflowSettings(url=f"http://127.0.0.1:{port}"), max_connections=1) as mlflow:
        yield TraceStore(mlflow=mlflow, share=1.0)
    await runner.cleanup()


@pytest.fixture
async def store() -> AsyncIterator[TraceStore]:
    async with asking(page_to_log_in) as store:
        yield store


async def test_an_answer_that_is_no_json_does_not_mean_that_nothing_is_protected(store: TraceStore) -> None:
    with pytest.raises(StoreTrouble, match="no JSON object"):
        await store.protected(["1"], runs=False, datasets=True)
    with pytest.raises(StoreTrouble, match="no JSON object"):
        await store.protected(["1"], runs=True, datasets=False)


async def test_an_answer_that_is_no_json_does_not_mean_that_traces_are_gone(store: TraceStore) -> None:
    with pytest.raises(StoreTrouble, match="no JSON object"):
        await store.infos(["tr-1"])


async def test_traces_of_one_moment_come_in_their_order_though_the_reader_deletes_them() -> None:
    there = {f"tr-{number:032x}": 1_000 + (number >= 250) for number in range(260)}

    async def search(request: web.Request) -> web.Response:
        asked = await request.json()
        (start,) = re.findall(r"timestamp_ms >= (\d+)", asked["filter"])
        found = [id for id, at in there.items() if at >= int(start)]
        first = int(asked.get("page_token") or 0)  # an offset, as MLflow's
        end = first + int(asked["max_results"])
        page = [{"trace_id": id, "request_time": f"1970-01-01T00:00:0{there[id] / 1000}Z"} for id in found]
        more = {"next_page_token": str(end)} if end < len(found) else {}
        return web.json_response({"traces": page[first:end]} | more)

    rule = RetentionSettings(name="r", max_traces=1)
    ids, seen = list(there), list[str]()
    async with asking(search) as store:
        async for page in store.oldest_first("1", rule, before_unix_ms=2_000):
            seen += [trace.id for trace in page]
            for trace in page:
                del there[trace.id]
    assert seen == ids


async def test_no_more_is_read_at_once_than_one_answer_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.retention.source.MAX_CONTENT_BYTES", 1_000)
    sizes = {f"tr-{number}": 1_200 if number == 3 else 600 for number in range(7)}

    async def traces(request: web.Request) -> web.Response:
        asked = request.query.values()
        return web.json_response({"traces": [{"trace_id": id, "x": "y" * sizes[id]} for id in asked]})

    async with asking(traces) as store:
        asked = [RetainedTrace(id=id, started_unix_ms=0, size_bytes=0, info={}) for id in sizes]
        found = [each["trace_id"] async for some in store.whole(asked) for each in some]
    assert found == [id for id in sizes if id != "tr-3"]  # that is too large alone


async def test_a_trace_that_mlflow_can_not_tell_keeps_no_other_one_back() -> None:
    ids = [f"tr-{number}" for number in range(7)]

    async def traces(request: web.Request) -> web.Response:
        asked = request.query.values()
        failed = web.json_response({"error_code": "INTERNAL_ERROR"}, status=500)
        return (
            failed if "tr-3" in asked else web.json_response({"traces": [{"trace_id": id} for id in asked]})
        )

    async with asking(traces) as store:
        asked = [RetainedTrace(id=id, started_unix_ms=0, size_bytes=0, info={}) for id in ids]
        found = [each["trace_id"] async for some in store.whole(asked) for each in some]
    assert found == [id for id in ids if id != "tr-3"]


async def test_links_are_looked_for_among_the_traces_that_are_to_go() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        document = await request.json()
        if request.path.endswith("/experiments/search"):
            return web.json_response({"experiments": [{"experiment_id": "1", "name": "one"}]})
        if request.path.endswith("/runs/search"):
            return web.json_response({"runs": [{"info": {"run_id": "r"}}]})
        asked.append(document["filter"])
        return web.json_response({"traces": [{"trace_id": "tr-2"}]})

    async with asking(answer) as store:
        found = await store.linked("1", ["tr-1", "tr-2"], runs=True, datasets=False)
    assert found.in_runs == {"tr-2"}
    assert asked == ["attributes.run_id = 'r' AND attributes.request_id IN ('tr-1', 'tr-2')"]


async def test_a_dataset_that_has_not_changed_is_not_read_again() -> None:
    changed, read = {"one": 1, "two": 1}, list[str]()

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/datasets/search"):
            listed = [{"dataset_id": id, "last_update_time": at} for id, at in changed.items()]
            return web.json_response({"datasets": listed})
        read.append(request.path.split("/")[-2])
        source = {"source_data": {"trace_id": f"tr-{read[-1]}-{changed[read[-1]]}"}}
        return web.json_response({"records": json.dumps([{"source": source}])})

    async with asking(answer) as store:
        first = await store.linked("1", ["tr-1"], runs=False, datasets=True)
        changed["two"] = 2
        second = await store.linked("1", ["tr-1"], runs=False, datasets=True)
    assert read == ["one", "two", "two"]
    assert first.in_datasets == {"tr-one-1", "tr-two-1"}
    assert second.in_datasets == {"tr-one-1", "tr-two-2"}


async def test_a_run_that_is_deleted_while_runs_are_listed_hides_no_other_one() -> None:
    runs = [f"run{number}" for number in range(5)]

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        if request.path.endswith("/experiments/search"):
            return web.json_response({"experiments": [{"experiment_id": "1", "name": "one"}]})
        if request.path.endswith("/runs/search"):
            first = int(asked.get("page_token") or 0)  # an offset, as MLflow's
            page = [{"info": {"run_id": id}} for id in runs[first : first + 2]]
            more = {"next_page_token": str(first + 2)} if first + 2 < len(runs) else {}
            if runs[0] == "run0":
                del runs[0]
            return web.json_response({"runs": page} | more)
        (id,) = re.findall(r"run_id = '(.*)'", asked["filter"])
        return web.json_response({"traces": [{"trace_id": f"tr-of-{id}"}]})

    async with asking(answer) as store:
        found = await store.protected(["1"], runs=True, datasets=False)
    assert found.in_runs == {f"tr-of-run{number}" for number in range(5)}
