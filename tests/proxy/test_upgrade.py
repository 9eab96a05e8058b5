"""An `Upgrade` on a request for MLflow is ignored: the body goes up whole, the upgrade doesn't.

Sources: RFC 9110, sections 7.6.1 and 7.8; RFC 9112, section 8.
"""

import re

import pytest

from collector.service.protocol import bounded_protocol
from collector.settings import ServerSettings
from tests.proxy.stage import staged

SEARCH = b"POST /api/2.0/mlflow/runs/search HTTP/1.1\r\nhost: localhost\r\n"
UPLOAD = b"PUT /api/2.0/mlflow-artifacts/artifacts/1/a HTTP/1.1\r\nhost: localhost\r\n"
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
OFFERS = {
    "h2c": H2C,
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    "h2c_with_unlisted_settings": b"connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
}
BODY = b'{"experiment_ids": ["1"]}' + b" " * 300_000
FRAMED = {
    "with_a_length": b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "in_chunks": b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
}
OURS = bounded_protocol(ServerSettings())


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("framed", FRAMED.values(), ids=FRAMED)
@pytest.mark.parametrize("line", [SEARCH, UPLOAD], ids=["inspected", "streamed"])
async def test_the_body_goes_up_whole(line: bytes, framed: bytes, offer: bytes) -> None:
    async with staged(http=OURS) as stage:
        request = line + b"content-type: application/json\r\n" + offer + framed
        answer = await stage.talk(request * 2, quiet_seconds=0.3)
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200"]
        assert [seen.body_bytes for seen in stage.upstream.seen] == [len(BODY)] * 2
        for seen in stage.upstream.seen:
            assert seen.all("upgrade") == seen.all("http2-settings") == seen.all("connection") == []


async def test_a_hidden_request_in_the_body_stays_a_body() -> None:
    hidden = b"GET /version?smuggled=1 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with staged(http=OURS) as stage:
        length = b"content-length: %d\r\n\r\n" % len(hidden)
        await stage.talk(UPLOAD + H2C + length + hidden, quiet_seconds=0.3)
        assert [seen.body_bytes for seen in stage.upstream.seen] == [len(hidden)]


@pytest.mark.parametrize("line", [SEARCH, UPLOAD], ids=["inspected", "streamed"])
async def test_a_body_of_another_length_than_declared_is_400(line: bytes) -> None:
    """uvicorn's own protocol takes what follows an Upgrade for another protocol."""
    async with staged() as stage:
        head = line + b"content-type: application/json\r\n" + H2C + b"content-length: 2\r\n\r\n"
        answer = await stage.talk(head + b"{}", quiet_seconds=0.3)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"Content-Length says 2" in answer
        assert not any(seen.body_complete for seen in stage.upstream.seen)


async def test_connect_reaches_nobody() -> None:
    async with staged(http=OURS) as stage:
        tunnel = b"CONNECT /version HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answer = await stage.talk(
            tunnel + b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n", quiet_seconds=0.3
        )
        assert answer.startswith(b"HTTP/1.1 405")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert stage.upstream.seen == []
