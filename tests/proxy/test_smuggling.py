"""Bytes that two servers could read differently: they end at our socket, nothing of them reaches MLflow.

Source: https://www.rfc-editor.org/rfc/rfc9112, sections 2.2, 3, 5.1, 5.2, 6.1, 6.3 and 7.1
"""

import pytest

from tests.proxy.stage import staged, until

HOST = b"host: localhost\r\n"
SECRET = b"GET /version?smuggled=1 HTTP/1.1\r\nhost: localhost\r\n\r\n"
SEARCH = b"POST /api/2.0/mlflow/runs/search HTTP/1.1\r\n"

# a second request behind them, for a reader that finds the end of the first one too early
REFUSED_WITH_THE_CONNECTION = {
    "length_and_chunked": SEARCH + HOST + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked_and_length": SEARCH + HOST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two_different_lengths": SEARCH + HOST + b"content-length: 0\r\ncontent-length: 60\r\n\r\n",
    "list_of_lengths": SEARCH + HOST + b"content-length: 0, 60\r\n\r\n",
    "signed_length": SEARCH + HOST + b"content-length: +2\r\n\r\nab",
    "hexadecimal_length": SEARCH + HOST + b"content-length: 0x2\r\n\r\nab",
    "negative_length": SEARCH + HOST + b"content-length: -1\r\n\r\n",
    "unknown_coding": SEARCH + HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked_not_last": SEARCH + HOST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space_before_colon": SEARCH + HOST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded_coding": SEARCH + HOST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "folded_name": SEARCH + HOST + b"x-a: 1\r\n\tcontent-length: 60\r\n\r\n",
    "bare_line_feeds": b"GET / HTTP/1.1\nhost: localhost\n\n",
    "bare_line_feed_in_value": SEARCH + HOST + b"x-a: b\ncontent-length: 60\r\n\r\n",
    "bare_return_in_value": SEARCH + HOST + b"x-a: b\rcontent-length: 60\r\n\r\n",
    "nul_in_value": SEARCH + HOST + b"x-a: b\x00c\r\ncontent-length: 0\r\n\r\n",
    "nul_in_name": SEARCH + HOST + b"x\x00a: b\r\ncontent-length: 0\r\n\r\n",
    "tab_in_target": b"GET /ver\tsion HTTP/1.1\r\n" + HOST + b"\r\n",
    "http2_preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
REFUSED = {
    "no_version": b"GET /\r\n" + HOST + b"\r\n",
    "unknown_version": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    "foreign_absolute_form": b"GET http://evil.example/version HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "authority_form": b"GET localhost:5000 HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk_form": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "no_host": b"GET /version HTTP/1.1\r\n\r\n",
    "foreign_host_first": b"GET /version HTTP/1.1\r\nhost: evil.example\r\n" + HOST + b"\r\n",
    "foreign_host_second": b"GET /version HTTP/1.1\r\n" + HOST + b"host: evil.example\r\n\r\n",
}


CASES = {name: bad + SECRET for name, bad in REFUSED_WITH_THE_CONNECTION.items()} | REFUSED


@pytest.mark.parametrize("request_bytes", CASES.values(), ids=[f"refuses_{name}" for name in CASES])
async def test_nothing_of_an_ambiguous_request_reaches_mlflow(request_bytes: bytes) -> None:
    async with staged() as stage:
        answer = await stage.talk(request_bytes, quiet_seconds=0.3)
        assert [seen.line for seen in stage.upstream.seen] == []
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 405", b"")


BROKEN_BODIES = {
    "bad_chunk_size": b"5\r\nhello\r\nzz\r\n" + SECRET,
    "chunk_longer_than_said": b"5\r\nhello!!\r\n0\r\n\r\n" + SECRET,
    "huge_chunk_size": b"fffffffffffffffff\r\n" + SECRET,
}


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_with_broken_chunks_is_never_complete_at_mlflow(body: bytes) -> None:
    async with staged() as stage:
        await stage.talk(SEARCH + HOST + b"transfer-encoding: chunked\r\n\r\n" + body, quiet_seconds=0.3)
        await until(lambda: all(seen.gone for seen in stage.upstream.seen))
        assert not any(seen.body_complete or "smuggled" in seen.line for seen in stage.upstream.seen)


async def test_pipelined_requests_are_decided_one_by_one() -> None:
    denied = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
    allowed = b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n"
    async with staged() as stage:
        answer = await stage.talk(allowed + denied + allowed, quiet_seconds=0.3)
        assert [answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 403")] == [2, 1]
        assert [seen.line for seen in stage.upstream.seen] == ["GET /version HTTP/1.1"] * 2


async def test_an_upgrade_is_not_passed_on_and_opens_no_tunnel() -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n\r\n"
    async with staged() as stage:
        answer = await stage.talk(b"GET /version HTTP/1.1\r\n" + HOST + upgrade, quiet_seconds=0.3)
        assert not answer.startswith(b"HTTP/1.1 101")
        for seen in stage.upstream.seen:
            assert seen.all("upgrade") == seen.all("http2-settings") == []


async def test_the_clients_framing_is_not_what_goes_up() -> None:
    body = b"transfer-encoding: chunked\r\ntrailer: x-late\r\nte: trailers\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"
    async with staged() as stage:
        answer = await stage.talk(SEARCH + HOST + body, quiet_seconds=0.3)
        assert answer.startswith(b"HTTP/1.1 200")
        (seen,) = stage.upstream.seen
        assert seen.body_bytes == 5
        assert seen.all("trailer") == seen.all("te") == []
