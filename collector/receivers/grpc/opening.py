"""Whether there is OTLP/gRPC, and why not: port 0, no grpcio, or a port that is taken."""

import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.model.errors import Misconfigured
from collector.receivers.reception import Reception
from collector.settings import ReceiverSettings, Settings, environment

if TYPE_CHECKING:  # grpcio is an extra
    from collector.receivers.grpc.server import GrpcServer

_log = logging.getLogger("sidespan.grpc")

INSTALL_IT = "pip install 'sidespan[server,grpc]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcDoor:
    """OTLP/gRPC as it is: the server, or None and the reason. `ok`: it is as the settings want it."""

    server: "GrpcServer | None" = None
    url: str | None = None
    ok: bool = True
    reason: str

    def to_json(self) -> dict[str, object]:
        """Its part of the service's health."""
        return {"ok": self.ok, "reason": self.reason, "url": self.url}


NO_GRPC = GrpcDoor(reason="off: receiver.grpc_port = 0")
NOT_RECEIVING = GrpcDoor(reason="off: this process runs without the role receive")


def check_grpc(settings: ReceiverSettings) -> None:
    """Raises Misconfigured: a port is chosen, and grpcio isn't installed."""
    if settings.wants_grpc and not is_installed():
        raise Misconfigured(
            f"receiver.grpc_port = {settings.grpc_port} needs grpcio, which is not installed: {INSTALL_IT}, "
            "or set receiver.grpc_port = 0"
        )


def is_installed() -> bool:
    """Whether grpcio is there."""
    return importlib.util.find_spec("grpc") is not None


@asynccontextmanager
async def open_grpc(
    settings: Settings, reception: Reception, ready: Callable[[], bool]
) -> AsyncIterator[GrpcDoor]:
    """OTLP/gRPC at its port, until the block ends. Raises Misconfigured."""
    port = settings.receiver.grpc_port
    check_grpc(settings.receiver)
    if port == 0:
        yield NO_GRPC
        return
    if not is_installed():
        _log.info(
            "OTLP/gRPC is off because grpcio is not installed; receiver.grpc_port = 0 ends this line",
            extra={"install_it_with": INSTALL_IT},
        )
        yield GrpcDoor(reason=f"off: grpcio is not installed ({INSTALL_IT})")
        return
    _keep_quiet()
    from collector.receivers.grpc.server import GrpcServer

    server = GrpcServer(settings, reception, ready)
    try:
        url = await server.start(settings.server, port)
    except OSError as error:
        yield _without(settings.receiver, error)
        return
    try:
        yield GrpcDoor(server=server, url=url, reason=f"accepts OTLP/gRPC at port {port}")
    finally:
        await server.leave(0)


def _without(settings: ReceiverSettings, error: OSError) -> GrpcDoor:
    """Raises Misconfigured if the port was chosen."""
    way_out = "set receiver.grpc_port to another port, or to 0"
    if settings.wants_grpc:
        raise Misconfigured(f"receiver.grpc_port = {settings.grpc_port}: {error}; {way_out}") from error
    _log.warning(f"OTLP/gRPC is off: {error}; {way_out}")
    return GrpcDoor(ok=False, reason=f"off: {error}; {way_out}")


def _keep_quiet() -> None:
    """gRPC writes to stderr what clients do wrong, without bound, and that the service starts a child.

    It reads these variables when it is imported.
    """
    for name, value in (("GRPC_VERBOSITY", "NONE"), ("GRPC_ENABLE_FORK_SUPPORT", "0")):
        if name not in environment():
            os.putenv(name, value)
