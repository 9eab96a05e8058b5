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
class Health:
    """Whether the service takes data, and the state of its parts."""

    ready: bool
    version: str
    parts: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What was written."""

    assessment_id: str
    trace_id: str
    name: str
