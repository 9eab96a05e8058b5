"""The proxy over real sockets, in front of an upstream that misbehaves on purpose."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from proxy import Observation
from tests.proxy.stage import staged, until
from tests.proxy.upstream import Upstream, running_upstream
from tests.support.proxied import proxied, upstream_at

RUNS = "/api/2.0/mlflow/runs/get"
UPLOAD = "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/f"


@dataclass
class Stage:
    upstream: Upstream
    url: str
    client: aiohttp.ClientSession
    observed: list[Observation]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    observed: list[Observation] = []
    async with running_upstream() as upstream:
        target = upstream_at(upstream.url, read_timeout_seconds=1.0)
        async with (
            proxied(target, observe=observed.append) as (url, _),
            aiohttp.ClientSession(auto_decompress=False) as client,
        ):
            yield Stage(upstream, url, client, observed)


async def test_what_was_matched_is_byte_for_byte_what_is_sent(stage: Stage) -> None:
    from yarl import URL

    path = "/api/2.0/mlflow-artifacts/artifacts/1/a%20b/%C3%B6.txt?q=a%2Fb&r=c"
    async with stage.client.get(URL(stage.url + path, encoded=True)) as answer:
        text = await answer.text()
    assert text == f"GET {path} HTTP/1.1|0"
    assert stage.upstream.seen[0].all("host") == [f"127.0.0.1:{stage.upstream.port}"]


async def test_two_cookies_stay_two_and_hop_by_hop_headers_stay_here(stage: Stage) -> None:
    stage.upstream.behaviour = "two_cookies"
    async with stage.client.get(stage.url + RUNS) as answer:
        assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
        assert "x-secret" not in answer.headers
        assert "keep-alive" not in answer.headers


async def test_a_redirect_to_mlflows_own_address_comes_back_to_us(stage: Stage) -> None:
    stage.upstream.behaviour = "redirect"
    async with stage.client.get(stage.url + RUNS, allow_redirects=False) as answer:
        assert answer.status == 308
        assert answer.headers["location"] == "/api/2.0/mlflow/experiments/get?x=1"


@pytest.mark.parametrize("behaviour", ["cut_length", "cut_chunked"])
async def test_an_answer_that_breaks_off_never_looks_complete(stage: Stage, behaviour: str) -> None:
    stage.upstream.behaviour = behaviour
    with pytest.raises(aiohttp.ClientPayloadError):
        async with stage.client.get(stage.url + RUNS) as answer:
            assert answer.status == 200
            await answer.read()


async def test_the_first_event_arrives_while_mlflow_still_holds_the_last(stage: Stage) -> None:
    stage.upstream.behaviour = "events"
    async with stage.client.get(stage.url + RUNS) as answer:
        first = await asyncio.wait_for(answer.content.readany(), 60)
        assert first == b"data: one\n\n"
        stage.upstream.release.set()
        assert await answer.read() == b"data: two\n\n"


async def test_a_client_that_leaves_ends_the_request_to_mlflow() -> None:
    async with staged(read_timeout_seconds=300) as stage:
        stage.upstream.behaviour = "stall"
        asking = asyncio.ensure_future(stage.client.get(stage.url + RUNS))
        await until(lambda: stage.upstream.seen)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: stage.upstream.seen[0].gone)


async def test_a_silent_mlflow_is_504_and_an_absent_one_502_in_mlflows_form(stage: Stage) -> None:
    stage.upstream.behaviour = "stall"
    async with stage.client.get(stage.url + RUNS) as answer:
        assert answer.status == 504
        assert (await answer.json())["error_code"] == "DEADLINE_EXCEEDED"
    assert stage.observed[-1].status == 504


async def test_an_absent_mlflow_is_502() -> None:
    proxy = proxied(upstream_at("http://127.0.0.1:9"))
    async with proxy as (url, _), aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.status == 502
        assert "http://127.0.0.1:9" in (await answer.json())["message"]


@pytest.mark.parametrize("behaviour", ["closes_idle"])
async def test_a_connection_that_mlflow_has_closed_is_no_error(stage: Stage, behaviour: str) -> None:
    stage.upstream.behaviour = behaviour
    for _ in range(5):
        async with stage.client.get(stage.url + RUNS) as answer:
            assert answer.status == 200
        await asyncio.sleep(0.02)


async def test_head_and_not_modified_have_no_body(stage: Stage) -> None:
    async with stage.client.head(stage.url + RUNS) as answer:
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0
    stage.upstream.behaviour = "not_modified"
    async with stage.client.get(stage.url + RUNS, headers={"if-none-match": '"v1"'}) as answer:
        assert answer.status == 304
        assert stage.upstream.seen[-1].all("if-none-match") == ['"v1"']


async def test_uploads_keep_their_length_or_their_chunks(stage: Stage) -> None:
    async with stage.client.put(stage.url + UPLOAD, data=b"x" * 1000) as answer:
        assert (await answer.text()).endswith("|1000")
    assert stage.upstream.seen[-1].all("content-length") == ["1000"]

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"y" * 100

    async with stage.client.put(stage.url + UPLOAD, data=chunks()) as answer:
        assert (await answer.text()).endswith("|1000")
    assert stage.upstream.seen[-1].all("transfer-encoding") == ["chunked"]


@pytest.mark.slow
async def test_300_mb_pass_both_ways_in_constant_memory(stage: Stage) -> None:
    import tracemalloc

    piece = b"z" * 2**18

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(1200):
            yield piece

    async with stage.client.get(stage.url + RUNS):
        pass
    tracemalloc.start()
    try:
        async with stage.client.put(stage.url + UPLOAD, data=upload()) as answer:
            assert (await answer.text()).endswith(f"|{1200 * 2**18}")
        stage.upstream.behaviour, stage.upstream.body_megabytes = "big", 300
        size = 0
        async with stage.client.get(stage.url + RUNS) as answer:
            async for chunk in answer.content.iter_any():
                size += len(chunk)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 300 * 2**20
    assert peak_bytes < 30 * 2**20  # client, proxy and upstream are all in this process


async def raw(stage: Stage, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*stage.address)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.close()


async def test_a_denied_upload_is_answered_without_being_asked_for(stage: Stage) -> None:
    head = await raw(
        stage,
        b"POST /ajax-api/3.0/mlflow/assistant/message HTTP/1.1\r\nhost: localhost\r\n"
        b"expect: 100-continue\r\ncontent-length: 10000000000\r\n\r\n",
    )
    assert head.startswith(b"HTTP/1.1 403")
    assert stage.upstream.seen == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n folded: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET //version HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x-many: 1\r\n" * 150 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
    ids=[
        "length_and_chunked",
        "two_lengths",
        "space_before_colon",
        "folded_header",
        "foreign_host",
        "nul_in_path",
        "double_slash",
        "connect",
        "150_headers",
        "70_kb_header",
    ],
)
async def test_a_request_that_could_mean_two_things_never_reaches_mlflow(
    stage: Stage, request_bytes: bytes
) -> None:
    head = await raw(stage, request_bytes)
    status = int(head.split(b" ")[1]) if head else 0
    assert status in (0, 400, 403, 405)
    assert stage.upstream.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("POST", "/ajax-api/3.0/jobs/search"),
        ("POST", "/api/2.0/mlflow/webhooks"),
        ("POST", "/api/2.0/mlflow/users/create"),
        ("GET", "/signup"),
        ("POST", "/api/3.0/mlflow/workspaces"),
        ("POST", "/api/3.0/mlflow/gateway/endpoints/create"),
        ("GET", "/api/3.0/mlflow/gateway/secrets/list"),
        ("POST", "/gateway/openai/v1/chat/completions"),
        ("GET", "/metrics"),
        ("GET", "/no/such/route"),
    ],
)
async def test_this_is_denied_in_mlflows_form(stage: Stage, method: str, path: str) -> None:
    async with stage.client.request(method, stage.url + path) as answer:
        assert answer.status == 403
        document = json.loads(await answer.read())
    assert document["error_code"] == "PERMISSION_DENIED"
    assert document["message"]
    assert stage.upstream.seen == []
    assert stage.observed[-1].decision == "denied"


async def test_a_write_from_a_foreign_page_is_denied(stage: Stage) -> None:
    url = f"{stage.url}/api/2.0/mlflow/experiments/create"
    async with stage.client.post(url, headers={"origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    async with stage.client.post(url, headers={"origin": stage.url}) as answer:
        assert answer.status == 200
    assert stage.upstream.seen[-1].all("origin") == []


async def test_websockets_are_refused(stage: Stage) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await stage.client.ws_connect(stage.url)


def test_the_catalog_is_shipped_with_the_package() -> None:
    import proxy

    assert os.path.exists(Path(proxy.__file__).parent / "mlflow_routes.tsv")


async def test_an_answer_before_the_upload_is_over_reaches_the_client(stage: Stage) -> None:
    stage.upstream.behaviour = "answer_early"
    reader, writer = await asyncio.open_connection(*stage.address)
    writer.write(b"PUT %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50000000\r\n\r\n" % UPLOAD.encode())
    writer.write(b"x" * 100_000)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert head.startswith(b"HTTP/1.1 413")
    writer.close()
