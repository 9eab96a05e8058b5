"""The reader of OTLP/JSON against a slow one by the book, and what it costs."""

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.errors import Reason, Rejected
from collector.otlp.json_reader import read_json
from collector.otlp.json_text import count_values, mended
from tests.support.json_reference import Refused, loads, read_reference, same

MIB = 2**20
MAX_DEPTH = 4

# values that are right somewhere and wrong almost everywhere
HOSTILE = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        7,
        1.5,
        2.0,
        1e308,
        2**31,
        2**32,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**400,
        "",
        "x",
        "ERROR",
        "SPAN_KIND_SERVER",
        "STATUS_CODE_ERROR",
        "1",
        "-1",
        "-0",
        "007",
        "+1",
        "1_000",
        " 1",
        "1 ",
        "1e3",
        "1.5",
        "1.0",
        "1e400",
        "1e-400",
        "0e99999999999",
        "٣",
        "0x10",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "18446744073709551615",
        "18446744073709551616",
        "***",
        "AAE=",
        "AAE",
        "_-8",
        "+/8=",
        "A",
        "A===",
        "\ud83d",
        "\ude00 after",
        "\ud83d\ude00",
        "\\ud83d",
        "\0",
        "5b8efff798038103d269b633813fc60c",
        "eee19b7ec3c1b174",
        [],
        ["x"],
        [None],
        [[]],
        [{}],
        {},
        {"key": "k"},
        {"a": {"b": [1]}},
        {"stringValue": "v"},
        {"stringValue": "v", "intValue": 1},
        {"stringValue": None, "intValue": "5"},
        {"values": [{}, {"stringValue": ""}]},
    ]
)


def _or_hostile(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda number: right if number else HOSTILE)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = {name: _or_hostile(member) for name, member in members.items()}
    strays = {
        "later": HOSTILE,
        "start_time_unix_nano": HOSTILE,
        "resource_spans": HOSTILE,
    }
    return st.fixed_dictionaries({}, optional=known | strays)


def _many(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(_or_hostile(item), max_size=3)


texts = st.text(max_size=8) | st.sampled_from(["gen_ai.usage.input_tokens", 'a "quote"', "\\", "é€😀"])
counts = st.integers(0, 2**32 - 1) | st.integers(0, 99).map(str)
times = st.integers(0, 2**64 - 1).map(str) | st.integers(0, 2**63)
leaves = (
    _object(stringValue=texts)
    | _object(boolValue=st.booleans())
    | _object(intValue=st.integers(-(2**63), 2**63 - 1).map(str) | st.integers(-9, 9))
    | _object(doubleValue=st.floats(allow_nan=False, allow_infinity=False) | st.just("NaN"))
    | _object(bytesValue=st.just("AAE="))
)
values = st.recursive(
    leaves,
    lambda inner: (
        _object(arrayValue=_object(values=_many(inner)))
        | _object(kvlistValue=_object(values=_many(_object(key=texts, value=inner))))
    ),
    max_leaves=6,
)
attributes = _many(_object(key=texts, value=values))
trace_ids = st.just("5b8efff798038103d269b633813fc60c")
span_ids = st.just("EEE19b7ec3c1b174")
events = _object(timeUnixNano=times, name=texts, attributes=attributes, droppedAttributesCount=counts)
links = _object(
    traceId=trace_ids,
    spanId=span_ids,
    traceState=texts,
    attributes=attributes,
    droppedAttributesCount=counts,
    flags=counts,
)
spans = _object(
    traceId=trace_ids,
    spanId=span_ids,
    traceState=texts,
    parentSpanId=span_ids,
    flags=counts,
    name=texts,
    kind=st.integers(0, 9) | st.just("SPAN_KIND_CLIENT"),
    startTimeUnixNano=times,
    endTimeUnixNano=times,
    attributes=attributes,
    droppedAttributesCount=counts,
    events=_many(events),
    droppedEventsCount=counts,
    links=_many(links),
    droppedLinksCount=counts,
    status=_object(message=texts, code=st.integers(0, 2) | st.just("STATUS_CODE_OK")),
)
entities = _object(
    schemaUrl=texts,
    type=texts,
    idKeys=st.lists(texts, max_size=2),
    descriptionKeys=st.lists(texts, max_size=2),
)
resources = _object(attributes=attributes, droppedAttributesCount=counts, entityRefs=_many(entities))
scopes = _object(name=texts, version=texts, attributes=attributes, droppedAttributesCount=counts)
scope_spans = _object(scope=scopes, spans=_many(spans), schemaUrl=texts)
resource_spans = _object(resource=resources, scopeSpans=_many(scope_spans), schemaUrl=texts)
documents = _object(resourceSpans=_many(resource_spans))


def _read(text: bytes, **bounds: int) -> tuple[ExportTraceServiceRequest, list[Any]]:
    limits = {"max_depth": MAX_DEPTH, "max_spans": 1000} | bounds
    body, rejections = read_json(text, **limits)
    return ExportTraceServiceRequest.FromString(body), rejections


def _check_against_the_book(text: bytes) -> None:
    try:
        expected, refused = read_reference(loads(text), max_depth=MAX_DEPTH)
    except Refused:
        with pytest.raises(Rejected, match=r"^(the top level|resourceSpans.*): "):
            _read(text)
        return
    export, rejections = _read(text)
    assert len(rejections) == refused
    assert same(export, expected)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents)
def test_what_is_taken_is_stored_whole_and_nothing_else_is_refused(document: Any) -> None:
    _check_against_the_book(json.dumps(document).encode())


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(spans)
def test_a_span_is_stored_whole_or_refused(span: Any) -> None:
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "before"}, span, {"name": "after"}]}]}]}
    _check_against_the_book(json.dumps(document).encode())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:\\u d83dresourceSpans0', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_rejected(text: bytes) -> None:
    try:
        _read(text)
    except Rejected as error:
        assert error.reason is Reason.MALFORMED


def _in_a_span(members: bytes) -> bytes:
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[{%b}]}]}]}' % members


COSTLY = [
    ("22_million_empty_resources", lambda: b'{"resourceSpans":[%b{}]}' % (b"{}," * 22_000_000), 5),
    ("22_million_objects_under_an_unknown_key", lambda: b'{"later":[%b{}]}' % (b"{}," * 22_000_000), 5),
    ("1_million_empty_resources", lambda: b'{"resourceSpans":[%b{}]}' % (b"{}," * 1_000_000), 80),
    ("2_million_attributes", lambda: _in_a_span(b'"attributes":[%b{}]' % (b"{}," * 1_400_000)), 120),
    ("a_text_of_60_MiB", lambda: _in_a_span(b'"name":"%b"' % (b"x" * 60 * MIB)), 300),
    ("a_number_of_60_MiB", lambda: _in_a_span(b'"kind":%b' % (b"9" * 60 * MIB)), 5),
    ("quotes_behind_brackets", lambda: b'{"later":%b%b' % (b"[" * 2000, b'""' * 20 * MIB), 200),
]


@pytest.mark.parametrize(("make", "most_mib"), [row[1:] for row in COSTLY], ids=[row[0] for row in COSTLY])
def test_no_body_costs_much_more_memory_than_its_own(make: Any, most_mib: int) -> None:
    text = make()
    tracemalloc.start()
    try:
        with contextlib.suppress(Rejected):
            read_json(text, max_depth=32, max_spans=100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < most_mib * MIB


def test_a_body_of_few_values_may_hold_any_number_of_signs_in_texts() -> None:
    text = json.dumps({"resourceSpans": [], "later": ['{"a": [1, 2], "b\\"": "\\\\"},'] * 200_000}).encode()
    assert count_values(text, 200_010) <= 200_010 < text.count(b",")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.text('a"\\{[,'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_values_are_never_counted_short(document: Any) -> None:
    text = json.dumps(document).encode()
    assert count_values(text, 0) >= _values_inside(document)


def _values_inside(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return len(items) + sum(map(_values_inside, items))


MENDED = [
    (
        "keeps_what_is_right",
        rb'{"a": ["\ud83d\ude00", "\n\\", "\u00e9"]}',
        rb'{"a": ["\ud83d\ude00", "\n\\", "\u00e9"]}',
    ),
    ("blanks_a_high_half", rb'["a\ud83db"]', b'["a' + b"\xff" * 6 + b'b"]'),
    ("blanks_a_low_half", rb'["\uDE00"]', b'["' + b"\xff" * 6 + b'"]'),
    (
        "blanks_the_second_of_two_high_halves",
        rb'["\ud83d\ud83d\ude00"]',
        b'["' + b"\xff" * 6 + rb'\ud83d\ude00"]',
    ),
    ("keeps_letters_behind_a_backslash", rb'["\\ud83d"]', rb'["\\ud83d"]'),
    ("sees_the_half_behind_two_backslashes", rb'["\\\ud83d"]', rb'["\\' + b"\xff" * 6 + b'"]'),
    ("sees_the_low_half_behind_letters", rb'["\\ud83d\ude00"]', rb'["\\ud83d' + b"\xff" * 6 + b'"]'),
    ("keeps_256_levels", b"[" * 256 + b"1" + b"]" * 256, b"[" * 256 + b"1" + b"]" * 256),
    ("blanks_what_is_deeper", b"[" * 300 + b"]" * 300, b"[" * 257 + b" " * 86 + b"]" * 257),
    ("passes_over_brackets_in_texts", b'["' + b"[" * 300 + b'"]', b'["' + b"[" * 300 + b'"]'),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in MENDED], ids=[row[0] for row in MENDED])
def test_mending_changes_what_no_parser_takes_and_nothing_else(text: bytes, expected: bytes) -> None:
    assert mended(text) == expected
