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

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from collector.answers.rights import visible
from collector.index.backfill import Backfill
from collector.index.feed import CONSUMER
from collector.index.protocol import FileAnswer, Index, IndexAway, IndexQuery, QueryKind, QueryTimedOut
from collector.journal import Journal
from collector.model.parameters import error_answer, read_object

QUESTIONS = ("traces", "stats", "compare", "overview", "errors", "facets")
OFF = "the index is switched off (index.enabled = false); single traces and runs can be asked about"

Endpoint = Callable[[Request], Awaitable[Response]]


def index_routes(index: Index | None, journal: Journal, backfill: Backfill | None) -> list[Route]:
    """The routes above. Without an index each says so (503)."""

    def about(kind: QueryKind) -> Endpoint:
        async def ask(request: Request) -> Response:
            return _off() if index is None else await _answered(index, _query(request, kind))

        return ask

    async def session(request: Request) -> Response:
        if index is None:
            return _off()
        id = request.path_params["session"]
        return await _answered(index, _query(request, QueryKind.SESSION, session=id))

    async def state(request: Request) -> Response:
        if index is None:
            return _off()
        return JSONResponse(asdict(await index.state()) | {"trouble": index.trouble})

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
        await index.forget()
        return JSONResponse({"replayed": await journal.replay(CONSUMER, since_unix_ns=0)})

    return [
        Route("/-/traces", about(QueryKind.TRACES), methods=["GET"]),
        *(Route(f"/-/traces/{what}", about(QueryKind(what)), methods=["GET"]) for what in QUESTIONS[1:]),
        Route("/-/sessions", about(QueryKind.SESSIONS), methods=["GET"]),
        Route("/-/sessions/{session:path}", session, methods=["GET"]),
        Route("/-/index", state, methods=["GET"]),
        Route("/-/index/verify", verify, methods=["GET"]),
        Route("/-/index/backfill", fill, methods=["POST"]),
        Route("/-/index/rebuild", rebuild, methods=["POST"]),
    ]


def _query(request: Request, kind: QueryKind, *, session: str = "") -> IndexQuery:
    query, allowed = request.query_params, visible(request)
    return IndexQuery(
        kind=kind,
        parameters={name: query.getlist(name) for name in query},
        experiment_ids=None if allowed is None else frozenset(allowed),
        session=session,
    )


async def _answered(index: Index, query: IndexQuery) -> Response:
    try:
        answer = await index.ask(query)
    except QueryTimedOut as error:
        return error_answer(503, error.document)
    if answer is None:
        unknown = {
            "parameter": "session",
            "value": query.session[:200],
            "message": "no trace that you may see names it",
        }
        return error_answer(404, unknown)
    if isinstance(answer, FileAnswer):
        headers = {"content-disposition": f'attachment; filename="{answer.name}"'}
        return StreamingResponse(answer.chunks, media_type=answer.media_type, headers=headers)
    return Response(answer.body, media_type="application/json")


def _off() -> Response:
    return error_answer(503, {"parameter": "index.enabled", "value": False, "message": OFF})


async def index_trouble(request: Request, error: Exception) -> Response:
    """The handler for IndexAway and MlflowSays."""
    parameter = "index" if isinstance(error, IndexAway) else "mlflow"
    return error_answer(503, {"parameter": parameter, "value": str(request.url.path), "message": str(error)})
