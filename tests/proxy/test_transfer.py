"""Bodies under way: what is cut, what is late, who left, how much is held in memory meanwhile."""

import asyncio
import gzip
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.proxy.stage import Stage, staged, until
from tests.proxy.upstream import running_upstream
from tests.support.ports import free_port

READ = "/api/2.0/mlflow/runs/get"
UPLOAD = "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/f"
MIB = 2**20


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.mark.parametrize("behaviour", ["cut_length", "cut_chunked", "bad_chunk", "stall_in_body"])
async def test_a_broken_answer_has_no_end_on_the_wire(stage: Stage, behaviour: str) -> None:
    stage.upstream.behaviour = behaviour
    answer = await stage.talk(f"GET {READ} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert not body.endswith(b"0\r\n\r\n")
    if b"content-length" in head:
        assert len(body) < 1000
    await until(lambda: stage.observed)
    assert stage.observed[-1].status == 502


async def test_an_answer_cut_in_its_head_is_502(stage: Stage) -> None:
    stage.upstream.behaviour = "cut_head"
    async with stage.client.post(stage.url + "/api/2.0/mlflow/runs/search", json={}) as answer:
        assert answer.status == 502
        assert (await answer.json())["error_code"] == "TEMPORARILY_UNAVAILABLE"


async def test_a_write_is_not_sent_twice_when_mlflow_breaks_off(stage: Stage) -> None:
    stage.upstream.behaviour = "cut_head"
    async with stage.client.post(stage.url + "/api/2.0/mlflow/runs/create", json={}) as answer:
        assert answer.status == 502
    assert len(stage.upstream.seen) == 1


async def test_an_upload_that_takes_longer_than_the_read_timeout_is_no_silence(stage: Stage) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(24):
            yield b"x" * 1000
            await asyncio.sleep(0.1)  # 2.4 s in all, the read timeout is 2 s

    async with stage.client.put(stage.url + UPLOAD, data=slowly()) as answer:
        assert answer.status == 200
    assert stage.upstream.seen[-1].body_bytes == 24_000


@pytest.mark.parametrize("framing", ["content-length: 1000", "transfer-encoding: chunked"])
async def test_an_upload_that_is_cut_is_never_complete_at_mlflow(stage: Stage, framing: str) -> None:
    _, writer = await asyncio.open_connection(*stage.address)
    writer.write(
        f"PUT {UPLOAD} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n190\r\n".encode() + b"x" * 100
    )
    await until(lambda: stage.upstream.seen)
    writer.close()
    await until(lambda: stage.upstream.seen[0].gone)
    assert not stage.upstream.seen[0].body_complete
    await until(lambda: stage.observed)
    assert stage.observed[-1].status == 499


async def test_a_client_that_leaves_in_the_middle_of_an_answer_ends_it_at_mlflow(stage: Stage) -> None:
    stage.upstream.behaviour, stage.upstream.body_megabytes = "big", 500
    reader, writer = await asyncio.open_connection(*stage.address)
    writer.write(f"GET {READ} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await reader.readexactly(MIB)
    writer.transport.abort()
    await until(lambda: stage.upstream.seen[0].gone)
    assert stage.upstream.seen[0].sent_bytes < 100 * MIB


async def test_a_client_that_reads_slowly_holds_mlflow_back(stage: Stage) -> None:
    stage.upstream.behaviour, stage.upstream.body_megabytes = "big", 200
    reader, writer = await asyncio.open_connection(*stage.address)
    writer.write(f"GET {READ} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    assert await _level(lambda: stage.upstream.seen[0].sent_bytes) < 50 * MIB
    writer.close()


async def test_an_mlflow_that_takes_no_more_of_an_upload_is_504(
    stage: Stage,
) -> None:
    stage.upstream.behaviour = "never_reads"
    sent = 0

    async def upload() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += 2**18
            yield b"u" * 2**18

    async with stage.client.put(stage.url + UPLOAD, data=upload()) as answer:
        assert answer.status == 504
        assert (await answer.json())["error_code"] == "DEADLINE_EXCEEDED"
    assert sent < 50 * MIB


async def _level(count: Callable[[], int]) -> int:
    """The count once it has stood still for a while."""
    still, last = 0, -1
    while still < 30:
        still = still + 1 if count() == last else 0
        last = count()
        await asyncio.sleep(0.01)
    return last


async def test_a_part_of_a_file_is_asked_for_and_answered_as_such(stage: Stage) -> None:
    stage.upstream.behaviour = "range"
    async with stage.client.get(stage.url + UPLOAD, headers={"range": "bytes=2-4"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"234")
        assert answer.headers["content-range"] == "bytes 2-4/10"
    assert stage.upstream.seen[-1].all("range") == ["bytes=2-4"]


async def test_early_hints_do_not_end_the_exchange(stage: Stage) -> None:
    stage.upstream.behaviour = "hints"
    async with stage.client.get(stage.url + READ) as answer:
        assert (answer.status, await answer.text()) == (200, f"GET {READ} HTTP/1.1|0")


async def test_a_packed_answer_stays_packed(stage: Stage) -> None:
    stage.upstream.behaviour = "gzip"
    async with stage.client.get(stage.url + READ, headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == b"packed" * 100
    assert stage.upstream.seen[-1].all("accept-encoding") == ["gzip"]


async def test_an_allowed_upload_is_asked_for_after_the_decision(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection(*stage.address)
    head = f"PUT {UPLOAD} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(b"abc")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert stage.upstream.seen[-1].body_bytes == 3
    writer.close()


async def test_little_of_a_denied_upload_is_read(stage: Stage) -> None:
    def push() -> int:
        sent = 0
        with socket.create_connection(stage.address, timeout=5) as connection:
            connection.sendall(
                b"POST /ajax-api/3.0/mlflow/assistant/message HTTP/1.1\r\nhost: localhost\r\n"
                b"content-length: 500000000\r\n\r\n"
            )
            try:
                while sent < 500_000_000:
                    sent += connection.send(b"x" * 65536)
            except OSError:
                pass
        return sent

    assert await asyncio.to_thread(push) < 20 * MIB  # what the kernel's buffers hold
    assert stage.upstream.seen == []
    assert stage.observed[-1].decision == "denied"


async def test_a_client_cannot_remove_our_credential_or_its_address_through_connection() -> None:
    async with staged(authorization="Bearer ours") as stage:
        headers = {
            "connection": "authorization, x-forwarded-for, host, x-mlflow-workspace",
            "authorization": "Bearer theirs",
            "x-forwarded-for": "127.0.0.1",
            "x-mlflow-workspace": "w",
        }
        async with stage.client.get(stage.url + READ, headers=headers) as answer:
            assert answer.status == 200
        (seen,) = stage.upstream.seen
        assert seen.all("authorization") == ["Bearer ours"]
        assert seen.all("host") == [f"127.0.0.1:{stage.upstream.port}"]
        assert [value.startswith("127.") for value in seen.all("x-forwarded-for")] == [False]
        assert seen.all("x-mlflow-workspace") == []


ALONE = """
import asyncio, sys
import uvicorn
from proxy import AccessSettings, ProxyOptions, Upstream, open_access, open_proxy
from tests.support.proxied import EVERYBODY

async def main():
    upstream = Upstream(url=sys.argv[1], authorization=None, ssl=True, connect_timeout_seconds=5,
                        read_timeout_seconds=60, max_connections=10)
    settings = ProxyOptions(allowed_hosts=["*"])
    async with (
        open_access(AccessSettings(policy=EVERYBODY), upstream) as access,
        open_proxy(upstream=upstream, settings=settings, access=access, observe=lambda seen: None) as app,
    ):
        await uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[2]), http="httptools", access_log=False,
                                            log_level="error", proxy_headers=False)).serve()

asyncio.run(main())
"""


@asynccontextmanager
async def _alone(upstream_url: str) -> AsyncIterator[tuple[str, int]]:
    """The proxy as a process of its own: its url and its process id."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", ALONE, upstream_url, str(port)])
    try:
        await until(lambda: _listens(port), seconds=60)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _most_memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.slow
async def test_300_mb_down_and_up_do_not_grow_the_process() -> None:
    async with (
        running_upstream() as upstream,
        _alone(upstream.url) as (url, pid),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(url + READ) as answer:
            await answer.read()
        before = _most_memory_bytes(pid)

        async def upload() -> AsyncIterator[bytes]:
            for _ in range(300):
                yield b"u" * MIB

        async with client.put(url + UPLOAD, data=upload()) as answer:
            assert (await answer.text()).endswith(f"|{300 * MIB}")
        upstream.behaviour, upstream.body_megabytes = "big", 300
        size = 0
        async with client.get(url + READ) as answer:
            async for piece in answer.content.iter_any():
                size += len(piece)
        assert size == 300 * MIB
        assert _most_memory_bytes(pid) - before < 60 * MIB
