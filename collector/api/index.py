"""Questions to the index over HTTP: parameters and rights in, the index's answer out. Thin.

    GET  /-/traces                 rows, filters, sort, pages; ?format=json|csv|parquet
    GET  /-/traces/stats           metric x breakdown x time bucket
    GET  /-/traces/compare         two sides: a.since=… b.since=…
    GET  /-/traces/overview        what the page shows first
    GET  /-/traces/errors          errors that say the same
    GET  /-/traces/facets          what there is to filter by
    GET  /-/sessions               conversations
    GET  /-/sessions/{session}     one, with its turns
    GET  /-/index                  what the index holds
    GET  /-/index/verify           its counts beside MLflow's
    POST /-/index/backfill         {"experiment_id" or "experiment_name", "since_unix_ms"}: one step
    POST /-/index/rebuild          read again what the journal holds

Errors have one form: {"error": {"parameter", "value", "message"}}; 400 a parameter can't be right, 404 nobody
knows it, 503 the index or MLflow can't be asked.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from collector.answers.rights import visible
from collector.index.backfill import Backfill
from collector.index.duckdb.client import IndexAway, IndexClient
from collector.journal import Consumer
from collector.model.parameters import error_answer, read_object

QUESTIONS = ("traces", "stats", "compare", "overview", "errors", "facets")
FORMATS_WITH_FILES = ("csv", "parquet")
OFF = "the index is switched off (index.enabled = false); single traces and runs can be asked about"

Endpoint = Callable[[Request], Awaitable[Response]]


def index_routes(index: IndexClient | None, consumer: Consumer, backfill: Backfill | None) -> list[Route]:
    """The routes above. Without an index each says so (503)."""

    def about(what: str) -> Endpoint:
        async def ask(request: Request) -> Response:
            if index is None:
                return _off()
            document = _document(request)
            if request.query_params.get("format") in FORMATS_WITH_FILES:
                return await _streamed(index, f"/ask/{what}", document)
            answer = await index.post(f"/ask/{what}", document)
            return Response(answer.body, answer.status, media_type="application/json")

        return ask

    async def session(request: Request) -> Response:
        if index is None:
            return _off()
        document = _document(request) | {"session": request.path_params["session"]}
        answer = await index.post("/session", document)
        return Response(answer.body, answer.status, media_type="application/json")

    async def state(request: Request) -> Response:
        if index is None:
            return _off()
        return JSONResponse((await index.get("/state")).json() | {"trouble": index.trouble})

    async def verify(request: Request) -> Response:
        if backfill is None:
            return _off()
        ids = request.query_params.getlist("experiment_id")
        return JSONResponse({"experiments": await backfill.verify(ids)})

    async def fill(request: Request) -> Response:
        if backfill is None:
            return _off()
        document = await read_object(request)
        return JSONResponse(await backfill.step(document))

    async def rebuild(request: Request) -> Response:
        if index is None:
            return _off()
        await index.post("/forget-cursors", {})
        return JSONResponse({"replayed": await consumer.replay(since_unix_ns=0)})

    return [
        Route("/-/traces", about("traces"), methods=["GET"]),
        *(Route(f"/-/traces/{what}", about(what), methods=["GET"]) for what in QUESTIONS[1:]),
        Route("/-/sessions", about("sessions"), methods=["GET"]),
        Route("/-/sessions/{session:path}", session, methods=["GET"]),
        Route("/-/index", state, methods=["GET"]),
        Route("/-/index/verify", verify, methods=["GET"]),
        Route("/-/index/backfill", fill, methods=["POST"]),
        Route("/-/index/rebuild", rebuild, methods=["POST"]),
    ]


def _document(request: Request) -> dict[str, Any]:
    query = request.query_params
    return {
        "parameters": {name: query.getlist(name) for name in query},
        "experiments": visible(request),
    }


async def _streamed(index: IndexClient, path: str, document: dict[str, Any]) -> Response:
    opened = index.stream(path, document)
    answer = await opened.__aenter__()
    if answer.status != 200:
        body = await answer.read()
        await opened.__aexit__(None, None, None)
        return Response(body, answer.status, media_type="application/json")
    names = ("content-type", "content-disposition")
    headers = {name: answer.headers[name] for name in names if name in answer.headers}

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        finally:
            await opened.__aexit__(None, None, None)

    return StreamingResponse(chunks(), headers=headers)


def _off() -> Response:
    return error_answer(503, {"parameter": "index.enabled", "value": False, "message": OFF})


async def index_trouble(request: Request, error: Exception) -> Response:
    """The handler for IndexAway and MlflowSays."""
    parameter = "index" if isinstance(error, IndexAway) else "mlflow"
    return error_answer(503, {"parameter": parameter, "value": str(request.url.path), "message": str(error)})
