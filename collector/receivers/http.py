"""OTLP over HTTP: the body in, within bounds; the answer out.

    POST /v1/traces                  the export (a trailing slash is the same path: a redirect loses data,
                                     the Python exporter counts a 3xx as success)
    POST /v1/logs                    the same for log records
    POST /v1/metrics                 refused, or accepted and dropped, by setting
    anything else under these paths  405
    an export anywhere else          404, with the path that takes it

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.mlflow.headers import HEADERS
from collector.model.batch import Receipt, Signal
from collector.model.errors import Reason, Rejected, SidespanError, Unavailable
from collector.otlp.media import Encoding, encoding_of
from collector.otlp.status import Answer, failure, success
from collector.receivers.bounds import InFlightBounds, Reservation, draining
from collector.receivers.ingest import Encoded, Sender
from collector.settings import ReceiverSettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics
from proxy import check_host, check_origin

TRACES, METRICS = "/v1/traces", "/v1/metrics"
SIGNALS: Mapping[str, Signal] = {TRACES: Signal.TRACES, "/v1/logs": Signal.LOGS}
PATHS = frozenset(path + end for path in (*SIGNALS, METRICS) for end in ("", "/"))

# who exports; raises Rejected (unauthenticated, forbidden) or Unavailable
Admit = Callable[[Scope], Awaitable[Sender]]
# the last lines of the sentence, bound to what they need by app.py
Ingest = Callable[[Encoded, Callable[[int], None]], Awaitable[Receipt]]

_ROUTING_HEADERS = {name.encode(): name for name in HEADERS}


_ASTRAY = (
    "{path} takes no telemetry, /v1/traces does, and /v1/logs: set OTEL_EXPORTER_OTLP_ENDPOINT to this "
    "service's address without a path, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the address with /v1/traces"
)


class ExporterGone(SidespanError):
    """The client closed the connection before its body was complete; there is nobody to answer."""


def otlp_endpoint(
    ingest: Ingest,
    *,
    admit: Admit,
    bounds: InFlightBounds,
    settings: ReceiverSettings,
    allowed_hosts: tuple[str, ...],
    metrics: Metrics,
) -> ASGIApp:
    """The ASGI app for PATHS, and for what `is_astray`."""
    return _OtlpEndpoint(
        ingest=ingest,
        admit=admit,
        bounds=bounds,
        settings=settings,
        allowed_hosts=allowed_hosts,
        metrics=metrics,
        fault_log=FaultLog(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _OtlpEndpoint:
    ingest: Ingest
    admit: Admit
    bounds: InFlightBounds
    settings: ReceiverSettings
    allowed_hosts: tuple[str, ...]
    metrics: Metrics
    fault_log: FaultLog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _by_name(scope["headers"])
        encoding = encoding_of(_text(headers, b"content-type"))
        try:
            answer = await self._answer(scope, headers, encoding, receive)
        except ExporterGone:
            return
        except asyncio.CancelledError:
            if not self.bounds.draining:
                raise
            # not a 500, on which the client would drop its data
            answer = self._failure(draining(), encoding)
        except (Rejected, Unavailable) as error:
            answer = self._failure(error, encoding)
        except Exception as error:
            # nothing is stored yet, and a client drops its data on a 500
            self.fault_log.tell_of(
                "an export could not be processed; the client is asked to send it again", error
            )
            bug = Unavailable(Reason.BUG, "internal error, nothing is stored; send it again")
            answer = self._failure(bug, encoding)
        await _send(answer, send)

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], encoding: Encoding | None, receive: Receive
    ) -> Answer:
        settings = self.settings
        _check_sender(scope, headers, self.allowed_hosts, settings.cors_allowed_origins)
        if scope["method"] != "POST":
            raise Rejected(Reason.METHOD_NOT_ALLOWED, f"{scope['method']} is not allowed; use POST")
        if scope["path"] not in PATHS:
            raise Rejected(Reason.NOT_FOUND, _ASTRAY.format(path=scope["path"][:200]))
        if len(headers) != len(scope["headers"]):
            _check_repeated(scope)
        sender = await self.admit(scope)
        signal = SIGNALS.get(scope["path"].rstrip("/"))
        if signal is None:
            return _metrics(settings, encoding, self.metrics)
        with self.bounds.request() as reservation:
            return await self._export(signal, headers, encoding, sender, receive, reservation)

    async def _export(
        self,
        signal: Signal,
        headers: dict[bytes, bytes],
        encoding: Encoding | None,
        sender: Sender,
        receive: Receive,
        reservation: Reservation,
    ) -> Answer:
        if encoding is None:
            raise Rejected(
                Reason.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {_text(headers, b'content-type')!r} is not supported; "
                "send application/x-protobuf or application/json",
            )
        chunks = await read_body(headers, receive, reservation, self.settings)
        request = Encoded(
            chunks=chunks,
            encoding=encoding,
            signal=signal,
            sender=sender,
            content_encoding=_text(headers, b"content-encoding"),
            headers={
                name: headers[raw].decode("latin-1").strip(" \t")
                for raw, name in _ROUTING_HEADERS.items()
                if raw in headers
            },
        )
        receipt = await self.ingest(request, reservation.reserve)
        self.metrics.count_receipt(receipt)
        return success(receipt, encoding)

    def _failure(self, error: Rejected | Unavailable, encoding: Encoding | None) -> Answer:
        self.metrics.requests_refused.labels(reason=error.reason.value).inc()
        return failure(error, encoding or Encoding.JSON)


def is_astray(scope: Scope) -> bool:
    """Is this an export, by its media type, at a path that takes none?

    MLflow reads protobuf at /v1/traces only. JSON it reads in many places, but neither at / nor where an SDK
    has added /v1/traces to an address that had a path.
    """
    if scope["method"] != "POST":
        return False
    found = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    encoding = encoding_of(found.decode("latin-1"))
    path = scope["path"].rstrip("/")
    return encoding is Encoding.PROTOBUF or (
        encoding is Encoding.JSON and (not path or path.endswith(tuple(SIGNALS)))
    )


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, reservation: Reservation, settings: ReceiverSettings
) -> list[bytes]:
    """The whole body as it came in pieces, within size, memory and time.

    Raises Rejected (too_large; malformed for another size than Content-Length says), Unavailable
    (memory_full, slow_body), ExporterGone.
    """
    length = headers.get(b"content-length", b"")
    declared = int(length) if length.isdigit() else None
    if declared is not None:
        _check_size(declared, settings.max_body_bytes)
        reservation.reserve(declared)
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    # asyncio.timeout does the same and costs four times as much, on each request
    timer = asyncio.get_running_loop().call_later(settings.body_timeout_seconds, expire)
    try:
        return await _receive_all(receive, declared, reservation, settings)
    except asyncio.CancelledError:
        if not expired or task.uncancel() > 0:
            raise
        raise Unavailable(
            Reason.SLOW_BODY,
            f"the body did not arrive within {settings.body_timeout_seconds:g} seconds",
        ) from None
    finally:
        timer.cancel()


async def _receive_all(
    receive: Receive, declared: int | None, reservation: Reservation, settings: ReceiverSettings
) -> list[bytes]:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ExporterGone
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        _check_size(size, settings.max_body_bytes)
        if declared is None:
            reservation.reserve(len(chunk))
        chunks.append(chunk)
    if declared is not None and size != declared:
        raise Rejected(
            Reason.MALFORMED, f"the body has {size} bytes, Content-Length says {declared}; nothing is stored"
        )
    return chunks


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise Rejected(Reason.TOO_LARGE, f"the body is over {limit_bytes} bytes; send smaller batches")


def _check_sender(
    scope: Scope, headers: dict[bytes, bytes], allowed_hosts: tuple[str, ...], origins: tuple[str, ...]
) -> None:
    """Pages of other sites can reach a local port through the user's browser; exporters send no Origin."""
    origin = _text(headers, b"origin")
    if origin is None or origin in origins or "*" in origins:
        return
    host = _text(headers, b"host") or ""
    refusal = check_host(host, allowed_hosts) or check_origin(
        origin, scheme=scope["scheme"], host=host, public_origins=origins
    )
    if refusal:
        raise Rejected(
            Reason.FORBIDDEN,
            f"pages of {origin[:200]} may not send telemetry; list it in receiver.cors_allowed_origins",
        )


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """One value a name: of several the last, but lines of codings are one list (RFC 9110, section 5.3)."""
    found = dict(headers)
    if len(found) != len(headers) and b"content-encoding" in found:
        found[b"content-encoding"] = b",".join(v for name, v in headers if name == b"content-encoding")
    return found


def _check_repeated(scope: Scope) -> None:
    names = [name for name, _ in scope["headers"] if name in _ROUTING_HEADERS]
    if len(set(names)) != len(names):
        raise Rejected(Reason.INVALID_ROUTE, "a routing header (x-mlflow-…) is there twice; send it once")


def _metrics(settings: ReceiverSettings, encoding: Encoding | None, metrics: Metrics) -> Answer:
    if settings.other_signals == "reject":
        raise Rejected(
            Reason.NOT_FOUND,
            "MLflow stores no OpenTelemetry metrics: turn the metrics exporter off (OTEL_METRICS_EXPORTER="
            'none), or set receiver.other_signals = "accept-and-drop"',
        )
    metrics.signals_dropped.labels(signal="metrics").inc()
    empty = b"" if encoding is Encoding.PROTOBUF else b"{}"
    return Answer(status=200, body=empty, encoding=encoding or Encoding.JSON)


async def _send(answer: Answer, send: Send) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", answer.encoding.value.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *((name.encode(), value.encode()) for name, value in answer.headers),
    ]
    if answer.status in (
        401,
        403,
        413,
        503,
    ):  # the body may not have been read; don't wait for the rest of it
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value: Any = headers.get(name)
    return None if value is None else value.decode("latin-1")
