"""The proxy on a socket of its own, in front of the upstream that misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from proxy import Observation
from tests.proxy.upstream import Upstream, running_upstream
from tests.support.proxied import proxied, upstream_at

LOOK_SECONDS = 0.05


@dataclass
class Stage:
    """`observed` is what the proxy said of each request."""

    upstream: Upstream
    url: str
    client: aiohttp.ClientSession
    observed: list[Observation] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    async def talk(
        self, request: bytes, *, seconds: float = 3.0, quiet_seconds: float | None = None
    ) -> bytes:
        """Everything that is answered to these bytes until the connection is closed or silent.

        Silent: nothing comes for `seconds`, or for `quiet_seconds` after a piece of an answer. Both ends
        run on this loop too, so time is counted in looks at the socket: a machine that stalls costs one.
        """
        reader, writer = await asyncio.open_connection(*self.address)
        answer, looks = b"", 0
        try:
            writer.write(request)
            reading = asyncio.ensure_future(reader.read(65536))
            while looks < (quiet_seconds if answer and quiet_seconds else seconds) / LOOK_SECONDS:
                looks += 1
                await asyncio.wait({reading}, timeout=LOOK_SECONDS)
                if reading.done():
                    if not (piece := reading.result()):
                        break
                    answer, looks = answer + piece, 0
                    reading = asyncio.ensure_future(reader.read(65536))
            reading.cancel()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return answer


@asynccontextmanager
async def staged(
    *,
    authorization: str | None = None,
    read_timeout_seconds: float = 2.0,
    trusted_proxies: tuple[str, ...] = (),
    http: str | type[asyncio.Protocol] = "httptools",
) -> AsyncIterator[Stage]:
    observed: list[Observation] = []
    async with running_upstream() as upstream:
        target = upstream_at(
            upstream.url, authorization=authorization, read_timeout_seconds=read_timeout_seconds
        )
        proxy = proxied(target, trusted_proxies=trusted_proxies, observe=observed.append, http=http)
        async with proxy as (url, _), aiohttp.ClientSession(auto_decompress=False) as client:
            yield Stage(upstream, url, client, observed)


async def until(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Wait for a condition; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
