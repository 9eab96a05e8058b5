"""Builders of OTLP payloads: exports with fresh ids, in protobuf and in JSON."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

DATA = Path(__file__).parent.parent / "data"


def new_trace_id() -> bytes:
    return os.urandom(16)


def new_span_id() -> bytes:
    return os.urandom(8)


def export(
    *,
    traces: int = 1,
    spans: int = 1,
    service: str = "tests",
    trace_ids: Iterable[bytes] | None = None,
    resource: dict[str, str] | None = None,
) -> ExportTraceServiceRequest:
    """`traces` traces of `spans` spans each: a root and its children, now, under one resource."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in {"service.name": service, **(resource or {})}.items():
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    scope_spans = resource_spans.scope_spans.add()
    for trace_id in trace_ids or [new_trace_id() for _ in range(traces)]:
        root = new_span_id()
        for number in range(spans):
            now = time.time_ns()
            scope_spans.spans.append(
                Span(
                    trace_id=trace_id,
                    span_id=root if number == 0 else new_span_id(),
                    parent_span_id=b"" if number == 0 else root,
                    name="root" if number == 0 else f"child {number}",
                    start_time_unix_nano=now,
                    end_time_unix_nano=now + 1_000_000,
                )
            )
    return request


def all_spans(request: ExportTraceServiceRequest) -> list[Span]:
    """Every span of an export, in order."""
    return [
        span
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def trace_ids_of(request: ExportTraceServiceRequest) -> set[bytes]:
    return {span.trace_id for span in all_spans(request)}


def agent_export(name: str = "benchmark_trace.binpb") -> ExportTraceServiceRequest:
    """A captured agent run with fresh ids and times of now."""
    request = ExportTraceServiceRequest.FromString((DATA / name).read_bytes())
    spans = all_spans(request)
    traces = {span.trace_id: new_trace_id() for span in spans}
    ids = {span.span_id: new_span_id() for span in spans}
    shift = time.time_ns() - min(span.start_time_unix_nano for span in spans)
    for span in spans:
        span.trace_id = traces[span.trace_id]
        span.span_id = ids[span.span_id]
        if span.parent_span_id:
            span.parent_span_id = ids.get(span.parent_span_id, span.parent_span_id)
        span.start_time_unix_nano += shift
        span.end_time_unix_nano += shift
    return request
