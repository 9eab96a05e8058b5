"""Spans and log records that no backend could store, found before the journal. Pure.

MLflow stores timestamps as int64 and answers a larger one with 500 for the whole batch; PostgreSQL's text
type refuses NUL. Source for ids: the comments in
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from collector.model.batch import Rejection
from collector.model.errors import Reason
from collector.otlp.nesting import deepest

MAX_INT64 = 2**63 - 1
NO_TRACE_ID = bytes(16)
NO_SPAN_ID = bytes(8)


T = TypeVar("T")


class Valid(NamedTuple, Generic[T]):  # made for each request: a frozen dataclass takes four times as long
    """The spans of one ResourceSpans that can be stored, or the log records of one ResourceLogs."""

    of_resource: T
    span_count: int
    trace_ids: frozenset[bytes]


class TooManyRefused(Exception):
    """More spans are refused than were asked for; what is left of the export is of no use."""


def validate(
    export: ExportTraceServiceRequest, *, max_depth: int | None, max_refused: int | None = None
) -> tuple[list[Valid[ResourceSpans]], list[Rejection]]:
    """The storable spans by resource, and a rejection for each other span.

    Spans that are refused are removed from `export`. `max_depth` None: nothing in it nests too deep.
    Resources without a storable span are left out.
    Raises TooManyRefused: over `max_refused`. A refusal takes several times as long as a span that is fine.
    """
    valid: list[Valid[ResourceSpans]] = []
    rejections: list[Rejection] = []
    for resource_spans in export.resource_spans:
        found = _validate_resource(resource_spans, max_depth, rejections, max_refused)
        if found.span_count:
            valid.append(found)
    return valid, rejections


def _validate_resource(
    resource_spans: ResourceSpans,
    max_depth: int | None,
    rejections: list[Rejection],
    max_refused: int | None,
) -> Valid[ResourceSpans]:
    span_count = 0
    trace_ids: set[bytes] = set()
    for scope_spans in resource_spans.scope_spans:
        refused: list[int] = []
        for index, span in enumerate(scope_spans.spans):
            if not (max_depth is None and _is_plain(span)) and (
                rejection := check(span, max_depth=max_depth)
            ):
                rejections.append(rejection)
                refused.append(index)
                if max_refused is not None and len(rejections) > max_refused:
                    raise TooManyRefused
                continue
            span_count += 1
            trace_ids.add(span.trace_id)
        for index in reversed(refused):
            del scope_spans.spans[index]
    return Valid(of_resource=resource_spans, span_count=span_count, trace_ids=frozenset(trace_ids))


def _is_plain(span: Span) -> bool:
    """Whether `span` surely breaks no rule: the common case in one expression, the receiver's hot spot."""
    return (
        len(trace_id := span.trace_id) == 16
        and trace_id != NO_TRACE_ID
        and len(span_id := span.span_id) == 8
        and span_id != NO_SPAN_ID
        and len(span.parent_span_id) in (0, 8)
        and span.start_time_unix_nano <= MAX_INT64
        and span.end_time_unix_nano <= MAX_INT64
        and "\0" not in span.name
        and not span.events
    )


def check(span: Span, *, max_depth: int | None) -> Rejection | None:
    """The first rule that `span` breaks, or None if it can be stored."""
    return next(_broken_rules(span, max_depth), None)


def _broken_rules(span: Span, max_depth: int | None) -> Iterator[Rejection]:
    if len(span.trace_id) != 16 or span.trace_id == NO_TRACE_ID:
        yield _rejection(Reason.INVALID_TRACE_ID, span, "needs a trace id of 16 bytes, not all zero")
    if len(span.span_id) != 8 or span.span_id == NO_SPAN_ID:
        yield _rejection(Reason.INVALID_SPAN_ID, span, "needs a span id of 8 bytes, not all zero")
    if len(span.parent_span_id) not in (0, 8):
        yield _rejection(Reason.INVALID_PARENT_SPAN_ID, span, "needs a parent span id of 8 bytes, or none")
    if max(span.start_time_unix_nano, span.end_time_unix_nano) > MAX_INT64:
        yield _rejection(Reason.INVALID_TIMESTAMP, span, "has a time after the year 2262")
    if any(event.time_unix_nano > MAX_INT64 for event in span.events):
        yield _rejection(Reason.INVALID_TIMESTAMP, span, "has an event after the year 2262")
    if "\0" in span.name or any("\0" in event.name for event in span.events):
        yield _rejection(Reason.INVALID_NAME, span, "has a NUL character in its or an event's name")
    if max_depth is not None and _is_too_deep(span, max_depth):
        yield _rejection(Reason.ATTRIBUTES_TOO_DEEP, span, f"has an attribute nested over {max_depth} levels")


def _is_too_deep(span: Span, max_depth: int) -> bool:
    return any(deepest(pair.value, max_depth) > max_depth for pair in _attributes(span))


def _attributes(span: Span) -> Iterator[KeyValue]:
    holders: Sequence[Span | Span.Event | Span.Link] = (span, *span.events, *span.links)
    for holder in holders:
        yield from holder.attributes


def _rejection(reason: Reason, span: Span, problem: str) -> Rejection:
    return Rejection(reason=reason, message=f"span {span.name[:80]!r} {problem}")
