"""OTLP's messages as JSON writes them. Pure.

msgspec reads text into these structs: it knows their keys (lowerCamelCase), passes over all others without
building anything, and finds a wrong type. Keys and types are those of OTLP's files,
https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto
"""

from msgspec import Struct

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


class LogRecord(Struct, gc=False):
    """One thing that was logged."""

    timeUnixNano: Number | None = None
    observedTimeUnixNano: Number | None = None
    severityNumber: Number | None = None
    severityText: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    droppedAttributesCount: Number | None = None
    flags: Number | None = None
    traceId: str | None = None
    spanId: str | None = None
    eventName: str | None = None
