"""The MLflow of `sidespan up`: it belongs to one process at a time."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.journal.sqlite.lock import only_process
from collector.model.errors import Misconfigured
from collector.service.embedded import embedded_mlflow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Any process that names the folder, as the MLflow server does, and is noted there."""
    home = tmp_path / "mlflow"
    home.mkdir(mode=0o700)
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    child.stdout.readline()  # it runs: its command line can be read
    (home / "pid").write_text(str(child.pid))
    yield child
    child.kill()
    child.communicate()


async def test_a_second_process_on_a_folder_leaves_the_first_ones_mlflow_alone(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    with only_process(tmp_path / "mlflow"), pytest.raises(Misconfigured, match="is in use by process"):
        async with embedded_mlflow(tmp_path):
            pass
    assert server.poll() is None


async def test_the_mlflow_of_a_killed_process_is_ended(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    async with embedded_mlflow(tmp_path):
        assert server.wait(timeout=60) != 0


@pytest.mark.parametrize(
    ("environment", "catalog"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"MLFLOW_MODEL_CATALOG_URI": "file:///prices"}, "file:///prices", id="one_named"),
    ],
)
async def test_it_takes_prices_from_no_other_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], catalog: str
) -> None:
    """MLflow's default is GitHub's, and without a network the first trace of a provider waits for it."""
    monkeypatch.delenv("MLFLOW_MODEL_CATALOG_URI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told, server = tmp_path / "told", tmp_path / "server"
    server.write_text(
        f'#!/bin/sh\necho "${{MLFLOW_MODEL_CATALOG_URI-unset}}" > {told}.new\n'
        f"mv {told}.new {told}\nexec sleep 60\n"
    )
    server.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(server))
    async with embedded_mlflow(tmp_path / "data"), asyncio.timeout(60):
        while not told.exists():
            await asyncio.sleep(0.02)
    assert told.read_text() == f"{catalog}\n"
