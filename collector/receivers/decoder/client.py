"""The service's side of the decoder: its process, started when it is first needed, and exports handed to it.

One export is read at a time; others wait. So what they take together is bounded by what one may take.
"""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from collector.model.batch import Draft, Rejection, Route
from collector.model.errors import Reason, Rejected, Unavailable
from collector.receivers.decoder.frames import TRACE_ID_BYTES, receive_exactly, receive_head, send
from collector.receivers.ingest import Encoded
from collector.receivers.prepare import Prepared
from collector.settings import Settings
from collector.settings.processors import RedactSettings

_log = logging.getLogger("sidespan.decoder")

# for the exports in front and this one; an exporter waits no longer
WAIT_SECONDS = 60.0
# far over the time of the processor that an export may take (process.py): the process hangs
HANG_SECONDS = 120.0
STOP_SECONDS = 5.0


class _Gone(Exception):
    """The process ended with `code` before it answered."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the decoder ended with {code}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    process: subprocess.Popen[bytes]
    connection: socket.socket


class Decoder:
    """The process that reads large exports. Opened by `open_decoder`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self._child: _Child | None = None
        self._closed = False

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """Its process, if there is one at this moment."""
        return self._child.process if self._child else None

    async def prepare(self, request: Encoded, reserve: Callable[[int], None]) -> Prepared:
        """What the export holds. Raises Rejected, Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                prepared = await loop.run_in_executor(self._thread, self._ask, request)
        except TimeoutError:
            raise Unavailable(
                Reason.TOO_MANY_REQUESTS, "many large bodies are waiting to be read; send it again"
            ) from None
        if request.content_encoding:
            reserve(sum(len(draft.payload) for _, draft in prepared.drafts))
        return prepared

    async def close(self) -> None:
        """End the process, whatever it does."""
        self._closed = True
        if child := self._child:
            child.process.kill()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        if self._child:
            self._end(self._child)

    # in the thread

    def _ask(self, request: Encoded) -> Prepared:
        try:
            return self._ask_once(request)
        except _Gone as gone:
            if gone.code == 0 and not self._closed:  # it left just now: idle, or to give memory back
                return self._ask_once(request)
            raise _explained(gone) from gone

    def _ask_once(self, request: Encoded) -> Prepared:
        child = self._running() or self._start()
        head = {
            "encoding": request.encoding.value,
            "content_encoding": request.content_encoding,
            "headers": dict(request.headers),
            "signal": request.signal.value,
        }
        try:
            send(child.connection, head, request.chunks)
            return _receive(child.connection, request)
        except (OSError, EOFError) as error:
            raise _Gone(self._end(child)) from error

    def _running(self) -> _Child | None:
        child = self._child
        if child is not None and child.process.poll() is not None:
            self._end(child)
        return self._child

    def _start(self) -> _Child:
        if self._closed:
            raise Unavailable(Reason.DRAINING, "the service is stopping; send it again")
        ours, theirs = socket.socketpair()
        ours.settimeout(HANG_SECONDS)
        try:
            with theirs:
                number = theirs.fileno()
                process = subprocess.Popen(
                    [sys.executable, "-m", "collector.receivers.decoder", str(number)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[number],
                )
            self._child = _Child(process=process, connection=ours)
            send(ours, self._given, ())
        except OSError as error:
            ours.close()
            _log.error("the decoder can't be started", extra={"error": str(error)})
            raise Unavailable(
                Reason.DECODER_FAILED, "large bodies can't be read at this moment; send it again"
            ) from error
        return self._child

    def _end(self, child: _Child) -> int:
        """Let go of the process; its exit code."""
        self._child = None
        child.connection.close()
        try:
            return child.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
            return child.process.wait()


def _explained(gone: _Gone) -> Rejected | Unavailable:
    if gone.code == -signal.SIGXCPU:
        return Rejected(Reason.TOO_LARGE, "the body takes too long to read; send smaller batches")
    _log.error("the decoder ended while it read an export", extra={"exit_code": gone.code})
    return Unavailable(Reason.DECODER_FAILED, "the body could not be read at this moment; send it again")


def _receive(connection: socket.socket, request: Encoded) -> Prepared:
    """The answer. Raises OSError, EOFError, Rejected; RuntimeError for a bug in the process."""
    head = receive_head(connection)
    if "bug" in head:
        raise RuntimeError(head["bug"])
    if "error" in head:
        raise Rejected(Reason(head["error"]), head["message"])
    drafts = [_received(connection, part, request) for part in head["parts"]]
    rejections = [
        rejection
        for reason, message, count in head["rejections"]
        for rejection in [Rejection(reason=Reason(reason), message=message)] * count
    ]
    return Prepared(drafts=drafts, rejections=rejections)


def _received(connection: socket.socket, part: Mapping[str, Any], request: Encoded) -> tuple[Route, Draft]:
    ids = bytes(receive_exactly(connection, part["traces"] * TRACE_ID_BYTES))
    payload = b"".join(request.chunks) if part["as_sent"] else receive_exactly(connection, part["size"])
    route = Route(**part["route"])
    draft = Draft(
        lane=route.lane_of(request.signal),
        payload=payload,
        span_count=part["spans"],
        trace_ids=frozenset(ids[at : at + TRACE_ID_BYTES] for at in range(0, len(ids), TRACE_ID_BYTES)),
        client=request.sender.name,
    )
    return route, draft


@asynccontextmanager
async def open_decoder(settings: Settings) -> AsyncIterator[Decoder]:
    """The decoder, until the block ends. Its process starts with the first export that is large."""
    redactions = [each for each in settings.processors if isinstance(each, RedactSettings)]
    decoder = Decoder(
        {
            "receiver": settings.receiver.model_dump(mode="json"),
            "routing": settings.routing.model_dump(mode="json"),
            "processors": [each.model_dump(mode="json") for each in redactions],
            "log": settings.log.model_dump(mode="json"),
            "memory_bytes": settings.receiver.decoder_memory_bytes,
        }
    )
    try:
        yield decoder
    finally:
        await decoder.close()
