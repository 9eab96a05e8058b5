"""Requests at a steady rate, each begun at its time whether or not others wait, by as little work as can be.

A client that shares its cores with what it measures must cost little: connections are kept open, requests are
made before, and an answer is looked at no further than its status.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.load import HEADERS

_LENGTH = b"content-length:"


@dataclass
class SteadyLoad:
    """Posts `bodies` in turn to `port`; `taken_ms` from the time that a request was due to its answer."""

    port: int
    bodies: Sequence[bytes]
    connections: int
    taken_ms: list[float] = field(default_factory=list)

    async def run(self, *, per_second: float, seconds: float) -> tuple[float, float]:
        """p50 and p99 in milliseconds."""
        requests = [_request(body) for body in self.bodies]
        idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        for _ in range(self.connections):
            idle.put_nowait(await asyncio.open_connection("127.0.0.1", self.port))
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                due = began + number / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._post(idle, requests[number % len(requests)], due))
        while not idle.empty():
            idle.get_nowait()[1].close()
        quantiles = statistics.quantiles(self.taken_ms, n=100)
        return quantiles[49], quantiles[98]

    async def _post(
        self,
        idle: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]",
        request: bytes,
        due: float,
    ) -> None:
        reader, writer = await idle.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH)]
        await reader.readexactly(int(lengths[0][len(_LENGTH) :]))
        self.taken_ms.append((time.monotonic() - due) * 1000)
        idle.put_nowait((reader, writer))


def _request(body: bytes) -> bytes:
    headers = {"host": "127.0.0.1", "content-length": str(len(body)), **HEADERS}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/traces HTTP/1.1\r\n{lines}\r\n".encode() + body
