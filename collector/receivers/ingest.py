"""The sentence of the service: prepare (decode -> redact -> validate -> route) -> append -> receipt."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.model.batch import Draft, Receipt, Rejection, Route, Signal
from collector.model.errors import Reason, Rejected
from collector.otlp.media import Encoding
from collector.otlp.shapes import SHAPES
from collector.receivers.prepare import Prepared

# takes drafts into the journal; returns after the commit to disk
Append = Callable[[Sequence[Draft]], Awaitable[object]]
# sets bytes of memory aside until the request is answered; raises Unavailable when there are none
Reserve = Callable[[int], None]
# why a client may not send to a route, or None; raises Unavailable if that can't be told now
Permit = Callable[[Route], Awaitable[str | None]]
# whether MLflow has the route's experiment: True also while that can't be known
Exists = Callable[[Route], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who exports: the client's name, empty where clients are not authenticated.

    `permit` None: to every experiment.
    """

    name: str = ""
    permit: Permit | None = None


NOBODY = Sender()


class Encoded(NamedTuple):  # made for each request: a frozen dataclass takes four times as long
    """An export as it came: the chunks of its body; of its headers only those for routing, lower-case.

    `signal` says what it is an export of: the path or the service that it was sent to.
    """

    chunks: Sequence[bytes]
    encoding: Encoding
    headers: Mapping[str, str]
    content_encoding: str | None = None
    sender: Sender = NOBODY
    signal: Signal = Signal.TRACES


# what an export holds, ready for the journal; reserves what it takes beyond the body as it came
Prepare = Callable[[Encoded, Reserve], Awaitable[Prepared]]


async def ingest(
    request: Encoded, *, prepare: Prepare, reserve: Reserve, exists: Exists, append: Append
) -> Receipt:
    """Take one OTLP export into the journal and say what became of it.

    The receipt counts spans, or log records: accepted are on disk when this returns, rejected carry their
    reasons. An export without any is a success.
    Raises Rejected (never send this again) or Unavailable (send it again after retry_after_seconds).
    Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response.
    """
    prepared = await prepare(request, reserve)
    rejections = prepared.rejections
    drafts = await _allowed(prepared, request.sender, exists, rejections)
    if rejections and not drafts:  # nothing is left to store
        raise Rejected(rejections[0].reason, _all_refused(rejections, request.signal))
    if drafts:
        await append(drafts)
    accepted = sum([draft.span_count for draft in drafts])
    return Receipt(accepted_spans=accepted, rejections=rejections, signal=request.signal)


async def _allowed(
    prepared: Prepared, sender: Sender, exists: Exists, rejections: list[Rejection]
) -> list[Draft]:
    """What may be stored; to `rejections` are added spans whose experiment MLflow doesn't have, or that isn't
    the sender's.
    """
    drafts: list[Draft] = []
    for destination, draft in prepared.drafts:
        if sender.permit and (why_not := await sender.permit(destination)):
            rejections += [Rejection(reason=Reason.FORBIDDEN, message=why_not)] * draft.span_count
        elif await exists(destination):
            drafts.append(draft)
        else:
            rejections += [_unknown_experiment(destination)] * draft.span_count
    return drafts


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


def _all_refused(rejections: Sequence[Rejection], signal: Signal) -> str:
    word = SHAPES[signal].word
    more = f" (and {len(rejections) - 1} more {word}s)" if len(rejections) > 1 else ""
    return f"no {word} of this request can be stored: {rejections[0].message}{more}"
