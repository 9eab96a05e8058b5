"""The service's side of the index: its process, kept alive, and its verbs as requests (messages.py)."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from collector.files.private import make_folder, make_socket
from collector.index.duckdb.messages import (
    NOT_FOUND,
    batch_from_json,
    changes_from_json,
    changes_query_to_json,
    delivered_to_query,
    error_from_json,
    labels_from_json,
    lanes_to_json,
    query_to_json,
    state_from_json,
    trace_query_to_json,
)
from collector.index.protocol import (
    NOTHING_DELIVERED,
    Changes,
    ChangesQuery,
    Delivered,
    FileAnswer,
    IndexAway,
    IndexedBatch,
    IndexFailure,
    IndexQuery,
    IndexState,
    JsonAnswer,
    Lane,
    StoredTraces,
    TraceQuery,
    experiment_ids,
)
from collector.mirror.question import MetricQuestion
from collector.mirror.search import SearchQuestion
from collector.model.errors import Misconfigured
from collector.model.experiment import ExperimentReference
from collector.spans.labels import TraceLabels
from collector.telemetry.supervision import CannotStart, ChildEnded, RestartPause, run_child, supervised

START_SECONDS = 60.0
# its writes are transactions: ended earlier it loses nothing, and the next start is a little longer
STOP_SECONDS = 0.6
RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=30.0)
QUERY_SECONDS = 90.0
# less than the 5 s after which uvicorn closes an idle connection: a question must not meet the close
KEEP_ALIVE_SECONDS = 2.0
# a long backlog in one batch, on a machine with more to do
TAKE_SECONDS = 300.0
FOLDER = "index"
STARTING = "it is starting"
# a socket's path may have 107 in all
MAX_SOCKET_FOLDER_CHARACTERS = 90


class IndexClient:
    """The process of the index, kept alive, as an Index. Opened by `open_index`."""

    def __init__(self, arguments: Mapping[str, Any], session: aiohttp.ClientSession) -> None:
        self._arguments = arguments
        self._session = session
        self._ready = asyncio.Event()
        self._reason: str | None = None
        # how often its process has started
        self.life = 0

    @property
    def trouble(self) -> str | None:
        """Why it can't be asked, or None."""
        return None if self._ready.is_set() else self._reason or STARTING

    @property
    def starting(self) -> bool:
        """Whether this is its first start: no trouble yet."""
        return not self._ready.is_set() and self._reason is None

    async def ready(self) -> None:
        """Wait until it can be asked."""
        await self._ready.wait()

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        """As in the protocol."""
        document = {"lanes": lanes_to_json(lanes), "limit_spans": limit_spans}
        return batch_from_json(json.loads(await self._post("/take", document, seconds=TAKE_SECONDS)))

    async def ask(self, query: IndexQuery) -> JsonAnswer | FileAnswer | None:
        """As in the protocol."""
        if query.is_for_a_file:
            return await self._ask_for_a_file(query)
        body = await self._post_or_none("/ask", query_to_json(query))
        return None if body is None else JsonAnswer(body=body)

    async def trace(self, query: TraceQuery) -> bytes | None:
        """As in the protocol."""
        return await self._post_or_none("/trace", trace_query_to_json(query))

    async def owners(self, trace_id: str) -> frozenset[str]:
        """As in the protocol."""
        try:
            return frozenset(json.loads(await self._post("/owners", {"trace_id": trace_id}))["experiments"])
        except IndexAway:
            return frozenset()

    async def experiments(self) -> Sequence[str]:
        """As in the protocol."""
        try:
            return experiment_ids(await self.state())
        except IndexAway:
            return ()

    async def state(self) -> IndexState:
        """As in the protocol."""
        return state_from_json(json.loads(await self._sent("GET", "/state", seconds=QUERY_SECONDS)))

    async def put(
        self, traces: bytes, experiment: ExperimentReference, *, delivered: Delivered = NOTHING_DELIVERED
    ) -> StoredTraces:
        """As in the protocol."""
        query = {name: value for name, value in asdict(experiment).items() if value is not None}
        query |= delivered_to_query(delivered)
        body = await self._sent("POST", "/put", data=traces, params=query, seconds=TAKE_SECONDS)
        return StoredTraces(**json.loads(body))

    async def label(self, infos: bytes, *, delivered: Delivered = NOTHING_DELIVERED) -> int:
        """As in the protocol."""
        query = delivered_to_query(delivered)
        body = await self._sent("POST", "/label", data=infos, params=query, seconds=TAKE_SECONDS)
        return int(json.loads(body)["traces"])

    async def scores(self, trace_id: str, *, experiment_ids: frozenset[str] | None) -> bytes:
        """As in the protocol."""
        allowed = None if experiment_ids is None else sorted(experiment_ids)
        return await self._post("/scores", {"trace_id": trace_id, "experiment_ids": allowed})

    async def labels(self, experiment_id: str, trace_ids: Sequence[str]) -> Mapping[str, TraceLabels]:
        """As in the protocol."""
        document = {"experiment_id": experiment_id, "trace_ids": list(trace_ids)}
        return labels_from_json(json.loads(await self._post("/labels", document)))

    async def name(self, experiment: ExperimentReference) -> None:
        """As in the protocol."""
        await self._post("/name", asdict(experiment))

    async def forget(self) -> None:
        """As in the protocol."""
        await self._post("/forget", {})

    async def changes(self, query: ChangesQuery) -> Changes:
        """As in the protocol."""
        return changes_from_json(json.loads(await self._post("/changes", changes_query_to_json(query))))

    async def mirror_hold(self, document: Mapping[str, Any]) -> None:
        """As in the protocol."""
        await self._post("/mirror/hold", document)

    async def mirror_pull(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """As in the protocol."""
        pulled: dict[str, Any] = json.loads(await self._post("/mirror/pull", document))
        return pulled

    async def mirror_clear(self, experiment: int) -> None:
        """As in the protocol."""
        await self._post("/mirror/clear", {"experiment": experiment})

    async def mirror_measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        measured: dict[str, Any] = json.loads(await self._post("/mirror/measure", asdict(question)))
        return measured

    async def mirror_find(self, question: SearchQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        found: dict[str, Any] = json.loads(await self._post("/mirror/find", asdict(question)))
        return found

    async def _post(self, path: str, document: Mapping[str, Any], *, seconds: float = QUERY_SECONDS) -> bytes:
        return await self._sent("POST", path, data=json.dumps(document).encode(), seconds=seconds)

    async def _post_or_none(self, path: str, document: Mapping[str, Any]) -> bytes | None:
        try:
            return await self._post(path, document)
        except _NotFound:
            return None

    async def _sent(self, method: str, path: str, *, seconds: float, **request: Any) -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._opened(method, path, timeout=timeout, **request) as answer:
            return await answer.read()

    async def _ask_for_a_file(self, query: IndexQuery) -> FileAnswer:
        async with AsyncExitStack() as stack:
            opening = self._opened("POST", "/ask", json=query_to_json(query))
            answer = await stack.enter_async_context(opening)
            disposition = answer.content_disposition
            assert disposition is not None and disposition.filename is not None  # only tables have files
            return FileAnswer(
                media_type=answer.headers["content-type"],
                name=disposition.filename,
                chunks=_chunks(answer, stack.pop_all()),
            )

    @asynccontextmanager
    async def _opened(self, method: str, path: str, **request: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, if there is one. Raises what the process has raised, IndexFailure, or IndexAway."""
        if not self._ready.is_set():
            raise IndexAway(f"the index does not answer: {self._reason}")
        try:
            async with self._session.request(method, f"http://index{path}", **request) as answer:
                if answer.status != 200:
                    raise _error(answer.status, await answer.read())
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise IndexAway(f"the index does not answer: {error or type(error).__name__}") from error

    def _check(self) -> None:
        if trouble := self.trouble:
            raise IndexAway(f"the index does not answer: {trouble}")

    async def run(self) -> None:
        """One life of its process. Raises ChildEnded, CannotStart."""
        try:
            await run_child(self._start, self._stop, until_ready=self._wait_until_it_answers)
        except ChildEnded as end:
            self._reason = f"its process ended with {end.exit_code} and is started again"
            raise
        except CannotStart as error:
            self._reason = f"its process can't be started: {error}"
            raise
        finally:
            self._ready.clear()

    async def _stop(self, child: asyncio.subprocess.Process) -> None:
        # what is only starting has nothing to finish
        await _stop(child, seconds=STOP_SECONDS if self._ready.is_set() else 0.0)

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
                        self.life += 1
                        self._ready.set()
                        return
            if time.monotonic() > deadline:
                self._reason = f"it has not started within {START_SECONDS:g} s"
                child.kill()
                return
            await asyncio.sleep(0.05)


class _NotFound(Exception):
    """The process knows nothing of what was asked about."""


def _error(status: int, body: bytes) -> Exception:
    """What an answer with this status means."""
    if status == NOT_FOUND:
        return _NotFound()
    return error_from_json(status, body) or IndexFailure(f"it answers {status}, and its log says why")


async def _chunks(answer: aiohttp.ClientResponse, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in answer.content.iter_any():
            yield chunk


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

    `given` is what its process is told (messages.py, ProcessArguments), without the socket.
    """
    with ExitStack() as stack:
        socket = str(_room_for_a_socket(Path(given["folder"]), stack) / "index.sock")
        connector = aiohttp.UnixConnector(path=socket, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        async with aiohttp.ClientSession(connector=connector) as session:
            client = IndexClient({**given, "socket": socket}, session)
            async with supervised("the process of the index", client.run, pause=RESTART_PAUSE):
                yield client
