"""One stored trace as its summary. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.protocol import TraceQuery
from collector.spans.labels import TraceLabels
from collector.spans.summary import summarise
from collector.spans.values import SpanFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedTrace:
    """What the index holds of one trace. `whole`: its root and all parents are there."""

    spans: Sequence[SpanFacts]
    experiment_id: str | None
    experiment_name: str | None
    whole: bool
    run_id: str | None
    session: str | None
    user: str | None


def summary_of(
    trace: IndexedTrace | None,
    query: TraceQuery,
    scores: Sequence[Mapping[str, Any]],
    *,
    preview_characters: int,
) -> bytes | None:
    """The trace's summary as JSON, with its scores.

    None: there is no trace, or not all of it and all of it was asked for.
    """
    if trace is None:
        return None
    if query.whole and not (trace.whole and _is_uncut(trace.spans, preview_characters)):
        return None
    summary = summarise(
        trace.spans,
        trace_id=query.trace_id,
        experiment_id=trace.experiment_id,
        experiment_name=trace.experiment_name,
        labels=TraceLabels(session=trace.session, user=trace.user),
        max_spans=query.max_spans,
        incomplete=query.incomplete,
    )
    document = summary.to_json(omit_empty=query.omit_empty)
    return json.dumps(document | {"scores": list(scores)}, separators=(",", ":")).encode()


def _is_uncut(spans: Sequence[SpanFacts], preview_characters: int) -> bool:
    """No error's message was cut."""
    return all(len(span.error_message or "") < preview_characters for span in spans if span.is_error)
