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
from pathlib import Path

from collector.files.private import make_folder, opener
from collector.model.errors import Misconfigured

_log = logging.getLogger("sidespan.embedded")

STOP_SECONDS = 8.0
RESTART_SECONDS = 2.0


@asynccontextmanager
async def embedded_mlflow(data_dir: Path) -> AsyncIterator[str]:
    """The URL of an MLflow server that lives as long as the block, started again if it dies.

    It isn't ready yet when this yields: the collector takes traces meanwhile.
    Raises Misconfigured: MLflow isn't installed, or the directory can't be written.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise Misconfigured(
            "`sidespan up` brings its own MLflow, which is not installed: pip install "
            "'sidespan[server,embedded]', or use `sidespan serve --mlflow-url URL`"
        )
    home = _make_home(data_dir)
    _end_orphan(home)
    port = _free_port()
    supervising = asyncio.create_task(_supervise(home, port))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        supervising.cancel()
        with suppress(asyncio.CancelledError):
            await supervising


def _make_home(data_dir: Path) -> Path:
    home = data_dir.resolve() / "mlflow"
    try:
        make_folder(data_dir.resolve())
        make_folder(home)
        open(home / "mlflow.log", "ab", opener=opener).close()
    except OSError as error:
        raise Misconfigured(f"data_dir = {str(data_dir)!r} can't be written: {error.strerror}") from error
    return home


async def _supervise(home: Path, port: int) -> None:
    while True:
        child = await _start(home, port)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await _stop(child)
            (home / "pid").unlink(missing_ok=True)
            raise
        _log.error(
            "the embedded MLflow ended and is started again",
            extra={"exit_code": code, "log": str(home / "mlflow.log")},
        )
        _kill_group(child.pid, signal.SIGKILL)
        await asyncio.sleep(RESTART_SECONDS)


async def _start(home: Path, port: int) -> asyncio.subprocess.Process:
    with (home / "mlflow.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
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
    """Ours without what would steer MLflow elsewhere; its job runner is off, the proxy denies jobs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OTEL_"))}
    return kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


async def _stop(child: asyncio.subprocess.Process) -> None:
    _kill_group(child.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), STOP_SECONDS)
    except TimeoutError:
        pass
    _kill_group(child.pid, signal.SIGKILL)
    await child.wait()


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
        _log.warning("an MLflow server of an earlier run is ended", extra={"process": pid})
        _kill_group(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
