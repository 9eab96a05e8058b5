"""What every receiver does with a request, whatever carries it: HTTP (http.py) or gRPC (grpc/).

    by_name, routing   one value a header; a routing header that is there twice is refused
    anybody, admit     who sends it
    bounds             its place among the requests in flight
    stored             a signal that nothing stores is refused or dropped, by setting
    take               of others the body goes into the journal
    told               what a client is told of an error

A receiver reads the request within its own protocol's bounds and puts receipts and errors in its own words.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Scope

from collector.mlflow.headers import HEADERS
from collector.model.batch import Receipt, Signal
from collector.model.errors import Reason, Rejected, Unavailable
from collector.receivers.body_timer import BodyTimers
from collector.receivers.bounds import InFlightBounds, Reservation, draining
from collector.receivers.ingest import Encoded, Reserve, Sender
from collector.settings import ReceiverSettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

# who exports, by method, path, headers and client of an ASGI scope, which gRPC has too
Admit = Callable[[Scope], Awaitable[Sender]]


class Admission(Protocol):
    """Who may export."""

    @property
    def anybody(self) -> Sender | None:
        """Who sends whatever comes, where nothing is asked of clients; None: each request is admitted."""

    async def admit(self, scope: Scope) -> Sender:
        """See `Admit`. Raises Rejected, Unavailable."""


# the last lines of the sentence, bound to what they need by opening.py
Ingest = Callable[[Encoded, Reserve], Awaitable[Receipt]]

Pairs = Sequence[tuple[bytes, bytes]]

STORED: Mapping[str, Signal] = {signal.value: signal for signal in Signal}

_ROUTING_HEADERS = {name.encode(): name for name in HEADERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What the receivers of one service share."""

    ingest: Ingest
    admit: Admit
    # see Admission
    anybody: Sender | None = None
    bounds: InFlightBounds
    settings: ReceiverSettings
    metrics: Metrics
    fault_log: FaultLog = field(default_factory=FaultLog)
    timers: BodyTimers = field(default_factory=BodyTimers)

    def stored(self, signal: str) -> Signal | None:
        """The signal, if it is one that is stored; None: the request succeeds and is dropped, counted.

        Raises Rejected where such requests are refused.
        """
        if (stored := STORED.get(signal)) is not None:
            return stored
        if self.settings.other_signals == "reject":
            raise Rejected(
                Reason.NOT_FOUND,
                f"MLflow stores no OpenTelemetry {signal}: turn the {signal} exporter off "
                f'(OTEL_{signal.upper()}_EXPORTER=none), or set receiver.other_signals = "accept-and-drop"',
            )
        self.metrics.signals_dropped.labels(signal=signal).inc()
        return None

    async def take(self, request: Encoded, reservation: Reservation) -> Receipt:
        """The request into the journal, counted. Raises Rejected, Unavailable."""
        receipt = await self.ingest(request, reservation.reserve)
        self.metrics.count_receipt(receipt)
        return receipt

    def told(self, error: BaseException) -> Rejected | Unavailable:
        """What the client is told, counted. Raises `error` again if its request was cancelled by itself."""
        told = self._told(error)
        self.metrics.requests_refused.labels(reason=told.reason.value).inc()
        return told

    def _told(self, error: BaseException) -> Rejected | Unavailable:
        if isinstance(error, Rejected | Unavailable):
            return error
        if isinstance(error, asyncio.CancelledError) and self.bounds.draining:
            return draining()  # not a failure, on which the client would drop its data
        if not isinstance(error, Exception):
            raise error
        # nothing is stored yet, and a client drops its data on a 500
        self.fault_log.tell_of(
            "an export could not be processed; the client is asked to send it again", error
        )
        return Unavailable(Reason.BUG, "internal error, nothing is stored; send it again")


def by_name(headers: Pairs) -> dict[bytes, bytes]:
    """One value a name: of several the last, but lines of codings are one list (RFC 9110, section 5.3)."""
    found = dict(headers)
    if len(found) != len(headers) and b"content-encoding" in found:
        found[b"content-encoding"] = b",".join(v for name, v in headers if name == b"content-encoding")
    return found


def check_repeated(headers: Pairs) -> None:
    """Raises Rejected (invalid_route): a routing header is there twice."""
    names = [name for name, _ in headers if name in _ROUTING_HEADERS]
    if len(set(names)) != len(names):
        raise Rejected(Reason.INVALID_ROUTE, "a routing header (x-mlflow-…) is there twice; send it once")


def routing(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Of the headers those that name where the spans go."""
    return {
        name: headers[raw].decode("latin-1").strip(" \t")
        for raw, name in _ROUTING_HEADERS.items()
        if raw in headers
    }


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raises Rejected (too_large)."""
    if size_bytes > limit_bytes:
        raise Rejected(Reason.TOO_LARGE, f"the body is over {limit_bytes} bytes; send smaller batches")
