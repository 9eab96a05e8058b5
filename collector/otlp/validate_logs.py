"""Log records that can't be stored, found before the journal. Pure.

A record needs no trace: ids may be absent, but not of another length. Source: the comments in
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto.
"""

from collections.abc import Iterator

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from collector.model.batch import Rejection
from collector.model.errors import Reason
from collector.otlp.nesting import deepest
from collector.otlp.validate import MAX_INT64, NO_TRACE_ID, TooManyRefused, Valid


def validate_logs(
    export: ExportLogsServiceRequest, *, max_depth: int, max_refused: int | None = None
) -> tuple[list[Valid[ResourceLogs]], list[Rejection]]:
    """As `validate` for spans: the storable records by resource, and a rejection for each other record.

    Raises TooManyRefused: over `max_refused`.
    """
    valid: list[Valid[ResourceLogs]] = []
    rejections: list[Rejection] = []
    for resource_logs in export.resource_logs:
        trace_ids: set[bytes] = set()
        count = 0
        for scope_logs in resource_logs.scope_logs:
            refused = []
            for index, record in enumerate(scope_logs.log_records):
                if rejection := next(_broken_rules(record, max_depth), None):
                    rejections.append(rejection)
                    refused.append(index)
                    if max_refused is not None and len(rejections) > max_refused:
                        raise TooManyRefused
                    continue
                count += 1
                if record.trace_id and record.trace_id != NO_TRACE_ID:
                    trace_ids.add(record.trace_id)
            for index in reversed(refused):
                del scope_logs.log_records[index]
        if count:
            valid.append(Valid(of_resource=resource_logs, span_count=count, trace_ids=frozenset(trace_ids)))
    return valid, rejections


def _broken_rules(record: LogRecord, max_depth: int) -> Iterator[Rejection]:
    if len(record.trace_id) not in (0, 16):
        yield _rejection(Reason.INVALID_TRACE_ID, record, "needs a trace id of 16 bytes, or none")
    if len(record.span_id) not in (0, 8):
        yield _rejection(Reason.INVALID_SPAN_ID, record, "needs a span id of 8 bytes, or none")
    if max(record.time_unix_nano, record.observed_time_unix_nano) > MAX_INT64:
        yield _rejection(Reason.INVALID_TIMESTAMP, record, "has a time after the year 2262")
    if "\0" in record.event_name:
        yield _rejection(Reason.INVALID_NAME, record, "has a NUL character in its event's name")
    values = (record.body, *(pair.value for pair in record.attributes))
    if any(deepest(value, max_depth) > max_depth for value in values):
        problem = f"has a body or an attribute nested over {max_depth} levels"
        yield _rejection(Reason.ATTRIBUTES_TOO_DEEP, record, problem)


def _rejection(reason: Reason, record: LogRecord, problem: str) -> Rejection:
    name = f" {record.event_name[:80]!r}" if record.event_name else ""
    return Rejection(reason=reason, message=f"log record{name} {problem}")
