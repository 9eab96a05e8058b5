"""Processes that start at once: forks of one that has imported pydantic-ai, or our command line, before.

Each has its own environment, folder and output, as if Python had been started for it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
PYDANTIC_AI = ("pydantic_ai", "pydantic_ai.models.test")
COMMAND_LINE = ("collector.cli.commands",)


def run_forked(
    *arguments: str,
    imported: tuple[str, ...],
    environment: Mapping[str, str],
    folder: Path = ROOT,
    timeout_seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `-c CODE …` or `-m MODULE …` where the modules of `imported` are imported already."""
    forker = _forker(imported)
    with tempfile.TemporaryDirectory() as home:
        stdout, stderr = Path(home) / "stdout", Path(home) / "stderr"
        program = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder),
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        code = _exit_code(forker, json.dumps(program), timeout_seconds)
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())


def sidespan_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `sidespan …` with our environment, but for what would set Sidespan up."""
    return run_forked(
        *("-m", "collector", *arguments), imported=COMMAND_LINE, environment=_clean() | environment
    )


def end_forkers() -> None:
    """At the end of the tests."""
    for process in _running:
        process.communicate(timeout=10)
    _running.clear()


_running: list[subprocess.Popen[str]] = []


@cache
def _forker(imported: tuple[str, ...]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forker", *imported],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=ROOT,
        env=_clean(),
    )
    _running.append(process)
    return process


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SIDESPAN_", "OTEL_"))}


def _exit_code(forker: subprocess.Popen[str], program: str, timeout_seconds: float) -> int:
    assert forker.stdin is not None
    assert forker.stdout is not None
    print(program, file=forker.stdin, flush=True)
    child = int(_line(forker.stdout))
    if not select.select([forker.stdout], [], [], timeout_seconds)[0]:
        os.kill(child, signal.SIGKILL)
        _line(forker.stdout)
        raise subprocess.TimeoutExpired(program, timeout_seconds)
    return int(_line(forker.stdout))


def _line(stdout: IO[str]) -> str:
    line = stdout.readline()
    assert line, "the forking process has ended"
    return line
