"""What the spans of a trace were given and what they returned, whatever convention wrote it. Pure.

It is what MLflow shows: what it reads itself, or what harmonising finds for it; also of spans that wait
in the journal.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.apply import harmonise
from collector.harmonise.content import INPUTS_READ, OUTPUTS_READ
from collector.harmonise.parts import Part
from collector.spans.facts import decode_attributes

MAX_SPANS = 200
MAX_EXCEPTIONS = 10
PARTS = frozenset({Part.CONTENT})
EXCEPTION = "exception"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """Of which spans (None: of all), and which part of each text."""

    span_ids: frozenset[str] | None = None
    from_character: int = 0
    max_characters: int = 2000


def content(export: ExportTraceServiceRequest, trace_id: bytes, wanted: Extract) -> dict[str, Any]:
    """The content of the spans of a trace (its 16 bytes) in an export, which it changes.

    {"spans": [{"span_id", "name", "input", "output", "exceptions": [{"type", "message", "stacktrace"}]}],
    "spans_omitted": n}. A text is {"text": the part that is wanted, "characters": how long all of it is};
    null: there is none. Of a stack trace the part is counted from its end.
    """
    harmonise(export, parts=PARTS, notes={})
    found: dict[bytes, Span] = {}
    for span in _spans(export, trace_id):
        if wanted.span_ids is None or span.span_id.hex() in wanted.span_ids:
            found.setdefault(span.span_id, span)
    ordered = sorted(found.values(), key=lambda span: span.start_time_unix_nano)
    return {
        "spans": [_content(span, wanted) for span in ordered[:MAX_SPANS]],
        "spans_omitted": max(0, len(ordered) - MAX_SPANS),
    }


def _spans(export: ExportTraceServiceRequest, trace_id: bytes) -> Sequence[Span]:
    return [
        span
        for resource_spans in export.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
        if span.trace_id == trace_id
    ]


def _content(span: Span, wanted: Extract) -> dict[str, Any]:
    attributes = decode_attributes(span.attributes)
    exceptions = [event for event in span.events if event.name == EXCEPTION]
    return {
        "span_id": span.span_id.hex(),
        "name": span.name,
        "input": _part(_first(attributes, INPUTS_READ), wanted),
        "output": _part(_first(attributes, OUTPUTS_READ), wanted),
        "exceptions": [_exception(event, wanted) for event in exceptions[-MAX_EXCEPTIONS:]],
    }


def _first(attributes: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The attribute that MLflow would show."""
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _exception(event: Span.Event, wanted: Extract) -> dict[str, Any]:
    said: Mapping[str, Any] = decode_attributes(event.attributes)
    return {
        "type": said.get("exception.type"),
        "message": _part(said.get("exception.message"), wanted),
        "stacktrace": _end(said.get("exception.stacktrace"), wanted),
    }


def _part(value: Any, wanted: Extract) -> dict[str, Any] | None:
    if value is None:
        return None
    whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    end = wanted.from_character + wanted.max_characters
    return {"text": whole[wanted.from_character : end], "characters": len(whole)}


def _end(value: Any, wanted: Extract) -> dict[str, Any] | None:
    """The part counted from the end: that is where a stack trace says what failed."""
    if not isinstance(value, str):
        return None
    end = max(0, len(value) - wanted.from_character)
    return {"text": value[max(0, end - wanted.max_characters) : end], "characters": len(value)}
