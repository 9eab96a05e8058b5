"""Content of log records onto the spans that MLflow has of a trace. Pure; slow: for a thread.

A record becomes an event of its span, under its own name. There harmonise reads it, as it reads the events
of instrumentations that put their content there, whichever came first and in however many requests. What is
there already is not added again, so a repeated record changes nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.facts import decode_attributes
from collector.spans.mlflow_trace import client_span
from collector.spans.scores import EVENT_NAME, event_name


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedSpans:
    """Spans with their content, to be sent again: an export, empty if nothing is new.

    `found` are the span ids (hex) that the trace has, of those that were asked for.
    """

    payload: bytes
    span_count: int
    found: frozenset[str]


def join(body: bytes, content: Mapping[str, Sequence[LogRecord]]) -> JoinedSpans:
    """The spans of MLflow's answer (traces/get) with what log records say of them, by span id in hex.

    Raises ValueError if the answer can't be read.
    """
    trace = json.loads(body).get("trace") or {}
    spans: list[Span] = []
    found: set[str] = set()
    for document in trace.get("spans") or ():
        span = client_span(document)
        span_id = span.span_id.hex()
        if span_id in content:
            found.add(span_id)
            if add_events(span, map(event_of, content[span_id])):
                spans.append(span)
    payload = _export(spans, (trace.get("trace_info") or {}).get("tags") or {}) if spans else b""
    return JoinedSpans(payload=payload, span_count=len(spans), found=frozenset(found))


def add_events(span: Span, events: Iterable[Span.Event]) -> bool:
    """Put what is new on the span; whether anything is."""
    known = {_identity(event) for event in span.events}
    before = len(known)
    for event in events:
        if _identity(event) not in known:
            known.add(_identity(event))
            span.events.append(event)
    return len(known) > before


def _identity(event: Span.Event) -> tuple[str, int, str]:
    """Two events with the same say the same; MLflow reads JSON's numbers back as numbers."""
    said = {key: _comparable(value) for key, value in decode_attributes(event.attributes).items()}
    return event.name, event.time_unix_nano, json.dumps(said, sort_keys=True, default=str)


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def event_of(record: LogRecord) -> Span.Event:
    """The record as an event: its attributes, then the members of its body that have no attribute."""
    event = Span.Event(
        name=event_name(record),
        time_unix_nano=record.time_unix_nano or record.observed_time_unix_nano,
        dropped_attributes_count=record.dropped_attributes_count,
    )
    names = set()
    for key, value in _said(record):
        if key not in names and key != EVENT_NAME:
            names.add(key)
            event.attributes.append(KeyValue(key=key, value=_plain(value)))
    return event


def _said(record: LogRecord) -> Iterator[tuple[str, AnyValue]]:
    yield from ((pair.key, pair.value) for pair in record.attributes)
    if record.body.HasField("kvlist_value"):
        yield from ((pair.key, pair.value) for pair in record.body.kvlist_value.values)
    elif record.body.WhichOneof("value") is not None:
        yield "content", record.body


def _plain(value: AnyValue) -> AnyValue:
    """Lists and objects as JSON text, as they stand on a span."""
    if value.WhichOneof("value") not in ("array_value", "kvlist_value"):
        return value
    found = decode_attributes([KeyValue(key="", value=value)])[""]
    return AnyValue(string_value=json.dumps(found, ensure_ascii=False, default=str))


def _export(spans: Sequence[Span], tags: Mapping[str, Any]) -> bytes:
    """The spans under a resource of what MLflow has kept of theirs: the trace's tags."""
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    for key, value in tags.items():
        if not key.startswith("mlflow."):
            resource_spans.resource.attributes.add(key=key).value.string_value = str(value)
    resource_spans.scope_spans.add().spans.extend(spans)
    return export.SerializeToString()
