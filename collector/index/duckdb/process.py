"""The process of the index: DuckDB, and the two things that are done with it, over HTTP on a Unix socket.

    POST /take        read on in the journal           one thread, modest: it works while clients don't need
    POST /put         traces that MLflow holds         the processor
    POST /ask/{what}  questions (collector.index.queries)    a few threads, at once
    POST /trace/{id}  one trace, summarised
    GET  /state       what is in here

It has a process of its own for two reasons: putting spans into rows is Python that would take the processor
from the service's answers, and DuckDB lets one process have the file. Whoever can open the socket may ask
anything: rights are looked at in front (collector.api.access). It ends when its standard input does.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from collector.files.private import keep_to_ourselves
from collector.index.duckdb import answers
from collector.index.duckdb.answers import Export
from collector.index.duckdb.shard import Gathered, write_rows
from collector.index.duckdb.store import EXPORTS, Store, open_store
from collector.index.duckdb.take import COLLECT_FROM_OBJECTS, Lane, Taker, stand_back
from collector.index.queries.asked import Asked
from collector.model.error_answers import bad_parameter, error_answer
from collector.model.parameters import BadParameter
from collector.model.place import Place
from collector.settings import Log
from collector.spans.mlflow_trace import read_traces
from collector.spans.summary import summarise
from collector.spans.values import SpanFacts
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.logs import configure_logs

_log = logging.getLogger("sidespan.index")

T = TypeVar("T")
READERS = 3
KEEP_SECONDS = 30.0
QUERY_SECONDS = 60.0
TABLES = {"traces": answers.traces, "sessions": answers.sessions, "errors": answers.errors}
NUMBERS = {
    "stats": answers.stats,
    "compare": answers.compare,
    "overview": answers.overview,
    "facets": answers.facets,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the service says to its index at the start."""

    folder: str
    journal: str
    socket: str
    memory_bytes: int
    processes: int
    preview_characters: int
    max_age_seconds: float
    max_bytes: int
    log_level: str
    log_format: str


class Index:
    """The store, with its threads: one that changes it, a few that read."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self._fault_log = FaultLog()
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="index-write", initializer=stand_back)
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="index-read")

    async def open(self) -> None:
        """Open the file; in the thread that will change it."""
        self.store, self.taker = await self.write(self._open)
        # only ever asked for further connections
        self._source = self.store.reader()

    def _open(self) -> tuple[Store, Taker]:
        given = self.given
        store = open_store(
            Path(given.folder), memory_bytes=given.memory_bytes, threads=max(2, os.cpu_count() or 2)
        )
        return store, Taker(
            store,
            Path(given.journal),
            processes=given.processes,
            preview_characters=given.preview_characters,
        )

    async def write(self, run: Callable[[], T]) -> T:
        """In the one thread that changes the store."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, run)

    async def read(self, run: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """In a thread of its own, with a connection of its own; cut short after QUERY_SECONDS."""

        def with_connection() -> T:
            db = self._source.cursor()
            timer = threading.Timer(QUERY_SECONDS, db.interrupt)
            timer.start()
            try:
                return run(db)
            finally:
                timer.cancel()
                db.close()

        return await asyncio.get_running_loop().run_in_executor(self._reading, with_connection)

    def take(self, lanes: list[Lane], limit_spans: int) -> dict[str, Any]:
        """As Taker.take; what it took, and which experiments lack a name or an id."""
        self.taker.follow()
        taken = self.taker.take(lanes, limit_spans=limit_spans)
        unnamed = [asdict(place) for place in self.store.unnamed()]
        return asdict(taken) | {"unnamed": unnamed}

    def put(self, body: bytes, place: Place) -> dict[str, int]:
        """Traces in MLflow's JSON. What the journal brings is not overwritten by what MLflow made of it."""
        self.taker.put_off()
        number = self.store.number_of(place)
        found = {
            (number, trace.spans[0].trace_id): Gathered(
                spans=list(trace.spans),
                run_id=trace.run_id,
                seen_unix_ns=min(span.start_unix_ns for span in trace.spans),
            )
            for trace in read_traces(body)
            if trace.spans
        }
        stored = self.store.stored(list(found))
        for key, before in stored.items():
            known = {span.span_id for span in before.spans}
            fresh = [span for span in found[key].spans if span.span_id not in known]
            before.spans += fresh
            before.run_id = before.run_id or found[key].run_id
            found[key] = before
        batch = write_rows(
            found,
            into=self.store.path.parent,
            name="put",
            preview_characters=self.given.preview_characters,
        )
        self._fault_log.tell("a span is indexed with its name and times alone", batch.faults)
        self.store.put([batch], {})
        return {"traces": len(found), "spans": sum(len(trace.spans) for trace in found.values())}

    def name(self, place: Place) -> None:
        """Both of an experiment's id and name are known now."""
        self.taker.put_off()
        self.store.number_of(place)

    def forget_cursors(self) -> None:
        """Have everything that the journal still holds come again."""
        self.taker.put_off()
        self.store.forget_cursors()

    def keep(self) -> None:
        """Take out what is too old or too much, and let helping processes go that have nothing to do."""
        self.taker.put_off()
        self.taker.idle()
        before = time.time_ns() - int(self.given.max_age_seconds * 1e9)
        gone = self.store.forget(seen_before_unix_ns=before, max_bytes=self.given.max_bytes)
        if gone:
            _log.info("old traces left the index", extra={"traces": gone})

    def close(self) -> None:
        """In the thread that changes the store."""
        self.taker.close()
        self.store.close()


def routes(index: Index) -> list[Route]:
    """The paths above."""

    def self_contained(spans: list[SpanFacts]) -> bool:
        """No error's message was cut."""
        most = index.given.preview_characters
        return all(len(span.error_message or "") < most for span in spans if span.is_error)

    async def take(request: Request) -> Response:
        document = await request.json()
        lanes = [
            Lane(lane=each["lane"], place=Place(id=each["id"], name=each["name"]))
            for each in document["lanes"]
        ]
        try:
            return JSONResponse(await index.write(partial(index.take, lanes, document["limit_spans"])))
        except Exception as error:
            if not is_about_the_data(error):
                raise
            _log.exception("the rows of a batch can't be stored; smaller ones are tried")
            refused = {"parameter": "lanes", "value": None, "message": type(error).__name__}
            return error_answer(422, refused)

    async def put(request: Request) -> Response:
        place = Place(id=request.query_params["id"], name=request.query_params.get("name"))
        body = await request.body()
        try:
            return JSONResponse(await index.write(partial(index.put, body, place)))
        except ValueError as error:
            return error_answer(502, {"parameter": "mlflow", "value": None, "message": str(error)})

    async def name(request: Request) -> Response:
        document = await request.json()
        place = Place(id=document["id"], name=document["name"])
        await index.write(partial(index.name, place))
        return JSONResponse({})

    async def forget_cursors(_: Request) -> Response:
        await index.write(index.forget_cursors)
        return JSONResponse({})

    async def ask(request: Request) -> Response:
        what, asked = request.path_params["what"], _asked(await request.json())
        temporary = index.store.path.parent / EXPORTS
        if what in TABLES:
            table = TABLES[what]
            found = await index.read(lambda db: table(db, asked, temporary))
            if isinstance(found, Export):
                headers = {"content-disposition": f'attachment; filename="{found.name}"'}
                chunks = iterate_in_threadpool(found.chunks())
                return StreamingResponse(chunks, media_type=found.media_type, headers=headers)
            return JSONResponse(found)
        numbers = NUMBERS[what]
        return JSONResponse(await index.read(lambda db: numbers(db, asked)))

    async def session(request: Request) -> Response:
        document = await request.json()
        asked, id = _asked(document), document["session"]
        found = await index.read(lambda db: answers.session(db, asked, id))
        if found is None:
            unknown = {
                "parameter": "session",
                "value": id[:200],
                "message": "no trace that you may see names it",
            }
            return error_answer(404, unknown)
        return JSONResponse(found)

    async def trace(request: Request) -> Response:
        document = await request.json()
        id, allowed = request.path_params["id"], document["experiments"]
        experiments = None if allowed is None else frozenset(allowed)

        def read(db: duckdb.DuckDBPyConnection) -> bytes | None:
            found = answers.find_spans(db, id, experiments)
            if found is None or (document["whole"] and not (found[1]["whole"] and self_contained(found[0]))):
                return None
            spans, about = found
            summary = summarise(
                spans,
                trace_id=id,
                experiment_id=about["experiment_id"],
                experiment_name=about["experiment_name"],
                max_spans=document["max_spans"],
                incomplete=document["incomplete"],
            )
            return json.dumps(summary.to_json()).encode()

        body = await index.read(read)
        if body is None:
            return error_answer(404, {"parameter": "trace_id", "value": id, "message": "not in the index"})
        return Response(body, media_type="application/json")

    async def owners(request: Request) -> Response:
        id = request.path_params["id"]

        def read(db: duckdb.DuckDBPyConnection) -> list[str]:
            rows = db.execute(
                "SELECT e.id FROM traces t JOIN experiments e ON e.number = t.experiment"
                " WHERE t.trace_id = ? AND e.id IS NOT NULL",
                [id],
            )
            return [row[0] for row in rows.fetchall()]

        return JSONResponse({"experiments": await index.read(read)})

    async def state(_: Request) -> Response:
        def read(db: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
            return db.execute(
                "SELECT e.id, e.name, count(*), sum(t.span_count), min(t.start_unix_ns), max(t.start_unix_ns)"
                " FROM traces t JOIN experiments e ON e.number = t.experiment GROUP BY 1, 2 ORDER BY 3 DESC"
            ).fetchall()

        names = ("id", "name", "traces", "spans", "first_unix_ns", "last_unix_ns")
        rows = [dict(zip(names, row, strict=True)) for row in await index.read(read)]
        return JSONResponse(
            {
                "traces": sum(row["traces"] for row in rows),
                "spans": sum(row["spans"] for row in rows),
                "size_bytes": await index.write(index.store.size_bytes),
                "experiments": rows,
            }
        )

    return [
        Route("/take", take, methods=["POST"]),
        Route("/put", put, methods=["POST"]),
        Route("/name", name, methods=["POST"]),
        Route("/forget-cursors", forget_cursors, methods=["POST"]),
        Route("/ask/{what}", ask, methods=["POST"]),
        Route("/session", session, methods=["POST"]),
        Route("/trace/{id}", trace, methods=["POST"]),
        Route("/owners/{id}", owners, methods=["POST"]),
        Route("/state", state, methods=["GET"]),
    ]


def is_about_the_data(error: Exception) -> bool:
    """Whether the same rows will never be stored; else it is the disk, the memory or the file."""
    if isinstance(error, duckdb.Error):
        return isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
    return not isinstance(error, sqlite3.Error | OSError | MemoryError)


def _asked(document: Mapping[str, Any]) -> Asked:
    allowed = document["experiments"]
    return Asked(
        parameters=document["parameters"],
        now_unix_ns=time.time_ns(),
        experiments=None if allowed is None else frozenset(allowed),
    )


async def _interrupted(_: Request, __: Exception) -> Response:
    message = f"it took longer than {QUERY_SECONDS:g} s; ask for less time (since), or for fewer groups"
    return error_answer(503, {"parameter": "since", "value": None, "message": message})


async def serve(given: Given) -> None:
    """Until standard input ends."""
    index = Index(given)
    await index.open()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        keeping = asyncio.create_task(_keep(index))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    app = Starlette(
        routes=routes(index),
        exception_handlers={BadParameter: bad_parameter, duckdb.InterruptException: _interrupted},
        lifespan=lifespan,
    )
    config = uvicorn.Config(
        app,
        uds=given.socket,
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_FROM_OBJECTS, 20, 20)
    await server._serve()  # serve() itself would take over the signals, which the service has
    await index.write(index.close)


async def _keep(index: Index) -> None:
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        try:
            await index.write(index.keep)
        except duckdb.Error:
            _log.exception("the index could not be tidied")


def main() -> None:
    """`python -m collector.index.duckdb`, with what `Given` holds as JSON in the only argument."""
    # the service is told to stop, and lets go of us when it is done
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    given = Given(**json.loads(sys.argv[1]))
    keep_to_ourselves()
    configure_logs(Log.model_validate({"level": given.log_level, "format": given.log_format}))
    asyncio.run(serve(given))
    logging.shutdown()
    # the interpreter's own end would print DuckDB's complaints about its bindings
    os._exit(0)
