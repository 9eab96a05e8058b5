"""How long a stop takes, whatever is going on: a slow MLflow, idle connections, a sender that stalls."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.restarts import StrictSenders
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

STOP_SECONDS = 3.0
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"


@pytest.fixture
def fake() -> FakeMlflow:
    return FakeMlflow()


@pytest.fixture
async def service(fake: FakeMlflow, tmp_path: Path) -> AsyncIterator[Sidespan]:
    async with running(fake, free_port()) as url:
        service = Sidespan(data_dir=tmp_path / "data", mlflow_url=url)
        await asyncio.to_thread(service.start)
        yield service
        await asyncio.to_thread(service.kill)


async def stop_seconds(service: Sidespan) -> float:
    started = time.monotonic()
    assert await asyncio.to_thread(service.stop) == 0
    return time.monotonic() - started


async def test_a_stop_under_load_does_not_wait_for_a_slow_mlflow(service: Sidespan, fake: FakeMlflow) -> None:
    fake.delay_seconds = 5.0
    with Senders(
        service.port, headers={"x-mlflow-experiment-id": "1"}, threads=8, pause_seconds=0
    ) as senders:
        await asyncio.sleep(2.0)
        seconds = await stop_seconds(service)
    assert seconds < STOP_SECONDS

    fake.delay_seconds = 0.0
    await asyncio.to_thread(service.start)
    await asyncio.to_thread(service.wait_delivered, 60)
    stored = {(f"tr-{trace.hex()}", span.hex()) for trace, span in fake.stored}
    assert senders.acknowledged
    assert senders.acknowledged <= stored


async def test_a_stop_closes_what_is_idle_and_cuts_what_stalls(service: Sidespan) -> None:
    with (
        socket.create_connection(("127.0.0.1", service.port)) as idle,
        socket.create_connection(("127.0.0.1", service.port)) as half,
    ):
        half.sendall(HEAD + b"content-length: 100\r\n\r\nx")
        await asyncio.sleep(0.3)
        assert await stop_seconds(service) < STOP_SECONDS
        assert half.recv(65536).startswith(b"HTTP/1.1 503")
        assert idle.recv(65536) == b""


async def test_an_idle_service_stops_at_once(service: Sidespan) -> None:
    assert await stop_seconds(service) < 2.0


async def test_what_comes_while_it_stops_is_taken_or_refused_before_it_is_read(service: Sidespan) -> None:
    with StrictSenders(service.port, pauses=(0.02, 0.05)) as senders:
        await asyncio.sleep(0.5)
        await stop_seconds(service)
        sent = set(senders.sent)
    assert sent
    # the port is closed at some moment: refused connections are the only trouble
    assert {trouble.partition("(")[0] for trouble in senders.troubles} <= {"ConnectionRefusedError"}
