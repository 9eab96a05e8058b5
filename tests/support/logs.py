"""Builders of OTLP log exports."""

import time
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord


def any_value(value: Any) -> AnyValue:
    """A Python value as OTLP writes it."""
    found = AnyValue()
    match value:
        case None:
            pass
        case bool():
            found.bool_value = value
        case int():
            found.int_value = value
        case float():
            found.double_value = value
        case bytes():
            found.bytes_value = value
        case list():
            found.array_value.values.extend([any_value(each) for each in value])
        case dict():
            for key, each in value.items():
                found.kvlist_value.values.add(key=key).value.CopyFrom(any_value(each))
        case _:
            found.string_value = value
    return found


def record(
    name: str = "app.started",
    *,
    trace_id: bytes = b"",
    span_id: bytes = b"",
    body: Any = None,
    time_unix_nano: int | None = None,
    **attributes: Any,
) -> LogRecord:
    """A log record of now; `__` in the name of an attribute is a dot."""
    at = time.time_ns() if time_unix_nano is None else time_unix_nano
    found = LogRecord(event_name=name, trace_id=trace_id, span_id=span_id, time_unix_nano=at)
    if body is not None:
        found.body.CopyFrom(any_value(body))
    for key, value in attributes.items():
        found.attributes.add(key=key.replace("__", ".")).value.CopyFrom(any_value(value))
    return found


def result(
    name: str, *, trace_id: bytes = b"", span_id: bytes = b"", time_unix_nano: int | None = None, **said: Any
) -> LogRecord:
    """The event of an evaluation: `value`, `label`, `explanation`, and other attributes by their names."""
    names = {
        "value": "gen_ai__evaluation__score__value",
        "label": "gen_ai__evaluation__score__label",
        "explanation": "gen_ai__evaluation__explanation",
    }
    return record(
        "gen_ai.evaluation.result",
        trace_id=trace_id,
        span_id=span_id,
        time_unix_nano=time_unix_nano,
        gen_ai__evaluation__name=name,
        **{names.get(key, key): value for key, value in said.items()},
    )


def logs(*records: LogRecord, service: str = "tests") -> ExportLogsServiceRequest:
    """An export of `records` under one resource and scope."""
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = service
    resource_logs.scope_logs.add().log_records.extend(records)
    return request


def all_records(request: ExportLogsServiceRequest) -> list[LogRecord]:
    """Every record of an export, in order."""
    return [
        record
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]
