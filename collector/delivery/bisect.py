"""Smaller parts of a request, down to one span. Pure."""

from collections.abc import Callable, Iterator
from functools import partial

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.group import Request


def halve(request: Request) -> tuple[Request, Request]:
    """Two requests that hold the spans of `request` (at least two), whole traces as long as that goes."""
    export = ExportTraceServiceRequest.FromString(request.payload)
    order: dict[bytes, int] = {}
    for span in _spans(export):
        order.setdefault(span.trace_id, len(order))
    if len(order) > 1:
        middle = len(order) // 2
        return _part(request, export, lambda _, span: order[span.trace_id] < middle), _part(
            request, export, lambda _, span: order[span.trace_id] >= middle
        )
    middle = request.span_count // 2
    return _part(request, export, lambda at, _: at < middle), _part(
        request, export, lambda at, _: at >= middle
    )


def fit(request: Request, *, request_bytes: int, max_traces: int | None = None) -> list[Request]:
    """Parts of whole traces within the bounds; one trace alone may be over them."""
    few = max_traces is None or len(request.trace_ids) <= max_traces
    if len(request.trace_ids) <= 1 or (few and len(request.payload) <= request_bytes):
        return [request]
    bounds = partial(fit, request_bytes=request_bytes, max_traces=max_traces)
    return [part for half in halve(request) for part in bounds(half)]


def split(request: Request, belongs: Callable[[bytes], bool]) -> tuple[Request | None, Request | None]:
    """The part with the traces that `belongs` says yes to, and the rest."""
    if all(belongs(trace_id) for trace_id in request.trace_ids):
        return request, None
    if not any(belongs(trace_id) for trace_id in request.trace_ids):
        return None, request
    export = ExportTraceServiceRequest.FromString(request.payload)
    return (
        _part(request, export, lambda _, span: belongs(span.trace_id)),
        _part(request, export, lambda _, span: not belongs(span.trace_id)),
    )


def _spans(export: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def _part(request: Request, export: ExportTraceServiceRequest, keep: Callable[[int, Span], bool]) -> Request:
    """The request with only the spans that `keep` (position, span) says yes to."""
    part = ExportTraceServiceRequest()
    trace_ids: set[bytes] = set()
    position = span_count = 0
    for resource_spans in export.resource_spans:
        kept_resource = None
        for scope_spans in resource_spans.scope_spans:
            kept = []
            for span in scope_spans.spans:
                if keep(position, span):
                    kept.append(span)
                    trace_ids.add(span.trace_id)
                position += 1
            if kept:
                span_count += len(kept)
                if kept_resource is None:
                    kept_resource = part.resource_spans.add(schema_url=resource_spans.schema_url)
                    kept_resource.resource.CopyFrom(resource_spans.resource)
                scope = kept_resource.scope_spans.add(schema_url=scope_spans.schema_url, spans=kept)
                scope.scope.CopyFrom(scope_spans.scope)
    return Request(
        payload=part.SerializeToString(),
        span_count=span_count,
        trace_ids=frozenset(trace_ids),
        received_unix_ns=request.received_unix_ns,
        client=request.client,
    )
