"""`make run`: everything from nothing, one trace through it, and no process left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.support.grpc_calls import CHECK, SERVING
from tests.support.ports import free_port

REPOSITORY = Path(__file__).parents[2]


def _processes_with(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.slow
def test_the_main_job_tells_one_story_and_ctrl_c_stops_every_child(tmp_path: Path) -> None:
    port, grpc_port = free_port(), free_port()
    job = subprocess.Popen(
        [sys.executable, "examples/run.py", "--port", str(port), "--data-dir", str(tmp_path / "data")],
        cwd=REPOSITORY,
        env=os.environ | {"SIDESPAN_RECEIVER__GRPC_PORT": str(grpc_port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert job.stdout is not None
    said = ""
    try:
        for line in job.stdout:
            said += line
            if "Ctrl-C stops everything" in line:
                break
        assert "3 model calls" in said, said
        assert re.search(r"summary trace [0-9a-f]{32}", said)
        assert f"http://127.0.0.1:{grpc_port} (gRPC)" in said
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            assert channel.unary_unary(CHECK)(b"", timeout=60) == SERVING
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert b"MLflow" in page.read()
        # the command that it says to try next
        examined = subprocess.run(
            [sys.executable, "-m", "collector", "doctor", "--url", f"http://127.0.0.1:{port}"],
            env=os.environ | {"SIDESPAN_DATA_DIR": str(tmp_path / "data")},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert re.search(r"^ok +mlflow: http", examined.stdout, re.MULTILINE), examined.stdout
        assert examined.returncode == 0, examined.stdout
        assert _processes_with(str(tmp_path))
        # a terminal's Ctrl-C goes to the whole foreground group
        os.killpg(job.pid, signal.SIGINT)
        assert job.wait(timeout=60) == 0
        said += job.stdout.read()
        assert said.rstrip().endswith("stopping ...")
        # JSON lines, `12:00:00 INFO sidespan: ...`, and gRPC's `I1121 12:00:00.000001 ...`
        assert re.findall(r"^.*(?:\{\"|\d\d:\d\d:\d\d [A-Z]+ |^[IWEF]\d{4} ).*$", said, re.MULTILINE) == []
        deadline = time.monotonic() + 60
        while left := _processes_with(str(tmp_path)):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    finally:
        if job.poll() is None:
            job.send_signal(signal.SIGTERM)
            job.wait(timeout=30)
        job.stdout.close()


def test_a_taken_port_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "examples/run.py", "--port", str(port), "--data-dir", str(tmp_path / "data")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert "choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr
