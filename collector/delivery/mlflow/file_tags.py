"""Attributes that would make MLflow read files elsewhere are taken off the copy that it gets. Pure.

MLflow makes tags of a trace from `mlflow.traceTag.…`, and reads a trace's files where some tags say. Through
the proxy such a tag needs `artifact-locations:admin`; no exporter sets one in good faith.
"""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.widening import FILE_TAGS

ATTRIBUTES = frozenset(f"mlflow.traceTag.{tag}" for tag in FILE_TAGS)
START = b"mlflow.traceTag.mlflow."


def without_file_tags(payload: bytes) -> tuple[bytes, int]:
    """The payload without such attributes, and from how many spans they were taken."""
    if payload.find(START) < 0:  # nearly always
        return payload, 0
    export = ExportTraceServiceRequest.FromString(payload)
    spans = 0
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                kept = [pair for pair in span.attributes if pair.key not in ATTRIBUTES]
                if len(kept) < len(span.attributes):
                    spans += 1
                    del span.attributes[:]
                    span.attributes.extend(kept)
    return (export.SerializeToString(), spans) if spans else (payload, 0)
