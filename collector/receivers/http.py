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
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.model.batch import Signal
from collector.model.errors import Reason, Rejected, SidespanError, Unavailable
from collector.otlp.media import Encoding, encoding_of
from collector.otlp.status import FULL_SUCCESS, Answer, failure, success
from collector.receivers.body_timer import BodyTimer
from collector.receivers.bounds import Reservation
from collector.receivers.ingest import Encoded, Sender
from collector.receivers.reception import (
    Reception,
    by_name,
    check_repeated,
    check_size,
    routing,
)
from collector.settings import ReceiverSettings
from collector.telemetry.metrics import Metrics
from proxy import check_host, check_origin

# where each signal is taken; those that are no Signal are never stored
SIGNALS = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
STORED_AT = tuple(path for path, signal in SIGNALS.items() if signal in frozenset(Signal))
PATHS = frozenset(path + end for path in SIGNALS for end in ("", "/"))

_ASTRAY = (
    "{path} takes no telemetry, /v1/traces does, and /v1/logs: set OTEL_EXPORTER_OTLP_ENDPOINT to this "
    "service's address without a path, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the address with /v1/traces"
)


class ExporterGone(SidespanError):
    """The client closed the connection before its body was complete; there is nobody to answer."""


def otlp_endpoint(reception: Reception, *, allowed_hosts: tuple[str, ...]) -> ASGIApp:
    """The ASGI app for PATHS, and for what `is_astray`."""
    return _OtlpEndpoint(reception=reception, allowed_hosts=allowed_hosts)


def no_receiver(metrics: Metrics) -> ASGIApp:
    """The ASGI app where a process takes no OTLP: clients keep their data, and send it again."""
    refusal = Unavailable(Reason.WRONG_ROLE, "this process takes no OTLP: it runs without the role receive")

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        metrics.requests_refused.labels(reason=refusal.reason.value).inc()
        content_type = _text(by_name(scope["headers"]), b"content-type")
        await _send(failure(refusal, encoding_of(content_type) or Encoding.JSON), send)

    return refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class _OtlpEndpoint:
    reception: Reception
    allowed_hosts: tuple[str, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = by_name(scope["headers"])
        encoding = encoding_of(_text(headers, b"content-type"))
        try:
            answer = await self._answer(scope, headers, encoding, receive)
        except ExporterGone:
            return
        except (Exception, asyncio.CancelledError) as error:
            answer = failure(self.reception.told(error), encoding or Encoding.JSON)
        await _send(answer, send)

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], encoding: Encoding | None, receive: Receive
    ) -> Answer:
        reception = self.reception
        _check_sender(scope, headers, self.allowed_hosts, reception.settings.cors_allowed_origins)
        if scope["method"] != "POST":
            raise Rejected(Reason.METHOD_NOT_ALLOWED, f"{scope['method']} is not allowed; use POST")
        if scope["path"] not in PATHS:
            raise Rejected(Reason.NOT_FOUND, _ASTRAY.format(path=scope["path"][:200]))
        if len(headers) != len(scope["headers"]):
            check_repeated(scope["headers"])
        sender = reception.anybody or await reception.admit(scope)
        signal = reception.stored(SIGNALS[scope["path"].rstrip("/")])
        if signal is None:
            return FULL_SUCCESS[encoding or Encoding.JSON]
        with reception.bounds.request() as reservation:
            request = await self._read(signal, headers, encoding, sender, receive, reservation)
            return success(await reception.take(request, reservation), request.encoding)

    async def _read(
        self,
        signal: Signal,
        headers: dict[bytes, bytes],
        encoding: Encoding | None,
        sender: Sender,
        receive: Receive,
        reservation: Reservation,
    ) -> Encoded:
        if encoding is None:
            raise Rejected(
                Reason.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {_text(headers, b'content-type')!r} is not supported; "
                "send application/x-protobuf or application/json",
            )
        settings = self.reception.settings
        timer = self.reception.timers.within(settings.body_timeout_seconds)
        return Encoded(
            chunks=await read_body(headers, receive, reservation, settings, timer),
            encoding=encoding,
            signal=signal,
            sender=sender,
            content_encoding=_text(headers, b"content-encoding"),
            headers=routing(headers),
        )


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
        encoding is Encoding.JSON and (not path or path.endswith(STORED_AT))
    )


async def read_body(
    headers: dict[bytes, bytes],
    receive: Receive,
    reservation: Reservation,
    settings: ReceiverSettings,
    timer: BodyTimer,
) -> list[bytes]:
    """The whole body as it came in pieces, within size, memory and time.

    Raises Rejected (too_large; malformed for another size than Content-Length says), Unavailable
    (memory_full, slow_body), ExporterGone.
    """
    length = headers.get(b"content-length", b"")
    declared = int(length) if length.isdigit() else None
    if declared is not None:
        check_size(declared, settings.max_body_bytes)
        reservation.reserve(declared)
    with timer:
        return await _receive_all(receive, declared, reservation, settings)


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
        check_size(size, settings.max_body_bytes)
        if declared is None:
            reservation.reserve(len(chunk))
        chunks.append(chunk)
    if declared is not None and size != declared:
        raise Rejected(
            Reason.MALFORMED, f"the body has {size} bytes, Content-Length says {declared}; nothing is stored"
        )
    return chunks


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
