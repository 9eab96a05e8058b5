"""A new process takes the place of the one that uses the data folder, and no client notices.

    the new one                                    the old one
    connect to data_dir/takeover.sock      ->
                                           <-      its listening sockets (SCM_RIGHTS), its process id
    looks whether it can use them
    "go"                                   ->      goes on serving while delivery comes to an end; then stops
                                                   accepting, answers what it has accepted, closes the journal
                                           <-      "yours"
    opens the journal, serves
    "serving"                              ->      ends

Both hold the same socket, so there is one queue of waiting connections: it is never closed, and what waits in
it when the old process stops accepting is served by the new one. (Two sockets with SO_REUSEPORT have a queue
each, and Linux resets what waits in the one that is closed.)

Until it hears "serving" the old one can go on: if the new one ends earlier, it opens the journal again. Only
processes of the same user are heard.
Source: unix(7), SCM_RIGHTS, https://man7.org/linux/man-pages/man7/unix.7.html
"""

import asyncio
import json
import logging
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from collector.journal.sqlite.lock import holder
from collector.model.errors import Misconfigured
from collector.service.listening import Listeners, address, is_at
from collector.settings import Settings

_log = logging.getLogger("sidespan")

FILE_NAME = "takeover.sock"
GO, YOURS, SERVING = b"go", b"yours", b"serving"
ANSWER_SECONDS = 5.0
# a process that is just starting has the folder before it can be asked
FIND_SECONDS = 3.0
MAX_SOCKETS = 16
MAX_MESSAGE_BYTES = 1024
# a socket's path may have 107 in all; a longer one is reached through the folder's descriptor
MAX_PATH_CHARACTERS = 100


@dataclass(slots=True, kw_only=True)
class Predecessor:
    """The process that is to go, seen from the new one."""

    process: int
    listeners: Listeners
    connection: socket.socket
    timeout_seconds: float

    async def leave(self) -> None:
        """Ask it to go, and wait until the journal is free. Raises Misconfigured: it doesn't in time."""
        loop = asyncio.get_running_loop()
        self.connection.setblocking(False)
        answer = b""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(self.timeout_seconds):
                await loop.sock_sendall(self.connection, GO)
                _log.info("taking over", extra={"from_process": self.process})
                answer = await loop.sock_recv(self.connection, MAX_MESSAGE_BYTES)
        if answer == YOURS:
            return
        raise Misconfigured(
            f"process {self.process}, from which to take over, has not gone within server.takeover_seconds = "
            f"{self.timeout_seconds:g}; stop it, or try again"
        )

    def tell_serving(self) -> None:
        """The old process may end."""
        with suppress(OSError):  # it has ended already
            self.connection.send(SERVING)
        self.connection.close()


async def find_predecessor(settings: Settings) -> Predecessor | None:
    """The process that uses the data folder, with its sockets; None if there is none.

    Raises Misconfigured: there is one, and it doesn't answer, is too old to be asked, or listens elsewhere.
    """
    deadline = time.monotonic() + FIND_SECONDS
    while True:
        process = holder(settings.data_dir)
        if process is None:
            return None
        try:
            connection = _connect(settings.data_dir)
        except OSError as error:
            if time.monotonic() > deadline:
                raise _cannot_be_asked(process, settings.data_dir) from error
            await asyncio.sleep(0.05)
            continue
        try:
            return _ask(connection, settings)
        except (OSError, ValueError) as error:
            connection.close()
            raise Misconfigured(
                f"process {process} uses data_dir = {str(settings.data_dir)!r} and does not answer: "
                f"{error or type(error).__name__}; stop it and start this one without --takeover"
            ) from error


def _cannot_be_asked(process: str, data_dir: Path) -> Misconfigured:
    return Misconfigured(
        f"process {process} uses data_dir = {str(data_dir)!r} and can't be asked to hand over (it is older "
        "than this option, or another user's); stop it and start this one without --takeover"
    )


def _connect(data_dir: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        with _path_of(data_dir) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, settings: Settings) -> Predecessor:
    """Its sockets. Raises OSError, ValueError, Misconfigured."""
    message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, MAX_SOCKETS)
    listeners = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
    process = int(json.loads(message)["process"])
    if not listeners:
        raise Misconfigured(f"process {process}, from which to take over, is about to end; try again")
    if not any(is_at(listener, settings.server) for listener in listeners):
        shown = ", ".join(map(address, listeners))
        raise Misconfigured(
            f"process {process} listens at {shown}, and this one is to listen at "
            f"{settings.server.host}:{settings.server.port}: a takeover keeps the address; use the same "
            "server.host and server.port, or stop the old process first"
        )
    return Predecessor(
        process=process,
        listeners=listeners,
        connection=connection,
        timeout_seconds=settings.server.takeover_seconds,
    )


@dataclass(slots=True, kw_only=True)
class Successor:
    """The process that comes, seen from the old one, which keeps `listeners` for the case that it dies."""

    connection: socket.socket
    listeners: Listeners

    async def serves(self) -> bool:
        """Leave it the journal, and wait: True once it serves, False if it ends before."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.connection, YOURS)
            return await loop.sock_recv(self.connection, MAX_MESSAGE_BYTES) == SERVING
        except OSError:
            return False
        finally:
            self.connection.close()


class Door:
    """Where new processes ask for our place. Opened by `open_door`."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self.successor: Successor | None = None
        self.asked = asyncio.Event()

    async def run(self, listener: socket.socket) -> None:
        """Hear whoever comes, until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await loop.sock_accept(listener)
                group.create_task(self._hear(connection))

    async def _hear(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            if not _is_own_user(connection):
                return
            message = json.dumps({"process": os.getpid()}).encode()
            socket.send_fds(connection, [message], self._descriptors())
            if await loop.sock_recv(connection, MAX_MESSAGE_BYTES) != GO or not self._descriptors():
                return
            kept = tuple(each.dup() for each in self._listeners)
            self.successor = Successor(connection=connection, listeners=kept)
            self.asked.set()
        except OSError as error:
            _log.debug("a process that asked to take over went away", extra={"error": str(error)})
        finally:
            if self.successor is None or self.successor.connection is not connection:
                connection.close()

    def _descriptors(self) -> list[int]:
        """What can be handed over: nothing any more once this process is on its way out."""
        return [] if self.successor else [each.fileno() for each in self._listeners if each.fileno() >= 0]


@asynccontextmanager
async def open_door(data_dir: Path, listeners: Listeners) -> AsyncIterator[Door]:
    """The door in the data folder, until the block ends. Where none can be made the log says so."""
    door = Door(listeners)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            _bind(listener, data_dir)
        except OSError as error:
            _log.warning("a new process can't take over from this one", extra={"error": str(error)})
            yield door
            return
        hearing = asyncio.create_task(door.run(listener))
        try:
            yield door
        finally:
            hearing.cancel()
            with suppress(asyncio.CancelledError):
                await hearing


def _bind(listener: socket.socket, data_dir: Path) -> None:
    with _path_of(data_dir) as path:
        with suppress(FileNotFoundError):
            os.unlink(path)  # left by a process that is gone: the folder is ours
        listener.bind(path)
        os.chmod(path, 0o600)
    listener.listen(8)
    listener.setblocking(False)


@contextmanager
def _path_of(data_dir: Path) -> Iterator[str]:
    """The socket's path, short enough to be one."""
    path = str(data_dir.resolve() / FILE_NAME)
    if len(os.fsencode(path)) <= MAX_PATH_CHARACTERS:
        yield path
        return
    folder = os.open(data_dir, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{FILE_NAME}"
    finally:
        os.close(folder)


def _is_own_user(connection: socket.socket) -> bool:
    """Whether the other end is our user's or root's. Where the system can't say, the file's mode does."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return user in (0, os.getuid())
