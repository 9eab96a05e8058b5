"""One exchange with MLflow: body up, head, body down, in constant memory.

The client hears what MLflow says as it says it. An upstream that breaks after its head was passed on breaks
the client's transfer too: it must never look complete. A client that goes away ends the upstream request.
"""

import asyncio
import ssl as tls
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Send
from yarl import URL

from proxy.errors import Refusal, timed_out, unreachable
from proxy.headers import Headers, downward

CHUNK_BYTES = 256 * 1024
# uvicorn, which serves MLflow, closes idle connections after 5 seconds: don't reuse one that is about to go
KEEP_ALIVE_SECONDS = 3.0
WATCH_AFTER_SECONDS = 0.01
# lists of experiments and datasets, which are read whole to be narrowed
MAX_CHANGED_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The MLflow server. `authorization`: the value of the header to send; `ssl` as aiohttp takes it.

    While a client waits for it, a block of `counted` is open.
    """

    url: str
    authorization: str | None
    ssl: tls.SSLContext | bool
    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_connections: int
    counted: Callable[[], AbstractContextManager[None]] = nullcontext


class BrokenTransfer(Exception):
    """MLflow went away in the middle of an answer; the server closes the client's connection on this."""


class ClientGone(Exception):
    """The client closed its connection before it had sent everything or heard the answer."""


@asynccontextmanager
async def open_session(upstream: Upstream) -> AsyncIterator[aiohttp.ClientSession]:
    """The pool of connections to MLflow, until the block ends."""
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=upstream.connect_timeout_seconds,
        sock_read=upstream.read_timeout_seconds,
    )
    connector = aiohttp.TCPConnector(
        limit=upstream.max_connections, ssl=upstream.ssl, keepalive_timeout=KEEP_ALIVE_SECONDS
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=CHUNK_BYTES,
    ) as session:
        yield session


@dataclass(slots=True, kw_only=True)
class Tally:
    """What went through so far, in bytes; and the status that the client was sent, 0 before."""

    request_bytes: int = 0
    answer_bytes: int = 0
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """One request for MLflow. `target` is the path and query, byte for byte.

    `body` replaces the client's, which was read already; `answer` changes a 200 of MLflow, which is read
    whole; `added` are headers for the client.
    """

    method: str
    target: bytes
    headers: Headers
    has_body: bool
    body: bytes | None = None
    answer: Callable[[bytes], bytes] | None = None
    added: Headers = field(default_factory=list)
    root_path: str = ""


async def exchange(
    session: aiohttp.ClientSession,
    upstream: Upstream,
    outgoing: UpstreamRequest,
    *,
    receive: Receive,
    send: Send,
    tally: Tally,
) -> None:
    """Pass one request on and its answer back.

    Raises Refusal (502, 504) as long as nothing was sent to the client, BrokenTransfer afterwards,
    ClientGone.
    """
    streamed = outgoing.has_body and outgoing.body is None
    body = _Body(receive, has_body=streamed, patience_seconds=upstream.read_timeout_seconds, tally=tally)
    async with _while_the_client_is_there(body):
        with upstream.counted():
            await _answer(session, upstream, outgoing, body, send, tally)


@asynccontextmanager
async def _while_the_client_is_there(body: "_Body") -> AsyncIterator[None]:
    """Raises ClientGone in the block when the client disconnects.

    Most answers come at once: the task that watches the client is only made for one that doesn't.
    """
    task = asyncio.current_task()
    assert task is not None
    finished = gone = False
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        nonlocal gone
        await body.wait_until_gone()
        if not finished:
            gone = True
            task.cancel()

    def start() -> None:
        watching.append(asyncio.create_task(watch()))

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, start)
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        finished = True
        timer.cancel()
        for each in watching:
            each.cancel()
        if watching:
            await asyncio.gather(*watching, return_exceptions=True)


class _Body:
    """The client's body, a chunk at a time, and the moment the client goes away."""

    def __init__(self, receive: Receive, *, has_body: bool, patience_seconds: float, tally: Tally) -> None:
        self._receive = receive
        self._tally = tally
        self._patience_seconds = patience_seconds
        self._answering: asyncio.Timeout | None = None
        self._complete = asyncio.Event()
        self._started = False
        self.has_body = has_body
        self.gone = False
        self.refused: Refusal | None = None
        if not has_body:
            self._complete.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks until the end; only once, a body that was sent in part can't be sent again.

        The first call asks the client for its body: `Expect: 100-continue` is answered then, after the
        decision. Raises ClientGone, Refusal.
        """
        if self._started:
            raise ClientGone
        self._started = True
        more = True
        while more:
            try:
                message = await self._receive()
            except Refusal as refused:  # aiohttp takes it for its own trouble
                self.refused = refused
                raise
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                self._tally.request_bytes += len(chunk)
                self._wait_for_mlflow(self._patience_seconds)
                yield chunk
                self._wait_for_mlflow(None)
        self._complete.set()

    @asynccontextmanager
    async def taken_in_time(self) -> AsyncIterator[None]:
        """Raises TimeoutError if MLflow doesn't take a chunk in time; aiohttp bounds only its silence."""
        async with asyncio.timeout(None) as self._answering:
            try:
                yield
            finally:
                self._answering = None

    def _wait_for_mlflow(self, seconds: float | None) -> None:
        if self._answering is not None and not self._answering.expired():
            when = None if seconds is None else asyncio.get_running_loop().time() + seconds
            self._answering.reschedule(when)

    async def wait_until_gone(self) -> None:
        """Until the client disconnects; only after its body there is nothing else to receive."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True


async def _answer(
    session: aiohttp.ClientSession,
    upstream: Upstream,
    outgoing: UpstreamRequest,
    body: _Body,
    send: Send,
    tally: Tally,
) -> None:
    names = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in outgoing.headers)
    url = URL(upstream.url + outgoing.target.decode("ascii"), encoded=True)
    started = False
    try:
        async with (
            body.taken_in_time() if body.has_body else nullcontext(),
            session.request(
                outgoing.method,
                url,
                headers=CIMultiDict(names),
                data=body.chunks() if body.has_body else outgoing.body,
                allow_redirects=False,
            ) as answer,
        ):
            back = downward(answer.raw_headers, upstream_url=upstream.url, root_path=outgoing.root_path)
            changed = None
            if outgoing.answer is not None and answer.status == 200:
                changed = await _changed(answer, outgoing.answer, upstream)
                back = [(n, v) for n, v in back if n != b"content-length"]
                back.append((b"content-length", str(len(changed)).encode()))
            taken = {name for name, _ in back}
            back += [(name, value) for name, value in outgoing.added if name not in taken]
            tally.status = answer.status
            await send({"type": "http.response.start", "status": answer.status, "headers": back})
            started = True
            if changed is not None:
                tally.answer_bytes += len(changed)
                await send({"type": "http.response.body", "body": changed, "more_body": True})
            else:
                with _ended_with_its_connection(answer):
                    async for chunk in answer.content.iter_any():
                        tally.answer_bytes += len(chunk)
                        more = not answer.content.at_eof()
                        await send({"type": "http.response.body", "body": chunk, "more_body": more})
                        if not more:
                            return
            await send({"type": "http.response.body", "body": b""})
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if body.gone:
            raise ClientGone from error
        if body.refused is not None and not started:
            raise body.refused from error
        if started:
            raise BrokenTransfer(f"MLflow's answer was cut off: {error!r}") from error
        raise _explain(error, upstream) from error


async def _changed(
    answer: aiohttp.ClientResponse, change: Callable[[bytes], bytes], upstream: Upstream
) -> bytes:
    """The whole answer, changed. Raises Refusal (502) for one that is too large or can't be read."""
    content = await answer.content.read(MAX_CHANGED_BYTES)
    while not answer.content.at_eof() and len(content) < MAX_CHANGED_BYTES:
        content += await answer.content.read(MAX_CHANGED_BYTES - len(content))
    try:
        if not answer.content.at_eof() or "content-encoding" in answer.headers:
            raise ValueError("it is too large or compressed")
        return change(content)
    except ValueError as error:
        raise unreachable(f"the answer of MLflow at {upstream.url} can't be narrowed: {error}") from error


@contextmanager
def _ended_with_its_connection(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """aiohttp 3.14 closes the connection on broken chunks, but leaves whoever reads the body waiting."""

    def end(_: object = None) -> None:
        if not answer.content.is_eof() and answer.content.exception() is None:
            answer.content.set_exception(aiohttp.ClientPayloadError("the chunks of the body are broken"))

    protocol = None if answer.connection is None else answer.connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is not None:
        closed.remove_done_callback(_heard)  # the connection is used again: one of these is enough
        closed.add_done_callback(_heard)
        closed.add_done_callback(end)
    elif protocol is not None:
        end()
    try:
        yield
    finally:
        if closed is not None:
            closed.remove_done_callback(end)


def _heard(closed: "asyncio.Future[None]") -> None:
    if not closed.cancelled():
        closed.exception()


def _explain(error: Exception, upstream: Upstream) -> Refusal:
    where = f"MLflow at {upstream.url}"
    if isinstance(error, TimeoutError):
        return timed_out(f"{where} did not answer in time")
    return unreachable(f"{where} can't be reached or closed the connection: {type(error).__name__}")
