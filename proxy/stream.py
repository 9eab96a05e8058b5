"""One exchange with MLflow: body up, head, body down, in constant memory.

The client hears what MLflow says as it says it. An upstream that breaks after its head was passed on breaks
the client's transfer too: it must never look complete. A client that goes away ends the upstream request.
"""

import asyncio
import ssl as tls
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Send
from yarl import URL

from proxy.errors import Refusal, timed_out, unreachable
from proxy.headers import Headers, downward

CHUNK_BYTES = 256 * 1024
# uvicorn, which serves MLflow, closes idle connections after 5 seconds: don't reuse one that is about to go
KEEP_ALIVE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The MLflow server. `authorization`: the value of the header to send; `ssl` as aiohttp takes it."""

    url: str
    authorization: str | None
    ssl: tls.SSLContext | bool
    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_connections: int


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


async def exchange(
    session: aiohttp.ClientSession,
    upstream: Upstream,
    *,
    method: str,
    target: bytes,
    headers: Headers,
    has_body: bool,
    receive: Receive,
    send: Send,
) -> int:
    """Pass one request on and its answer back; the status that the client was sent.

    `target` is the path and query, byte for byte. Raises Refusal (502, 504) as long as nothing was sent to
    the client, BrokenTransfer afterwards, ClientGone.
    """
    body = _Body(receive, has_body=has_body)
    url = URL(upstream.url + target.decode("ascii"), encoded=True)
    answering = asyncio.create_task(_answer(session, upstream, method, url, headers, body, send))
    leaving = asyncio.create_task(body.wait_until_gone())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientGone
        return answering.result()
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


class _Body:
    """The client's body, a chunk at a time, and the moment the client goes away."""

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive = receive
        self._complete = asyncio.Event()
        self._started = False
        self.has_body = has_body
        self.gone = False
        if not has_body:
            self._complete.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks until the end; only once, a body that was sent in part can't be sent again.

        The first call asks the client for its body: `Expect: 100-continue` is answered then, after the
        decision. Raises ClientGone.
        """
        if self._started:
            raise ClientGone
        self._started = True
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk
        self._complete.set()

    async def wait_until_gone(self) -> None:
        """Until the client disconnects; only after its body there is nothing else to receive."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True


async def _answer(
    session: aiohttp.ClientSession,
    upstream: Upstream,
    method: str,
    url: URL,
    headers: Headers,
    body: _Body,
    send: Send,
) -> int:
    sending = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    started = False
    try:
        async with session.request(
            method,
            url,
            headers=sending,
            data=body.chunks() if body.has_body else None,
            allow_redirects=False,
        ) as answer:
            back = downward(answer.raw_headers, upstream_url=upstream.url)
            await send({"type": "http.response.start", "status": answer.status, "headers": back})
            started = True
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if body.gone:
            raise ClientGone from error
        if started:
            raise BrokenTransfer(f"MLflow broke its answer off: {error!r}") from error
        raise _explain(error, upstream) from error


def _explain(error: Exception, upstream: Upstream) -> Refusal:
    where = f"MLflow at {upstream.url}"
    if isinstance(error, TimeoutError):
        return timed_out(f"{where} did not answer in time")
    return unreachable(f"{where} can't be reached or broke off: {type(error).__name__}")
