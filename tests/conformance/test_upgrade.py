"""An `Upgrade` that isn't supported is ignored, and the request is served whole.

Source: RFC 9110, section 7.8; RFC 9112, sections 6.3 and 9.3. Java's own HTTP client offers h2c on each
plain request.
"""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.model.batch import Route
from collector.receivers.bounds import InFlightBounds
from collector.service.app import open_app
from collector.service.protocol import bounded_protocol
from collector.settings import IndexSettings, MlflowSettings, ReceiverSettings, ServerSettings, Settings
from tests.conformance.conftest import receiver_app
from tests.support.otlp import export
from tests.support.serve import serve
from tests.support.sink import Sink

SPANS = export(spans=3).SerializeToString()
LINE = b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


class Port:
    """A receiver behind our own protocol; `talk` sends pieces and returns what is answered."""

    def __init__(self, url: str, sink: Sink) -> None:
        self.sink = sink
        self._host, _, self._port = url.removeprefix("http://").partition(":")

    async def talk(self, *pieces: bytes, answers: int = 1) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, int(self._port))
        answered = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            async with asyncio.timeout(3):
                while answered.count(b"HTTP/1.1 ") < answers and (more := await reader.read(65536)):
                    answered += more
        except (TimeoutError, ConnectionError):
            answered += b"..."
        finally:
            writer.close()
        return answered


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    sink = Sink()
    bounds = InFlightBounds(max_requests=10, max_bytes=2**24)
    async with serve(
        receiver_app(sink, bounds, ReceiverSettings()), http=bounded_protocol(ServerSettings())
    ) as url:
        yield Port(url, sink)


def sized(body: bytes, *headers: bytes) -> tuple[bytes, bytes]:
    """Head and body, with Content-Length."""
    return LINE + b"".join(headers) + b"content-length: %d\r\n\r\n" % len(body), body


def chunked(body: bytes, *headers: bytes) -> tuple[bytes, bytes]:
    """Head and body in two chunks, with a trailer."""
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    head = LINE + b"".join(headers) + b"transfer-encoding: chunked\r\n\r\n"
    return head, chunks + b"0\r\nx-trailer: late\r\n\r\n"


OFFERS = {
    "h2c": H2C,
    "h2c_in_capitals": b"CONNECTION: UPGRADE, HTTP2-SETTINGS\r\nUPGRADE: H2C\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    "several": b"connection: keep-alive, upgrade\r\nupgrade: foo/2, h2c, websocket\r\n",
    "two_lines": b"connection: keep-alive\r\nconnection: upgrade\r\nupgrade: foo/2\r\nupgrade: h2c\r\n",
    "unknown": b"connection: upgrade\r\nupgrade: TLS/1.0\r\n",
    "with_close": b"connection: close, upgrade\r\nupgrade: h2c\r\n",
    "upgrade_alone": b"upgrade: h2c\r\n",
    "connection_alone": b"connection: upgrade\r\n",
}
PIECES = {
    "together": lambda head, body: [head + body],
    "apart": lambda head, body: [head, body],
    "head_in_pieces": lambda head, body: [head[:40], head[40:-1], head[-1:], body[:7], body[7:]],
    "cut_before_the_end_of_the_head": lambda head, body: [head[:-2], head[-2:] + body],
}


@pytest.mark.parametrize("cut", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("framed", [sized, chunked])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_spans_offered_with_an_upgrade_are_stored(port: Port, offer: bytes, framed, cut) -> None:  # type: ignore[no-untyped-def]
    answer = await port.talk(*cut(*framed(SPANS, offer)))
    assert answer.startswith(b"HTTP/1.1 200")
    assert port.sink.span_names == ["root", "child 1", "child 2"]
    assert b"upgrade" not in answer.lower()


async def test_so_are_packed_ones(port: Port) -> None:
    answer = await port.talk(b"".join(sized(gzip.compress(SPANS), H2C, b"content-encoding: gzip\r\n")))
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(port.sink.span_names) == 3


async def test_and_large_ones_that_wait_for_100_continue(port: Port) -> None:
    many = export(spans=2000).SerializeToString()
    head, body = sized(many, H2C, b"expect: 100-continue\r\n")
    answer = await port.talk(head, body, answers=2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    assert len(port.sink.span_names) == 2000


async def test_in_http_1_0_too(port: Port) -> None:
    head, body = sized(SPANS, b"connection: upgrade\r\nupgrade: h2c\r\n")
    answer = await port.talk(head.replace(b"HTTP/1.1", b"HTTP/1.0") + body)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(port.sink.span_names) == 3


@pytest.mark.parametrize("framed", [sized, chunked])
async def test_requests_behind_it_are_served_in_their_order(port: Port, framed) -> None:  # type: ignore[no-untyped-def]
    with_offer = b"".join(framed(SPANS, H2C))
    plain = b"".join(framed(SPANS))
    missing = plain.replace(b"/v1/traces", b"/v1/metrics")
    requests = with_offer + missing + with_offer + plain + with_offer
    answer = await port.talk(requests, answers=5)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200", b"200", b"200"]
    assert len(port.sink.span_names) == 12


async def test_a_connection_goes_on_after_it(port: Port) -> None:
    with_offer, plain = b"".join(sized(SPANS, H2C)), b"".join(chunked(SPANS))
    answer = await port.talk(with_offer, plain, with_offer, plain, answers=4)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert len(port.sink.span_names) == 12


async def test_what_follows_connection_close_is_not_served(port: Port) -> None:
    head, body = sized(SPANS, b"connection: close, upgrade\r\nupgrade: h2c\r\n")
    answer = await port.talk(head + body + head + body, answers=2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(port.sink.span_names) == 3


AMBIGUOUS = {
    "length_and_chunked": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two_lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "chunked_not_last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_an_upgrade_makes_no_ambiguous_body_pass(port: Port, framing: bytes) -> None:
    answer = await port.talk(LINE + H2C + framing)
    assert answer.startswith(b"HTTP/1.1 400")
    assert port.sink.drafts == []


@pytest.mark.parametrize("target", [b"localhost:443", b"/v1/traces", b"http://localhost/v1/traces"])
@pytest.mark.parametrize("offer", [b"", H2C], ids=["plain", "with_an_upgrade"])
async def test_connect_is_refused_with_its_connection(port: Port, target: bytes, offer: bytes) -> None:
    head, body = sized(SPANS)
    request = b"CONNECT " + target + b" HTTP/1.1\r\nhost: localhost\r\n" + offer + b"\r\n"
    answer = await port.talk(request, head + body, answers=2)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 405")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert port.sink.drafts == []


async def test_what_a_trailer_says_is_no_header(port: Port) -> None:
    head, body = chunked(SPANS)
    late = b"x-mlflow-experiment-id: 7\r\n"
    answer = await port.talk(head + body.replace(b"x-trailer: late\r\n", late))
    assert answer.startswith(b"HTTP/1.1 200")
    assert Route.from_lane(port.sink.drafts[0].lane).experiment_id == "0"


class TestAnotherLengthThanContentLength:
    """uvicorn's own protocol takes the body behind an Upgrade for another protocol's bytes."""

    @pytest.mark.parametrize("body", [b"", SPANS[:10]], ids=["in_another_piece", "together"])
    async def test_is_never_answered_with_200(self, body: bytes) -> None:
        sink = Sink()
        app = receiver_app(sink, InFlightBounds(max_requests=10, max_bytes=2**24), ReceiverSettings())
        async with serve(app, http="httptools", ws="none") as url:
            head, _ = sized(SPANS, H2C)
            answer = await Port(url, sink).talk(head + body)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"Content-Length" in answer
        assert sink.drafts == []

    async def test_nor_taken_by_a_path_of_our_own(self, tmp_path: Path) -> None:
        settings = Settings(
            mlflow=MlflowSettings(url="http://127.0.0.1:9"),
            data_dir=tmp_path,
            index=IndexSettings(enabled=False),
            receiver=ReceiverSettings(grpc_port=0),
        )
        async with open_app(settings) as (app, _), serve(app, http="httptools", ws="none") as url:
            head = b"POST /-/dead-letters/retry HTTP/1.1\r\nhost: localhost\r\n" + H2C
            answer = await Port(url, Sink()).talk(head + b"content-length: 13\r\n\r\n" + b'{"all": true}')
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"parameter":"content-length"' in answer
