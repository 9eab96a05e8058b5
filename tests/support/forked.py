"""Processes that start at once: forks of one that has imported pydantic-ai, or Sidespan, before.

Each has its own environment, folder and output, as if Python had been started for it.
"""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYDANTIC_AI = ("pydantic_ai", "pydantic_ai.models.test")
COMMAND_LINE = ("collector.cli.commands", "collector.service.server", "uvloop")
# what Sidespan sets before it imports pydantic (collector/cli/plugins.py), and what its children find then
WITHOUT_PLUGINS = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}


class Forked:
    """A program that was started, with what `subprocess.Popen` has to wait for it and to end it."""

    def __init__(self, forker: "_Forker", number: int, pid: int) -> None:
        self._forker, self._number, self.pid = forker, number, pid
        self.returncode: int | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self.returncode = forker.exit_code(number)
        else:
            weakref.finalize(self, os.close, self._descriptor)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = self._forker.exit_code(self._number)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Forker:
    """The process that forks (forker.py), from our side."""

    def __init__(self, imported: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forker", *imported],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=_clean() | (WITHOUT_PLUGINS if imported == COMMAND_LINE else {}),
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._process_ids: dict[int, int] = {}
        self._exit_codes: dict[int, int] = {}

    def start(self, program: Mapping[str, object]) -> Forked:
        assert self._process.stdin is not None
        with self._lock:
            number = next(self._numbers)
            print(json.dumps(program), file=self._process.stdin, flush=True)
            while number not in self._process_ids:
                self._read()
        return Forked(self, number, self._process_ids.pop(number))

    def exit_code(self, number: int) -> int:
        """Of a program that has ended."""
        with self._lock:
            while number not in self._exit_codes:
                self._read()
            return self._exit_codes[number]

    def end(self) -> None:
        self._process.communicate(timeout=10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the forking process has ended"
        number, process_id, *exit_code = json.loads(line)
        if exit_code:
            [self._exit_codes[number]] = exit_code
        else:
            self._process_ids[number] = process_id


def start_forked(
    *arguments: str,
    imported: tuple[str, ...],
    environment: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    folder: Path = ROOT,
) -> Forked:
    """Start `-c CODE …`, `-m MODULE …` or `SCRIPT …` where the modules of `imported` are imported already.

    What it prints is added to the files.
    """
    program = {
        "arguments": arguments,
        "environment": dict(environment),
        "folder": str(folder),
        "stdout": str(stdout),
        "stderr": str(stderr),
    }
    return _forker(imported).start(program)


def run_forked(
    *arguments: str,
    imported: tuple[str, ...],
    environment: Mapping[str, str],
    folder: Path = ROOT,
    timeout_seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Likewise, and wait for its end."""
    with tempfile.TemporaryDirectory() as home:
        stdout, stderr = Path(home) / "stdout", Path(home) / "stderr"
        program = start_forked(
            *arguments,
            imported=imported,
            environment=environment,
            folder=folder,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            code = program.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())


def sidespan_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `sidespan …` with our environment, but for what would set Sidespan up."""
    return run_forked(
        "-m", "collector", *arguments, imported=COMMAND_LINE, environment=_clean() | environment
    )


def end_forkers() -> None:
    """At the end of the tests."""
    for forker in _running:
        forker.end()
    _running.clear()


_running: list[_Forker] = []


@cache
def _forker(imported: tuple[str, ...]) -> _Forker:
    _running.append(forker := _Forker(imported))
    return forker


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SIDESPAN_", "OTEL_"))}
