"""Restarts that no client notices: with a supervisor's socket, and by a new process that takes over."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.restarts import (
    StrictSenders,
    activate,
    begin_takeover,
    listener_at,
    stop_and_start,
    take_over,
)
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

ROUNDS = 3


@pytest.fixture
def fake() -> FakeMlflow:
    return FakeMlflow()


@pytest.fixture
async def service(fake: FakeMlflow, tmp_path: Path) -> AsyncIterator[Sidespan]:
    """Not started yet."""
    async with running(fake, free_port()) as url:
        service = Sidespan(data_dir=tmp_path / "data", mlflow_url=url, index=False)
        yield service
        await asyncio.to_thread(service.kill)


@pytest.mark.parametrize("restart", [stop_and_start, take_over], ids=["supervisors_socket", "takeover"])
async def test_a_restart_refuses_and_resets_no_connection(
    service: Sidespan, fake: FakeMlflow, restart: Callable[[Sidespan], float]
) -> None:
    service.index = True
    with listener_at(service.port) as listener:
        if restart is stop_and_start:
            activate(service, listener)
        else:
            listener.close()
        await asyncio.to_thread(service.start)
        with StrictSenders(service.port) as senders:
            for _ in range(ROUNDS):
                await asyncio.sleep(0.7)
                await asyncio.to_thread(restart, service)
            await asyncio.sleep(0.3)
            while len(senders.sent) <= 100:
                await asyncio.sleep(0.05)
    assert senders.troubles == []
    await asyncio.to_thread(service.wait_delivered, 60)
    assert set(fake.stored) == senders.sent


class TestSupervisorsSocket:
    """systemd's LISTEN_FDS."""

    async def test_it_is_used_in_place_of_host_and_port(self, service: Sidespan) -> None:
        elsewhere = free_port()
        with listener_at(elsewhere) as listener:
            activate(service, listener)
            await asyncio.to_thread(service.start, wait=False)
            url = f"http://127.0.0.1:{elsewhere}/-/healthy"
            assert (await asyncio.to_thread(urllib.request.urlopen, url, timeout=120)).status == 200
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", service.port)).close()
        assert url.removesuffix("/-/healthy") in service.log.read_text()

    async def test_variables_for_another_process_are_not_ours(self, service: Sidespan) -> None:
        service.environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
        await asyncio.to_thread(service.start)
        assert service.health()["ready"]

    async def test_one_that_lets_others_in_needs_auth_written_out(self, service: Sidespan) -> None:
        with listener_at(free_port(), "0.0.0.0") as listener:
            activate(service, listener)
            assert await _refuses_to_start(service, "lets other machines in", 'auth.mode = "clients"')

    async def test_what_is_no_listening_socket_stops_the_start(self, service: Sidespan) -> None:
        with socket.socket() as other:
            activate(service, other)
            assert await _refuses_to_start(service, "sidespan.socket", "no listening TCP socket")


async def _refuses_to_start(service: Sidespan, *said: str) -> bool:
    await asyncio.to_thread(service.start, wait=False)
    assert service.process is not None
    assert await asyncio.to_thread(service.process.wait, 60) == 2
    text = service.log.read_text()
    assert "Traceback" not in text
    return all(each in text for each in said)


class TestTakeover:
    async def test_with_nobody_there_it_just_starts(self, service: Sidespan) -> None:
        service.arguments = ("--takeover",)
        await asyncio.to_thread(service.start)
        assert service.health()["ready"]

    async def test_it_can_be_a_setting(self, service: Sidespan) -> None:
        service.environment = {"SIDESPAN_SERVER__TAKEOVER": "true"}
        await asyncio.to_thread(service.start)
        old = service.process
        await asyncio.to_thread(service.start, wait=False)
        assert old is not None
        assert await asyncio.to_thread(old.wait, 60) == 0

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"SIDESPAN_SERVER__HOST": "127.0.0.2"}, "a takeover keeps the address"),
            ({"SIDESPAN_SERVER__TLS_CERTIFICATE_FILE": "/nowhere.pem"}, "server.tls_certificate_file"),
            ({"SIDESPAN_SERVER__PROT": "1"}, "did you mean server.port"),
            ({"SIDESPAN_MLFLOW__CA_FILE": "/nowhere.pem"}, "mlflow.ca_file"),
            ({"SIDESPAN_AUTH__MODE": "clients", "SIDESPAN_AUTH__TOKENS_FILE": __file__}, "test_restart.py"),
        ],
        ids=["other_address", "bad_certificate", "bad_setting", "bad_ca_file", "bad_tokens"],
    )
    async def test_settings_that_can_not_be_right_leave_the_old_one_serving(
        self, service: Sidespan, changed: dict[str, str], said: str
    ) -> None:
        await asyncio.to_thread(service.start)
        with StrictSenders(service.port, pauses=(0.02, 0.3)) as senders:
            service.environment = changed
            old = begin_takeover(service)
            new = service.process
            assert new is not None
            assert await asyncio.to_thread(new.wait, 60) == 2
            await asyncio.sleep(0.7)
        assert senders.troubles == []
        assert said in service.log.read_text()
        await _still_serves(service, old)

    async def test_one_that_dies_on_the_way_leaves_the_old_one_serving(
        self, service: Sidespan, fake: FakeMlflow
    ) -> None:
        await asyncio.to_thread(service.start)
        with StrictSenders(service.port, pauses=(0.02, 0.3)) as senders:
            fake.delay_seconds = 2.0  # the old one has something to wait for
            await asyncio.sleep(0.5)
            old = begin_takeover(service)
            new = service.process
            assert new is not None
            await _said(service, "taking over")
            new.kill()
            await asyncio.to_thread(new.wait)
            await _said(service, "this one goes on")
            fake.delay_seconds = 0.0
            await asyncio.sleep(1.0)
        assert senders.troubles == []
        await _still_serves(service, old)
        await asyncio.to_thread(service.wait_delivered, 60)
        assert set(fake.stored) == senders.sent
        # and it can be taken over from once more
        assert await asyncio.to_thread(take_over, service) < 10

    async def test_one_that_hangs_is_named(self, service: Sidespan) -> None:
        await asyncio.to_thread(service.start)
        assert service.process is not None
        service.process.send_signal(signal.SIGSTOP)
        old = begin_takeover(service)
        new = service.process
        try:
            assert await asyncio.to_thread(new.wait, 60) == 2
        finally:
            old.send_signal(signal.SIGCONT)
        assert f"process {old.pid} uses data_dir" in service.log.read_text()
        await _still_serves(service, old)

    async def test_one_that_does_not_go_in_time_is_named_and_goes_on(self, service: Sidespan) -> None:
        service.environment = {"SIDESPAN_SERVER__SHUTDOWN_SECONDS": "5"}
        await asyncio.to_thread(service.start)
        service.environment = {"SIDESPAN_SERVER__TAKEOVER_SECONDS": "0.5"}
        with socket.create_connection(("127.0.0.1", service.port)) as half:
            half.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx")
            old = begin_takeover(service)
            new = service.process
            assert new is not None
            assert await asyncio.to_thread(new.wait, 60) == 2
            assert f"process {old.pid}, from which to take over, has not gone" in service.log.read_text()
            await _said(service, "this one goes on")
        await _still_serves(service, old)

    async def test_one_that_is_too_old_to_be_asked_is_named(self, service: Sidespan) -> None:
        service.data_dir.mkdir()
        with (service.data_dir / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            service.arguments = ("--takeover",)
            assert await _refuses_to_start(service, f"process {os.getpid()} uses data_dir", "stop it")

    async def test_a_second_one_is_told_to_try_again(self, service: Sidespan) -> None:
        await asyncio.to_thread(service.start)
        old = begin_takeover(service)
        first = service.process
        second = begin_takeover(service) and service.process
        assert first is not None
        assert second is not None
        ended = await asyncio.to_thread(_first_to_fail, (first, second))
        assert await asyncio.to_thread(old.wait, 60) == 0
        service.process = first if ended is second else second
        await asyncio.to_thread(service.wait)
        assert service.process.poll() is None

    async def test_a_long_path_of_the_data_folder_is_fine(self, service: Sidespan) -> None:
        service.data_dir = service.data_dir.parent / ("long" * 30) / "data"
        service.data_dir.parent.mkdir()
        await asyncio.to_thread(service.start)
        assert await asyncio.to_thread(take_over, service) < 10

    async def test_other_users_are_kept_out(self, service: Sidespan) -> None:
        await asyncio.to_thread(service.start)
        assert (service.data_dir / "takeover.sock").stat().st_mode & 0o777 == 0o600


def _first_to_fail(processes: tuple[subprocess.Popen[bytes], ...]) -> subprocess.Popen[bytes] | None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in processes:
            if each.poll() is not None:
                assert each.returncode in (0, 2)
                return each
        time.sleep(0.02)
    return None


async def _said(service: Sidespan, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in service.log.read_text():
        assert time.monotonic() < deadline, service.log.read_text()[-2000:]
        await asyncio.sleep(0.01)


async def _still_serves(service: Sidespan, old: subprocess.Popen[bytes]) -> None:
    service.process, service.environment = old, {}
    await asyncio.to_thread(service.wait)
    assert service.health()["ready"]
    assert (service.data_dir / "lock").read_text().strip() == str(old.pid)
