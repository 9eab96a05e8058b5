"""The shapes of answers that no other module describes as a type. Pure."""

from dataclasses import dataclass
from typing import Any

from collector.spans.summary_models import TraceSummary


@dataclass(frozen=True, kw_only=True)
class ContentText:
    """A part of a text, and how long all of it is."""

    text: str
    characters: int


@dataclass(frozen=True, kw_only=True)
class SpanException:
    """An exception that a span recorded."""

    type: str
    message: ContentText
    stacktrace: ContentText


@dataclass(frozen=True, kw_only=True)
class SpanContent:
    """What a span was given and returned."""

    span_id: str
    name: str
    input: ContentText
    output: ContentText
    exceptions: list[SpanException]


@dataclass(frozen=True, kw_only=True)
class TraceWithContent(TraceSummary):
    """A summary, with content if it was asked for."""

    content: list[SpanContent]


@dataclass(frozen=True, kw_only=True)
class ExplainedSpan:
    """The facts of a span with their sources, and what is changed for MLflow."""

    span_id: str
    parent_span_id: str
    name: str
    conventions: list[str]
    facts: list[dict[str, Any]]
    changes: list[dict[str, str]]
    dropped_by: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The spans of a trace, explained."""

    spans: list[ExplainedSpan]
    spans_omitted: int


@dataclass(frozen=True, kw_only=True)
class AlertReport:
    """An alert; `groups` are those beyond its threshold. `asleep_until_unix_ns`: nobody is told before."""

    name: str
    status: str
    summary: str
    trouble: str
    groups: list[dict[str, Any]]
    asleep_until_unix_ns: int
    evaluated_unix_ns: int
    more_groups: bool


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the service takes data, the state of its parts, and its alerts."""

    ready: bool
    version: str
    parts: dict[str, dict[str, Any]]
    alerts: list[AlertReport]


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What was written."""

    assessment_id: str
    trace_id: str
    name: str
