"""Summaries of spans that a test makes up."""

from typing import Any

from collector.spans.conventions import ObservationKind
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceSummary
from collector.spans.values import SpanFacts
from tests.support.spans import TRACE_ID

AGENT, LLM, TOOL, CHAIN, EMBEDDING = (
    ObservationKind.AGENT,
    ObservationKind.LLM,
    ObservationKind.TOOL,
    ObservationKind.CHAIN,
    ObservationKind.EMBEDDING,
)


def summary_of(*spans: SpanFacts, **options: Any) -> TraceSummary:
    return summarise(spans, trace_id=TRACE_ID, **options)


def counts(*spans: SpanFacts) -> tuple[int | None, int | None]:
    tokens = summary_of(*spans).tokens
    return tokens.input, tokens.output
