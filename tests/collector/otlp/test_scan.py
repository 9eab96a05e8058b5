"""Counting on the wire, before messages are built."""

from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.errors import Reason, Rejected
from collector.otlp.codec import decode
from collector.otlp.media import Encoding
from collector.otlp.nesting import varint_of
from collector.otlp.scan import check_counts, kind_of, looks_dense, walk
from tests.benchmarks.payloads import body as agent_runs
from tests.support import hostile_bodies as hostile
from tests.support.hostile_bodies import field, within
from tests.support.otlp import DATA, all_spans, export

EXPORT = ExportTraceServiceRequest.DESCRIPTOR
MIB = 1024 * 1024


def walked(body: bytes) -> int:
    return sum(1 for _ in walk(body, 0, len(body), kind_of(EXPORT)))


def built(message: Message) -> int:
    """The messages in a message, counted as protobuf has built them."""
    count = 0
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for inner in value if descriptor.is_repeated else [value]:
            count += 1 + built(inner)
    return count


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.glob("*.binpb")))
def test_the_walk_counts_what_is_built(name: str) -> None:
    body = (DATA / name).read_bytes()
    assert walked(body) == built(ExportTraceServiceRequest.FromString(body))


def written_long(tag: int) -> bytes:
    """A tag in five bytes, as nobody writes it and every decoder reads it."""
    return bytes([tag | 0x80, 0x80, 0x80, 0x80, 0x00])


GROUP = b"\xf3\x01" + b"\xf4\x01"  # field 30, empty
ODD = {
    "long_tags": written_long(0x0A) + b"\x00" + b"\x0a\x00",
    "long_lengths": b"\x0a\x80\x80\x00\x0a\x00",
    "unknown_numbers": b"\xf0\x01\x05\x0a\x00",
    "unknown_fixed": b"\xf1\x01" + bytes(8) + b"\xf5\x01" + bytes(4) + b"\x0a\x00",
    "unknown_texts": b"\xf2\x01\x02\x0a\x00" + b"\x0a\x00",
    "an_unknown_group": GROUP + b"\x0a\x00",
    "a_message_in_a_group_is_none": b"\xf3\x01\x0a\x00\xf4\x01",
    "another_type_under_a_known_number": b"\x08\x05\x0a\x00",
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_the_walk_reads_on_where_a_decoder_does(body: bytes) -> None:
    assert walked(body) == len(ExportTraceServiceRequest.FromString(body).resource_spans)


# pieces that together make nested, cut, odd and plain messages
PIECES = st.recursive(
    st.sampled_from([b"", *ODD.values(), b"\x0a\x02\x12\x00", b"\x08\x01", b"\x0a\x05ab", b"\x07", b"\xff"]),
    lambda inner: st.builds(
        lambda tag, parts: field(tag, b"".join(parts)),
        st.sampled_from([0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32, 0x4A, 0x5A, 0x6A, 0x7A]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=30,
)


@settings(max_examples=500)
@given(st.lists(PIECES, max_size=6).map(b"".join))
def test_nothing_is_built_that_was_not_counted(body: bytes) -> None:
    try:
        message = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return
    assert built(message) <= walked(body)


MANY: dict[str, tuple[Callable[[int], bytes], Reason]] = {
    "resources": (hostile.empty_resources, Reason.TOO_LARGE),
    "spans": (hostile.empty_spans, Reason.TOO_MANY_SPANS),
    "valid_spans": (hostile.valid_spans, Reason.TOO_MANY_SPANS),
    "attributes": (hostile.empty_attributes, Reason.TOO_LARGE),
    "list_items": (hostile.list_items, Reason.TOO_LARGE),
    "scopes": (lambda count: within(field(0x12, b"") * count, 0x0A), Reason.TOO_LARGE),
    "events": (lambda count: within(field(0x5A, b"") * count, 0x0A, 0x12, 0x12), Reason.TOO_LARGE),
    "links": (lambda count: within(field(0x6A, b"") * count, 0x0A, 0x12, 0x12), Reason.TOO_LARGE),
    "one_in_another": (lambda count: b"".join([deep(40)] * (count // 40)), Reason.TOO_LARGE),
}


def deep(levels: int) -> bytes:
    """A span whose attribute nests."""
    value = b""
    for _ in range(levels):
        value = within(value, 0x2A, 0x0A)
    return within(value, 0x0A, 0x12, 0x12, 0x4A, 0x12)


@pytest.mark.parametrize(("make", "reason"), MANY.values(), ids=MANY)
def test_too_many_are_refused(make: Callable[[int], bytes], reason: Reason) -> None:
    body = make(4000)
    spans = 900 if reason is Reason.TOO_MANY_SPANS else 100_000
    with pytest.raises(Rejected) as caught:
        check_counts(body, 0, len(body), max_spans=spans, max_messages=1000)
    assert caught.value.reason is reason
    check_counts(body, 0, len(body), max_spans=5000, max_messages=20_000)


DENSE = {
    "attributes": hostile.empty_attributes(MIB // 2),
    "spans": hostile.empty_spans(MIB // 2),
    "list_items": hostile.list_items(MIB // 2),
    "one_in_another": deep(40) * 5000,
    "after_a_plain_beginning": agent_runs(1) * 3 + hostile.empty_attributes(MIB // 2),
    "with_long_tags": within(b"\xca\x00\x00" * 300_000, 0x0A, 0x12, 0x12),
}


@pytest.mark.parametrize("body", DENSE.values(), ids=DENSE)
def test_a_body_of_tiny_messages_looks_dense(body: bytes) -> None:
    assert looks_dense(body, 0, len(body))


def test_what_agents_send_does_not_look_dense() -> None:
    body = agent_runs(20)
    assert not looks_dense(body, 0, len(body))


@pytest.mark.parametrize("levels", [40, 64, 400], ids=lambda levels: f"{levels}_levels")
def test_one_deep_span_costs_that_span(levels: int) -> None:
    request = export(spans=3)
    parts = request.SerializeToString()
    decoded = decode(
        [parts, deep(levels)], Encoding.PROTOBUF, max_depth=32, max_spans=100, max_messages=10_000
    )
    if levels == 40:  # protobuf reads it; validation looks at it
        assert not decoded.surely_flat
        assert decoded.rejections == []
        return
    assert [rejection.reason for rejection in decoded.rejections] == [Reason.ATTRIBUTES_TOO_DEEP]
    assert all_spans(decoded.export) == all_spans(request)
    assert ExportTraceServiceRequest.FromString(decoded.body) == decoded.export


def test_a_deep_resource_costs_its_spans() -> None:
    value = b""
    for _ in range(64):
        value = within(value, 0x2A, 0x0A)
    bad = field(0x0A, within(value, 0x0A, 0x0A, 0x12) + within(b"", 0x12, 0x12) * 2)
    good = export(spans=2)
    decoded = decode(
        [bad, good.SerializeToString()], Encoding.PROTOBUF, max_depth=32, max_spans=100, max_messages=10_000
    )
    assert [rejection.reason for rejection in decoded.rejections] == [Reason.ATTRIBUTES_TOO_DEEP] * 2
    assert len(all_spans(decoded.export)) == 2


@pytest.mark.parametrize(
    "body",
    [deep(64) + b"\x0a\x05ab", deep(64)[:-3], b"no protobuf", varint_of(2**40)],
    ids=["deep_then_cut", "deep_and_cut", "text", "number"],
)
def test_what_is_malformed_stays_malformed(body: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        decode([body], Encoding.PROTOBUF, max_depth=32, max_spans=100, max_messages=10_000)
    assert caught.value.reason is Reason.MALFORMED
