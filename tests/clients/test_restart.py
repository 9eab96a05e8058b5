"""OpenTelemetry's own exporters in Go and Rust lose nothing over ten restarts, though they repeat little."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.restarts import activate, built, listener_at, stop_and_start, take_over
from tests.support.sidespan import Sidespan

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
RESTARTS = 10
SPANS_A_SECOND = 100
# restarts that take no time must not end the sending too early to show anything
ENOUGH_SPANS = 1000


def _need(tool: str, command: list[str], at_least: tuple[int, int]) -> None:
    """Skip where the tool is not there, or too old to read what OpenTelemetry's packages need."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < at_least:
        pytest.skip(f"{said.strip()} is too old: {tool} {at_least[0]}.{at_least[1]} is needed")


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program."""
    _need("go", ["go", "env", "GOVERSION"], (1, 21))  # which fetches the version that go.mod names
    program = tmp_path_factory.mktemp("go") / "sender"
    built(["go", "build", "-o", str(program), "."], HERE / "go", dict(os.environ))
    return program


@pytest.fixture(scope="module")
def rust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Rust program; what cargo has compiled before stays beside the tree."""
    _need("cargo", ["cargo", "--version"], (1, 85))
    target = os.environ.get("CARGO_TARGET_DIR") or str(tmp_path_factory.mktemp("rust"))
    built(["cargo", "build", "--quiet"], HERE / "rust", {**os.environ, "CARGO_TARGET_DIR": target})
    return Path(target) / "debug" / "sender"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[Sidespan, FakeMlflow]]:
    fake = FakeMlflow()
    async with running(fake, free_port()) as url:
        service = Sidespan(data_dir=tmp_path / "data", mlflow_url=url)
        yield service, fake
        await asyncio.to_thread(service.kill)


@pytest.mark.parametrize("restart", [stop_and_start, take_over], ids=["supervisors_socket", "takeover"])
@pytest.mark.parametrize(
    "language", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in ("go", "rust")]
)
async def test_ten_restarts_lose_no_span(
    request: pytest.FixtureRequest,
    service: tuple[Sidespan, FakeMlflow],
    language: str,
    restart: Callable[[Sidespan], float],
) -> None:
    program = request.getfixturevalue(language)
    sidespan, fake = service

    async def restarts() -> None:
        enough = asyncio.create_task(asyncio.sleep(1.5 * ENOUGH_SPANS / SPANS_A_SECOND))
        for _ in range(RESTARTS):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(restart, sidespan)
        await enough

    with listener_at(sidespan.port) as listener:
        if restart is stop_and_start:
            activate(sidespan, listener)
        else:
            listener.close()
        await asyncio.to_thread(sidespan.start)
        made = await _sent(program, sidespan, restarts(), OTEL_EXPORTER_OTLP_ENDPOINT=sidespan.url)
    assert made["made"] > ENOUGH_SPANS
    assert (len(fake.stored), made["failures"]) == (made["made"], 0), made


@pytest.mark.xdist_group("go")
async def test_every_span_of_gos_grpc_exporter_is_stored(
    go: Path, service: tuple[Sidespan, FakeMlflow]
) -> None:
    sidespan, fake = service
    sidespan.grpc_port = free_port()
    await asyncio.to_thread(sidespan.start)
    made = await _sent(
        go,
        sidespan,
        asyncio.sleep(3),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{sidespan.grpc_port}",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
    )
    assert made["made"] > 100
    assert (len(fake.stored), made["failures"]) == (made["made"], 0), made


async def _sent(
    program: Path, sidespan: Sidespan, meanwhile: Awaitable[None], **environment: str
) -> dict[str, Any]:
    """What the sender says it has made and failed to send, once `meanwhile` is over and all is delivered."""
    sender = subprocess.Popen(
        [str(program), str(SPANS_A_SECOND)],
        env={**os.environ, **environment, "OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=1"},
        stdin=subprocess.PIPE,  # its end is the end of the sender
        stdout=subprocess.PIPE,
    )
    try:
        await meanwhile
        assert sender.poll() is None, "it has sent all the time"
        said, _ = await asyncio.to_thread(sender.communicate)
    finally:
        sender.kill()
    await asyncio.to_thread(sidespan.wait_delivered, 60)
    made: dict[str, Any] = json.loads(said)
    return made
