"""The service's side of the index: its process, kept alive, and requests to it."""

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from collector.files.private import make_folder, make_socket
from collector.model.errors import Misconfigured, SidespanError

_log = logging.getLogger("sidespan.index")

START_SECONDS = 60.0
# its writes are transactions: ended earlier it loses nothing, and the next start is a little longer
STOP_SECONDS = 0.6
RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 30.0
QUERY_SECONDS = 90.0
# a long backlog in one batch, on a machine with more to do
TAKE_SECONDS = 300.0
FOLDER = "index"
STARTING = "it is starting"
# a socket's path may have 107 in all
MAX_SOCKET_FOLDER_CHARACTERS = 90


class IndexAway(SidespanError):
    """The index doesn't answer at this moment; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAnswer:
    """What the index has answered; `body` is JSON."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class IndexClient:
    """The process of the index, and what is asked of it. Opened by `open_index`."""

    def __init__(self, arguments: Mapping[str, Any], session: aiohttp.ClientSession) -> None:
        self._arguments = arguments
        self._session = session
        self._ready = asyncio.Event()
        self._reason = STARTING

    @property
    def trouble(self) -> str | None:
        """Why it can't be asked, or None."""
        return None if self._ready.is_set() else self._reason

    @property
    def starting(self) -> bool:
        """Whether this is its first start: no trouble yet."""
        return not self._ready.is_set() and self._reason == STARTING

    async def ready(self) -> None:
        """Wait until it can be asked."""
        await self._ready.wait()

    async def post(
        self, path: str, document: Mapping[str, Any], *, timeout_seconds: float = QUERY_SECONDS
    ) -> IndexAnswer:
        """POST JSON. Raises IndexAway."""
        return await self._send(path, json.dumps(document).encode(), timeout_seconds)

    async def post_bytes(self, path: str, body: bytes, query: Mapping[str, str]) -> IndexAnswer:
        """POST `body` as it is. Raises IndexAway."""
        return await self._send(path, body, TAKE_SECONDS, query)

    async def get(self, path: str) -> IndexAnswer:
        """GET. Raises IndexAway."""
        return await self._send(path, None, QUERY_SECONDS)

    async def owners(self, trace_id: str) -> frozenset[str]:
        """The ids of the experiments in which the trace is; none if it can't be asked."""
        try:
            return frozenset((await self.post(f"/owners/{trace_id}", {})).json()["experiments"])
        except IndexAway:
            return frozenset()

    async def experiments(self) -> Sequence[str]:
        """The ids of the experiments of which there are traces; none if it can't be asked."""
        try:
            rows = (await self.get("/state")).json()["experiments"]
        except IndexAway:
            return ()
        return [row["id"] for row in rows if row["id"] is not None]

    @asynccontextmanager
    async def stream(self, path: str, document: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST JSON, and read the answer piece by piece. Raises IndexAway."""
        self._check()
        try:
            async with self._session.post(f"http://index{path}", json=document) as answer:
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise IndexAway(f"the index does not answer: {error or type(error).__name__}") from error

    async def _send(
        self, path: str, body: bytes | None, timeout_seconds: float, query: Mapping[str, str] | None = None
    ) -> IndexAnswer:
        self._check()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        method = "GET" if body is None else "POST"
        try:
            async with self._session.request(
                method, f"http://index{path}", data=body, params=query, timeout=timeout
            ) as answer:
                return IndexAnswer(status=answer.status, body=await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise IndexAway(f"the index does not answer: {error or type(error).__name__}") from error

    def _check(self) -> None:
        if not self._ready.is_set():
            raise IndexAway(f"the index does not answer: {self._reason}")

    async def supervise(self) -> None:
        """Keep its process alive until cancelled."""
        pause = RESTART_SECONDS
        while True:
            started = time.monotonic()
            try:
                child = await self._start()
            except OSError as error:
                self._reason = f"its process can't be started: {error}"
                _log.error("the process of the index can't be started", extra={"error": str(error)})
                await asyncio.sleep(MAX_RESTART_SECONDS)
                continue
            try:
                await self._wait_until_it_answers(child)
                code = await child.wait()
            except asyncio.CancelledError:
                # what is only starting has nothing to finish
                await _stop(child, seconds=STOP_SECONDS if self._ready.is_set() else 0.0)
                self._ready.clear()
                raise
            self._ready.clear()
            self._reason = f"its process ended with {code} and is started again"
            _log.error("the process of the index ended and is started again", extra={"exit_code": code})
            pause = (
                RESTART_SECONDS if time.monotonic() - started > 60 else min(2 * pause, MAX_RESTART_SECONDS)
            )
            await asyncio.sleep(pause)

    async def _start(self) -> asyncio.subprocess.Process:
        # uvicorn makes a socket that is open to everybody, but of one that is there it keeps the mode
        make_socket(Path(self._arguments["socket"]))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "collector.index.duckdb", json.dumps(self._arguments)),
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that we are gone
            # not a session of its own: that would be a share of the processor of its own, whatever its
            # niceness (Linux, sched(7), "The autogroup feature")
        )

    async def _wait_until_it_answers(self, child: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + START_SECONDS
        while child.returncode is None:
            with suppress(aiohttp.ClientError, OSError):
                async with self._session.get("http://index/state") as answer:
                    if answer.status == 200:
                        self._ready.set()
                        return
            if time.monotonic() > deadline:
                self._reason = f"it has not started within {START_SECONDS:g} s"
                child.kill()
                return
            await asyncio.sleep(0.05)


async def _stop(child: asyncio.subprocess.Process, *, seconds: float) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        await asyncio.wait_for(child.wait(), seconds)
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _room_for_a_socket(folder: Path, stack: ExitStack) -> Path:
    """A folder that only this user can enter: the index's own, or one with a shorter name.

    Raises Misconfigured: neither can be written.
    """
    try:
        make_folder(folder)
        folder.chmod(0o700)
        if len(str(folder)) < MAX_SOCKET_FOLDER_CHARACTERS:
            return folder
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidespan-")))
    except OSError as error:
        raise Misconfigured(f"the index's folder {str(folder)!r} can't be used: {error.strerror}") from error


@asynccontextmanager
async def open_index(given: Mapping[str, Any]) -> AsyncIterator[IndexClient]:
    """The index, until the block ends. It isn't there at once: it can be asked when it is ready.

    `given` is what its process is told (index/process.py, Given), without the socket.
    """
    with ExitStack() as stack:
        socket = str(_room_for_a_socket(Path(given["folder"]), stack) / "index.sock")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=socket, limit=0)) as session:
            client = IndexClient({**given, "socket": socket}, session)
            supervising = asyncio.create_task(client.supervise())
            try:
                yield client
            finally:
                supervising.cancel()
                with suppress(asyncio.CancelledError):
                    await supervising
