"""An export in protobuf, of which a span that nests too deep for the decoder is left out. Pure.

protobuf's decoder gives up a whole request at its bound of 100 levels. Only then the spans are looked at one
by one on the wire, and those that are too deep taken out of it.
"""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from collector.model.batch import Rejection
from collector.model.errors import Reason, Rejected
from collector.otlp.nesting import DECODER_LEVELS, check_memory, parse, varint_of, wrap
from collector.otlp.scan import (
    END_GROUP,
    LENGTH,
    START_GROUP,
    MessageType,
    after_number,
    check_counts,
    kind_of,
    varint,
    walk,
)
from collector.otlp.shapes import SPANS, Export, SignalShape

# the body, the export in it, whether surely no attribute nests over the bound, what was left out
Read = tuple[bytes | memoryview, Export, bool, list[Rejection]]


def read_protobuf(
    chunks: list[bytes], *, max_depth: int, max_spans: int, max_messages: int, shape: SignalShape = SPANS
) -> Read:
    """What the chunks of a body hold; `chunks` is empty afterwards, which saves one copy in memory.

    An empty body is an empty export. Counts are bounded before messages are built.
    Raises Rejected (malformed, too_many_spans, too_large).
    """
    wrapped = wrap(chunks, max_depth, shape)
    chunks.clear()
    data, start, end, *_ = wrapped
    check_counts(data, start, end, max_spans=max_spans, max_messages=max_messages, shape=shape)
    if (export := parse(wrapped)) is not None:
        return wrapped.body, export, True, []
    return read_deep(data[start:end], shape)


def read_deep(body: bytes, shape: SignalShape = SPANS) -> Read:
    """As read_protobuf, for a body that nests deeper than is allowed, or isn't an export."""
    try:
        return body, shape.request.FromString(body), False, []
    except DecodeError as error:
        check_memory(error)
        left, rejections = _without_deep_items(body, shape)
        if not rejections:
            raise _malformed(error, shape) from error
    try:
        return left, shape.request.FromString(left), False, rejections
    except DecodeError as error:
        check_memory(error)
        raise _malformed(error, shape) from error


def _malformed(error: DecodeError, shape: SignalShape) -> Rejected:
    name = shape.request.DESCRIPTOR.name
    return Rejected(Reason.MALFORMED, f"the body is not an {name} in protobuf: {error}")


def _without_deep_items(body: bytes, shape: SignalShape) -> tuple[bytes, list[Rejection]]:
    """The body without what no decoder of protobuf reads; nothing is left out of one that is malformed."""
    rejections: list[Rejection] = []
    try:
        return _rest(body, kind_of(shape.request.DESCRIPTOR), 0, rejections, shape), rejections
    except (IndexError, ValueError):
        return body, []


def _rest(
    body: bytes, kind: MessageType, level: int, rejections: list[Rejection], shape: SignalShape
) -> bytes:
    """The message at `level` without its spans that are too deep; all of its spans, if it is by itself."""
    parts: list[bytes] = []
    mine: list[Rejection] = []
    for tag, field, content in _fields(body):
        inner = kind.by_tag.get(tag)
        if inner is None or not _is_deep(content, inner, level + 1):
            parts.append(field)
        elif inner.name == shape.item.DESCRIPTOR.full_name:
            mine.append(_too_deep(f"{shape.word} {_name(content, shape)!r}"))
        elif inner.name in (shape.of_resource.DESCRIPTOR.full_name, shape.of_scope.DESCRIPTOR.full_name):
            rest = _rest(content, inner, level + 1, mine, shape)
            parts.append(varint_of(tag) + varint_of(len(rest)) + rest)
        else:
            count = sum(found.name == shape.item.DESCRIPTOR.full_name for found, _ in _walked(body, kind))
            what = f"the {inner.name.rpartition('.')[2]} of a {shape.word}"
            rejections += [_too_deep(what)] * count
            return b""
    rejections += mine
    return b"".join(parts)


def _is_deep(content: bytes, kind: MessageType, level: int) -> bool:
    return any(level + below > DECODER_LEVELS for _, below in _walked(content, kind))


def _walked(content: bytes, kind: MessageType) -> Iterator[tuple[MessageType, int]]:
    return walk(content, 0, len(content), kind)


def _name(item: bytes, shape: SignalShape) -> str:
    found = [content for tag, _, content in _fields(item) if tag == shape.name_field << 3 | LENGTH]
    return found[-1].decode(errors="replace")[:80] if found else ""


def _too_deep(what: str) -> Rejection:
    return Rejection(
        reason=Reason.ATTRIBUTES_TOO_DEEP,
        message=f"{what} has an attribute nested over {DECODER_LEVELS} messages deep, which no decoder reads",
    )


def _fields(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The fields of a message: tag, all of it, and the content of one that has a length.

    Raises IndexError, ValueError: malformed, or a group, which OTLP has none of.
    """
    at = 0
    while at < len(body):
        start = at
        tag, at = varint(body, at)
        begin = at
        if tag & 7 == LENGTH:
            size, begin = varint(body, at)
            at = begin + size
        elif tag & 7 in (START_GROUP, END_GROUP):
            raise ValueError("a group")
        else:
            at = after_number(body, at, tag & 7)
        if at > len(body):
            raise ValueError("it ends too early")
        yield tag, body[start:at], body[begin:at]
