"""What each tool takes. An unknown argument is an error that names it, so a typo never widens a question."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from collector.index.queries.descriptions import ONCE
from collector.index.queries.filters import SPAN_FILTERS, TRACE_FILTERS
from collector.index.queries.stats import ENTITIES
from collector.index.queries.tables import ERROR_SORTS, SESSION_SORTS, TRACE_SORTS
from collector.mcp.asking import Json, Query
from collector.mcp.schemas import TEXTS

MAX_ROWS = 200
MAX_SKIP = 30_000
MAX_CONTENT_CHARACTERS = 50_000


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str | int | float) else given


def _entity(given: str) -> str:
    if given not in ENTITIES:
        raise ValueError(f"must be one of {', '.join(ENTITIES)}")
    return given


Texts = Annotated[list[str], BeforeValidator(_listed), WithJsonSchema(TEXTS)]
"""One text or several; several mean any of them."""
TraceId = Annotated[
    str, Field(description="32 hex digits, with or without tr-", pattern="^(tr-)?[0-9a-fA-F]{32}$")
]
Skip = Annotated[int, Field(ge=0, le=MAX_SKIP, description="How many to leave out")]
Rows = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Cursor = Annotated[str | None, Field(description="next_cursor of the answer before")]
Of = Annotated[str, AfterValidator(_entity), Field(json_schema_extra={"enum": list(ENTITIES)})]
"""What statistics are of."""
# the filters of traces that each tool names; the others are named by search_traces alone
USUAL = frozenset(
    {
        *("experiment_id", "experiment_name", "since", "until", "status", "service", "version"),
        *("agent", "model", "tool", "user"),
    }
)
# what the filters mean whose names don't say enough, in fewer words than the document of the API
TOLD = {
    "since": "-1h, -7d, ISO 8601 or Unix time",
    "until": "exclusive; as since",
    "status": "OK, ERROR or UNKNOWN",
    "kind": "LLM, TOOL, AGENT, …",
    "prompt": "version, or name if that is unknown",
    "links_to": "trace id",
    "error": "group, from list_errors",
    "tag": "name or name=value",
    "score": "name, name=label or name<0.5",
    "trace_score": "of = scores: as score, of their traces",
    "label": "of = scores",
    "source": "of = scores: evaluator or person",
    "judge": "of = scores: HUMAN, LLM_JUDGE or CODE",
}


class ToolInput(BaseModel):
    """The arguments of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def query(self, *, without: Iterable[str] = ()) -> Query:
        """The arguments that were given, as parameters of a path."""
        given = self.model_dump(exclude_none=True, exclude=set(without))
        return {name: [_text(each) for each in _listed_all(value)] for name, value in given.items()}


def _listed_all(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filters(name: str, names: Iterable[str]) -> type[ToolInput]:
    """A class with a field for each filter."""
    fields: dict[str, Any] = {
        each: ((str if each in ONCE else Texts) | None, Field(None, description=TOLD.get(each)))
        for each in names
    }
    return cast("type[ToolInput]", cast(Any, create_model)(name, __base__=ToolInput, **fields))


def _sorts(names: Iterable[str]) -> str:
    return f"{', '.join(names)}; -: largest first"


def _name_fewer(schema: Json) -> None:
    """Leave the unusual filters of traces out of the schema; they are taken all the same."""
    schema["properties"] = {
        name: each
        for name, each in schema["properties"].items()
        if name in USUAL or name not in TRACE_FILTERS
    }
    for name in ("until", "status"):
        schema["properties"][name].pop("description")
    schema["additionalProperties"] = TEXTS


FEWER_NAMED = ConfigDict(json_schema_extra=_name_fewer)
TraceFilters: Any = _filters("TraceFilters", TRACE_FILTERS)
SpanFilters: Any = _filters("SpanFilters", SPAN_FILTERS)
# of any entity; the service says which of them one doesn't have
StatsFilters: Any = _filters(
    "StatsFilters", dict.fromkeys(name for entity in ENTITIES.values() for name in entity.filters)
)
# get_statistics and search_traces name them
SideFilters = Annotated[StatsFilters, WithJsonSchema({"type": "object", "additionalProperties": TEXTS})]


class SearchTraces(TraceFilters):  # type: ignore[misc]
    """Which traces, in which order."""

    sort: str | None = Field(None, description=_sorts(TRACE_SORTS))
    limit: Rows = 20
    cursor: Cursor = None


class ListSessions(TraceFilters):  # type: ignore[misc]
    """Which sessions, in which order."""

    model_config = FEWER_NAMED
    sort: str | None = Field(None, description=_sorts(SESSION_SORTS))
    limit: Rows = 20
    cursor: Cursor = None


class ListErrors(SpanFilters):  # type: ignore[misc]
    """Which errors, in which order."""

    model_config = FEWER_NAMED
    sort: str | None = Field(None, description=_sorts(ERROR_SORTS))
    limit: Rows = 20
    skip: Skip = 0


class GetStatistics(StatsFilters):  # type: ignore[misc]
    """What to compute, of what, by what."""

    model_config = FEWER_NAMED

    of: Of = "traces"
    metric: Texts = ["count"]
    by: Texts | None = None
    bucket: str | None = None
    """Step of a time axis, such as 5m; none without it."""
    top: Rows = 10
    order: str | None = None
    """Metric or dimension to sort by; -: largest first."""
    skip: Skip = 0


class Compare(ToolInput):
    """Two selections and what to compute of each."""

    a: SideFilters
    """The base: filters of get_statistics, such as {"version": "1.4"}."""
    b: SideFilters
    """What is compared with it."""
    both: SideFilters | None = None
    """Filters for both sides."""
    of: Of = "traces"
    metric: Texts = ["count", "error_rate", "duration_seconds_p95"]
    by: Texts | None = None
    top: Rows = 10
    order: str | None = None
    skip: Skip = 0


class ListFacets(TraceFilters):  # type: ignore[misc]
    """Among which traces."""

    model_config = FEWER_NAMED


class GetSession(ToolInput):
    """Which session."""

    session: str = Field(max_length=1000)
    experiment_id: Texts | None = None
    experiment_name: Texts | None = None
    skip: Skip = 0
    """Turns to leave out at the beginning."""


class GetTrace(ToolInput):
    """Which trace, and how much of it."""

    trace_id: TraceId
    spans: Literal["all", "critical_path", "failed", "none"] = "all"
    """Which spans to list: the whole tree, those that the end waited for, those that failed."""
    span_ids: Texts | None = None
    """Only these spans."""
    skip: Skip = 0
    """Spans to leave out at the beginning."""
    content: bool = False
    """Also give inputs, outputs and exceptions of the spans listed."""
    from_character: int = Field(0, ge=0)
    """Where in each input and output to begin; in a stack trace, how far from its end to stop."""
    max_characters: int = Field(1000, ge=1, le=MAX_CONTENT_CHARACTERS)
    """How much of each input and output to give."""


class ExplainTrace(ToolInput):
    """Which trace."""

    trace_id: TraceId
    skip: Skip = 0
    """Spans to leave out at the beginning."""


class ListRuns(ToolInput):
    """Whose runs, and which."""

    experiment_id: Texts | None = None
    """Experiment IDs; these or experiment_name are required."""
    experiment_name: str | None = None
    filter: str | None = None
    """In MLflow's syntax, such as metrics.loss < 1."""
    order_by: Texts | None = None
    """Such as metrics.loss ASC."""
    limit: Rows = 20
    page_token: str | None = None
    """next_page_token of the answer before."""


class GetRun(ToolInput):
    """Which run, and which metrics of it."""

    run_id: str = Field(pattern="^[A-Za-z0-9_.-]{1,64}$")
    metric: Texts | None = None
    """Only these metrics."""
    points: int = Field(20, ge=0, le=5000)
    """Points of each metric's history; lowest and highest are kept."""
    whole_history: bool = False
    """Every point as it was logged, from `skip` on; name the metric."""
    skip: int = Field(0, ge=0)
    """Points to leave out at the beginning of a whole history."""


class GetHealth(ToolInput):
    """Nothing."""


class RecordFeedback(ToolInput):
    """What to say of which trace."""

    trace_id: TraceId
    name: str = Field(min_length=1, max_length=250)
    """What is judged, such as correct or helpful."""
    value: bool | float | str
    """The judgement."""
    rationale: str | None = Field(None, max_length=16_000)
    """Why."""
    span_id: str | None = Field(None, pattern="^[0-9a-f]{16}$")
    """The span that is judged; without it the whole trace is."""
