"""A span as MLflow stores it, told as MLflow's API tells it. Pure.

    spans.content, the JSON of a row:   {"trace_id": base64, ..., "attributes": {"key": "JSON in a text"},
                                         "events": [{"name": ..., "time_unix_nano": ..., "attributes": {}}],
                                         "links": [{"trace_id": "tr-<hex>", "span_id": "<hex>"}]}
    traces/batchGet, the API:           the drawing in mlflow_trace.py

Only the form that MLflow has written since 3.6 is read; whoever meets another one asks the API. One thing is
not told: the type of a span (mlflow.spanType) that MLflow stored without one and works out when it shows it.

Source: Span.from_dict and Span.to_otel_proto,
https://github.com/mlflow/mlflow/blob/master/mlflow/entities/span.py.
"""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

MAX_INT, MIN_INT = 2**63 - 1, -(2**63)
KINDS = frozenset(f"SPAN_KIND_{name}" for name in ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
CODES = frozenset({"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"})
REQUEST_ID = "mlflow.traceRequestId"


class OtherForm(ValueError):
    """The span is stored in a form that is not read here."""


def told(content: str) -> dict[str, Any]:
    """The span as the API tells it. Raises OtherForm."""
    try:
        return _told(json.loads(content))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise OtherForm(f"a span is stored in a form that can't be read: {error!r}") from error


def _told(span: Mapping[str, Any]) -> dict[str, Any]:
    if not span["attributes"][REQUEST_ID]:
        raise OtherForm("the span does not name its trace")
    document = {
        "trace_id": _base64(span["trace_id"], length=16),
        "span_id": _base64(span["span_id"], length=8),
        "status": _status(span["status"]),
        "attributes": [_entry(key, _loaded(value)) for key, value in span["attributes"].items()],
        **_set(
            name=_text(span["name"]),
            start_time_unix_nano=_time(span["start_time_unix_nano"]),
            end_time_unix_nano=_time(span.get("end_time_unix_nano") or 0),
        ),
    }
    if span["parent_span_id"]:
        document["parent_span_id"] = _base64(span["parent_span_id"], length=8)
    if kind := span.get("kind"):  # older versions don't tell it
        document["kind"] = _one_of(KINDS, kind)
    if events := [_event(each) for each in span.get("events") or ()]:
        document["events"] = events
    if links := list(_links(span.get("links") or [])):
        document["links"] = links
    return document


def _status(status: Mapping[str, Any]) -> dict[str, Any]:
    """MLflow drops a message where there is no error, as OpenTelemetry's SDK does."""
    code = _one_of(CODES, status["code"])
    message = _text(status.get("message") or "")
    told = {} if code == "STATUS_CODE_UNSET" else {"code": code}
    return told | ({"message": message} if message and code == "STATUS_CODE_ERROR" else {})


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    told = _set(time_unix_nano=_time(event["time_unix_nano"]), name=_text(event["name"]))
    attributes = [_entry(key, value) for key, value in (event.get("attributes") or {}).items()]
    return told | ({"attributes": attributes} if attributes else {})


def _links(links: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """MLflow leaves out those whose ids are too long for OTLP."""
    for link in links:
        ids = int(link["trace_id"].removeprefix("tr-"), 16), int(link["span_id"], 16)
        if ids[0] < 0 or ids[1] < 0:
            raise OtherForm("a link has a negative id")
        if ids[0] >= 2**128 or ids[1] >= 2**64:
            continue
        told = {"trace_id": _encoded(ids[0].to_bytes(16)), "span_id": _encoded(ids[1].to_bytes(8))}
        attributes = [_entry(key, value) for key, value in (link.get("attributes") or {}).items()]
        yield told | ({"attributes": attributes} if attributes else {})


def _loaded(stored: Any) -> Any:
    """An attribute's value, which is JSON; a text that is none is the value, and an empty one is nothing."""
    if not stored:
        return None
    try:
        return json.loads(stored)
    except (ValueError, TypeError):
        return stored


def _entry(key: str, value: Any) -> dict[str, Any]:
    return _set(key=_text(key)) | ({} if value is None else {"value": _value(value)})


def _set(**fields: Any) -> dict[str, Any]:
    """JSON of protobuf leaves out what is empty or 0."""
    return {name: value for name, value in fields.items() if value}


def _value(value: Any) -> dict[str, Any]:
    """As AnyValue in JSON; None is nothing within a list."""
    match value:
        case None:
            return {}
        case bool():
            return {"bool_value": value}
        case str():
            return {"string_value": _text(value)}
        case int():
            return {"int_value": _whole(value)}
        case float():
            return {"double_value": _number(value)}
        case list():
            return {"array_value": {"values": [_value(each) for each in value]} if value else {}}
        case dict():
            values = [_entry(key, each) for key, each in value.items()]
            return {"kvlist_value": {"values": values} if values else {}}
        case _:
            raise OtherForm(f"an attribute is a {type(value).__name__}")


def _number(value: float) -> float | str:
    """As protobuf writes it in JSON."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _whole(value: int) -> int:
    if not MIN_INT <= value <= MAX_INT:
        raise OtherForm("a number is too large for OTLP")
    return value


def _time(value: Any) -> int:
    time = int(value)
    if not 0 <= time < 2**64:
        raise OtherForm("a time is too large for OTLP")
    return time


def _text(value: Any) -> str:
    """MLflow puts `?` for what is no Unicode."""
    if not isinstance(value, str):
        raise OtherForm("a text is none")
    return value.encode("utf-8", errors="replace").decode()


def _one_of(known: frozenset[str], value: Any) -> str:
    if value not in known:
        raise OtherForm(f"{value!r} is not known")
    return str(value)


def _base64(value: str, *, length: int) -> str:
    try:
        found = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise OtherForm("an id is not base64") from error
    if len(found) != length:
        raise OtherForm("an id has another length")
    return value


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
