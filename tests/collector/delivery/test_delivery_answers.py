"""What MLflow's answers may hold: spans that a success rejects, and far more bytes than anybody asked for."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.mlflow.owners import foreign_traces
from collector.mlflow.client import MAX_ANSWER_BYTES, Mlflow, open_mlflow
from collector.mlflow.experiments import CannotAsk, Experiments
from collector.settings import MlflowSettings
from tests.support.fake_mlflow import FakeMlflow, Fault, running
from tests.support.otlp import all_spans, new_trace_id
from tests.support.ports import free_port
from tests.support.stage import ONE, Stage, named

MIB = 1024 * 1024


def as_protobuf(rejected: int) -> web.Response:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = "no such unit"
    return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")


def as_json(rejected: int) -> web.Response:
    # int64 is a text in protobuf's JSON
    said = {"rejectedSpans": str(rejected), "errorMessage": "no such unit"}
    return web.json_response({"partialSuccess": said})


def rejecting(mlflow: FakeMlflow, names: set[str], answer: Callable[[int], web.Response]) -> Fault:
    """A target that stores everything but the spans of these names, and says so with a 200."""

    def fault(_: web.Request, spans: list[Span]) -> web.StreamResponse:
        taken = [span for span in spans if span.name not in names]
        mlflow.stored |= {(span.trace_id, span.span_id): span.name for span in taken}
        return answer(len(spans) - len(taken))

    return fault


async def parked_names(stage: Stage) -> set[str]:
    letters = [
        await stage.journal.dead_letters("delivery").one(letter.id) for letter in await stage.letters()
    ]
    payloads = [letter.payload for letter in letters if letter is not None]
    return {span.name for each in payloads for span in all_spans(ExportTraceServiceRequest.FromString(each))}


@pytest.mark.parametrize("answer", [as_protobuf, as_json])
@pytest.mark.parametrize("can_be_asked", [True, False], ids=["read_back", "halving_alone"])
async def test_spans_that_a_success_rejects_become_dead_letters(
    stage: Stage, answer: Callable[[int], web.Response], can_be_asked: bool
) -> None:
    stage.mlflow.fault = rejecting(stage.mlflow, {"b-1", "d-0"}, answer)
    if not can_be_asked:
        stage.mlflow.lookup = lambda request: (
            web.Response(status=404) if request.path.endswith("batchGet") else None
        )
    for name in "abcde":
        await stage.append(named(name, spans=3))
    await stage.start()
    await stage.drained()
    assert await parked_names(stage) == {"b-1", "d-0"}
    assert {(letter.reason, letter.span_count) for letter in await stage.letters()} == {("refused", 1)}
    assert all("no such unit" in letter.message for letter in await stage.letters())
    assert stage.mlflow.names == {f"{name}-{n}" for name in "abcde" for n in range(3)} - {"b-1", "d-0"}
    assert stage.counted("sidespan_spans_delivered_total") == 13
    assert stage.counted("sidespan_spans_dead_lettered_total", reason="refused") == 2


async def test_a_success_that_rejects_everything_is_not_taken_apart(stage: Stage) -> None:
    stage.mlflow.fault = rejecting(stage.mlflow, {f"a-{n}" for n in range(64)}, as_protobuf)
    await stage.append(named("a", spans=64))
    await stage.start()
    await stage.drained()
    (letter,) = await stage.letters()
    assert (letter.reason, letter.span_count) == ("refused", 64)
    assert len(stage.mlflow.requests) == 1


async def test_what_mlflow_returns_is_delivered_whatever_its_count_says(stage: Stage) -> None:
    def stores_all(_: web.Request, spans: list[Span]) -> web.StreamResponse:
        stage.mlflow.stored |= {(span.trace_id, span.span_id): span.name for span in spans}
        return as_protobuf(1)

    stage.mlflow.fault = stores_all
    await stage.append(named("a", spans=3))
    await stage.start()
    await stage.drained()
    assert await stage.letters() == []
    assert stage.counted("sidespan_spans_delivered_total") == 3


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(body=b"\xff\xff not protobuf", content_type="application/x-protobuf"),
        web.Response(body=b"ok", content_type="text/html"),
        web.json_response(["partialSuccess"]),
        web.json_response({"partialSuccess": {"rejectedSpans": "some"}}),
        web.json_response({"partialSuccess": {"rejectedSpans": "-1"}}),
        web.json_response({"partialSuccess": {"errorMessage": "a warning"}}),
        web.json_response({}),
    ],
    ids=["broken", "text", "no_object", "no_number", "below_zero", "warning", "empty"],
)
async def test_a_success_that_says_nothing_of_rejected_spans_is_a_success(
    stage: Stage, answer: web.Response
) -> None:
    body, kind = answer.body, answer.content_type
    stage.mlflow.fault = lambda request, spans: web.Response(body=body, content_type=kind)
    await stage.append(named("a", spans=3))
    await stage.start()
    await stage.drained()
    assert await stage.letters() == []
    assert len(stage.mlflow.requests) == 1


# far too much


@asynccontextmanager
async def flooding(status: int, *, pack: bool, total_bytes: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that answers everything with `total_bytes` of blanks; how many it got rid of each time."""
    written: list[int] = []
    packed = gzip.compress(b" " * total_bytes) if pack else b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        written.append(0)
        length = len(packed) or total_bytes
        encoding = "content-encoding: gzip\r\n" if pack else ""
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{encoding}"
            f"content-length: {length}\r\n\r\n".encode()
        )
        try:
            for start in range(0, length, 65536):
                writer.write(packed[start : start + 65536] or b" " * 65536)
                await writer.drain()
                written[-1] += 65536
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}", written
    finally:
        server.close()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Mlflow]:
    async with open_mlflow(MlflowSettings(url=url), max_connections=4) as mlflow:
        yield mlflow


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    ("pack", "total_bytes"), [(False, 200 * MIB), (True, 300 * MIB)], ids=["plain", "inflated"]
)
async def test_at_most_4_mib_of_an_answer_are_read(status: int, pack: bool, total_bytes: int) -> None:
    async with flooding(status, pack=pack, total_bytes=total_bytes) as (url, written):
        async with client_of(url) as mlflow:
            tracemalloc.start()
            answer = await mlflow.post("/v1/traces", body=b"", headers={})
            said = answer.error
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert (answer.status, answer.is_cut, len(answer.body)) == (status, True, MAX_ANSWER_BYTES)
    assert len(said) <= 500
    assert peak < 16 * MIB
    assert pack or written[0] < 32 * MIB  # what the sockets' own buffers hold


async def test_a_flood_in_place_of_an_answer_neither_loses_spans_nor_sends_them_to_the_dead_letters(
    stage: Stage,
) -> None:
    body = gzip.compress(b" " * (64 * MIB))
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    stage.mlflow.fault = lambda request, spans: web.Response(body=body, headers=headers)
    await stage.append(named("a", spans=3))
    await stage.start()
    await stage.drained()
    assert await stage.letters() == []
    assert len(stage.mlflow.requests) == 1


async def test_a_look_up_that_is_cut_decides_nothing() -> None:
    async with flooding(200, pack=True, total_bytes=8 * MIB) as (url, _), client_of(url) as mlflow:
        experiments = Experiments(mlflow, create=True, lookup_timeout_seconds=5)
        assert isinstance(await experiments.resolve(ONE), CannotAsk)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"[" * 100_000], ids=["html", "list", "deep"])
async def test_a_look_up_of_traces_that_cant_be_read_decides_nothing(body: bytes) -> None:
    fake = FakeMlflow()
    fake.lookup = lambda request: web.Response(body=body)
    async with running(fake, free_port()) as url, client_of(url) as mlflow:
        found = await foreign_traces(mlflow, [new_trace_id()], experiment_id="1", workspace=None)
    assert isinstance(found, CannotAsk)


async def test_a_look_up_of_traces_that_is_too_large_is_asked_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.delivery.mlflow.owners.MAX_CONTENT_BYTES", 2000)
    theirs, ours, unknown = (new_trace_id() for _ in range(3))
    homes = {theirs.hex(): "7", ours.hex(): "1"}

    async def infos(request: web.Request) -> web.StreamResponse:
        asked = [id.removeprefix("tr-") for id in (await request.json())["trace_ids"]]
        found = [
            {
                "trace_id": f"tr-{id}",
                "trace_location": {"mlflow_experiment": {"experiment_id": homes[id]}},
                "request_preview": "x" * 1500,
            }
            for id in asked
            if id in homes
        ]
        return web.Response(body=json.dumps({"trace_infos": found}))

    app = web.Application()
    app.router.add_post("/api/3.0/mlflow/traces/batchGetInfos", infos)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with client_of(f"http://127.0.0.1:{port}") as mlflow:
            asked = [theirs, unknown, ours]
            found = await foreign_traces(mlflow, asked, experiment_id="1", workspace=None)
    finally:
        await runner.cleanup()
    assert found == {theirs}
