"""uvicorn, that ends without losing a request: each connection is answered once more and then closed.

delivery ends     exports are still accepted and taken; each answer says `Connection: close`
no more accepts   what waits in the queue is left to whoever holds the socket: a supervisor, a new process
goodbye           idle connections are closed after a moment in which their next request may still come;
                  over gRPC no new calls are taken, and those that are there are answered
the time is over  what is still being answered is cut: exports with 503 or UNAVAILABLE, which clients repeat
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from collector.service.background import Running
from collector.service.protocol import BoundedProtocol

# within it a client that sends now and then gets its goodbye with an answer; who is silent is closed
IDLE_SECONDS = 1.0
# a connection that was accepted at the last moment has its request on the way
ACCEPTED_SECONDS = 0.3
CUT_SECONDS = 0.2
# of the time for a stop: until delivery is over, until answers are; the rest is the index's and the journal's
DELIVERY_SHARE, ANSWER_SHARE = 0.3, 0.6
LOOK_EVERY_SECONDS = 0.02
# longer than clients and proxies keep theirs, so that they close first: exporters send every 5 s or 60 s
KEEP_ALIVE_SECONDS = 75


def server_config(app: ASGIApp, protocol: type[BoundedProtocol], tls: dict[str, Any]) -> uvicorn.Config:
    """uvicorn as we use it."""
    return uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        **tls,
    )


class LeavingServer(uvicorn.Server):
    """One server; `should_exit` ends it within `seconds`, `force_exit` at once."""

    def __init__(
        self, config: uvicorn.Config, protocol: type[BoundedProtocol], running: Running, *, seconds: float
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._running = running
        self._seconds = seconds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: uvicorn would raise them again after a clean stop."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Deliver what is in flight, answer everybody who is there, close."""
        now = asyncio.get_running_loop().time
        began = now()
        self._running.begin_to_stop()
        self._protocol.leaving = True
        for connection in self._connections():
            connection.answer_last()
        await self._unless_forced(self._running.delivered(seconds=self._seconds * DELIVERY_SHARE))
        await self._stop_accepting(sockets or [])
        calls = asyncio.ensure_future(self._running.leave_grpc(seconds=self._seconds))
        quiet = max(began + min(IDLE_SECONDS, self._seconds * ANSWER_SHARE), now() + ACCEPTED_SECONDS)
        end = began + self._seconds * ANSWER_SHARE
        while (self._connections() or not calls.done()) and not self.force_exit and now() < end:
            if now() >= quiet:
                for connection in self._connections():
                    connection.close_if_idle()
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        await self._cut(calls)

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Close our descriptors of the sockets: if they are the last, what waits there would be reset."""
        for each in sockets:
            for _ in range(self.config.backlog):
                try:
                    connection, _ = each.accept()
                except OSError:  # none waits
                    break
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._connection, connection, ssl=self.config.ssl
                )
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()

    def _connection(self) -> BoundedProtocol:
        return self._protocol(config=self.config, server_state=self.server_state, app_state={})

    async def _unless_forced(self, waiting: Any) -> None:
        task = asyncio.ensure_future(waiting)
        while not task.done() and not self.force_exit:
            await asyncio.wait([task], timeout=LOOK_EVERY_SECONDS)
        task.cancel()

    async def _cut(self, calls: "asyncio.Future[None]") -> None:
        """End what has not ended by itself."""
        self._running.refuse()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait([*tasks, calls], timeout=CUT_SECONDS)
        for connection in self._connections():
            connection.transport.close()

    def _connections(self) -> list[BoundedProtocol]:
        return [cast("BoundedProtocol", each) for each in self.server_state.connections]
