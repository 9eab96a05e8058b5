"""What each tool takes. An unknown argument is an error that names it, so a typo never widens a question."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from collector.index.queries.descriptions import FILTERS, ONCE
from collector.index.queries.filters import SPAN_FILTERS, TRACE_FILTERS
from collector.index.queries.tables import ERROR_SORTS, SESSION_SORTS, TRACE_SORTS
from collector.mcp.asking import Query

MAX_ROWS = 200
MAX_SKIP = 30_000
MAX_CONTENT_CHARACTERS = 50_000
TEXTS = {"type": ["string", "array"], "items": {"type": "string"}}


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str | int | float) else given


Texts = Annotated[list[str], BeforeValidator(_listed), WithJsonSchema(TEXTS)]
"""One text or several; several mean any of them."""
TraceId = Annotated[
    str, Field(description="32 hex digits, with or without tr-", pattern="^(tr-)?[0-9a-fA-F]{32}$")
]
Skip = Annotated[int, Field(ge=0, le=MAX_SKIP, description="How many to leave out at the beginning")]
Rows = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Cursor = Annotated[str | None, Field(description="next_cursor of the answer before")]
# the filters whose names don't say enough
TOLD = frozenset(
    {"since", "until", "status", "trace_status", "name", "kind", "response_model", "prompt", "error", "tag"}
)


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
        each: ((str if each in ONCE else Texts) | None, Field(None, description=_description(each)))
        for each in names
    }
    return cast("type[ToolInput]", cast(Any, create_model)(name, __base__=ToolInput, **fields))


def _description(name: str) -> str | None:
    return FILTERS[name] if name in TOLD else None


def _sorts(names: Iterable[str]) -> str:
    return f"{', '.join(names)}; - in front for the largest first"


TraceFilters: Any = _filters("TraceFilters", TRACE_FILTERS)
SpanFilters: Any = _filters("SpanFilters", SPAN_FILTERS)


class SearchTraces(TraceFilters):  # type: ignore[misc]
    """Which traces, in which order."""

    sort: str | None = Field(None, description=_sorts(TRACE_SORTS))
    limit: Rows = 20
    cursor: Cursor = None


class ListSessions(TraceFilters):  # type: ignore[misc]
    """Which sessions, in which order."""

    sort: str | None = Field(None, description=_sorts(SESSION_SORTS))
    limit: Rows = 20
    cursor: Cursor = None


class ListErrors(SpanFilters):  # type: ignore[misc]
    """Which errors, in which order."""

    sort: str | None = Field(None, description=_sorts(ERROR_SORTS))
    limit: Rows = 20
    skip: Skip = 0


class GetStatistics(SpanFilters):  # type: ignore[misc]
    """What to compute, of what, by what."""

    of: Literal["traces", "spans", "models", "tools", "errors", "sessions"] = "traces"
    metric: Texts = ["count"]
    by: Texts | None = None
    bucket: str | None = None
    """Step of a time axis, such as 5m or 1h; without it there is none."""
    top: Rows = 10
    order: str | None = None
    """Metric or dimension to sort groups by; - in front for the largest first."""
    skip: Skip = 0


class Compare(ToolInput):
    """Two selections and what to compute of each."""

    a: SpanFilters
    """The base: filters of one side, such as {"version": "1.4"} or {"since": "-2h", "until": "-1h"}."""
    b: SpanFilters
    """What is compared with it."""
    both: SpanFilters | None = None
    """Filters for both sides."""
    of: Literal["traces", "spans", "models", "tools", "errors", "sessions"] = "traces"
    metric: Texts = ["count", "error_rate", "duration_seconds_p95"]
    by: Texts | None = None
    top: Rows = 10
    order: str | None = None
    skip: Skip = 0


class ListFacets(TraceFilters):  # type: ignore[misc]
    """Among which traces."""


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
