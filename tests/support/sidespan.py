"""The service as its users run it: a process of its own, started, stopped and killed by its id."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tests.support.forked import COMMAND_LINE, WITHOUT_PLUGINS, Forked, start_forked
from tests.support.ports import free_port

START_SECONDS = 180


@dataclass
class Sidespan:
    """`sidespan serve` in front of `mlflow_url`; stop() and start() keep its port and its journal.

    Where `forks` is set, as for tests, it is a fork of a process that has imported it; else, and for whatever
    needs it, Python is started anew.
    """

    forks: ClassVar[bool] = False

    data_dir: Path
    mlflow_url: str
    port: int = field(default_factory=free_port)
    grpc_port: int | None = 0
    # a process of its own, which takes a second more to start
    index: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    token: str | None = None
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def _grpc(self) -> dict[str, str]:
        """Off unless a test asks for it; None: as it is by default."""
        return {} if self.grpc_port is None else {"SIDESPAN_RECEIVER__GRPC_PORT": str(self.grpc_port)}

    @property
    def _index(self) -> dict[str, str]:
        return {} if self.index else {"SIDESPAN_INDEX__ENABLED": "false"}

    @property
    def log(self) -> Path:
        return self.data_dir.with_suffix(".log")

    def start(self, *, wait: bool = True) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_"))}
        environment = clean | self._grpc | self._index | self.environment
        arguments = ("-m", "collector", "serve", "--mlflow-url", self.mlflow_url, *self._place)
        if self.forks and not self._needs_a_python:
            self.process = start_forked(
                *arguments,
                imported=COMMAND_LINE,
                environment=environment | WITHOUT_PLUGINS,
                stdout=self.log,
                stderr=self.log,
            )
        else:
            self.process = self._start_anew(arguments, environment)
        if wait:
            self.wait()

    @property
    def _needs_a_python(self) -> bool:
        """Whether it must have its own from the start: for these variables, it is too late after a fork."""
        early = any(name.startswith(("PYTHON", "LD_", "MALLOC_")) for name in self.environment)
        return early or bool(self.command or self.pass_fds)

    @property
    def _place(self) -> tuple[str, ...]:
        return ("--port", str(self.port), "--data-dir", str(self.data_dir), *self.arguments)

    def _start_anew(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.command, sys.executable, *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=self.pass_fds,
            )

    def wait(self) -> None:
        """Until it listens; if it doesn't, it is ended and the end of its log raised."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/-/healthy", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"sidespan did not start:\n{self.log.read_text()[-2000:]}")

    def health(self) -> dict[str, Any]:
        try:
            request = urllib.request.Request(f"{self.url}/-/ready")
            if self.token:
                request.add_header("authorization", f"Bearer {self.token}")
            with urllib.request.urlopen(request, timeout=60) as answer:
                health: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            health = json.loads(error.read())
        return health

    def pending_spans(self) -> int:
        return int(self.health()["parts"]["delivery"]["pending_spans"])

    def wait_index(self) -> None:
        """Until the index can be asked."""
        deadline = time.monotonic() + START_SECONDS
        while self.health()["parts"]["index"]["reason"] != "up to date":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.health()}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def wait_delivered(self, seconds: float) -> None:
        """Until no span is pending any more."""
        self._wait_until(lambda: not self.pending_spans(), seconds)

    def wait_records(self, seconds: float) -> None:
        """Until no log record is pending any more, nor what they have joined."""
        self._wait_until(lambda: not self.health()["parts"]["logs"]["pending_records"], seconds)
        self.wait_delivered(seconds)

    def _wait_until(self, is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still pending: {self.health()}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def rss_bytes(self) -> int:
        assert self.process is not None
        return rss_bytes(self.process.pid)

    def children_rss_bytes(self) -> int:
        """Of the processes that it has started."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return sum(rss_bytes(int(child)) for child in children.split())

    def processes(self) -> list[int]:
        """The ids of its process, of those that it has started, and of theirs."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        return [each.pid for each in (own, *own.children(recursive=True))]

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 40) -> int:
        """Its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=seconds)
        self.process = None
        return code

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


def rss_bytes(process_id: int) -> int:
    """What a process holds in memory."""
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
