"""The document about our own HTTP API (OpenAPI 3.1), made from the code's own shapes, and the page that shows
it.

    GET /-/openapi.json
    GET /-/docs           reads it, and sends requests; served by us alone
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.answers.health import sidespan_version
from collector.answers.runs.models import Comparison, RunDetail, RunPage
from collector.api.logs_api import LogsRequest, RunsAnswer, RunsRequest
from collector.api.page import HEADERS
from collector.index.queries.filters import SPAN_FILTERS, TRACE_FILTERS
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
from collector.index.queries.stats import ENTITIES
from collector.index.queries.tables import ERROR_SORTS, SESSION_SORTS, TRACE_SORTS

REFERENCE = "#/components/schemas/{model}"


class ErrorBody(BaseModel):
    """What can't be right."""

    parameter: str
    value: Any
    message: str


class Error(BaseModel):
    """The one form of errors."""

    error: ErrorBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter in the path or the query."""

    name: str
    about: str
    place: str = "query"
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path with a method. `answer` None: any JSON object, or the media type of `media`."""

    method: str
    path: str
    about: str
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    media: str = "application/json"


TRACE_ID = Parameter(name="trace_id", about="32 hex digits, with or without tr-", place="path", required=True)
LETTER = Parameter(name="id", about="As the list shows it", place="path", required=True)

FILTERS_ABOUT = {
    "experiment_id": "Experiments, by id",
    "experiment_name": "Experiments, by name",
    "since": "First start: how long ago (-1h, -30m, -7d), ISO 8601, or a time since 1970",
    "until": "Start before this",
    "min_duration_seconds": "At least so long",
    "max_duration_seconds": "At most so long",
    "min_cost_usd": "At least so dear",
    "status": "OK, ERROR or UNKNOWN; of spans, calls and errors their own",
    "trace_status": "That of the trace around a span",
    "tag": "name=value, or a name",
    "error": "A group of errors, as /-/traces/errors names it",
    "name": "The trace's name; as every text here, it may end in *",
    "span": "The span's name",
    "kind": "LLM, TOOL, AGENT, …",
}
STATS_ABOUT = (
    Parameter(name="of", about=f"One of {', '.join(ENTITIES)}; traces"),
    Parameter(
        name="metric",
        about="; ".join(f"of {name}: {', '.join(each.metrics)}" for name, each in ENTITIES.items()),
        repeated=True,
    ),
    Parameter(
        name="by",
        about="; ".join(f"of {name}: {', '.join(each.dimensions)}" for name, each in ENTITIES.items()),
        repeated=True,
    ),
    Parameter(name="top", about="How many groups, 1 to 1,000; 20"),
    Parameter(name="order", about="A metric or dimension that is asked for, with - for the largest first"),
    Parameter(name="bucket", about="Step of the time axis, as 5m or 1h, or auto; none: no axis"),
)


def filters_about(names: Sequence[str]) -> tuple[Parameter, ...]:
    """The filters of these names."""
    single = ("since", "until", "min_duration_seconds", "max_duration_seconds", "min_cost_usd")
    return tuple(
        Parameter(
            name=name,
            about=FILTERS_ABOUT.get(name, f"The {name.replace('_', ' ')}"),
            repeated=name not in single,
        )
        for name in names
    )


def table_about(sorts: Iterable[str], *, paged: bool = True) -> tuple[Parameter, ...]:
    """How rows are sorted and cut into pages."""
    cursor = (Parameter(name="cursor", about="next_cursor of the page before"),) if paged else ()
    return (
        Parameter(name="sort", about=f"One of {', '.join(sorts)}, with - for the largest first"),
        Parameter(name="limit", about="1 to 1,000; 100. Of a file 1 to 1,000,000"),
        *cursor,
        Parameter(name="format", about="json, csv or parquet"),
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(method="GET", path="/-/healthy", about="The process lives", media="text/plain"),
    Endpoint(method="GET", path="/-/ready", about="Whether data is taken, with a reason for each part"),
    Endpoint(method="GET", path="/-/metrics", about="Prometheus", media="text/plain"),
    Endpoint(
        method="GET",
        path="/-/traces",
        about="Rows of traces",
        parameters=(*filters_about(TRACE_FILTERS), *table_about(TRACE_SORTS)),
        answer=TracePage,
    ),
    Endpoint(
        method="GET",
        path="/-/traces/stats",
        about="Numbers: metric x breakdown x time bucket over traces, spans, calls, errors or sessions",
        parameters=(*STATS_ABOUT, *filters_about(SPAN_FILTERS)),
        answer=Stats,
    ),
    Endpoint(
        method="GET",
        path="/-/traces/compare",
        about="Two sides: every filter also as a.since, b.version …, for one side alone",
        parameters=(*STATS_ABOUT, *filters_about(SPAN_FILTERS)),
        answer=Compared,
    ),
    Endpoint(
        method="GET",
        path="/-/traces/overview",
        about="Totals and what changed, the time axis, top agents, models, tools and errors",
        parameters=(*filters_about(TRACE_FILTERS), STATS_ABOUT[-1]),
        answer=Overview,
    ),
    Endpoint(
        method="GET",
        path="/-/traces/errors",
        about="Errors whose messages are the same but for ids, numbers and names",
        parameters=(*filters_about(SPAN_FILTERS), *table_about(ERROR_SORTS, paged=False)),
        answer=ErrorPage,
    ),
    Endpoint(
        method="GET",
        path="/-/traces/facets",
        about="What there is to filter by, the most frequent values first",
        parameters=filters_about(TRACE_FILTERS),
        answer=Facets,
    ),
    Endpoint(
        method="GET",
        path="/-/sessions",
        about="Rows of conversations",
        parameters=(*filters_about(TRACE_FILTERS), *table_about(SESSION_SORTS)),
        answer=SessionPage,
    ),
    Endpoint(
        method="GET",
        path="/-/sessions/{session}",
        about="One conversation with its turns",
        parameters=(
            Parameter(name="session", about="Its id", place="path", required=True),
            *filters_about(("experiment_id", "experiment_name")),
        ),
        answer=Session,
    ),
    Endpoint(method="GET", path="/-/index", about="What the index holds"),
    Endpoint(
        method="GET",
        path="/-/index/verify",
        about="Traces and spans of each experiment, in the index and in MLflow",
        parameters=(Parameter(name="experiment_id", about="Only these", repeated=True),),
    ),
    Endpoint(
        method="POST",
        path="/-/index/backfill",
        about='One step of reading MLflow: {"experiment_name": "…", "since_unix_ms": 0}, until done is true',
    ),
    Endpoint(method="POST", path="/-/index/rebuild", about="Read again what the journal holds: {}"),
    Endpoint(
        method="GET",
        path="/-/traces/{trace_id}",
        about="One trace, summarised",
        parameters=(TRACE_ID, Parameter(name="max_spans", about="Rows of spans, 0 to 30,000")),
    ),
    Endpoint(
        method="GET",
        path="/-/traces/{trace_id}/explanation",
        about="Where the facts of a trace come from, and what is done to it",
        parameters=(TRACE_ID,),
    ),
    Endpoint(
        method="GET",
        path="/-/runs",
        about="A page of the runs of experiments, with their latest metrics",
        parameters=(
            Parameter(name="experiment_id", about="One or more ids", repeated=True),
            Parameter(name="experiment_name", about="Or a name"),
            Parameter(name="filter", about="MLflow's filter, as metrics.loss < 1"),
            Parameter(name="order_by", about="As metrics.loss ASC", repeated=True),
            Parameter(name="limit", about="1 to 1,000; 100"),
            Parameter(name="page_token", about="next_page_token of the page before"),
        ),
        answer=RunPage,
    ),
    Endpoint(
        method="GET",
        path="/-/runs/compare",
        about="Runs side by side: what differs, and by how much",
        parameters=(Parameter(name="run_id", about="2 to 20 runs", required=True, repeated=True),),
        answer=Comparison,
    ),
    Endpoint(
        method="GET",
        path="/-/runs/{run_id}",
        about="A run with whole metric histories, datasets, files, children and the sum of its traces",
        parameters=(
            Parameter(name="run_id", about="The run", place="path", required=True),
            Parameter(
                name="history", about="Points a metric may have, lowest and highest kept; 200, 0, or all"
            ),
            Parameter(name="metric", about="Only these", repeated=True),
        ),
        answer=RunDetail,
    ),
    Endpoint(method="POST", path="/health", about="Logs API: is MLflow there", body=LogsRequest),
    Endpoint(method="POST", path="/mlflow/experiments", about="Logs API: experiments", body=LogsRequest),
    Endpoint(method="POST", path="/mlflow/runs", about="Logs API: runs", body=RunsRequest, answer=RunsAnswer),
    Endpoint(
        method="GET",
        path="/-/dead-letters",
        about="What MLflow refused for good",
        parameters=(
            Parameter(name="limit", about="1 to 1,000; 100"),
            Parameter(name="after", about="Only ids over this one"),
        ),
    ),
    Endpoint(
        method="GET",
        path="/-/dead-letters/{id}",
        about="One with its spans",
        parameters=(LETTER, Parameter(name="format", about="protobuf for the bytes")),
    ),
    Endpoint(method="POST", path="/-/dead-letters/retry", about='{"ids": [1, 2]} or {"all": true}'),
    Endpoint(method="POST", path="/-/dead-letters/drop", about='{"ids": [1, 2]}'),
    Endpoint(method="POST", path="/-/replay", about='{"since_unix_ns": 1700000000000000000}'),
)


@cache
def openapi_document() -> dict[str, Any]:
    """The document. Source: OpenAPI Specification 3.1.1."""
    bodies: list[type[BaseModel]] = [each.body for each in ENDPOINTS if each.body is not None]
    answers: list[type[BaseModel]] = [each.answer for each in ENDPOINTS if each.answer is not None]
    answers.append(Error)
    inputs: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (shape, "validation") for shape in bodies
    ]
    outputs: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (shape, "serialization") for shape in answers
    ]
    _, schemas = models_json_schema([*inputs, *outputs], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for each in ENDPOINTS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Sidespan",
            "version": sidespan_version(),
            "description": "Everything else on this port is OTLP (/v1/traces) or MLflow's own.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(each: Endpoint) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} if each.media == "text/plain" else {"type": "object"}
    if each.answer is not None:
        schema = {"$ref": REFERENCE.format(model=each.answer.__name__)}
    error = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Error")}}}
    found: dict[str, Any] = {
        "summary": each.about,
        "parameters": [_parameter(parameter) for parameter in each.parameters],
        "responses": {
            "200": {"description": "The answer", "content": {each.media: {"schema": schema}}},
            "4XX": {"description": "Mend the request", "content": error},
            "503": {"description": "Try again", "content": error},
        },
    }
    if each.method == "POST":
        given = (
            {"type": "object"} if each.body is None else {"$ref": REFERENCE.format(model=each.body.__name__)}
        )
        found["requestBody"] = {"content": {"application/json": {"schema": given}}}
    return found


def _parameter(parameter: Parameter) -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.required,
        "schema": {"type": "array", "items": text} if parameter.repeated else text,
    }


def openapi_routes() -> list[Route]:
    """The two routes."""
    page = files("collector.api.page").joinpath("docs.html").read_bytes()

    async def document(_: Request) -> Response:
        return JSONResponse(openapi_document())

    async def docs(_: Request) -> Response:
        return Response(page, media_type="text/html", headers=HEADERS)

    return [
        Route("/-/openapi.json", document, methods=["GET"]),
        Route("/-/docs", docs, methods=["GET"]),
    ]
