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

from collector.model.errors import Reason, Rejected, SidespanError, Unavailable
from collector.otlp.media import Encoding
from collector.otlp.status import rpc_failure, success
from collector.receivers.bounds import Reservation
from collector.receivers.ingest import Encoded
from collector.receivers.reception import (
    BodyTimer,
    Reception,
    by_name,
    check_repeated,
    routing,
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

# grpc.aio.ServicerContext, for which there are no types
Call = Any


class CallGone(SidespanError):
    """The call ended before its message was there: the client has gone, or it was larger than gRPC reads."""


class OtlpCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handler of SERVICES."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._calls: set[asyncio.Task[Any]] = set()
        self._methods = {
            method: grpc.stream_unary_rpc_method_handler(partial(self._answer, method, signal))
            for method, signal in SERVICES.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """What answers a method, or None: it is UNIMPLEMENTED."""
        return self._methods.get(handler_call_details.method)

    def cut(self) -> None:
        """End the calls that are still being answered: UNAVAILABLE if the service drains."""
        for call in self._calls:
            call.cancel()

    async def _answer(self, method: str, signal: str, _: Any, call: Call) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await self._export(method, signal, call)
        except CallGone as gone:
            told: Rejected | Unavailable = Rejected(Reason.MALFORMED, str(gone))
        except (Exception, asyncio.CancelledError) as error:
            told = self._reception.told(error)
        finally:
            self._calls.discard(task)
        await fail(call, told)
        return b""

    async def _export(self, method: str, signal: str, call: Call) -> bytes:
        reception = self._reception
        pairs = _pairs(call.invocation_metadata())
        headers = by_name(pairs)
        if len(headers) != len(pairs):
            check_repeated(pairs)
        sender = reception.anybody or await reception.admit(_scope(method, pairs, call))
        stored = reception.stored(signal)
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
                headers=routing(headers),
            )
            return success(await reception.take(request, reservation), Encoding.PROTOBUF).body

    async def _read(self, call: Call, reservation: Reservation) -> bytes:
        """The message, in time. Raises Unavailable (memory_full, slow_body), CallGone."""
        settings = self._reception.settings
        late = (LATE_SECONDS, partial(reservation.hold, settings.max_body_bytes))
        with BodyTimer(settings.body_timeout_seconds, late):
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


def _pairs(metadata: Sequence[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """As HTTP's headers; gRPC hands over names in lower case."""
    return [
        (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("utf-8"))
        for name, value in metadata
    ]


def _scope(method: str, pairs: list[tuple[bytes, bytes]], call: Call) -> Scope:
    """The request that a call is: gRPC is a POST to the method's name."""
    return {
        "type": "http",
        "method": "POST",
        "path": method,
        "headers": pairs,
        "client": (peer_of_call(call),),
    }


def peer_of_call(call: Call) -> str:
    """The other end's address, of `ipv4:10.0.0.7:5000` or `ipv6:%5B::1%5D:5000`; empty if it has none."""
    kind, _, place = str(call.peer()).partition(":")
    return unquote(place).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
