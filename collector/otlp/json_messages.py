"""OTLP's messages as JSON writes them, and their way into protobuf's wire format. Pure.

msgspec reads text into the structs below: it knows their keys (lowerCamelCase), passes over all others
without building anything, and finds a wrong type. Bytes are then written directly, which takes a third of
the time of filling protobuf's messages. Keys and field numbers are those of OTLP's files,
https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from opentelemetry.proto.trace.v1 import trace_pb2

from collector.otlp.json_scalars import (
    INT32,
    INT64,
    UINT32,
    UINT64,
    TooDeep,
    Wrong,
    base64_bytes,
    double,
    enum,
    hexadecimal,
    integer,
    pack_double,
    pack_fixed32,
    pack_fixed64,
    signed_varint,
    varint,
)

Number = int | float | str  # 64-bit integers are quoted, and so may be all others


class AnyValue(Struct, gc=False):
    """One value; at most one of its members is set."""

    stringValue: str | None = None
    boolValue: bool | None = None
    intValue: Number | None = None
    doubleValue: float | str | None = None
    arrayValue: "ArrayValue | None" = None
    kvlistValue: "KeyValueList | None" = None
    bytesValue: str | None = None
    stringValueStrindex: Number | None = None


class ArrayValue(Struct, gc=False):
    """A list of values."""

    values: list[AnyValue] | None = None


class KeyValue(Struct, gc=False):
    """An attribute."""

    key: str | None = None
    value: AnyValue | None = None
    keyStrindex: Number | None = None


class KeyValueList(Struct, gc=False):
    """A map."""

    values: list[KeyValue] | None = None


class EntityRef(Struct, gc=False):
    """Which attributes of a resource name an entity."""

    schemaUrl: str | None = None
    type: str | None = None
    idKeys: list[str] | None = None
    descriptionKeys: list[str] | None = None


class Resource(Struct, gc=False):
    """Who made the spans."""

    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None
    entityRefs: list[EntityRef] | None = None


class Scope(Struct, gc=False):
    """Which library made the spans."""

    name: str | None = None
    version: str | None = None
    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None


class Event(Struct, gc=False):
    """Something that happened in a span."""

    timeUnixNano: Number | None = None
    name: str | None = None
    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None


class Link(Struct, gc=False):
    """Another span that a span belongs to."""

    traceId: str | None = None
    spanId: str | None = None
    traceState: str | None = None
    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None
    flags: Number | None = None


class Status(Struct, gc=False):
    """How a span ended."""

    message: str | None = None
    code: Number | None = None


class Span(Struct, gc=False):
    """One operation."""

    traceId: str | None = None
    spanId: str | None = None
    traceState: str | None = None
    parentSpanId: str | None = None
    flags: Number | None = None
    name: str | None = None
    kind: Number | None = None
    startTimeUnixNano: Number | None = None
    endTimeUnixNano: Number | None = None
    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None
    events: list[Event] | None = None
    droppedEventsCount: Number | None = None
    links: list[Link] | None = None
    droppedLinksCount: Number | None = None
    status: Status | None = None


class Room(NamedTuple):
    """What may still stand inside a value: lists and maps, and levels of protobuf's messages."""

    lists: int
    levels: int

    def inside(self, levels: int) -> "Room":
        """The room inside one more list or map, which takes `levels`. Raises TooDeep."""
        if self.lists < 1 or self.levels < levels:
            raise TooDeep("nests too many lists and maps inside each other")
        return Room(self.lists - 1, self.levels - levels)


# stands for an id that isn't hex: no id has one byte, so validation refuses that span and says why
NOT_AN_ID = b"\xff"
# levels that a list adds (ArrayValue, AnyValue), and a map (KeyValueList, KeyValue, AnyValue)
LIST_LEVELS, MAP_LEVELS = 2, 3

# writes a member that is set, with its field number
Write = Callable[[Any, Room], bytes]
Fields = tuple[tuple[str, Write], ...]
SPAN_KINDS = dict(trace_pb2.Span.SpanKind.items())
STATUS_CODES = dict(trace_pb2.Status.StatusCode.items())
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def write_message(message: Struct, fields: Fields, room: Room) -> bytes:
    """The fields of `message`. Raises Wrong with the path to the member that can't be stored."""
    parts = []
    for name, write in fields:
        given = getattr(message, name)
        if given is not None:
            try:
                parts.append(write(given, room))
            except Wrong as wrong:
                raise wrong.under(name) from wrong
    return b"".join(parts)


def delimited(field: int, content: bytes) -> bytes:
    """A member whose length stands in front: a message, a text, bytes."""
    return varint(field << 3 | LENGTH) + varint(len(content)) + content


def _text(field: int) -> Write:
    return lambda text, _: delimited(field, text.encode()) if text else b""


def _texts(field: int) -> Write:
    return lambda texts, _: b"".join([delimited(field, text.encode()) for text in texts])


def _uint32(field: int) -> Write:
    tag = varint(field << 3 | VARINT)
    return lambda value, _: tag + varint(integer(value, UINT32))


def _enum(field: int, names: Mapping[str, int]) -> Write:
    tag = varint(field << 3 | VARINT)
    return lambda value, _: tag + signed_varint(enum(value, names))


def _fixed32(field: int) -> Write:
    tag = varint(field << 3 | FIXED32)
    return lambda value, _: tag + pack_fixed32(integer(value, UINT32))


def _fixed64(field: int) -> Write:
    tag = varint(field << 3 | FIXED64)
    return lambda value, _: tag + pack_fixed64(integer(value, UINT64))


def _own_id(field: int) -> Write:
    """An id of the span itself: validation has its own reason for each."""

    def write(text: str, _: Room) -> bytes:
        try:
            return delimited(field, hexadecimal(text))
        except Wrong:
            return delimited(field, NOT_AN_ID)

    return write


def _linked_id(field: int) -> Write:
    return lambda text, _: delimited(field, hexadecimal(text))


def _message(field: int, fields: Fields) -> Write:
    return lambda message, room: delimited(field, write_message(message, fields, room))


def _messages(field: int, fields: Fields) -> Write:
    def write_one(message: Struct, room: Room) -> bytes:
        return write_message(message, fields, Room(room.lists, room.levels - 1))

    return _each(field, write_one)


def _each(field: int, write_one: Callable[[Any, Room], bytes]) -> Write:
    tag = varint(field << 3 | LENGTH)

    def write(items: Sequence[Any], room: Room) -> bytes:
        parts: list[bytes] = []
        try:
            for item in items:
                content = write_one(item, room)
                parts += (tag, varint(len(content)), content)
        except Wrong as wrong:
            raise wrong.under(f"[{len(parts) // 3}]") from wrong
        return b"".join(parts)

    return write


def _pair(pair: KeyValue, room: Room) -> bytes:
    """A KeyValue: the receiver's hot spot for JSON."""
    key = (pair.key or "").encode()
    head = b"\x0a" + varint(len(key)) + key if key else b""
    if pair.keyStrindex is not None:
        head += b"\x18" + signed_varint(integer(pair.keyStrindex, INT32))
    if pair.value is None:
        return head
    try:
        value = _value(pair.value, room)
    except Wrong as wrong:
        raise wrong.under("value") from wrong
    return head + b"\x12" + varint(len(value)) + value


def _value(value: AnyValue, room: Room) -> bytes:
    """An AnyValue; texts and integers first, which most attributes are."""
    text = value.stringValue
    number = value.intValue
    others = (
        value.boolValue,
        value.doubleValue,
        value.arrayValue,
        value.kvlistValue,
        value.bytesValue,
        value.stringValueStrindex,
    )
    if others != NO_OTHERS or (text is not None and number is not None):
        return _rare_value(value, (text, number, *others), room)
    if text is not None:
        content = text.encode()
        return b"\x0a" + varint(len(content)) + content
    return _int_value(number) if number is not None else b""


def _rare_value(value: AnyValue, members: Sequence[object], room: Room) -> bytes:
    if members.count(None) < len(members) - 1:
        raise Wrong("must have one member, has several")
    return write_message(value, RARE_FIELDS, room)


def _int_value(number: Number) -> bytes:
    try:
        return b"\x18" + signed_varint(integer(number, INT64))
    except Wrong as wrong:
        raise wrong.under("intValue") from wrong


NO_OTHERS = (None,) * 6


def _list(values: ArrayValue, room: Room) -> bytes:
    inside = room.inside(LIST_LEVELS)
    return delimited(5, write_message(values, LIST_FIELDS, inside))


def _map(values: KeyValueList, room: Room) -> bytes:
    inside = room.inside(MAP_LEVELS)
    return delimited(6, write_message(values, MAP_FIELDS, inside))


LIST_FIELDS: Fields = (("values", _each(1, _value)),)
MAP_FIELDS: Fields = (("values", _each(1, _pair)),)
# members of a oneof are written even where they are zero or empty
RARE_FIELDS: Fields = (
    ("boolValue", lambda value, _: b"\x10\x01" if value else b"\x10\x00"),
    ("doubleValue", lambda value, _: b"\x21" + pack_double(double(value))),
    ("arrayValue", _list),
    ("kvlistValue", _map),
    ("bytesValue", lambda value, _: delimited(7, base64_bytes(value))),
    ("stringValueStrindex", lambda value, _: b"\x40" + signed_varint(integer(value, INT32))),
)
ENTITY_FIELDS: Fields = (
    ("schemaUrl", _text(1)),
    ("type", _text(2)),
    ("idKeys", _texts(3)),
    ("descriptionKeys", _texts(4)),
)
RESOURCE_FIELDS: Fields = (
    ("attributes", _each(1, _pair)),
    ("droppedAttributesCount", _uint32(2)),
    ("entityRefs", _messages(3, ENTITY_FIELDS)),
)
SCOPE_FIELDS: Fields = (
    ("name", _text(1)),
    ("version", _text(2)),
    ("attributes", _each(3, _pair)),
    ("droppedAttributesCount", _uint32(4)),
)
EVENT_FIELDS: Fields = (
    ("timeUnixNano", _fixed64(1)),
    ("name", _text(2)),
    ("attributes", _each(3, _pair)),
    ("droppedAttributesCount", _uint32(4)),
)
LINK_FIELDS: Fields = (
    ("traceId", _linked_id(1)),
    ("spanId", _linked_id(2)),
    ("traceState", _text(3)),
    ("attributes", _each(4, _pair)),
    ("droppedAttributesCount", _uint32(5)),
    ("flags", _fixed32(6)),
)
STATUS_FIELDS: Fields = (("message", _text(2)), ("code", _enum(3, STATUS_CODES)))
SPAN_FIELDS: Fields = (
    ("traceId", _own_id(1)),
    ("spanId", _own_id(2)),
    ("traceState", _text(3)),
    ("parentSpanId", _own_id(4)),
    ("flags", _fixed32(16)),
    ("name", _text(5)),
    ("kind", _enum(6, SPAN_KINDS)),
    ("startTimeUnixNano", _fixed64(7)),
    ("endTimeUnixNano", _fixed64(8)),
    ("attributes", _each(9, _pair)),
    ("droppedAttributesCount", _uint32(10)),
    ("events", _messages(11, EVENT_FIELDS)),
    ("droppedEventsCount", _uint32(12)),
    ("links", _messages(13, LINK_FIELDS)),
    ("droppedLinksCount", _uint32(14)),
    ("status", _message(15, STATUS_FIELDS)),
)
