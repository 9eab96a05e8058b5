"""An MLflow server of our own for `sidespan up`: SQLite, a free port, a supervised child process."""

import asyncio
import importlib.util
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from collector.files.private import make_folder, opener
from collector.journal.sqlite.lock import only_process
from collector.model.errors import Misconfigured
from collector.telemetry.supervision import ChildEnded, RestartPause, run_child, supervised

_log = logging.getLogger("sidespan.embedded")

STOP_SECONDS = 8.0
HOME, DATABASE = "mlflow", "mlflow.db"
# https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
CATALOG = "MLFLOW_MODEL_CATALOG_URI"
RESTART_PAUSE = RestartPause(first_seconds=2.0, max_seconds=2.0)


@asynccontextmanager
async def embedded_mlflow(data_dir: Path) -> AsyncIterator[str]:
    """The URL of an MLflow server that lives as long as the block, started again if it dies.

    It isn't ready yet when this yields: the collector takes traces meanwhile.
    Raises Misconfigured: MLflow isn't installed, the directory can't be written, or another process runs its
    MLflow there.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise Misconfigured(
            "`sidespan up` brings its own MLflow, which is not installed: pip install "
            "'sidespan[server,embedded]', or use `sidespan serve --mlflow-url URL`"
        )
    home = _make_home(data_dir)
    with only_process(home):
        _end_orphan(home)
        port = _free_port()
        run = partial(_run, home, port)
        log = str(home / "mlflow.log")
        async with supervised("the embedded MLflow", run, pause=RESTART_PAUSE, log=log):
            yield f"http://127.0.0.1:{port}"


def embedded_database(data_dir: Path) -> Path:
    """Its SQLite file."""
    return data_dir.resolve() / HOME / DATABASE


def _make_home(data_dir: Path) -> Path:
    home = data_dir.resolve() / HOME
    try:
        make_folder(data_dir.resolve())
        make_folder(home)
        open(home / "mlflow.log", "ab", opener=opener).close()
    except OSError as error:
        raise Misconfigured(f"data_dir = {str(data_dir)!r} can't be written: {error.strerror}") from error
    return home


async def _run(home: Path, port: int) -> None:
    try:
        await run_child(partial(_start, home, port), partial(_stop, home))
    except ChildEnded as end:
        _kill_group(end.child.pid, signal.SIGKILL)  # what it has started
        raise


async def _start(home: Path, port: int) -> asyncio.subprocess.Process:
    with (home / "mlflow.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{home / DATABASE}"),
            *("--artifacts-destination", str(home / "artifacts"), "--workers", "1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches us alone; the whole group is ended by us
        )
    (home / "pid").write_text(str(child.pid))
    return child


def _environment() -> dict[str, str]:
    """Ours without what would steer MLflow elsewhere; its job runner is off, the proxy denies jobs.

    Unless the environment names a catalog of prices, MLflow takes the one it comes with. Else it would ask
    GitHub while it takes in the first trace of a provider, and without a network hold that trace up for
    seconds (mlflow/utils/providers.py).
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OTEL_"))}
    return kept | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        CATALOG: os.environ.get(CATALOG, ""),
    }


async def _stop(home: Path, child: asyncio.subprocess.Process) -> None:
    _kill_group(child.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), STOP_SECONDS)
    except TimeoutError:
        pass
    _kill_group(child.pid, signal.SIGKILL)
    await child.wait()
    (home / "pid").unlink(missing_ok=True)


def _kill_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_orphan(home: Path) -> None:
    """A server that outlived a killed process of ours still holds the database."""
    try:
        pid = int((home / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if str(home).encode() in command:
        _log.warning("an MLflow server of an earlier run is ended", extra={"pid": pid})
        _kill_group(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
