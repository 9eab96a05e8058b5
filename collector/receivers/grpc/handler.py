"""A call of OTLP/gRPC: metadata and one message in, within bounds; the answer or the failure out.

Each service is a row of SERVICES. A call is handled as a stream of one message, which is the same on the
wire: so who calls is known, and a place is taken, before the message is read; gRPC keeps no more of it until
then than its window. The message comes as it was sent: gRPC would inflate it before we could bound that.

The metadata stands for HTTP's headers: routing (x-mlflow-…), credentials, an auth proxy's name.
Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from starlette.types import Scope

from collector.mlflow.headers import HEADERS
from collector.model.errors import Reason, Rejected, SidespanError, Unavailable
from collector.otlp.media import Encoding
from collector.otlp.status import rpc_failure, success
from collector.receivers.bounds import Reservation
from collector.receivers.ingest import Encoded
from collector.receivers.reception import (
    Reception,
    check_repeated,
)

_COLLECTOR = "opentelemetry.proto.collector"
# method -> signal; what is stored of it is the reception's affair
SERVICES = {
    f"/{_COLLECTOR}.trace.v1.TraceService/Export": "traces",
    f"/{_COLLECTOR}.logs.v1.LogsService/Export": "logs",
    f"/{_COLLECTOR}.metrics.v1.MetricsService/Export": "metrics",
}

# how large a message is gRPC says when all of it is there: one that takes longer counts as the largest
LATE_SECONDS = 1.0
# no protobuf begins like this: 0x1f is a tag of a wire type that doesn't exist
_GZIP = b"\x1f\x8b"
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_ROUTING_NAMES = frozenset(HEADERS)

# grpc.aio.ServicerContext, for which there are no types
Call = Any
Metadata = Sequence[tuple[str, str | bytes]]


class CallGone(SidespanError):
    """The call ended before its message was there: the client has gone, or it was larger than gRPC reads."""


class OtlpCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handler of SERVICES."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._answering: set[asyncio.Task[Any]] = set()

    def service(self, handler_call_details: Any) -> "OtlpCall | None":
        """What answers a call, or None: its method is UNIMPLEMENTED."""
        method = handler_call_details.method
        if method not in SERVICES:
            return None
        return OtlpCall(self._reception, self._answering, method, handler_call_details.invocation_metadata)

    def cut(self) -> None:
        """End the calls that are still being answered: UNAVAILABLE if the service drains."""
        for task in self._answering:
            task.cancel()


class OtlpCall(grpc.RpcMethodHandler):  # type: ignore[misc]
    """One call of SERVICES, with its metadata: asked for it again, gRPC would read it anew."""

    request_streaming = True
    response_streaming = False
    request_deserializer = None
    response_serializer = None

    def __init__(
        self, reception: Reception, answering: set[asyncio.Task[Any]], method: str, metadata: Metadata
    ) -> None:
        self._reception = reception
        self._answering = answering
        self._method = method
        self._metadata = metadata

    async def stream_unary(self, _: Any, call: Call) -> bytes:
        """The answer; a failure ends the call with its status."""
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            return await self._export(call)
        except CallGone as gone:
            told: Rejected | Unavailable = Rejected(Reason.MALFORMED, str(gone))
        except (Exception, asyncio.CancelledError) as error:
            told = self._reception.told(error)
        finally:
            self._answering.discard(task)
        await fail(call, told)
        return b""

    async def _export(self, call: Call) -> bytes:
        reception = self._reception
        headers = _routing(self._metadata)
        sender = reception.anybody or await reception.admit(_scope(self._method, self._metadata, call))
        stored = reception.stored(SERVICES[self._method])
        if stored is None:
            return b""
        with reception.bounds.request() as reservation:
            message = await self._read(call, reservation)
            request = Encoded(
                chunks=(message,),
                encoding=Encoding.PROTOBUF,
                signal=stored,
                sender=sender,
                content_encoding="gzip" if message.startswith(_GZIP) else None,
                headers=headers,
            )
            return success(await reception.take(request, reservation), Encoding.PROTOBUF).body

    async def _read(self, call: Call, reservation: Reservation) -> bytes:
        """The message, in time. Raises Unavailable (memory_full, slow_body), CallGone."""
        settings = self._reception.settings
        late = (LATE_SECONDS, partial(reservation.hold, settings.max_body_bytes))
        with self._reception.timers.within(settings.body_timeout_seconds, late):
            message: bytes = await call.read()
        if message is grpc.aio.EOF:
            raise CallGone("the call has no message")
        reservation.hold(len(message))
        return message


async def fail(call: Call, error: Rejected | Unavailable) -> None:
    """End the call with the error's status and details."""
    failure = rpc_failure(error)
    with suppress(grpc.aio.UsageError):  # it has ended already
        await call.abort(
            _CODES[failure.code], failure.message, (("grpc-status-details-bin", failure.details),)
        )


def _routing(metadata: Metadata) -> dict[str, str]:
    """Of the metadata what names where the spans go, as `routing` of HTTP's headers. Raises Rejected."""
    named = [pair for pair in metadata if pair[0] in _ROUTING_NAMES]
    by_name = dict(named)
    if len(by_name) != len(named):
        check_repeated(_pairs(named))
    return {name: _as_header(str(value)) for name, value in by_name.items()}


def _as_header(value: str) -> str:
    """As it would be read in an HTTP header: bytes that aren't ASCII one by one."""
    return (value if value.isascii() else value.encode().decode("latin-1")).strip(" \t")


def _pairs(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """As HTTP's headers; gRPC hands over names in lower case."""
    return [
        (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("utf-8"))
        for name, value in metadata
    ]


def _scope(method: str, metadata: Metadata, call: Call) -> Scope:
    """The request that a call is: gRPC is a POST to the method's name."""
    return {
        "type": "http",
        "method": "POST",
        "path": method,
        "headers": _pairs(metadata),
        "client": (peer_of_call(call),),
    }


def peer_of_call(call: Call) -> str:
    """The other end's address, of `ipv4:10.0.0.7:5000` or `ipv6:%5B::1%5D:5000`; empty if it has none."""
    kind, _, place = str(call.peer()).partition(":")
    return unquote(place).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
