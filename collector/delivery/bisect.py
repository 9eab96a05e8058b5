"""Smaller parts of a request, down to one span or log record. Pure."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from collector.delivery.group import Request
from collector.otlp.shapes import SHAPES, Export, SignalShape


def halve(request: Request) -> tuple[Request, Request]:
    """Two requests that hold the spans of `request` (at least two), whole traces as long as that goes."""
    export = _export(request)
    order: dict[bytes, int] = {}
    for span in _items(export, SHAPES[request.signal]):
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
    export = _export(request)
    return (
        _part(request, export, lambda _, span: belongs(span.trace_id)),
        _part(request, export, lambda _, span: not belongs(span.trace_id)),
    )


def _export(request: Request) -> Export:
    return SHAPES[request.signal].request.FromString(request.payload)


def _items(export: Export, shape: SignalShape) -> Iterator[Any]:
    for holder in shape.holders(export):
        yield from getattr(holder, shape.items)


def _part(request: Request, export: Export, keep: Callable[[int, Any], bool]) -> Request:
    """The request with only the spans that `keep` (position, span) says yes to."""
    shape = SHAPES[request.signal]
    kept = {position for position, item in enumerate(_items(export, shape)) if keep(position, item)}
    part = only(export, shape, kept)
    return Request(
        payload=part.SerializeToString(),
        span_count=len(kept),
        trace_ids=frozenset(item.trace_id for item in _items(part, shape) if item.trace_id),
        received_unix_ns=request.received_unix_ns,
        client=request.client,
        signal=request.signal,
    )


def only(export: Export, shape: SignalShape, positions: Collection[int]) -> Export:
    """The items of an export at these positions, counted from its first, with their resources and scopes."""
    part = shape.request()
    at = 0
    for of_resource in getattr(export, shape.resources):
        kept_resource = None
        for of_scope in getattr(of_resource, shape.scopes):
            items = getattr(of_scope, shape.items)
            kept = [item for position, item in enumerate(items, at) if position in positions]
            at += len(items)
            if not kept:
                continue
            if kept_resource is None:
                kept_resource = getattr(part, shape.resources).add(schema_url=of_resource.schema_url)
                kept_resource.resource.CopyFrom(of_resource.resource)
            scope = getattr(kept_resource, shape.scopes).add(schema_url=of_scope.schema_url)
            scope.scope.CopyFrom(of_scope.scope)
            getattr(scope, shape.items).extend(kept)
    return part
