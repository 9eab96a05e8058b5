"""The shape of a trace's summary: what the API answers, the CLI prints and the page draws. Pure.

Durations are seconds, times are nanoseconds since 1970, money is US dollars; None is "nobody said".
"""

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.values import SpanLink, Tokens


class TraceStatus(StrEnum):
    """How a trace ended. UNKNOWN: its root span has not been seen (yet)."""

    OK = "OK"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Where the trace is in MLflow, as far as that is known."""

    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the trace cost; `source` is None where its parts come from more than one.

    `unpriced_model_calls` counts calls that no cost covers: with any of them `usd` is a lower bound.
    """

    usd: float | None
    source: CostSource | None
    unpriced_model_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """The calls of one model; `duration_seconds` adds them up, parallel ones too."""

    model: str | None
    provider: str | None
    calls: int
    errors: int
    duration_seconds: float
    tokens: Tokens
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The calls of one tool; recovered retries are not among the errors."""

    tool: str | None
    calls: int
    errors: int
    recovered_retries: int
    duration_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTime:
    """The time that spans of one kind took themselves, and how much of it the end of the trace waited for."""

    kind: ObservationKind
    self_seconds: float
    critical_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanError:
    """One span with status ERROR; `recovered`: its agent was told and tried again."""

    span_id: str
    name: str
    kind: ObservationKind
    type: str | None
    message: str | None
    recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRow:
    """One span of the tree. Rows stand in the order of a walk: parents first, children by start.

    `self_seconds` is the span's duration minus the time in which any child ran; `critical_seconds` how much
    of the trace's critical path ran in the span itself, 0 for a span that nothing waited for. `links` are
    the spans, mostly of other traces, that it names as related.
    """

    span_id: str
    parent_span_id: str | None
    depth: int
    name: str
    kind: ObservationKind
    is_error: bool
    recovered_retry: bool
    start_offset_seconds: float
    duration_seconds: float
    self_seconds: float
    critical_seconds: float
    agent: str | None
    model: str | None
    tool: str | None
    tokens: Tokens
    cost_usd: float | None
    cost_source: CostSource
    time_to_first_token_seconds: float | None
    finish_reason: str | None
    error_type: str | None
    error_message: str | None
    links: tuple[SpanLink, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOfSpans:
    """How a summary lists spans: `most` of them, with `omit_empty` as in TraceSummary.to_json."""

    most: int
    omit_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """What was said of the trace, or of one of its spans; `session`: of the whole session.

    A score has a number, a label, both, or neither: where its value is content or its evaluator failed.
    """

    name: str
    value: float | None
    label: str | None
    error_type: str | None
    source: str | None
    judge: str
    span_id: str | None
    session: str | None
    time_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """One trace. Lists are bounded; `…_omitted` says how many more there are.

    `complete`: the root span was seen. `incomplete`: why the answer may lack spans, if it may. `scores` come
    from evaluators and people, not from the spans.
    `missing_parents`: parents that spans name and that are not here, or that lead in a circle.
    """

    trace_id: str
    name: str
    status: TraceStatus
    complete: bool
    incomplete: str | None
    experiment: Experiment
    mlflow_path: str | None
    start_unix_ns: int
    duration_seconds: float
    root_duration_seconds: float | None
    service: str | None
    service_version: str | None
    environment: str | None
    agent: str | None
    workflow: str | None
    session: str | None
    user: str | None
    span_count: int
    model_call_count: int
    tool_call_count: int
    error_span_count: int
    recovered_retry_count: int
    missing_parents: int
    tokens: Tokens
    input_excluded_cache: bool
    cost: Cost
    models: tuple[ModelUse, ...]
    models_omitted: int
    tools: tuple[ToolUse, ...]
    tools_omitted: int
    own_time: tuple[OwnTime, ...]
    errors: tuple[SpanError, ...]
    errors_omitted: int
    spans: tuple[SpanRow, ...]
    spans_omitted: int
    scores: tuple[ScoreRow, ...] = ()

    def to_json(self, *, omit_empty: bool = False) -> dict[str, Any]:
        """The summary as plain dictionaries, lists, texts and numbers.

        `omit_empty`: without what is None, False or empty in rows of spans, which is most of a large trace.
        """
        document: dict[str, Any] = asdict(replace(self, spans=()))
        render = _told_of_row if omit_empty else _row
        return document | {"spans": [render(row) for row in self.spans]}


# by hand, since asdict copies every value: it takes ten times as long for 10,000 rows
_ROW_NAMES = tuple(field.name for field in fields(SpanRow))
_TOKEN_NAMES = tuple(field.name for field in fields(Tokens))
_row_values = attrgetter(*_ROW_NAMES)
_token_values = attrgetter(*_TOKEN_NAMES)


def _row(row: SpanRow) -> dict[str, Any]:
    document = dict(zip(_ROW_NAMES, _row_values(row), strict=True))
    document["tokens"] = dict(zip(_TOKEN_NAMES, _token_values(row.tokens), strict=True))
    document["links"] = [asdict(link) for link in row.links]
    return document


def _told_of_row(row: SpanRow) -> dict[str, Any]:
    named = zip(_ROW_NAMES, _row_values(row), strict=True)
    document = {name: value for name, value in named if value is not None and value is not False}
    tokens = {name: count for name, count in vars(document.pop("tokens")).items() if count is not None}
    links = document.pop("links")
    if tokens:
        document["tokens"] = tokens
    if links:
        document["links"] = [asdict(link) for link in links]
    return document
