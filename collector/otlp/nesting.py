"""Parsing with a bound on how deep attribute values nest, at the cost of parsing. Pure.

Looking at each attribute of each span costs several times what parsing costs. protobuf's decoder counts
levels anyway and stops at 100, so the request is parsed inside as many groups as leave just the levels
that the bound allows (a group has no length in front, so both ends are constants):

    inner { inner { ... { request } ... } }

    request > resource spans > scope spans > span > attribute > value        6 levels, depth 0
    each list inside a value adds 2 levels, each map 3; an event's attribute has 1 more

What parses is for certain within the bound. What doesn't may still be (maps take more levels than lists),
and is then looked at span by span.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from collector.model.batch import Signal
from collector.otlp.shapes import SHAPES, SPANS, Export, SignalShape

DECODER_LEVELS = 100
LEVELS_OF_A_VALUE = 6
LEVELS_OF_A_LIST = 2
START_INNER, END_INNER = b"\x0b", b"\x0c"
# the field of the wrapper that holds an export of each signal
FIELDS: Mapping[Signal, int] = {Signal.TRACES: 2, Signal.LOGS: 3}
REQUESTS: Mapping[Signal, bytes] = {signal: bytes([field << 3 | 2]) for signal, field in FIELDS.items()}


class Wrapped(NamedTuple):
    """A body inside its groups: `data[start:end]`."""

    data: bytes
    start: int
    end: int
    groups: int
    shape: SignalShape = SPANS

    @property
    def body(self) -> memoryview:
        """The body, without a copy."""
        return memoryview(self.data)[self.start : self.end]


def wrap(chunks: Sequence[bytes], depth: int, shape: SignalShape = SPANS) -> Wrapped:
    """The body that `chunks` make, copied once, where only attributes up to `depth` (at most 46) parse."""
    # the least that a value nested one deeper than allowed takes
    too_many = LEVELS_OF_A_VALUE + LEVELS_OF_A_LIST * (depth + 1)
    groups = DECODER_LEVELS - too_many + 2
    size = sum(map(len, chunks))
    head = START_INNER * groups + REQUESTS[shape.signal] + varint_of(size)
    data = b"".join((head, *chunks, END_INNER * groups))
    return Wrapped(data, len(head), len(head) + size, groups, shape)


def parse(wrapped: Wrapped) -> Export | None:
    """The export in the body. None: an attribute may nest deeper than allowed, or it is no export at all.

    Raises MemoryError.
    """
    try:
        message = _wrapper().FromString(wrapped.data)
    except DecodeError as error:
        check_memory(error)
        return None
    request: Export = _way_to(wrapped.shape.signal, wrapped.groups)(message)
    return request


def check_memory(error: DecodeError) -> None:
    """Raises MemoryError if that is what the decoder came to the end of; it says so in its text only."""
    if "alloc" in str(error):
        raise MemoryError from error


def varint_of(number: int) -> bytes:
    """`number` as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@cache
def _way_to(signal: Signal, groups: int) -> Callable[[Any], Any]:
    """Gets the export out of its groups; it takes a third of the time of a loop over them."""
    return attrgetter(".".join([*["inner"] * groups, signal.value]))


@cache
def _wrapper() -> Any:
    """message Wrapper { optional group Inner = 1 {like Wrapper}; optional traces = 2; optional logs = 3; }"""
    file = descriptor_pb2.FileDescriptorProto(
        name="sidespan/nesting.proto",
        package="sidespan",
        syntax="proto2",
        dependency=[shape.request.DESCRIPTOR.file.name for shape in SHAPES.values()],
    )
    field = descriptor_pb2.FieldDescriptorProto
    for name in ("Wrapper", "Inner"):
        file.message_type.add(name=name).field.extend(
            [
                field(
                    name="inner",
                    number=1,
                    label=field.LABEL_OPTIONAL,
                    type=field.TYPE_GROUP,
                    type_name=".sidespan.Inner",
                ),
                *(
                    field(
                        name=signal.value,
                        number=FIELDS[signal],
                        label=field.LABEL_OPTIONAL,
                        type=field.TYPE_MESSAGE,
                        type_name=f".{shape.request.DESCRIPTOR.full_name}",
                    )
                    for signal, shape in SHAPES.items()
                ),
            ]
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sidespan.Wrapper"))


def deepest(value: AnyValue, bound: int) -> int:
    """How many lists and maps stand inside each other in `value`; counting stops over `bound`."""
    level, values = 0, [value]
    while level <= bound:
        holders = [_items(outer) for outer in values if _is_list_or_map(outer)]
        if not holders:
            return level
        level, values = level + 1, [item for items in holders for item in items]
    return level


def _is_list_or_map(value: AnyValue) -> bool:
    return value.WhichOneof("value") in ("array_value", "kvlist_value")


def _items(value: AnyValue) -> list[AnyValue]:
    if value.HasField("array_value"):
        return list(value.array_value.values)
    return [pair.value for pair in value.kvlist_value.values]
