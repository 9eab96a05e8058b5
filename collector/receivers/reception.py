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

STORED = frozenset(Signal)

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

    def stored(self, signal: str) -> Signal | None:
        """The signal, if it is one that is stored; None: the request succeeds and is dropped, counted.

        Raises Rejected where such requests are refused.
        """
        if signal in STORED:
            return Signal(signal)
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


class BodyTimer:
    """Within its block a body has to arrive in time; else the task is cut short with Unavailable (slow_body).

    `late`: after so many seconds, if that is sooner, this is called; what it raises cuts the task short too.
    asyncio.timeout does the same and costs four times as much, on each request.
    """

    __slots__ = ("_error", "_late", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, late: tuple[float, Callable[[], None]] | None = None) -> None:
        self._seconds = seconds
        self._late = late if late and late[0] < seconds else None
        self._error: Unavailable | None = None

    def __enter__(self) -> "BodyTimer":
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        after, then = (self._late[0], self._be_late) if self._late else (self._seconds, self._expire)
        self._timer = asyncio.get_running_loop().call_later(after, then)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._timer.cancel()
        cut = self._error
        if cut is not None and isinstance(error, asyncio.CancelledError) and self._task.uncancel() == 0:
            raise cut from None

    def cut(self, error: Unavailable) -> None:
        """End the block now, with `error`."""
        self._error = error
        self._task.cancel()

    def _be_late(self) -> None:
        assert self._late is not None
        after, call = self._late
        self._timer = asyncio.get_running_loop().call_later(self._seconds - after, self._expire)
        try:
            call()
        except Unavailable as error:
            self.cut(error)

    def _expire(self) -> None:
        self.cut(Unavailable(Reason.SLOW_BODY, f"the body did not arrive within {self._seconds:g} seconds"))
