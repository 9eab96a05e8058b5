"""grpc.health.v1: whether exports are taken, for probes and load balancers; without credentials.

A check and a watch know the services that are served, and "" for all of them.
Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from collector.model.errors import Reason, Rejected, Unavailable
from collector.receivers.grpc.handler import SERVICES, Call, fail

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
LOOK_EVERY_SECONDS = 1.0
MAX_WATCHES = 100

_KNOWN = {"", *(method.strip("/").partition("/")[0] for method in SERVICES)}


class HealthCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handler of the health service. `ready`: are exports taken at this moment?"""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._watches = 0
        self._leaving = asyncio.Event()
        self._methods = {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(self._check),
            "/grpc.health.v1.Health/Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }

    def service(self, handler_call_details: Any) -> Any:
        """What answers a method, or None: it isn't ours."""
        return self._methods.get(handler_call_details.method)

    def leave(self) -> None:
        """Nothing is served any more; watches end."""
        self._leaving.set()

    def _status(self, service: str | None) -> int:
        if service not in _KNOWN:
            return SERVICE_UNKNOWN
        return SERVING if self._ready() and not self._leaving.is_set() else NOT_SERVING

    async def _check(self, request: bytes, call: Call) -> bytes:
        status = self._status(_service(request))
        if status == SERVICE_UNKNOWN:
            await fail(call, Rejected(Reason.NOT_FOUND, f"known services: {', '.join(sorted(_KNOWN))}"))
        return _answer(status)

    async def _watch(self, request: bytes, call: Call) -> AsyncIterator[bytes]:
        """The status, and each change of it."""
        if self._watches >= MAX_WATCHES:
            await fail(
                call, Unavailable(Reason.TOO_MANY_REQUESTS, f"there are {MAX_WATCHES} watches already")
            )
        service, told = _service(request), None
        self._watches += 1
        try:
            while not self._leaving.is_set():
                status = self._status(service)
                if status != told:
                    yield _answer(status)
                told = status
                await _either(self._leaving, LOOK_EVERY_SECONDS)
            yield _answer(self._status(service))
        finally:
            self._watches -= 1


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        pass


# HealthCheckRequest is a message with a string in field 1, HealthCheckResponse one with an enum there


def _service(request: bytes) -> str | None:
    try:
        return StringValue.FromString(request).value
    except DecodeError:
        return None


def _answer(status: int) -> bytes:
    return bytes(Int32Value(value=status).SerializeToString())
