"""How long a stop takes, whatever is going on: a slow MLflow, idle connections, a sender that stalls."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.restarts import StrictSenders
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within

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


async def stops_within(seconds: float, service: Sidespan) -> None:
    with within(seconds):
        assert await asyncio.to_thread(service.stop) == 0


async def started(service: Sidespan) -> None:
    """It is stopped when a test is run again."""
    if service.process is None:
        await asyncio.to_thread(service.start)


@patient
async def test_a_stop_under_load_does_not_wait_for_a_slow_mlflow(service: Sidespan, fake: FakeMlflow) -> None:
    await started(service)
    fake.delay_seconds = 5.0
    with Senders(
        service.port, headers={"x-mlflow-experiment-id": "1"}, threads=8, pause_seconds=0
    ) as senders:
        await asyncio.sleep(2.0)
        await stops_within(STOP_SECONDS, service)

    fake.delay_seconds = 0.0
    await asyncio.to_thread(service.start)
    await asyncio.to_thread(service.wait_delivered, 60)
    stored = {(f"tr-{trace.hex()}", span.hex()) for trace, span in fake.stored}
    assert senders.acknowledged
    assert senders.acknowledged <= stored


@patient
async def test_a_stop_closes_what_is_idle_and_cuts_what_stalls(service: Sidespan) -> None:
    await started(service)
    with (
        socket.create_connection(("127.0.0.1", service.port)) as idle,
        socket.create_connection(("127.0.0.1", service.port)) as half,
    ):
        half.sendall(HEAD + b"content-length: 100\r\n\r\nx")
        await asyncio.sleep(0.3)
        await stops_within(STOP_SECONDS, service)
        assert half.recv(65536).startswith(b"HTTP/1.1 503")
        assert idle.recv(65536) == b""


@patient
async def test_an_idle_service_stops_at_once(service: Sidespan) -> None:
    await started(service)
    await stops_within(2.0, service)


async def test_what_comes_while_it_stops_is_taken_or_refused_before_it_is_read(service: Sidespan) -> None:
    with StrictSenders(service.port, pauses=(0.02, 0.05)) as senders:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(service.stop)
        sent = set(senders.sent)
    assert sent
    # the port is closed at some moment: refused connections are the only trouble
    assert {trouble.partition("(")[0] for trouble in senders.troubles} <= {"ConnectionRefusedError"}
