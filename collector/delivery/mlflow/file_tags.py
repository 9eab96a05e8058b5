"""Attributes that no client may write are taken off the copy that MLflow gets. Pure.

MLflow makes tags of a trace from `mlflow.traceTag.…`, and reads a trace's files where some tags say. Through
the proxy such a tag needs `artifact-locations:admin`; no exporter sets one in good faith. And whoever reads a
trace back from MLflow believes our own marks, so they must be ours.
"""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.spans.conventions import ADDED, REPLACED
from proxy.widening import FILE_TAGS

ATTRIBUTES = frozenset(f"mlflow.traceTag.{tag}" for tag in FILE_TAGS)
START = b"mlflow.traceTag.mlflow."
# what harmonising marks its own additions with: from a client they would pass the client's word off as ours
MARKS = frozenset({ADDED, REPLACED})


def without_file_tags(payload: bytes) -> tuple[bytes, int]:
    """The payload without such attributes, and from how many spans they were taken."""
    if payload.find(START) < 0:  # nearly always
        return payload, 0
    return _without(payload, ATTRIBUTES)


def without_marks(payload: bytes) -> tuple[bytes, int]:
    """The payload without `sidespan.added` and `sidespan.replaced`, and how many spans had them."""
    if not any(payload.find(mark.encode()) >= 0 for mark in MARKS):  # nearly always
        return payload, 0
    return _without(payload, MARKS)


def _without(payload: bytes, names: frozenset[str]) -> tuple[bytes, int]:
    export = ExportTraceServiceRequest.FromString(payload)
    spans = 0
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                kept = [pair for pair in span.attributes if pair.key not in names]
                if len(kept) < len(span.attributes):
                    spans += 1
                    del span.attributes[:]
                    span.attributes.extend(kept)
    return (export.SerializeToString(), spans) if spans else (payload, 0)
