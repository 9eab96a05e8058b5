"""A small real upstream with named behaviours; what it saw is kept."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.ports import free_port


@dataclass
class Seen:
    """One request as it arrived: the raw head, and how much body."""

    line: str
    headers: list[tuple[str, str]]
    body_bytes: int = 0
    body_complete: bool = False
    sent_bytes: int = 0
    gone: bool = False

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class Upstream:
    """`behaviour` chooses the answer to the next request; `release` ends what stalls."""

    port: int = field(default_factory=free_port)
    behaviour: str = "echo"
    seen: list[Seen] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    body_megabytes: int = 1
    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        task.add_done_callback(self._open.pop)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            if self.seen:
                self.seen[-1].gone = True
        finally:
            writer.close()

    async def hang_up(self) -> None:
        """End every connection that is still open."""
        self.release.set()
        tasks = list(self._open)
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*tasks)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = [(k.strip().lower(), v.strip()) for k, v in (row.split(":", 1) for row in rest)]
        seen = Seen(line, headers)
        self.seen.append(seen)
        if self.behaviour not in ("answer_early", "never_reads"):
            await self._read_body(reader, seen)
            seen.body_complete = True
        return await getattr(self, f"_{self.behaviour}")(reader, writer, seen)

    async def _read_body(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        if seen.all("transfer-encoding"):
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                await reader.readexactly(size + 2)
                seen.body_bytes += size
            await reader.readuntil(b"\r\n")
            return
        left = int((seen.all("content-length") or ["0"])[0])
        while left:
            piece = await reader.read(min(left, 65536))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            seen.body_bytes += len(piece)

    async def _echo(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        body = f"{seen.line}|{seen.body_bytes}".encode()
        no_body = seen.line.startswith("HEAD")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + (b"" if no_body else body)
        )
        await writer.drain()
        return True

    async def _two_cookies(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nconnection: x-secret\r\n"
            b"x-secret: s\r\nkeep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n"
        )
        return True

    async def _redirect(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        location = f"{self.url}/api/2.0/mlflow/experiments/get?x=1".encode()
        writer.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % location
        )
        return True

    async def _not_modified(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b'HTTP/1.1 304 Not Modified\r\netag: "v1"\r\n\r\n')
        return True

    async def _cut_length(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 400)
        await writer.drain()
        return False

    async def _cut_chunked(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n190\r\n" + b"x" * 400 + b"\r\n")
        await writer.drain()
        return False

    async def _events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            b"b\r\ndata: one\n\n\r\n"
        )
        await writer.drain()
        await self.release.wait()
        writer.write(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")
        return True

    async def _stall(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        seen.gone = await reader.read(1) == b""
        return False

    async def _big(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        size = self.body_megabytes * 2**20
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        piece = b"y" * 2**18
        for _number in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()
            seen.sent_bytes += len(piece)
        return True

    async def _answer_early(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen
    ) -> bool:
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
        await writer.drain()
        return False

    async def _never_reads(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen
    ) -> bool:
        await self.release.wait()
        return False

    async def _cut_head(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-len")
        await writer.drain()
        return False

    async def _bad_chunk(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # else the proxy sees it all at once, and can still say 502
        writer.write(b"zz\r\nabc")
        await writer.drain()
        return False

    async def _stall_in_body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 400)
        await writer.drain()
        return await self._stall(reader, writer, seen)

    async def _range(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(
            b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2-4/10\r\naccept-ranges: bytes\r\n"
            b"content-length: 3\r\n\r\n234"
        )
        return True

    async def _hints(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        return await self._echo(_, writer, seen)

    async def _gzip(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        body = gzip.compress(b"packed" * 100)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        return True

    async def _closes_idle(self, _: object, writer: asyncio.StreamWriter, seen: Seen) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        return False  # says keep-alive and closes all the same


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.handle, "127.0.0.1", upstream.port)
    try:
        yield upstream
    finally:
        server.close()
        await upstream.hang_up()
