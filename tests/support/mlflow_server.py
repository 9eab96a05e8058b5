"""A real MLflow server as a child process, on SQLite and a free port."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support.ports import free_port

START_SECONDS = 180
# the Python that MLflow is installed for; `make test-mlflow-3.17` names that of another environment
MLFLOW_PYTHON = os.path.abspath(os.environ.get("SIDESPAN_TEST_MLFLOW_PYTHON") or sys.executable)
COMMAND = Path(__file__).with_name("mlflow_command.py")


@cache
def mlflow_version() -> tuple[int, int]:
    """Major and minor number of the MLflow that the tests run against."""
    script = "from importlib.metadata import version; print(version('mlflow'))"
    found = subprocess.run(
        [MLFLOW_PYTHON, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    major, minor, *_ = found.split(".")
    return int(major), int(minor)


@dataclass
class MlflowServer:
    """One `mlflow server`; stop() and start() keep its port and its database."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.directory / "mlflow.db"

    def start(self, *, wait: bool = True) -> None:
        log = (self.directory / "mlflow.log").open("ab")
        # PYTEST_…: MLflow's store would look at each session for a write, as in MLflow's own tests
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OTEL_", "PYTEST_"))
        }
        environment |= {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_MODEL_CATALOG_URI": "",  # see tests/conftest.py
            # it starts a second sooner
            "PYDANTIC_DISABLE_PLUGINS": "__all__",
        }
        self.process = subprocess.Popen(
            [
                *(MLFLOW_PYTHON, str(COMMAND), "server"),
                *("--backend-store-uri", f"sqlite:///{self.database}"),
                *("--artifacts-destination", str(self.directory / "artifacts")),
                *("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            ],
            stdout=log,
            stderr=log,
            cwd=self.directory,
            env=environment,
            start_new_session=True,
        )
        log.close()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers; raises with the end of its log if it doesn't."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/version", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        tail = (self.directory / "mlflow.log").read_text()[-2000:]
        raise RuntimeError(f"mlflow server did not start:\n{tail}")

    def state(self) -> dict[str, str]:
        """A hash of each table, and size and time of each file: what a write changes."""
        found = {}
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            names = [
                row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            for name in names:
                rows = sorted(map(repr, database.execute(f"SELECT * FROM {name}")))
                found[name] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        for file in sorted((self.directory / "artifacts").rglob("*")):
            if file.is_file():
                held = file.stat()
                found[str(file)] = f"{held.st_ino} {held.st_size} {held.st_mtime_ns}"
        return found

    @contextmanager
    def watched(self) -> Iterator[Callable[[], set[str]]]:
        """Yields what says which tables and files have changed since it was last asked."""
        uri = f"file:{self.database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as database:

            def stamps() -> tuple[object, ...]:
                # https://sqlite.org/pragma.html#pragma_data_version: it differs after another's commit
                (version,) = database.execute("PRAGMA data_version").fetchone()
                files = (self.directory / "artifacts").rglob("*")
                return version, *sorted((str(file), file.lstat().st_mtime_ns) for file in files)

            stamp, state = stamps(), self.state()

            def changed() -> set[str]:
                nonlocal stamp, state
                before, stamp_before = state, stamp
                if (stamp := stamps()) == stamp_before:
                    return set()
                state = self.state()
                return {name for name in before | state if before.get(name) != state.get(name)}

            yield changed

    def stop(self) -> None:
        if self.process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(timeout=10)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait(timeout=10)
        self.process = None

    def create_experiment(self, name: str) -> str:
        """A new experiment's id."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/experiments/create",
            data=json.dumps({"name": name}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.loads(answer.read())["experiment_id"])

    def create_run(self, experiment_id: str) -> str:
        """A new run's id."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/runs/create",
            data=json.dumps({"experiment_id": experiment_id, "start_time": 1}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.loads(answer.read())["run"]["info"]["run_id"])

    def spans(self, experiment_id: str) -> set[tuple[str, str]]:
        """(trace id, span id) of every span in an experiment, read from MLflow's own database."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as db:
            rows = db.execute(
                "SELECT trace_id, span_id FROM spans WHERE experiment_id = ?", (int(experiment_id),)
            )
            return {(str(trace_id), str(span_id)) for trace_id, span_id in rows}
