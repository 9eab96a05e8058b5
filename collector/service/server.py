"""One service process: its signals, its end, and what came before and comes after it."""

import asyncio
import ctypes
import gc
import logging
import signal
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from collector.model.errors import Misconfigured
from collector.receivers.grpc.opening import check_grpc
from collector.service.app import open_app
from collector.service.leaving import LeavingServer, server_config
from collector.service.listening import Listeners, address, open_listeners
from collector.service.protocol import bounded_protocol
from collector.service.takeover import Door, Predecessor, Successor, find_predecessor, open_door
from collector.settings import ServerSettings, Settings, environment

_log = logging.getLogger("sidespan")

# a process that took over and died may hold the journal for a moment longer
RESUME_SECONDS = 5.0

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 16 * 1024 * 1024
OWN_MAPPING_BYTES = 4 * 1024 * 1024

# the address of the port, and that of OTLP/gRPC if there is one
Announce = Callable[[str, str | None], None]


@dataclass(slots=True)
class _Stop:
    """What the signals have said."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    twice: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note)

    def _note(self) -> None:
        (self.twice if self.asked.is_set() else self.asked).set()


async def run_service(settings: Settings, *, announce: Announce = lambda url, grpc_url: None) -> None:
    """Serve until SIGTERM or SIGINT, or until a new process has taken over (see takeover.py).

    `announce` gets the addresses once the ports listen. A second signal ends the wait for answers.
    Raises Misconfigured.
    """
    tls_options(settings.server)  # known before another process is asked to go
    check_grpc(settings.receiver)
    with ExitStack() as stack:
        predecessor = await find_predecessor(settings) if settings.server.takeover else None
        listeners = _listeners(settings, predecessor)
        for each in listeners:
            stack.enter_context(each)
        if predecessor is not None:
            await predecessor.leave()
        stop = _Stop()

        def serving(url: str, grpc_url: str | None) -> None:
            stop.listen()
            if predecessor is not None:
                predecessor.tell_serving()
            announce(url, grpc_url)

        successor = await _serve(settings, listeners, stop, serving)
        while successor is not None and not await _is_replaced(successor, stop):
            _log.error("the process that was to take over ended; this one goes on")
            successor = await _resume(settings, successor.listeners, stop)
    _log.info("stopped")


def _listeners(settings: Settings, predecessor: Predecessor | None) -> Listeners:
    """The supervisor's, the predecessor's, or our own. Raises Misconfigured."""
    given = environment()
    if predecessor is None or "LISTEN_FDS" in given:
        return open_listeners(settings, given)
    return predecessor.listeners


async def _serve(
    settings: Settings, listeners: Listeners, stop: _Stop, serving: Announce
) -> Successor | None:
    """Everything, until a signal (None) or until a new process asks for our place."""
    protocol = bounded_protocol(settings.server)
    async with open_app(settings) as (app, running), _door(settings, listeners) as door:
        config = server_config(app, protocol, tls_options(settings.server))
        server = LeavingServer(config, protocol, running, seconds=settings.server.shutdown_seconds)
        url = address(listeners[0], tls=settings.server.tls_certificate_file is not None)
        _calm_garbage_collection()
        _keep_freed_memory()
        serving(url, running.grpc.url)
        _log.info("serving", extra={"url": url, "grpc": running.grpc.url, "mlflow": settings.mlflow.url})
        ending = asyncio.create_task(_end(server, stop, door))
        try:
            await server.serve(sockets=list(listeners))
        finally:
            ending.cancel()
        _log.info("stopping")
    return None if stop.asked.is_set() else door.successor


def _door(settings: Settings, listeners: Listeners) -> AbstractAsyncContextManager[Door]:
    """Where a new process asks for our place: where replicas share a log, none has to."""
    if settings.log_place.engine.is_embedded:
        return open_door(settings.data_dir, listeners)
    return nullcontext(Door(listeners))


async def _end(server: LeavingServer, stop: _Stop, door: Door) -> None:
    """Tell the server to end at the first signal or the first new process, to hurry at the second signal."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (stop.asked, door.asked)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await stop.twice.wait()
    server.force_exit = True


async def _is_replaced(successor: Successor, stop: _Stop) -> bool:
    """Whether the new process serves, or nobody wants this one any more."""
    waiting = asyncio.ensure_future(successor.serves())
    stopped = asyncio.ensure_future(stop.asked.wait())
    await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return stop.asked.is_set() or waiting.result()


async def _resume(settings: Settings, listeners: Listeners, stop: _Stop) -> Successor | None:
    """Serve once more. Raises Misconfigured."""
    deadline = asyncio.get_running_loop().time() + RESUME_SECONDS
    while True:
        try:
            return await _serve(settings, listeners, stop, lambda url, grpc_url: None)
        except Misconfigured:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)


def tls_options(settings: ServerSettings) -> dict[str, Any]:
    """uvicorn's options for https on our port; none without a certificate. Raises Misconfigured."""
    if settings.tls_certificate_file is None:
        return {}
    options = {
        "ssl_certfile": str(settings.tls_certificate_file),
        "ssl_keyfile": str(settings.tls_key_file or settings.tls_certificate_file),
    }
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"])
        if settings.tls_client_ca_file is not None:
            context.load_verify_locations(str(settings.tls_client_ca_file))
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"server.tls_certificate_file = {options['ssl_certfile']!r}, its key or "
            f"server.tls_client_ca_file can't be used: {error}"
        ) from error
    if settings.tls_client_ca_file is None:
        return options
    return options | {"ssl_ca_certs": str(settings.tls_client_ca_file), "ssl_cert_reqs": ssl.CERT_REQUIRED}


def _calm_garbage_collection() -> None:
    """What is here now lives as long as the process: don't look through it again and again.

    A request leaves no cycles behind; collecting every 700 allocations cost 6 % of the receiver's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _keep_freed_memory() -> None:
    """Let glibc keep what requests free, up to KEPT_BYTES, instead of giving it back and asking for it anew.

    That costs half of the page faults of a request. Blocks of OWN_MAPPING_BYTES go back at once, as large
    bodies do. Who has set one of the variables wants it otherwise; other C libraries have no mallopt.
    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if any(name.startswith("MALLOC_") for name in environment()):
        return
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)
