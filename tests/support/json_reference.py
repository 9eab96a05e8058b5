"""OTLP/JSON read slowly and by the book: from the messages' descriptors, value by value, exactly.

It shares nothing with the service's reader but the specification.
"""

import base64
import binascii
import json
import re
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from collector.otlp.nesting import deepest

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
OWN_IDS = {"traceId", "spanId", "parentSpanId"}


class Refused(Exception):
    """The document, or the span, can't be stored whole."""


def read_reference(document: Any, *, max_depth: int) -> tuple[ExportTraceServiceRequest, int]:
    """The export in `document` (made by `loads`) without empty envelopes, and how many spans are refused.

    Raises Refused if something outside of spans is wrong.
    """
    refused = 0
    export = ExportTraceServiceRequest()
    for part in _items(_members(document), "resourceSpans"):
        resource = _without(ResourceSpans, part, "scopeSpans")
        _check_depth([resource.resource], 46)
        for inner in _items(part, "scopeSpans"):
            scope = _without(ScopeSpans, inner, "spans")
            for text in _items(inner, "spans"):
                try:
                    scope.spans.append(_span(text, max_depth))
                except Refused:
                    refused += 1
            if scope.spans:
                resource.scope_spans.append(scope)
        if resource.scope_spans:
            export.resource_spans.append(resource)
    return export, refused


def loads(text: bytes) -> Any:
    """`text` with its fractions as they stand."""
    return json.loads(text, parse_float=Decimal)


def _without(kind: Any, value: Any, name: str) -> Any:
    return _message(kind.DESCRIPTOR, {key: item for key, item in _members(value).items() if key != name})


def _items(value: Any, name: str) -> list[Any]:
    items = _members(value).get(name)
    if items is not None and not isinstance(items, list):
        raise Refused(name)
    for item in items or []:
        if name != "spans":
            _members(item)
    return items or []


def _members(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("no object")
    return value


def _span(value: Any, max_depth: int) -> Span:
    span = _message(Span.DESCRIPTOR, value)
    _check_depth([span, *span.events, *span.links], max_depth)
    try:
        wrapped = ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{"spans": [span]}]}])
        ExportTraceServiceRequest.FromString(wrapped.SerializeToString())
    except DecodeError as error:
        raise Refused("too deep for protobuf") from error
    return span


def _check_depth(holders: Any, max_depth: int) -> None:
    for holder in holders:
        for pair in holder.attributes:
            if deepest(pair.value, max_depth) > max_depth:
                raise Refused("too deep")


def _message(descriptor: Descriptor, value: Any) -> Any:
    members = _members(value)
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        given = members.get(field.json_name)
        if given is None:
            continue
        if field.containing_oneof and message.WhichOneof(field.containing_oneof.name):
            raise Refused("two members of a oneof")
        _set(message, field, given)
    return message


def _set(message: Any, field: FieldDescriptor, given: Any) -> None:
    if field.is_repeated:
        if not isinstance(given, list):
            raise Refused("no list")
        getattr(message, field.name).extend([_one(field, item) for item in given])
    elif field.message_type:
        getattr(message, field.name).CopyFrom(_one(field, given))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _one(field, given))


def _one(field: FieldDescriptor, given: Any) -> Any:
    if field.message_type:
        return _message(field.message_type, given)
    if field.type in RANGES:
        return _integer(field, given)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _double(given)
    wanted = bool if field.type == FieldDescriptor.TYPE_BOOL else str
    if not isinstance(given, wanted):
        raise Refused("wrong type")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(field, given)
    return _text(given) if isinstance(given, str) else given


def _text(given: str) -> str:
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise Refused("half a surrogate pair") from error
    return given


def _integer(field: FieldDescriptor, given: Any) -> int:
    if isinstance(given, str) and field.enum_type:
        # not by values_by_name: half a surrogate pair leaves an error behind in protobuf's binding
        names = {each.name: int(each.number) for each in field.enum_type.values}
        if given in names:
            return names[given]
    if isinstance(given, Decimal) and abs(given) >= 2**53:
        raise Refused("not surely exact")
    number = _number(given)
    lowest, highest = RANGES[field.type]
    if not lowest <= number <= highest or number != int(number):
        raise Refused("out of range, or a fraction")
    return int(number)


def _number(given: Any) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | Decimal | str):
        raise Refused("no number")
    if isinstance(given, str) and not NUMBER.fullmatch(given):
        raise Refused("no number")
    return Decimal(given)


def _double(given: Any) -> float:
    if given in ("NaN", "Infinity", "-Infinity"):
        return float(given)
    number = float(_number(given))
    if number in (float("inf"), float("-inf")):
        raise Refused("out of range")
    return number


def _bytes(field: FieldDescriptor, given: str) -> bytes:
    text = _text(given)
    if field.json_name in OWN_IDS:
        return _id(field, text)
    if not re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", text):
        raise Refused("no base64")
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(bare) % 4 == 1 or (text.endswith("=") and len(text) % 4):
        raise Refused("no base64")
    return base64.b64decode(bare + "=" * (-len(bare) % 4))


def _id(field: FieldDescriptor, text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        if field.containing_type.name == "Span":
            return b"\xff"  # validation refuses it by the reason of that id
        raise Refused("no hex") from error


def same(one: Message, other: Message) -> bool:
    """Whether two messages hold the same, NaN included."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
