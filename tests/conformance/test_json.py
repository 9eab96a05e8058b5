"""OTLP 1.11, JSON: what is wrong costs the request or its span, never silence; over a real socket."""

import gzip
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.settings import ReceiverSettings
from tests.conformance.conftest import JSON, Service
from tests.support.otlp import all_spans

TRACE_ID, SPAN_ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def _span(**members: Any) -> dict[str, Any]:
    return {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n"} | members


def _document(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def _attribute(value: Any) -> dict[str, Any]:
    return {"attributes": [{"key": "before", "value": {}}, {"key": "k", "value": value}]}


async def _stored(service: Service, **members: Any) -> Span:
    answer = await service.post(json.dumps(_document(_span(**members))).encode(), JSON)
    assert (answer.status, answer.body) == (200, b"{}")
    return all_spans(ExportTraceServiceRequest.FromString(service.sink.drafts[-1].payload))[0]


# what is wrong in one span, by the member at fault: (id, span, path in the span and problem)
IN_A_SPAN: list[tuple[str, Any, str]] = [
    ("span_is_text", "x", ": must be an object, is a string"),
    ("span_is_null", None, ": must be an object, is null"),
    ("trace_id_is_number", _span(traceId=7), ".traceId: must be a string, is an integer"),
    ("kind_is_fraction", _span(kind=1.5), ".kind: must be an integer, is a fraction"),
    ("kind_is_unknown_name", _span(kind="SERVER"), ".kind: must be an integer or one of SPAN_KIND_"),
    ("kind_is_name_of_another_enum", _span(kind="STATUS_CODE_ERROR"), ".kind: must be an integer or one"),
    ("kind_is_boolean", _span(kind=True), ".kind: must be a number or a string, is a boolean"),
    ("kind_over_32_bits", _span(kind=2**31), ".kind: must be from -2147483648 to 2147483647"),
    ("time_with_underscore", _span(startTimeUnixNano="1_000"), ".startTimeUnixNano: must be an integer, "),
    ("time_with_blank", _span(startTimeUnixNano=" 1"), ".startTimeUnixNano: must be an integer, is another"),
    ("time_empty", _span(endTimeUnixNano=""), ".endTimeUnixNano: must be an integer, is another text"),
    ("time_is_fraction", _span(endTimeUnixNano=1.5), ".endTimeUnixNano: must be an integer, is a fraction"),
    ("time_is_negative", _span(endTimeUnixNano=-1), ".endTimeUnixNano: must be from 0 to 1844"),
    ("time_not_exact", _span(endTimeUnixNano=1.7e18), ".endTimeUnixNano: must be exact: send it as a string"),
    ("time_with_great_exponent", _span(endTimeUnixNano="1e999999999"), ".endTimeUnixNano: is out of range"),
    ("time_of_5000_digits", _span(endTimeUnixNano=10**4299), ".endTimeUnixNano: must be from 0 to"),
    ("flags_over_32_bits", _span(flags=2**32), ".flags: must be from 0 to 4294967295"),
    ("dropped_is_negative", _span(droppedEventsCount=-1), ".droppedEventsCount: must be from 0 to"),
    ("name_is_number", _span(name=5), ".name: must be a string, is an integer"),
    ("status_is_text", _span(status="ERROR"), ".status: must be an object, is a string"),
    (
        "status_code_is_name_of_nothing",
        _span(status={"code": "ERROR"}),
        ".status.code: must be an integer or",
    ),
    ("attributes_is_object", _span(attributes={}), ".attributes: must be an array, is an object"),
    ("attribute_is_text", _span(attributes=["kv"]), ".attributes[0]: must be an object, is a string"),
    ("attribute_is_null", _span(attributes=[None]), ".attributes[0]: must be an object, is null"),
    ("events_hold_text", _span(events=[{}, "e"]), ".events[1]: must be an object, is a string"),
    ("event_time", _span(events=[{"timeUnixNano": "x"}]), ".events[0].timeUnixNano: must be an integer, is"),
    ("link_id", _span(links=[{"traceId": "xy"}]), ".links[0].traceId: must be hexadecimal digits"),
    ("value_is_text", _span(**_attribute("v")), ".attributes[1].value: must be an object, is a string"),
    (
        "string_is_number",
        _span(**_attribute({"stringValue": 1})),
        ".attributes[1].value.stringValue: must be",
    ),
    (
        "boolean_is_text",
        _span(**_attribute({"boolValue": "true"})),
        ".value.boolValue: must be a boolean, is",
    ),
    (
        "int_is_boolean",
        _span(**_attribute({"intValue": True})),
        ".attributes[1].value.intValue: must be a nu",
    ),
    (
        "int_is_fraction",
        _span(**_attribute({"intValue": 1.5})),
        ".attributes[1].value.intValue: must be an i",
    ),
    ("int_over_64_bits", _span(**_attribute({"intValue": 2**63})), ".attributes[1].value.intValue: must be "),
    ("double_is_text", _span(**_attribute({"doubleValue": "1,5"})), ".value.doubleValue: must be a number, "),
    (
        "double_over_range",
        _span(**_attribute({"doubleValue": "1e400"})),
        ".value.doubleValue: is out of rang",
    ),
    ("double_by_another_name", _span(**_attribute({"doubleValue": "inf"})), ".doubleValue: must be a number"),
    (
        "bytes_no_base64",
        _span(**_attribute({"bytesValue": "***"})),
        ".attributes[1].value.bytesValue: must b",
    ),
    (
        "bytes_cut",
        _span(**_attribute({"bytesValue": "A"})),
        ".attributes[1].value.bytesValue: must be base64",
    ),
    ("two_members", _span(**_attribute({"stringValue": "", "intValue": 0})), ".value: must have one member,"),
    ("list_is_list", _span(**_attribute({"arrayValue": [1]})), ".value.arrayValue: must be an object, is an"),
    (
        "inside_a_list",
        _span(**_attribute({"arrayValue": {"values": [{}, {"intValue": "x"}]}})),
        ".attributes[1].value.arrayValue.values[1].intValue: must be an integer, is another text",
    ),
    (
        "inside_a_map",
        _span(**_attribute({"kvlistValue": {"values": [{"key": "k", "value": {"doubleValue": "x"}}]}})),
        ".attributes[1].value.kvlistValue.values[0].value.doubleValue: must be a number, is another text",
    ),
    ("half_pair_in_name", _span(name="cut \ud83d"), ": has a text that is no Unicode: half a surrogate pair"),
    ("low_half_in_key", _span(attributes=[{"key": "\ude00"}]), ": has a text that is no Unicode"),
    ("half_pair_behind_a_whole_one", _span(name="\ud83d\ude00 \ud83d"), ": has a text that is no Unicode"),
]


@pytest.mark.parametrize(
    ("span", "problem"), [row[1:] for row in IN_A_SPAN], ids=[row[0] for row in IN_A_SPAN]
)
async def test_what_is_wrong_in_a_span_refuses_it_by_its_path_and_keeps_its_neighbours(
    service: Service, span: Any, problem: str
) -> None:
    before, after = _span(name="before"), _span(name="after")
    answer = await service.post(json.dumps(_document(before, span, after)).encode(), JSON)
    assert answer.status == 200
    partial = json.loads(answer.body)["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    path, _, rest = problem.partition(": ")
    assert "malformed: resourceSpans[0].scopeSpans[0].spans[1]" in partial["errorMessage"]
    assert f"{path}: {rest}" in partial["errorMessage"]
    assert service.sink.span_names == ["before", "after"]


def _deep(levels: int) -> bytes:
    inside = b'{"arrayValue":{"values":[' * levels + b'{"intValue":1}' + b"]}}" * levels
    return b'{"key":"k","value":%b}' % inside


def _maps(levels: int) -> bytes:
    inside = b'{"kvlistValue":{"values":[{"value":' * levels + b'{"intValue":1}' + b"}]}}" * levels
    return b'{"key":"k","value":%b}' % inside


@pytest.mark.parametrize(
    ("attribute", "stored"),
    [
        (_deep(32), True),
        (_deep(33), False),
        (_deep(64), False),
        (_deep(5000), False),
        (_maps(31), True),
        (_maps(32), False),
        (b'{"key":"k","later":%b}' % (b"[" * 5000 + b"]" * 5000), True),
        (b'{"key":"k","value":%b}' % (b"[" * 5000 + b"]" * 5000), False),
    ],
    ids=[
        "takes_32_lists",
        "rejects_33_lists",
        "rejects_64_lists",
        "rejects_5000_lists",
        "takes_31_maps",
        "rejects_32_maps_which_protobuf_cannot_read",
        "ignores_an_unknown_field_of_any_depth",
        "rejects_a_wrong_type_of_any_depth",
    ],
)
async def test_a_span_that_nests_too_deep_is_refused_alone(
    service: Service, attribute: bytes, stored: bool
) -> None:
    text = json.dumps(_document(_span(name="before"), _span(attributes="@"), _span(name="after"))).encode()
    answer = await service.post(text.replace(b'"@"', b"[%b]" % attribute), JSON)
    assert answer.status == 200
    assert service.sink.span_names == (["before", "n", "after"] if stored else ["before", "after"])
    assert (b"rejectedSpans" in answer.body) is not stored


OUTSIDE: list[tuple[str, Any, str]] = [
    ("top_level_is_array", [], "the top level: must be an object, is an array"),
    ("top_level_is_null", None, "the top level: must be an object, is null"),
    ("resources_is_text", {"resourceSpans": "x"}, "resourceSpans: must be an array, is a string"),
    ("resource_spans_is_text", {"resourceSpans": ["x"]}, "resourceSpans[0]: must be an object, is a string"),
    ("resource_spans_is_null", {"resourceSpans": [None]}, "resourceSpans[0]: must be an object, is null"),
    (
        "scope_spans_is_text",
        {"resourceSpans": [{}, {"scopeSpans": ["x"]}]},
        "resourceSpans[1].scopeSpans[0]: must be an object, is a string",
    ),
    (
        "spans_is_text",
        {"resourceSpans": [{"scopeSpans": [{}, {"spans": "x"}]}]},
        "resourceSpans[0].scopeSpans[1].spans: must be an array, is a string",
    ),
    (
        "resource_is_text",
        {"resourceSpans": [{"resource": "x"}]},
        "resourceSpans[0].resource: must be an object, is a string",
    ),
    (
        "resource_attribute",
        {"resourceSpans": [{"resource": {"attributes": [{"value": {"intValue": "x"}}]}}]},
        "resourceSpans[0].resource.attributes[0].value.intValue: must be an integer, is another text",
    ),
    (
        "resource_text_is_half_a_pair",
        {"resourceSpans": [{"resource": {"attributes": [{"key": "\ud83d"}]}}]},
        "resourceSpans[0].resource: has a text that is no Unicode",
    ),
    (
        "scope_name",
        {"resourceSpans": [{"scopeSpans": [{"scope": {"name": 1}}]}]},
        "resourceSpans[0].scopeSpans[0].scope.name: must be a string, is an integer",
    ),
    (
        "schema_url",
        {"resourceSpans": [{"schemaUrl": 1}]},
        "resourceSpans[0].schemaUrl: must be a string, is an integer",
    ),
]


@pytest.mark.parametrize(
    ("document", "message"), [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE]
)
async def test_what_is_wrong_outside_of_spans_is_400_with_its_path(
    service: Service, document: Any, message: str
) -> None:
    answer = await service.post(json.dumps(document).encode(), JSON)
    assert answer.status == 400
    assert json.loads(answer.body)["message"].startswith(message)
    assert service.sink.drafts == []


GOOD = json.dumps(_document(_span())).encode()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"\xef\xbb\xbf" + GOOD, 200),
        (GOOD + b" \r\n\t", 200),
        (GOOD.replace(b'"name"', b'"n\\u0061me"'), 200),
        (b'{"resourceSpans": "x", ' + GOOD[1:], 400),
        (b'{"resourceSpans": [], ' + GOOD[1:], 200),
        (b'{"later": {"a": [1e999, -0, "\\ud83d"]}, ' + GOOD[1:], 200),
        (b'{"\\ud83d": 1, ' + GOOD[1:], 200),
        (b'{"\\\\ud83d\\ude00": 1, ' + GOOD[1:], 200),
        (b'{"later": NaN, ' + GOOD[1:], 400),
        (b'{"later": 01, ' + GOOD[1:], 400),
        (GOOD[:-1], 400),
        (GOOD + b"x", 400),
        (GOOD + GOOD, 400),
        (GOOD[:-1] + b",}", 400),
        (GOOD.replace(b'"', b"'"), 400),
        (GOOD.decode().encode("utf-16"), 400),
        (GOOD.decode().encode("utf-16-le"), 400),
        (GOOD.decode().encode("utf-32"), 400),
        (GOOD.replace(b'"n"', b'"\xff"'), 400),
        (GOOD.replace(b'"n"', b'"\xed\xa0\xbd"'), 400),
        (GOOD.replace(b'"n"', b'"\n"'), 400),
        (GOOD.replace(b'"n"', b'"\\x41"'), 400),
        (b"", 400),
        (b" ", 400),
        (b"{" * 100_000, 400),
        (b'{"later":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b", " + GOOD[1:], 200),
    ],
    ids=[
        "takes_a_byte_order_mark",
        "takes_white_space_at_the_end",
        "takes_an_escaped_key",
        "rejects_a_wrong_type_that_is_overwritten",
        "takes_the_last_of_two_equal_keys",
        "ignores_unknown_fields_with_odd_values",
        "ignores_an_unknown_key_of_half_a_pair",
        "ignores_half_a_pair_behind_a_backslash",
        "rejects_bare_nan",
        "rejects_a_leading_zero",
        "rejects_cut_text",
        "rejects_text_behind_the_end",
        "rejects_two_documents",
        "rejects_a_trailing_comma",
        "rejects_single_quotes",
        "rejects_utf16_with_mark",
        "rejects_utf16",
        "rejects_utf32",
        "rejects_bytes_that_are_no_utf8",
        "rejects_surrogates_in_utf8",
        "rejects_a_control_character",
        "rejects_an_unknown_escape",
        "rejects_nothing",
        "rejects_blanks",
        "rejects_open_brackets",
        "ignores_an_unknown_field_of_100000_levels",
    ],
)
async def test_what_is_json_text(service: Service, text: bytes, status: int) -> None:
    answer = await service.post(text, JSON)
    assert answer.status == status
    assert service.sink.span_names == (["n"] if status == 200 else [])
    assert (answer.body == b"{}") is (status == 200)


INTEGERS = [
    ("1e3", 1000),
    ("1.5e1", 15),
    ("10.0", 10),
    (2.0, 2),
    ("-0", 0),
    (-5, -5),
    ("9223372036854775807", 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**53 + 1, 2**53 + 1),
]


@pytest.mark.parametrize(("given", "number"), INTEGERS)
async def test_j5_integers_are_exact_in_every_form_that_proto3_allows(
    service: Service, given: Any, number: int
) -> None:
    span = await _stored(service, **_attribute({"intValue": given}))
    assert span.attributes[1].value.int_value == number


@pytest.mark.parametrize("text", ["+/8=", "-_8=", "-_8", "+/8"])
async def test_j6_base64_is_standard_or_url_safe_with_or_without_padding(service: Service, text: str) -> None:
    span = await _stored(service, **_attribute({"bytesValue": text}))
    assert span.attributes[1].value.bytes_value == b"\xfb\xff"


async def test_several_routes_in_one_document_are_stored_apart(service: Service) -> None:
    parts = [
        {
            "resource": {"attributes": [{"key": "mlflow.experiment.id", "value": {"stringValue": number}}]},
            "scopeSpans": [{"spans": [_span(name=f"in {number}")]}],
        }
        for number in ("41", "42")
    ]
    answer = await service.post(json.dumps({"resourceSpans": parts}).encode(), JSON)
    assert (answer.status, answer.body) == (200, b"{}")
    assert len(service.sink.drafts) == 2
    assert sorted(service.sink.span_names) == ["in 41", "in 42"]


class TestBounds:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_spans=5)

    async def test_too_many_spans_are_413_before_one_is_read(self, service: Service) -> None:
        answer = await service.post(json.dumps(_document(*["x"] * 6)).encode(), JSON)
        assert answer.status == 413
        assert "5 are allowed" in json.loads(answer.body)["message"]

    @pytest.mark.parametrize(
        ("around", "inside"),
        [
            (b'{"resourceSpans":[%b]}', b"{}"),
            (b'{"later":[%b]}', b"{}"),
            (b'{"later":[%b]}', b"0"),
            (b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}', b"0"),
        ],
        ids=["empty_resources", "objects_under_an_unknown_key", "numbers_under_an_unknown_key", "spans"],
    )
    async def test_too_many_values_are_413(self, service: Service, around: bytes, inside: bytes) -> None:
        body = gzip.compress(around % b",".join([inside] * 3_700_000), compresslevel=1)
        answer = await service.post(body, JSON, headers={"content-encoding": "gzip"})
        assert answer.status == 413
        assert "values" in json.loads(answer.body)["message"]

    async def test_signs_in_a_text_are_no_values(self, service: Service) -> None:
        span = await _stored(service, name='{"a": [1, 2]},' * 500_000)
        assert len(span.name) == 7_000_000
