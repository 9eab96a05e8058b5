"""Many traces, sessions and the index over HTTP.

GET  /-/traces                 rows, filters, sort, pages; ?format=json|csv|parquet
GET  /-/traces/stats           metric x breakdown x time bucket
GET  /-/traces/compare         two sides: a.since=… b.since=…
GET  /-/traces/overview        what the page shows first
GET  /-/traces/errors          errors grouped by message
GET  /-/traces/facets          the values to filter by
GET  /-/sessions               conversations
GET  /-/sessions/{session}     one, with its turns
GET  /-/index                  what the index holds
GET  /-/index/verify           its counts beside MLflow's
POST /-/index/backfill         {"experiment_id" or "experiment_name", "since_unix_ms"}: one step
POST /-/index/rebuild          read again what the journal holds
"""

from functools import partial

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from collector.answers.opening import Answers
from collector.api.own_route import OwnRoute, Parameter
from collector.api.query_parameters import BUCKET, STATISTICS, filters, table
from collector.api.reading import parameters_of, read_object, rights_of
from collector.index.protocol import FileAnswer, QueryKind
from collector.index.queries.filters import SCORE_FILTERS, SPAN_FILTERS, TRACE_FILTERS
from collector.index.queries.models import (
    Compared,
    ErrorPage,
    Facets,
    Overview,
    Session,
    SessionPage,
    Stats,
    TracePage,
)
from collector.index.queries.tables import ERROR_SORTS, SESSION_SORTS, TRACE_SORTS
from collector.settings import Role

# what some of the things that are counted can be filtered by
STATS_FILTERS = tuple(dict.fromkeys((*SPAN_FILTERS, *SCORE_FILTERS)))


async def _ask(request: Request, answers: Answers, *, question: QueryKind) -> Response:
    session = request.path_params.get("session", "")
    answer = await answers.many_traces.ask(
        question, parameters_of(request), rights=rights_of(request), session=session
    )
    if isinstance(answer, FileAnswer):
        headers = {"content-disposition": f'attachment; filename="{answer.name}"'}
        return StreamingResponse(answer.chunks, media_type=answer.media_type, headers=headers)
    return Response(answer, media_type="application/json")


async def _state(_: Request, answers: Answers) -> Response:
    return JSONResponse(await answers.index.state())


async def _verify(request: Request, answers: Answers) -> Response:
    ids = request.query_params.getlist("experiment_id")
    return JSONResponse({"experiments": await answers.index.verify(ids)})


async def _backfill(request: Request, answers: Answers) -> Response:
    return JSONResponse(await answers.index.backfill(await read_object(request)))


async def _rebuild(_: Request, answers: Answers) -> Response:
    return JSONResponse({"replayed": await answers.index.rebuild()})


def _question(
    question: QueryKind,
    summary: str,
    parameters: tuple[Parameter, ...],
    answer: type[BaseModel],
    *,
    path: str = "",
) -> OwnRoute:
    return OwnRoute(
        method="GET",
        path=path or f"/-/traces/{question}",
        permission="traces:read",
        handler=partial(_ask, question=question),
        summary=summary,
        parameters=parameters,
        answer=answer,
        from_index=True,
    )


QUESTION_ROUTES = (
    _question(
        QueryKind.TRACES,
        "List traces",
        (*filters(TRACE_FILTERS), *table(TRACE_SORTS)),
        TracePage,
        path="/-/traces",
    ),
    _question(
        QueryKind.STATS,
        "Compute statistics of traces, spans, model calls, tool calls, errors, sessions or scores: metrics "
        "by dimension and time bucket",
        (*STATISTICS, *filters(STATS_FILTERS)),
        Stats,
    ),
    _question(
        QueryKind.COMPARE,
        "Compare two selections, a and b. A filter without a prefix applies to both; a.since or b.version "
        "applies to one",
        (*STATISTICS, *filters(STATS_FILTERS)),
        Compared,
    ),
    _question(
        QueryKind.OVERVIEW,
        "Get an overview: totals and their change, a time series, the top agents, models, tools, errors and "
        "scores",
        (*filters(TRACE_FILTERS), BUCKET),
        Overview,
    ),
    _question(
        QueryKind.ERRORS,
        "List errors grouped by message, ignoring IDs, numbers and names",
        (*filters(SPAN_FILTERS), *table(ERROR_SORTS, paged=False)),
        ErrorPage,
    ),
    _question(
        QueryKind.FACETS,
        "List the values of each filter, most frequent first",
        filters(TRACE_FILTERS),
        Facets,
    ),
    _question(
        QueryKind.SESSIONS,
        "List sessions",
        (*filters(TRACE_FILTERS), *table(SESSION_SORTS)),
        SessionPage,
        path="/-/sessions",
    ),
    OwnRoute(
        method="GET",
        path="/-/sessions/{session:path}",
        permission="traces:read",
        handler=partial(_ask, question=QueryKind.SESSION),
        summary="Get a session with its turns",
        parameters=(
            Parameter(name="session", description="Session ID", place="path", required=True),
            *filters(("experiment_id", "experiment_name")),
        ),
        answer=Session,
        from_index=True,
    ),
)
UPKEEP_ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/index",
        permission="metrics:read",
        reach="server",
        handler=_state,
        summary="Get the size of the index and the number of traces and spans by experiment",
    ),
    OwnRoute(
        method="GET",
        path="/-/index/verify",
        permission="metrics:read",
        reach="server",
        handler=_verify,
        summary="Compare the number of traces and spans in the index and in MLflow, by experiment",
        parameters=(
            Parameter(
                name="experiment_id", description="Experiment ID; default: all in the index", repeated=True
            ),
        ),
    ),
    OwnRoute(
        method="POST",
        path="/-/index/backfill",
        permission="journal:write",
        reach="server",
        handler=_backfill,
        summary="Read one page of an experiment's traces from MLflow into the index",
        body_description='{"experiment_name": "…", "since_unix_ms": 0}; repeat until `done` is true',
    ),
    OwnRoute(
        method="POST",
        path="/-/index/rebuild",
        permission="journal:write",
        reach="server",
        handler=_rebuild,
        role=Role.INDEX,
        summary="Index everything in the journal again",
        body_description="{}",
    ),
)
ROUTES = (*QUESTION_ROUTES, *UPKEEP_ROUTES)
