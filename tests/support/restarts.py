"""Restarts as operators do them, and clients that don't forgive: a request is sent once."""

import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.otlp import all_spans, export
from tests.support.sidespan import Sidespan

# as a supervisor does it: the socket is descriptor 3, and the variables name the process that gets it
ACTIVATED = (
    sys.executable,
    "-c",
    "import os, sys; os.dup2(int(os.environ['LISTENER']), 3); os.environ |= {'LISTEN_PID': str(os.getpid()),"
    " 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'sidespan.socket'}; os.execv(sys.argv[1], sys.argv[1:])",
)


def listener_at(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A supervisor's socket."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    return listener


def activate(service: Sidespan, listener: socket.socket) -> None:
    """From now on it is started with the supervisor's socket."""
    service.command = ACTIVATED
    service.pass_fds = (listener.fileno(),)
    service.environment = {**service.environment, "LISTENER": str(listener.fileno())}


def stop_and_start(service: Sidespan) -> float:
    """What `systemctl restart` does. Seconds that the stop took."""
    started = time.monotonic()
    assert service.stop() == 0
    seconds = time.monotonic() - started
    service.start()
    return seconds


def take_over(service: Sidespan) -> float:
    """`sidespan serve --takeover` beside the running one. Seconds until that one was gone."""
    old = begin_takeover(service)
    started = time.monotonic()
    assert old.wait(timeout=60) == 0, service.log.read_text()[-2000:]
    seconds = time.monotonic() - started
    service.wait()
    return seconds


def begin_takeover(service: Sidespan) -> subprocess.Popen[bytes]:
    """Start the new one, without waiting for anything; the old one is returned."""
    old = service.process
    assert old is not None
    if "--takeover" not in service.arguments:
        service.arguments = (*service.arguments, "--takeover")
    service.start(wait=False)
    return old


class StrictSenders:
    """Threads that send each export once: on a kept connection, on a new one each, or after a pause.

    `troubles` holds everything that wasn't a 200; `sent` the spans of all requests.
    """

    def __init__(self, port: int, *, pauses: tuple[float, ...] = (0.02, 0.02, 0.11, 0.6)) -> None:
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        plans = [(keep, pause) for pause in pauses for keep in (True, False)]
        self._threads = [threading.Thread(target=self._run, args=plan) for plan in plans]
        self.sent: set[tuple[bytes, bytes]] = set()
        self.troubles: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keep: bool, pause_seconds: float) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.wait(pause_seconds):
            self._post(connection)
            if not keep:
                connection.close()
        connection.close()

    def _post(self, connection: HTTPConnection) -> None:
        request = export(spans=2)
        headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "1"}
        found = "200"
        try:
            connection.request("POST", "/v1/traces", body=request.SerializeToString(), headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                found = f"{answer.status} {body!r}"
        except (HTTPException, OSError) as error:
            connection.close()
            found = repr(error)
        with self._lock:
            self.sent |= {(span.trace_id, span.span_id) for span in all_spans(request)}
            if found != "200":
                self.troubles.append(found)


def built(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a compiler; its own words if it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
