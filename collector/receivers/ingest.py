"""The sentence of the service: decode -> redact -> validate -> route -> append -> receipt."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.batch import Draft, Receipt, Rejection, Route
from collector.model.errors import Reason, Rejected
from collector.otlp.codec import Decoded, decode
from collector.otlp.media import Encoding, inflate
from collector.otlp.validate import Valid, validate
from collector.processors.redact import Redact
from collector.receivers.routing import route
from collector.settings import Receiver, Routing

# takes drafts into the journal; returns after the commit to disk
Append = Callable[[Sequence[Draft]], Awaitable[object]]
# sets bytes of memory aside until the request is answered; raises Unavailable when there are none
Reserve = Callable[[int], None]
# why a client may not send to a route, or None; raises Unavailable if that can't be told now
Permit = Callable[[Route], Awaitable[str | None]]
# whether MLflow has the route's experiment: True also while that can't be known
Exists = Callable[[Route], Awaitable[bool]]

# from this size on decoding leaves the event loop, so that others are still answered
LARGE_BODY_BYTES = 4 * 1024 * 1024
LARGE_TEXT_BYTES = 16 * 1024
LARGE_COMPRESSED_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who exports: the client's name, empty where nobody is asked. `permit` None: to every experiment."""

    name: str = ""
    permit: Permit | None = None


NOBODY = Sender()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An export as it came: the chunks of its body; of its headers only those for routing, lower-case."""

    chunks: Sequence[bytes]
    encoding: Encoding
    content_encoding: str | None = None
    headers: Mapping[str, str]
    sender: Sender = NOBODY


async def ingest(
    request: Encoded,
    *,
    limits: Receiver,
    routing: Routing,
    reserve: Reserve,
    exists: Exists,
    append: Append,
    redact: Redact | None = None,
) -> Receipt:
    """Take one OTLP export into the journal and say what became of it.

    The receipt counts spans: accepted are on disk when this returns, rejected carry their reasons.
    An export without spans is a success (H9).
    Raises Rejected (never send this again) or Unavailable (send it again after retry_after_seconds).
    Source: OTLP 1.11, "Full Success", "Partial Success", "Failures".
    """
    decoded = await _decode(request, limits)
    body, export = decoded.body, decoded.export
    if request.content_encoding:
        reserve(len(body))
    unreadable = await _redact(export, redact, len(body)) if redact else []
    valid, invalid = validate(export, max_depth=None if decoded.surely_flat else limits.max_attribute_depth)
    rejections = [*decoded.rejections, *invalid, *unreadable]
    _check_count(valid, rejections, limits.max_spans)
    lanes = await _route(valid, request, routing, exists, rejections)
    if rejections and not lanes:  # nothing is left to store
        raise Rejected(rejections[0].reason, _all_refused(rejections))
    drafts = _drafts(lanes, None if rejections or redact else body, request.sender)
    # the parsed messages are several times the body; they must not wait for the commit
    del decoded, export, valid, lanes
    if drafts:
        await append(drafts)
    return Receipt(accepted_spans=sum(d.span_count for d in drafts), rejections=rejections)


async def _decode(request: Encoded, limits: Receiver) -> Decoded:
    bound = LARGE_TEXT_BYTES if request.encoding is Encoding.JSON else LARGE_BODY_BYTES
    if request.content_encoding:
        bound = LARGE_COMPRESSED_BYTES
    if sum(map(len, request.chunks)) > bound:
        return await asyncio.to_thread(_decode_now, request, limits)
    return _decode_now(request, limits)


def _decode_now(request: Encoded, limits: Receiver) -> Decoded:
    chunks = request.chunks
    if request.content_encoding:
        packed = b"".join(chunks)
        chunks = [inflate(packed, request.content_encoding, limit_bytes=limits.max_body_bytes)]
    depth, spans = limits.max_attribute_depth, limits.max_spans
    return decode(chunks, request.encoding, max_depth=depth, max_spans=spans)


async def _redact(export: ExportTraceServiceRequest, redact: Redact, size_bytes: int) -> list[Rejection]:
    if size_bytes > LARGE_TEXT_BYTES:
        return await asyncio.to_thread(redact, export)
    return redact(export)


def _check_count(valid: Sequence[Valid], rejections: Sequence[Rejection], max_spans: int) -> None:
    count = sum(part.span_count for part in valid) + len(rejections)
    if count > max_spans:
        raise Rejected(
            Reason.TOO_MANY_SPANS,
            f"{count} spans in one request, {max_spans} are allowed; send smaller batches",
        )


async def _route(
    valid: Sequence[Valid],
    request: Encoded,
    routing: Routing,
    exists: Exists,
    rejections: list[Rejection],
) -> dict[str, list[Valid]]:
    """The parts by lane; spans whose experiment MLflow doesn't have, or that isn't the sender's, are added to
    `rejections`.
    """
    lanes: dict[str, list[Valid]] = {}
    for part in valid:
        destination = route(request.headers, part.resource_spans.resource, routing)
        if request.sender.permit and (why_not := await request.sender.permit(destination)):
            rejections += [Rejection(reason=Reason.FORBIDDEN, message=why_not)] * part.span_count
        elif await exists(destination):
            lanes.setdefault(destination.lane, []).append(part)
        else:
            rejections += [_unknown_experiment(destination)] * part.span_count
    return lanes


def _unknown_experiment(destination: Route) -> Rejection:
    where = (
        f"with id {destination.experiment_id}"
        if destination.experiment_id is not None
        else f"named {destination.experiment_name!r}"
    )
    return Rejection(
        reason=Reason.UNKNOWN_EXPERIMENT,
        message=f"MLflow has no active experiment {where}; create it, or send another "
        "x-mlflow-experiment-id or x-mlflow-experiment-name",
    )


def _all_refused(rejections: Sequence[Rejection]) -> str:
    more = f" (and {len(rejections) - 1} more spans)" if len(rejections) > 1 else ""
    return f"no span of this request can be stored: {rejections[0].message}{more}"


def _drafts(
    lanes: Mapping[str, Sequence[Valid]], body: bytes | memoryview | None, sender: Sender
) -> list[Draft]:
    """One draft a lane. `body` None: it holds spans that were refused and can't be kept as it is."""
    as_sent = body is not None and len(lanes) == 1
    return [
        Draft(
            lane=lane,
            payload=body if body is not None and as_sent else _serialize(parts),
            span_count=sum(part.span_count for part in parts),
            trace_ids=frozenset().union(*[part.trace_ids for part in parts]),
            client=sender.name,
        )
        for lane, parts in lanes.items()
    ]


def _serialize(parts: Sequence[Valid]) -> bytes:
    export = ExportTraceServiceRequest(resource_spans=[part.resource_spans for part in parts])
    return export.SerializeToString()
