"""Replicas of the service, each with its roles, on one Kafka and one ClickHouse; clients in front of them.

Each is a process of its own. None has a data folder: its `--data-dir` names one that must never come to be.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.senders import Senders
from tests.support.sidespan import Sidespan

# after a stop, for the request that is on its way
LAST_REQUEST_SECONDS = 60.0
# what the exam's fleet consists of, by name
ROLES: Mapping[str, tuple[str, ...]] = {
    "receive-1": ("receive",),
    "receive-2": ("receive",),
    "deliver-1": ("deliver",),
    "deliver-2": ("deliver",),
    "index-1": ("index",),
    "index-2": ("index",),
    "query": ("query", "proxy"),
}


@dataclass
class Fleet:
    """The replicas by name; `environment` is what all of them share."""

    directory: Path
    mlflow_url: str
    environment: Mapping[str, str]
    roles: Mapping[str, Sequence[str]] = field(default_factory=lambda: ROLES)
    replicas: dict[str, Sidespan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, roles in self.roles.items():
            self.replicas[name] = Sidespan(
                data_dir=self.directory / name,
                mlflow_url=self.mlflow_url,
                arguments=tuple(part for role in roles for part in ("--role", role)),
                environment=dict(self.environment) | {"SIDESPAN_KAFKA__MEMBER": name},
            )

    def __getitem__(self, name: str) -> Sidespan:
        return self.replicas[name]

    def with_role(self, role: str) -> list[Sidespan]:
        """Those that have a role."""
        return [self.replicas[name] for name, roles in self.roles.items() if role in roles]

    def start(self) -> None:
        """All of them at the same time, as a deployment does."""
        for each in self.replicas.values():
            each.start(wait=False)
        for each in self.replicas.values():
            each.wait()

    def stop(self) -> None:
        for each in self.replicas.values():
            each.kill()

    def folders(self) -> list[Path]:
        """Data folders that have come to be."""
        return [each.data_dir for each in self.replicas.values() if each.data_dir.exists()]

    def pause(self, name: str) -> None:
        """Stop a process where it is (SIGSTOP): it knows nothing of the time until `resume`."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> None:
        process = self.replicas[name].process
        assert process is not None
        process.send_signal(number)


@contextmanager
def started(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, running, until the block ends."""
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


class BalancedSenders(Senders):
    """As `Senders`, but behind a load balancer: what one receiver doesn't take goes to the next.

    Notes the longest time that a request took until it was acknowledged, repeats included.
    """

    def __init__(self, ports: Sequence[int], **options: object) -> None:
        super().__init__(ports[0], **options)  # type: ignore[arg-type]
        self._ports = cycle(ports)
        self._guard = threading.Lock()
        self.slowest_seconds = 0.0
        self._stopped_at: float | None = None

    def _run(self) -> None:
        while not self._stop.is_set():
            request = self._build()
            body = request.SerializeToString()
            began = time.monotonic()
            # also after a stop: of what was sent it must be known whether it was taken
            while not self._is_taken(request, body) and not self._gives_up():
                time.sleep(0.05)
            with self._guard:
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            time.sleep(self._pause_seconds)

    def _gives_up(self) -> bool:
        if not self._stop.is_set():
            return False
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return time.monotonic() - self._stopped_at > LAST_REQUEST_SECONDS

    def _is_taken(self, request: ExportTraceServiceRequest, body: bytes) -> bool:
        connection = self._connect()
        try:
            return self._post(connection, request, body)
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        with self._guard:
            return HTTPConnection("127.0.0.1", next(self._ports), timeout=10)
