"""Everything that one span says, as JSON with bounds. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from collector.answers.chat.of_span import is_in_words, span_chat
from collector.answers.chat.rendering import (
    MAX_NAME_CHARACTERS,
    ChatBounds,
    render_message,
    render_name,
    render_text,
)
from collector.answers.chat.values import ChatMessage
from collector.answers.content import Extract, content
from collector.spans.facts import decode_attributes

MAX_ATTRIBUTES = 1000
MAX_EVENTS = 100
MAX_LINKS = 100
MAX_SPAN_MESSAGES = 500

Place = tuple[ResourceSpans, ScopeSpans, Span]


def span_detail(
    export: ExportTraceServiceRequest, trace_id: bytes, span_id: bytes, bounds: ChatBounds
) -> dict[str, Any] | None:
    """What the span (its 8 bytes) of a trace says, its attributes as they are stored; None: it isn't there.

    {"span_id", "name", "given", "returned": messages (chat/rendering.py), empty where it holds none,
    "input", "output", "exceptions": as in content.py, "attributes", "resource": {name: text}, "scope",
    "events": [{"name", "time_unix_ns", "attributes"}], "links": [{"trace_id", "span_id", "attributes"}],
    and of each list how many more there are}. A text is {"text", "characters", "is_json"}.
    """
    place = next(_places(export, trace_id, span_id), None)
    if place is None:
        return None
    resource_spans, scope_spans, span = place
    told = _told(span, bounds) | {
        "resource": _attributes(decode_attributes(resource_spans.resource.attributes), bounds),
        "scope": {
            "name": render_name(scope_spans.scope.name),
            "version": render_name(scope_spans.scope.version),
        },
    }
    return told | _content(export, place, bounds)


def _places(export: ExportTraceServiceRequest, trace_id: bytes, span_id: bytes) -> Iterator[Place]:
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if span.span_id == span_id and span.trace_id == trace_id:
                    yield resource_spans, scope_spans, span


def _told(span: Span, bounds: ChatBounds) -> dict[str, Any]:
    chat = span_chat(span)
    attributes = decode_attributes(span.attributes)
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": render_name(span.name),
        "start_unix_ns": span.start_time_unix_nano,
        "end_unix_ns": span.end_time_unix_nano,
        "status": {"code": _status(span), "message": span.status.message[: bounds.max_characters]},
        "given": _messages(chat.given, bounds),
        "returned": _messages(chat.returned, bounds),
        "attributes": _attributes(attributes, bounds),
        "attributes_omitted": max(0, len(attributes) - MAX_ATTRIBUTES),
        "events": [_event(event, bounds) for event in span.events[:MAX_EVENTS]],
        "events_omitted": max(0, len(span.events) - MAX_EVENTS),
        "links": [_link(link, bounds) for link in span.links[:MAX_LINKS]],
        "links_omitted": max(0, len(span.links) - MAX_LINKS),
    }


def _status(span: Span) -> str:
    return {1: "OK", 2: "ERROR"}.get(span.status.code, "UNSET")


def _messages(said: Any, bounds: ChatBounds) -> list[dict[str, Any]]:
    """The last ones, where there are too many: they are what the span is about."""
    messages: list[ChatMessage] = list(said) if is_in_words(said) else []
    return [render_message(message, bounds) for message in messages[-MAX_SPAN_MESSAGES:]]


def _attributes(attributes: Mapping[str, Any], bounds: ChatBounds) -> dict[str, Any]:
    names = list(attributes)[:MAX_ATTRIBUTES]
    return {name[:MAX_NAME_CHARACTERS]: render_text(attributes[name], bounds) for name in names}


def _event(event: Span.Event, bounds: ChatBounds) -> dict[str, Any]:
    return {
        "name": render_name(event.name),
        "time_unix_ns": event.time_unix_nano,
        "attributes": _attributes(decode_attributes(event.attributes), bounds),
    }


def _link(link: Span.Link, bounds: ChatBounds) -> dict[str, Any]:
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "attributes": _attributes(decode_attributes(link.attributes), bounds),
    }


def _content(export: ExportTraceServiceRequest, place: Place, bounds: ChatBounds) -> dict[str, Any]:
    """Input, output and exceptions. Those of a root may be its children's; any other span is read alone."""
    span = place[2]
    wanted = Extract(span_ids=frozenset({span.span_id.hex()}), max_characters=bounds.max_characters)
    whole = export if not span.parent_span_id else _alone(place)
    (told,) = content(whole, span.trace_id, wanted)["spans"]
    return {name: told[name] for name in ("input", "output", "exceptions")}


def _alone(place: Place) -> ExportTraceServiceRequest:
    resource_spans, scope_spans, span = place
    one = ScopeSpans(scope=scope_spans.scope, schema_url=scope_spans.schema_url, spans=[span])
    only = ResourceSpans(resource=resource_spans.resource, scope_spans=[one])
    return ExportTraceServiceRequest(resource_spans=[only])
