"""The process of the index: DuckDB's verbs over HTTP on a Unix socket. Paths and documents: messages.py.

It has a process of its own for two reasons: putting spans into rows is Python that would take the processor
from the service's answers, and DuckDB lets one process have the file. Whoever can open the socket may ask
anything: rights are looked at in front (collector/api). It ends when its standard input does.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from collector.files.private import keep_to_ourselves
from collector.index.duckdb.engine import DuckdbIndex, EngineSettings, open_engine
from collector.index.duckdb.messages import (
    NOT_FOUND,
    STATUS,
    ProcessArguments,
    changes_query_from_json,
    delivered_from_query,
    error_to_json,
    experiments_from_json,
    lanes_from_json,
    query_from_json,
    trace_query_from_json,
)
from collector.index.protocol import FileAnswer, HoldsMirror, Index, TellsChanges
from collector.index.rows.crew import calm_garbage_collection
from collector.mirror.question import question_from_json
from collector.mirror.search import search_from_json
from collector.model.experiment import ExperimentReference
from collector.telemetry.logs import configure_logs

KEEP_SECONDS = 30.0
JSON = "application/json"


async def _take(index: Index, request: Request) -> Response:
    document = await request.json()
    lanes = lanes_from_json(document["lanes"])
    return JSONResponse(asdict(await index.take(lanes, limit_spans=document["limit_spans"])))


async def _ask(index: Index, request: Request) -> Response:
    answer = await index.ask(query_from_json(await request.json()))
    if isinstance(answer, FileAnswer):
        headers = {"content-disposition": f'attachment; filename="{answer.name}"'}
        return StreamingResponse(answer.chunks, media_type=answer.media_type, headers=headers)
    return _json(None if answer is None else answer.body)


async def _trace(index: Index, request: Request) -> Response:
    return _json(await index.trace(trace_query_from_json(await request.json())))


async def _owners(index: Index, request: Request) -> Response:
    experiments = await index.owners((await request.json())["trace_id"])
    return JSONResponse({"experiments": sorted(experiments)})


async def _state(index: Index, _: Request) -> Response:
    return JSONResponse(asdict(await index.state()))


async def _put(index: Index, request: Request) -> Response:
    query = request.query_params
    experiment = ExperimentReference(id=query.get("id"), name=query.get("name"))
    delivered = delivered_from_query(query)
    return JSONResponse(asdict(await index.put(await request.body(), experiment, delivered=delivered)))


async def _label(index: Index, request: Request) -> Response:
    delivered = delivered_from_query(request.query_params)
    return JSONResponse({"traces": await index.label(await request.body(), delivered=delivered)})


async def _scores(index: Index, request: Request) -> Response:
    document = await request.json()
    allowed = experiments_from_json(document["experiment_ids"])
    return _json(await index.scores(document["trace_id"], experiment_ids=allowed))


async def _labels(index: Index, request: Request) -> Response:
    labels = await index.labels(**await request.json())
    return JSONResponse({trace_id: asdict(each) for trace_id, each in labels.items()})


async def _name(index: Index, request: Request) -> Response:
    await index.name(ExperimentReference(**await request.json()))
    return JSONResponse({})


async def _forget(index: Index, _: Request) -> Response:
    await index.forget()
    return JSONResponse({})


async def _changes(index: Index, request: Request) -> Response:
    assert isinstance(index, TellsChanges)
    return JSONResponse(asdict(await index.changes(changes_query_from_json(await request.json()))))


async def _mirror_hold(index: Index, request: Request) -> Response:
    assert isinstance(index, HoldsMirror)
    await index.mirror_hold(await request.json())
    return JSONResponse({})


async def _mirror_pull(index: Index, request: Request) -> Response:
    assert isinstance(index, HoldsMirror)
    return JSONResponse(await index.mirror_pull(await request.json()))


async def _mirror_clear(index: Index, request: Request) -> Response:
    assert isinstance(index, HoldsMirror)
    await index.mirror_clear((await request.json())["experiment"])
    return JSONResponse({})


async def _mirror_measure(index: Index, request: Request) -> Response:
    assert isinstance(index, HoldsMirror)
    question = question_from_json(await request.json())
    return JSONResponse(await index.mirror_measure(question))


async def _mirror_find(index: Index, request: Request) -> Response:
    assert isinstance(index, HoldsMirror)
    return JSONResponse(await index.mirror_find(search_from_json(await request.json())))


Endpoint = Callable[[Index, Request], Awaitable[Response]]
ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/take", _take),
    ("POST", "/ask", _ask),
    ("POST", "/trace", _trace),
    ("POST", "/owners", _owners),
    ("GET", "/state", _state),
    ("POST", "/put", _put),
    ("POST", "/label", _label),
    ("POST", "/labels", _labels),
    ("POST", "/scores", _scores),
    ("POST", "/name", _name),
    ("POST", "/forget", _forget),
    ("POST", "/changes", _changes),
    ("POST", "/mirror/hold", _mirror_hold),
    ("POST", "/mirror/pull", _mirror_pull),
    ("POST", "/mirror/clear", _mirror_clear),
    ("POST", "/mirror/measure", _mirror_measure),
    ("POST", "/mirror/find", _mirror_find),
)


def _json(body: bytes | None) -> Response:
    return Response(status_code=NOT_FOUND) if body is None else Response(body, media_type=JSON)


async def _raised(_: Request, error: Exception) -> Response:
    return JSONResponse(error_to_json(error), STATUS[type(error)])


Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def application(index: Index, lifespan: Lifespan | None = None) -> Starlette:
    """The index's verbs over HTTP."""
    routes = [Route(path, partial(endpoint, index), methods=[method]) for method, path, endpoint in ENDPOINTS]
    return Starlette(routes=routes, exception_handlers=dict.fromkeys(STATUS, _raised), lifespan=lifespan)


async def serve(arguments: ProcessArguments) -> None:
    """Until standard input ends."""
    settings = EngineSettings(
        folder=Path(arguments.folder),
        journal=Path(arguments.journal),
        memory_bytes=arguments.memory_bytes,
        processes=arguments.processes,
        preview_characters=arguments.preview_characters,
        max_age_seconds=arguments.max_age_seconds,
        max_bytes=arguments.max_bytes,
    )
    async with open_engine(settings) as index:
        server = uvicorn.Server(server_config(index, arguments.socket))
        _end_with_standard_input(server)
        calm_garbage_collection()
        await server._serve()  # serve() itself would take over the signals, which the service has


def server_config(index: DuckdbIndex, socket: str) -> uvicorn.Config:
    """How its own HTTP is served; an idle connection is closed after uvicorn's 5 s."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        keeping = asyncio.create_task(_keep(index))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    return uvicorn.Config(
        application(index, lifespan),
        uds=socket,
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


def _end_with_standard_input(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


async def _keep(index: DuckdbIndex) -> None:
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        await index.keep()


def main() -> None:
    """`python -m collector.index.duckdb`, with ProcessArguments as JSON in the only argument."""
    # the service is told to stop, and lets go of us when it is done
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    arguments = ProcessArguments(**json.loads(sys.argv[1]))
    keep_to_ourselves()
    configure_logs(level=arguments.log_level, format=arguments.log_format)
    asyncio.run(serve(arguments))
    logging.shutdown()
    # the interpreter's own end would print DuckDB's complaints about its bindings
    os._exit(0)
