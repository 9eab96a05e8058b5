"""The sentence's first half, on its own: decode -> redact -> validate -> route -> bytes to store. Pure.

It has no await and gives back plain bytes, so that it can run wherever a body's size asks for: on the event
loop, in a thread or in the decoder's process (collector/receivers/decoder/place.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.model.batch import Draft, Rejection, Route, Signal
from collector.otlp.codec import Decoded, decode
from collector.otlp.media import Encoding, inflate
from collector.otlp.nesting import parse, wrap
from collector.otlp.protobuf import read_deep
from collector.otlp.scan import looks_dense, too_many_spans
from collector.otlp.shapes import SHAPES, Export, SignalShape
from collector.otlp.validate import TooManyRefused, Valid, validate
from collector.otlp.validate_logs import validate_logs
from collector.processors.redact import Redact
from collector.receivers.routing import route
from collector.settings import ReceiverSettings, RoutingSettings

# up to here whatever is in a body takes less than a tenth of a second
SMALL_BYTES = 64 * 1024
# and so many refusals
FEW_REFUSED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the settings say about exports."""

    limits: ReceiverSettings
    routing: RoutingSettings
    redact: Redact | None = None


class Prepared(NamedTuple):
    """An export ready for the journal: a draft a route, and why some of its spans are refused."""

    drafts: Sequence[tuple[Route, Draft]]
    rejections: list[Rejection]


def prepare_whole(
    chunks: list[bytes],
    encoding: Encoding,
    content_encoding: str | None,
    headers: Mapping[str, str],
    rules: Rules,
    *,
    client: str = "",
    signal: Signal = Signal.TRACES,
) -> Prepared:
    """What a body of any size holds, as it came; `chunks` is empty afterwards. Takes as long as it takes.

    Raises Rejected.
    """
    limits = rules.limits
    if content_encoding:
        packed = b"".join(chunks)
        chunks[:] = [inflate(packed, content_encoding, limit_bytes=limits.max_body_bytes)]
    decoded = decode(
        chunks,
        encoding,
        max_depth=limits.max_attribute_depth,
        max_spans=limits.max_spans,
        max_messages=limits.max_messages,
        shape=SHAPES[signal],
    )
    return prepared(decoded, headers, rules, client, signal=signal)


def prepare_quickly(
    chunks: Sequence[bytes],
    encoding: Encoding,
    headers: Mapping[str, str],
    rules: Rules,
    client: str = "",
    signal: Signal = Signal.TRACES,
) -> Prepared | None:
    """What an inflated body holds, or None if that would take long. For the event loop.

    Raises Rejected.
    """
    if encoding is Encoding.PROTOBUF:
        decoded = _decode_quickly(chunks, rules.limits.max_attribute_depth, SHAPES[signal])
        if decoded is None:
            return None
    else:
        limits = rules.limits
        decoded = decode(
            list(chunks),
            encoding,
            max_depth=limits.max_attribute_depth,
            max_spans=limits.max_spans,
            max_messages=limits.max_messages,
            shape=SHAPES[signal],
        )
    try:
        return prepared(decoded, headers, rules, client, max_refused=FEW_REFUSED, signal=signal)
    except TooManyRefused:
        return None


def _decode_quickly(chunks: Sequence[bytes], max_depth: int, shape: SignalShape) -> Decoded | None:
    wrapped = wrap(chunks, max_depth, shape)
    data, start, end, *_ = wrapped
    small = end - start <= SMALL_BYTES
    if not small and looks_dense(data, start, end - start):
        return None
    if (export := parse(wrapped)) is not None:
        # the caller holds a body in one piece anyway: so the copy can go now, not after the commit
        body = chunks[0] if len(chunks) == 1 else wrapped.body
        return Decoded(body, export, True, [])
    return Decoded(*read_deep(data[start:end], shape)) if small else None


def prepared(
    decoded: Decoded,
    headers: Mapping[str, str],
    rules: Rules,
    client: str,
    *,
    max_refused: int | None = None,
    signal: Signal = Signal.TRACES,
) -> Prepared:
    """What becomes of an export that was read: redacted, validated, routed, as bytes.

    Raises Rejected; TooManyRefused, if `max_refused` says how many spans may be.
    """
    export, limits, redact = decoded.export, rules.limits, rules.redact
    shape = SHAPES[signal]
    _check_count(export, len(decoded.body), limits.max_spans, shape)
    rejections = decoded.rejections + redact(export, shape) if redact else [*decoded.rejections]
    valid, invalid = _validate(decoded, limits.max_attribute_depth, max_refused, signal)
    rejections += invalid
    # a body with spans that are refused can't be kept as it is
    body = None if rejections or redact else decoded.body
    if len(valid) == 1 and body is not None:  # the common case, and the receiver's hot spot
        return Prepared([_as_sent(valid[0], body, headers, rules.routing, client, signal)], rejections)
    lanes = _lanes(valid, headers, rules.routing)
    if len(lanes) == 1 and body is not None:  # as it was sent
        return Prepared([_draft(*lanes[0], body, client, signal)], rejections)
    drafts = [_draft(to, parts, _serialize(parts, shape), client, signal) for to, parts in lanes]
    return Prepared(drafts, rejections)


def _validate(
    decoded: Decoded, max_depth: int, max_refused: int | None, signal: Signal
) -> tuple[Sequence[Valid[Any]], list[Rejection]]:
    if signal is Signal.LOGS:
        return validate_logs(decoded.export, max_depth=max_depth, max_refused=max_refused)
    depth = None if decoded.surely_flat else max_depth
    return validate(decoded.export, max_depth=depth, max_refused=max_refused)


def _check_count(export: Export, size_bytes: int, max_spans: int, shape: SignalShape) -> None:
    if size_bytes <= 2 * max_spans:  # a span takes two bytes at the least
        return
    if shape.count(export) > max_spans:
        raise too_many_spans(max_spans, shape)


def _as_sent(
    part: Valid[Any],
    body: bytes | memoryview,
    headers: Mapping[str, str],
    routing: RoutingSettings,
    client: str,
    signal: Signal,
) -> tuple[Route, Draft]:
    to = route(headers, part.of_resource.resource, routing)
    draft = Draft(
        lane=to.lane_of(signal),
        payload=body,
        span_count=part.span_count,
        trace_ids=part.trace_ids,
        client=client,
    )
    return to, draft


def _lanes(
    valid: Sequence[Valid[Any]], headers: Mapping[str, str], routing: RoutingSettings
) -> list[tuple[Route, list[Valid[Any]]]]:
    lanes: dict[str, tuple[Route, list[Valid[Any]]]] = {}
    for part in valid:
        destination = route(headers, part.of_resource.resource, routing)
        lanes.setdefault(destination.lane, (destination, []))[1].append(part)
    return list(lanes.values())


def _draft(
    to: Route, parts: Sequence[Valid[Any]], payload: bytes | memoryview, client: str, signal: Signal
) -> tuple[Route, Draft]:
    draft = Draft(
        lane=to.lane_of(signal),
        payload=payload,
        span_count=sum([part.span_count for part in parts]),
        trace_ids=frozenset().union(*[part.trace_ids for part in parts]),
        client=client,
    )
    return to, draft


def _serialize(parts: Sequence[Valid[Any]], shape: SignalShape) -> bytes:
    export = shape.request(**{shape.resources: [part.of_resource for part in parts]})
    serialized: bytes = export.SerializeToString()
    return serialized
