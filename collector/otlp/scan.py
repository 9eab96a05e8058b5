"""How much an export holds, read from the wire before messages are built. Pure.

Two bytes of protobuf may become a message of 170 bytes, so 64 MiB can become gigabytes. The walk goes
through lengths and tags only, and stops at the bound. It goes on wherever protobuf's decoder would, so
nothing that is built escapes it; what it can't read, the decoder refuses at the same place.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from collector.model.errors import Reason, Rejected
from collector.otlp.shapes import SHAPES, SPANS, SignalShape

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
MAX_VARINT_BYTES = 10
MORE = 0x80
SLICE_BYTES = 1024 * 1024
# a sample of a body: the first byte of a message within another is one of few
WINDOWS, WINDOW_BYTES = 8, 256
# texts have 0.09 of these bytes, random bytes 0.08, nothing but empty messages 0.5
DENSE = 0.25


class MessageType:
    """A type of message: by tag, the types of the messages in it."""

    __slots__ = ("by_tag", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.by_tag: dict[int, MessageType] = {}


UNKNOWN = MessageType("")


def _kind(descriptor: Any, known: dict[str, MessageType]) -> MessageType:
    if descriptor.full_name not in known:
        kind = known[descriptor.full_name] = MessageType(descriptor.full_name)
        for field in descriptor.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                kind.by_tag[field.number << 3 | LENGTH] = _kind(field.message_type, known)
    return known[descriptor.full_name]


@cache
def _kinds() -> dict[str, MessageType]:
    known: dict[str, MessageType] = {}
    for shape in SHAPES.values():
        _kind(shape.request.DESCRIPTOR, known)
    return known


def kind_of(descriptor: Descriptor) -> MessageType:
    """The type that `descriptor` describes: one that stands somewhere in an export."""
    return _kinds()[descriptor.full_name]


@cache
def _envelope(shape: SignalShape) -> MessageType:
    """An export down to its spans or log records, which are not looked into."""
    inner = MessageType(shape.item.DESCRIPTOR.full_name)
    for outer in (shape.of_scope, shape.of_resource, shape.request):
        kind = MessageType(outer.DESCRIPTOR.full_name)
        kind.by_tag = {
            tag: inner for tag, found in kind_of(outer.DESCRIPTOR).by_tag.items() if found.name == inner.name
        }
        inner = kind
    return inner


@cache
def _first_bytes() -> bytes:
    """The bytes that a message's tag can begin with; a tag may be written longer than it needs to be."""
    tags = {tag for kind in _kinds().values() for tag in kind.by_tag}
    return bytes(sorted({byte for tag in tags for byte in (tag & 0x7F, tag & 0x7F | MORE)}))


def looks_dense(data: bytes, start: int, size: int) -> bool:
    """Whether so much of a body may be the beginnings of messages that it would take long to read.

    By a sample at places that a sender can't foresee (`hash` of bytes differs from process to process).
    """
    step = max(size // WINDOWS, WINDOW_BYTES)
    first = start + hash(data[start : start + WINDOW_BYTES]) % max(1, step - WINDOW_BYTES)
    sample = b"".join([data[at : at + WINDOW_BYTES] for at in range(first, start + size, step)])
    return _possible_messages(sample, 0, len(sample)) > DENSE * len(sample)


def _possible_messages(data: bytes, start: int, end: int) -> int:
    """At least as many as there are messages: each begins with one of a few bytes."""
    count = 0
    for at in range(start, end, SLICE_BYTES):
        piece = data[at : min(at + SLICE_BYTES, end)]
        count += len(piece) - len(piece.translate(None, _first_bytes()))
    return count


def check_counts(
    data: bytes, start: int, end: int, *, max_spans: int, max_messages: int, shape: SignalShape = SPANS
) -> None:
    """Raises Rejected (too_many_spans, too_large) if the export in `data[start:end]` holds more."""
    surely_few = _possible_messages(data, start, end) <= max_messages
    whole = _envelope(shape) if surely_few else kind_of(shape.request.DESCRIPTOR)
    item = shape.item.DESCRIPTOR.full_name
    spans = messages = 0
    for kind, _ in walk(data, start, end, whole):
        messages += 1
        if kind.name == item:
            spans += 1
            if spans > max_spans:
                raise too_many_spans(max_spans, shape)
        if messages > max_messages:
            raise Rejected(
                Reason.TOO_LARGE,
                f"over {max_messages} resources, scopes, {shape.word}s, attributes, values, events and links "
                "in one request; send smaller batches",
            )


def too_many_spans(max_spans: int, shape: SignalShape = SPANS) -> Rejected:
    """What a request with more spans or log records than that is told."""
    return Rejected(
        Reason.TOO_MANY_SPANS,
        f"over {max_spans} {shape.word}s in one request, {max_spans} are allowed; send smaller batches",
    )


def walk(data: bytes, start: int, end: int, kind: MessageType) -> Iterator[tuple[MessageType, int]]:
    """Each message in the message of `kind` at `data[start:end]`, outer ones first, and its level from 1 on.

    Ends without an error at the first byte that is no protobuf.
    """
    outer: list[tuple[int, MessageType]] = []
    at = start
    try:
        while True:
            while at >= end:
                if not outer:
                    return
                end, kind = outer.pop()
            tag, at = (data[at], at + 1) if data[at] < MORE else varint(data, at)
            wire = tag & 7
            if wire == LENGTH:
                size, at = (data[at], at + 1) if data[at] < MORE else varint(data, at)
                inner = kind.by_tag.get(tag)
                if inner is None:
                    at += size
                    continue
                yield inner, len(outer) + 1
                outer.append((end, kind))
                end, kind = at + size, inner
            elif wire == START_GROUP:
                outer.append((end, kind))
                kind = UNKNOWN
            elif wire == END_GROUP:
                end, kind = outer.pop()
            else:
                at = after_number(data, at, wire)
    except (IndexError, ValueError):
        return


def after_number(data: bytes, at: int, wire: int) -> int:
    """Where the value of a field without a length ends. Raises IndexError, ValueError."""
    if wire == VARINT:
        return at + 1 if data[at] < MORE else varint(data, at)[1]
    if wire == FIXED64:
        return at + 8
    if wire == FIXED32:
        return at + 4
    raise ValueError("no such wire type")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises IndexError, ValueError."""
    number = 0
    for position in range(MAX_VARINT_BYTES):
        byte = data[at + position]
        number |= (byte & 0x7F) << 7 * position
        if byte < MORE:
            return number, at + position + 1
    raise ValueError("a number without an end")
