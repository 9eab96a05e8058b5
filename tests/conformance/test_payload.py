"""OTLP 1.11, payloads: their validity and the JSON encoding, over a real socket.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conformance.conftest import JSON, Service
from tests.support.otlp import all_spans, export


def _set(**fields: Any) -> Callable[[Span], None]:
    def change(span: Span) -> None:
        for name, value in fields.items():
            setattr(span, name, value)

    return change


def _event(**fields: Any) -> Callable[[Span], None]:
    return lambda span: span.events.append(Span.Event(**fields))


def _nest(levels: int) -> Callable[[Span], None]:
    def change(span: Span) -> None:
        value = span.attributes.add(key="deep").value
        for _ in range(levels):
            value = value.array_value.values.add()
        value.int_value = 1

    return change


VALIDITY = [
    ("p1_rejects_zero_trace_id", _set(trace_id=bytes(16)), "invalid_trace_id"),
    ("p1_rejects_short_trace_id", _set(trace_id=b"abc"), "invalid_trace_id"),
    ("p1_rejects_empty_trace_id", _set(trace_id=b""), "invalid_trace_id"),
    ("p1_rejects_zero_span_id", _set(span_id=bytes(8)), "invalid_span_id"),
    ("p1_rejects_long_span_id", _set(span_id=b"123456789"), "invalid_span_id"),
    ("p2_rejects_short_parent", _set(parent_span_id=b"1234567"), "invalid_parent_span_id"),
    ("p2_takes_root", _set(parent_span_id=b""), None),
    ("p3_takes_empty_name", _set(name=""), None),
    ("rejects_nul_in_name", _set(name="a\0b"), "invalid_name"),
    ("rejects_nul_in_event_name", _event(name="a\0b"), "invalid_name"),
    ("p4_takes_end_before_start", _set(start_time_unix_nano=9, end_time_unix_nano=3), None),
    ("p4_takes_unfinished", _set(end_time_unix_nano=0), None),
    ("rejects_start_over_int64", _set(start_time_unix_nano=2**63), "invalid_timestamp"),
    ("rejects_end_over_int64", _set(end_time_unix_nano=2**64 - 1), "invalid_timestamp"),
    ("rejects_event_over_int64", _event(time_unix_nano=2**63), "invalid_timestamp"),
    ("takes_last_int64", _set(end_time_unix_nano=2**63 - 1), None),
    ("p5_takes_any_flags", _set(flags=0xFFFFFFFF), None),
    ("takes_32_levels", _nest(32), None),
    ("rejects_33_levels", _nest(33), "attributes_too_deep"),
    ("rejects_64_levels", _nest(64), "attributes_too_deep"),
    ("rejects_400_levels", _nest(400), "attributes_too_deep"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in VALIDITY], ids=[row[0] for row in VALIDITY]
)
async def test_p_one_span_is_judged_and_its_neighbours_pass(
    service: Service, change: Callable[[Span], None], reason: str | None
) -> None:
    request = export(spans=3)
    change(all_spans(request)[1])
    answer = await service.post(request.SerializeToString())
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == (1 if reason else 0)
    assert (reason or "") in partial.error_message
    assert len(service.sink.span_names) == (2 if reason else 3)


async def test_p6_p7_every_kind_of_attribute_value_is_kept(service: Service) -> None:
    request = export()
    attributes = all_spans(request)[0].attributes
    attributes.add(key="none")
    attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    attributes.add(key="twice").value.int_value = 1
    attributes.add(key="twice").value.int_value = 2
    mixed = attributes.add(key="mixed").value.array_value.values
    mixed.add().int_value = 1
    mixed.add().string_value = "two"
    attributes.add(key="map").value.kvlist_value.values.add(key="inner").value.bool_value = True
    sent = request.SerializeToString()
    assert (await service.post(sent)).status == 200
    assert service.sink.drafts[0].payload == sent


def _document(**span: Any) -> dict[str, Any]:
    full = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "n"} | span
    return {"resourceSpans": [{"scopeSpans": [{"spans": [full]}]}]}


async def _stored(service: Service, document: dict[str, Any]) -> Span:
    answer = await service.post(json.dumps(document).encode(), JSON)
    assert answer.status == 200, answer.body
    assert answer.body == b"{}", answer.body
    return all_spans(ExportTraceServiceRequest.FromString(service.sink.drafts[-1].payload))[0]


@pytest.mark.parametrize(
    "trace_id",
    [
        "5b8efff798038103d269b633813fc60c",
        "5B8EFFF798038103D269B633813FC60C",
        "5b8eFFF798038103d269B633813fc60C",
    ],
    ids=["lower", "upper", "mixed"],
)
async def test_j1_ids_are_hex_in_any_case(service: Service, trace_id: str) -> None:
    link = {"traceId": trace_id, "spanId": "EEE19b7ec3c1b174"}
    span = await _stored(service, _document(traceId=trace_id, parentSpanId="eee19b7ec3c1b173", links=[link]))
    assert span.trace_id == bytes.fromhex(trace_id)
    assert span.parent_span_id.hex() == "eee19b7ec3c1b173"
    assert span.links[0].trace_id == bytes.fromhex(trace_id)
    assert span.links[0].span_id.hex() == "eee19b7ec3c1b174"


@pytest.mark.parametrize(
    "span",
    [
        {"traceId": "5b8efff798038103d269b633813fc60"},
        {"traceId": "5b8efff798038103d269b633813fc60c0"},
        {"traceId": base64.b64encode(bytes(range(16))).decode()},
        {"traceId": ""},
        {"spanId": "zzzzzzzzzzzzzzzz"},
        {"parentSpanId": "not hex"},
        {"traceId": 7},
    ],
    ids=[
        "rejects_31_digits",
        "rejects_33_digits",
        "rejects_base64",
        "rejects_empty",
        "rejects_other_letters",
        "rejects_bad_parent",
        "rejects_number",
    ],
)
async def test_j1_a_bad_id_refuses_that_span_alone(service: Service, span: dict[str, Any]) -> None:
    document = _document(**span)
    document["resourceSpans"] += _document()["resourceSpans"]
    answer = await service.post(json.dumps(document).encode(), JSON)
    assert answer.status == 200
    assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "1"
    assert len(service.sink.span_names) == 1


async def test_j2_enums_are_integers_names_are_tolerated_unknown_ones_kept(service: Service) -> None:
    assert (await _stored(service, _document(kind=2))).kind == 2
    assert (await _stored(service, _document(kind="SPAN_KIND_SERVER"))).kind == 2
    assert (await _stored(service, _document(kind=77))).kind == 77


async def test_j3_j4_unknown_fields_and_snake_case_are_ignored(service: Service) -> None:
    span = await _stored(
        service,
        _document(
            dropped_attributes_count=7,
            start_time_unix_nano="5",
            later={"any": [{"thing": None}]},
            attributes=[{"key": "a", "value": {"intValue": "1", "newKind": 3}, "x": [1]}],
        ),
    )
    assert span.dropped_attributes_count == 0
    assert span.start_time_unix_nano == 0
    assert span.attributes[0].value.int_value == 1


async def test_j4_attribute_keys_keep_their_underscores(service: Service) -> None:
    inner = {"kvlistValue": {"values": [{"key": "in_ner", "value": {"stringValue": "v_v"}}]}}
    span = await _stored(service, _document(attributes=[{"key": "snake_case", "value": inner}]))
    assert span.attributes[0].key == "snake_case"
    assert span.attributes[0].value.kvlist_value.values[0].key == "in_ner"
    assert span.attributes[0].value.kvlist_value.values[0].value.string_value == "v_v"


@pytest.mark.parametrize("big", ["9007199254740993", 9007199254740993], ids=["string", "number"])
async def test_j5_64_bit_integers_are_exact(service: Service, big: str | int) -> None:
    value = {"key": "n", "value": {"intValue": big}}
    span = await _stored(service, _document(startTimeUnixNano=big, attributes=[value]))
    assert span.start_time_unix_nano == 9007199254740993
    assert span.attributes[0].value.int_value == 9007199254740993


async def test_j6_bytes_are_base64_doubles_may_be_nan_null_is_default(service: Service) -> None:
    values = [
        {"key": "b", "value": {"bytesValue": base64.b64encode(b"\0\1").decode()}},
        {"key": "d", "value": {"doubleValue": "NaN"}},
        {"key": "i", "value": {"doubleValue": "Infinity"}},
    ]
    span = await _stored(service, _document(attributes=values, traceState=None, events=None))
    assert span.attributes[0].value.bytes_value == b"\0\1"
    assert span.attributes[1].value.double_value != span.attributes[1].value.double_value
    assert span.attributes[2].value.double_value == float("inf")
    assert span.trace_state == ""


async def test_j7_errors_to_json_are_json(service: Service) -> None:
    answer = await service.post(b"{", JSON)
    assert answer.headers["content-type"] == JSON
    assert json.loads(answer.body)["message"]
