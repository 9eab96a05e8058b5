"""The signals' messages: what an export of each holds, by name. Pure.

    ExportTraceServiceRequest > ResourceSpans > ScopeSpans > Span
    ExportLogsServiceRequest  > ResourceLogs  > ScopeLogs  > LogRecord

Levels and field numbers are the same in both, which is what lets most of this package read either.
Source: https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from collector.model.batch import Signal

# an export as a message: ExportTraceServiceRequest or ExportLogsServiceRequest, as the shape says
Export = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalShape:
    """One signal's messages, the names of the lists in them (in JSON too), and what people call an item.

    `name_field` is the number of the field that tells people which item is meant.
    """

    signal: Signal
    request: Any
    of_resource: Any
    of_scope: Any
    item: Any
    resources: str
    scopes: str
    items: str
    json_names: tuple[str, str, str]
    word: str
    name_field: int

    def holders(self, export: Any) -> Iterator[Any]:
        """The ScopeSpans or ScopeLogs of an export."""
        for of_resource in getattr(export, self.resources):
            yield from getattr(of_resource, self.scopes)

    def count(self, export: Any) -> int:
        """How many items an export has."""
        return sum(len(getattr(holder, self.items)) for holder in self.holders(export))


SPANS = SignalShape(
    signal=Signal.TRACES,
    request=trace_service_pb2.ExportTraceServiceRequest,
    of_resource=trace_pb2.ResourceSpans,
    of_scope=trace_pb2.ScopeSpans,
    item=trace_pb2.Span,
    resources="resource_spans",
    scopes="scope_spans",
    items="spans",
    json_names=("resourceSpans", "scopeSpans", "spans"),
    word="span",
    name_field=trace_pb2.Span.NAME_FIELD_NUMBER,
)
LOG_RECORDS = SignalShape(
    signal=Signal.LOGS,
    request=logs_service_pb2.ExportLogsServiceRequest,
    of_resource=logs_pb2.ResourceLogs,
    of_scope=logs_pb2.ScopeLogs,
    item=logs_pb2.LogRecord,
    resources="resource_logs",
    scopes="scope_logs",
    items="log_records",
    json_names=("resourceLogs", "scopeLogs", "logRecords"),
    word="log record",
    name_field=logs_pb2.LogRecord.EVENT_NAME_FIELD_NUMBER,
)
SHAPES: Mapping[Signal, SignalShape] = {shape.signal: shape for shape in (SPANS, LOG_RECORDS)}
