"""Bodies that are small on the wire and large in memory. None is a bomb by its size: 64 MiB is allowed."""

import gzip
import json
from collections.abc import Callable
from functools import cache

from collector.otlp.media import zstd
from collector.otlp.nesting import varint_of
from tests.support.otlp import new_span_id, new_trace_id

MIB = 1024 * 1024
# tags of the fields, by what they hold
RESOURCE_SPANS, SCOPE_SPANS, SPAN, ATTRIBUTE, VALUE, LIST, ITEM = 0x0A, 0x12, 0x12, 0x4A, 0x12, 0x2A, 0x0A


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint_of(len(content)) + content


def within(content: bytes, *tags: int) -> bytes:
    """`content` inside fields, the outermost first."""
    for tag in reversed(tags):
        content = field(tag, content)
    return content


def plain_span(*attributes: bytes) -> bytes:
    """A span that can be stored, without a tag and a length."""
    ids = field(0x0A, new_trace_id()) + field(0x12, new_span_id()) + field(0x2A, b"n")
    return ids + b"".join(attributes)


def empty_spans(count: int) -> bytes:
    return within(field(SPAN, b"") * count, RESOURCE_SPANS, SCOPE_SPANS)


def empty_resources(count: int) -> bytes:
    return field(RESOURCE_SPANS, b"") * count


def empty_attributes(count: int) -> bytes:
    return within(plain_span(field(ATTRIBUTE, b"") * count), RESOURCE_SPANS, SCOPE_SPANS, SPAN)


def list_items(count: int) -> bytes:
    attribute = within(field(ITEM, b"") * count, ATTRIBUTE, VALUE, LIST)
    return within(plain_span(attribute), RESOURCE_SPANS, SCOPE_SPANS, SPAN)


def valid_spans(count: int) -> bytes:
    """All of them alike: what is counted doesn't look at their ids."""
    return within(field(SPAN, plain_span()) * count, RESOURCE_SPANS, SCOPE_SPANS)


def json_objects(count: int, key: str = "resourceSpans") -> bytes:
    return f'{{"{key}":['.encode() + b"{}," * (count - 1) + b"{}]}"


def json_text(size: int) -> bytes:
    span = {
        "traceId": new_trace_id().hex(),
        "spanId": new_span_id().hex(),
        "name": "n",
        "attributes": [{"key": "long", "value": {"stringValue": "x" * size}}],
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def zstd_frames(size: int) -> bytes:
    frame = zstd.compress(b"")
    return frame * (size // len(frame))


def gzip_members(size: int) -> bytes:
    member = gzip.compress(b"", mtime=0)
    return member * (size // len(member))


def smallest(body: bytes) -> bytes:
    """Compressed as an attacker would."""
    return gzip.compress(body, 9, mtime=0)


PROTOBUF, JSON = "application/x-protobuf", "application/json"

# name: what makes it, Content-Type, Content-Encoding
BODIES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty_spans": (lambda: smallest(empty_spans(63 * MIB // 2)), PROTOBUF, "gzip"),
    "empty_resources": (lambda: smallest(empty_resources(31 * MIB)), PROTOBUF, "gzip"),
    "empty_attributes": (lambda: smallest(empty_attributes(31 * MIB)), PROTOBUF, "gzip"),
    "list_items": (lambda: smallest(list_items(16_000_000)), PROTOBUF, "gzip"),
    "many_valid_spans": (lambda: smallest(valid_spans(2_200_000 * 29 // 31)), PROTOBUF, "gzip"),
    "json_objects": (lambda: smallest(json_objects(22_000_000)), JSON, "gzip"),
    "json_objects_under_an_unknown_key": (lambda: smallest(json_objects(22_000_000, "x")), JSON, "gzip"),
    "json_with_one_long_text": (lambda: smallest(json_text(60 * MIB)), JSON, "gzip"),
    "zstd_frames": (lambda: zstd_frames(2 * MIB), PROTOBUF, "zstd"),
    "zstd_frames_in_gzip": (lambda: smallest(zstd_frames(2 * MIB)), PROTOBUF, "zstd, gzip"),
    "gzip_members": (lambda: gzip_members(MIB), PROTOBUF, "gzip"),
    # not compressed, and small enough for the event loop
    "two_megabytes_of_empty_attributes": (lambda: empty_attributes(MIB - 1000), PROTOBUF, "identity"),
    "a_malformed_megabyte": (lambda: valid_spans(30_000)[:-1], PROTOBUF, "identity"),
}


@cache
def body(name: str) -> bytes:
    """One of BODIES; making one takes a second."""
    return BODIES[name][0]()
