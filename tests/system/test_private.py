"""A whole service, started by somebody whose umask closes nothing."""

import os
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

OPEN_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")


def open_to_others(folder: Path) -> dict[str, str]:
    paths = [folder, *folder.rglob("*")]
    modes = {str(path.relative_to(folder.parent)): stat.S_IMODE(path.lstat().st_mode) for path in paths}
    return {name: f"{mode:04o}" for name, mode in modes.items() if mode & 0o077}


def test_nothing_in_the_data_folder_is_open_to_others(sidespan: Sidespan, experiment_id: str) -> None:
    sidespan.command = OPEN_UMASK
    sidespan.data_dir.mkdir(mode=0o755)
    (sidespan.data_dir / "tokens.json").write_text('{"tokens": []}')
    (sidespan.data_dir / "logs").mkdir()
    (sidespan.data_dir / "logs" / "access.jsonl.1").touch(mode=0o644)
    sidespan.start()
    request = urllib.request.Request(
        f"{sidespan.url}/v1/traces",
        data=export(spans=3).SerializeToString(),
        headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment_id},
    )
    urllib.request.urlopen(request, timeout=60).close()
    urllib.request.urlopen(f"{sidespan.url}/version", timeout=60).close()
    sidespan.wait_delivered(120)
    sidespan.wait_index()
    there = {str(path.relative_to(sidespan.data_dir)) for path in sidespan.data_dir.rglob("*")}
    assert {"journal.sqlite3-shm", "index/index.duckdb", "index/index.sock", "logs/access.jsonl"} <= there
    assert open_to_others(sidespan.data_dir) == {}
    sidespan.stop()
    assert open_to_others(sidespan.data_dir) == {}


@pytest.mark.slow
def test_the_embedded_mlflow_keeps_its_store_to_itself(tmp_path: Path) -> None:
    port, data_dir = free_port(), tmp_path / "data"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIDESPAN_")}
    clean["SIDESPAN_RECEIVER__GRPC_PORT"] = "0"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*OPEN_UMASK, sys.executable, "-m", "collector", "up"),
                *("--port", str(port), "--data-dir", str(data_dir)),
            ],
            env=clean,
            stdout=log,
            stderr=log,
        )
    service = Sidespan(data_dir=data_dir, mlflow_url="", port=port, process=process)
    try:
        service.wait()
        deadline = time.monotonic() + 60
        while not service.health()["parts"]["mlflow"]["ok"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert (data_dir / "mlflow" / "mlflow.db").exists()
        assert open_to_others(data_dir) == {}
    finally:
        service.stop()
