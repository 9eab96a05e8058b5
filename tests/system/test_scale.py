"""The exam of a fleet: two receivers, two deliverers, two indexers and one that answers, without a disk.

Under load each process is killed, then a broker; then a deliverer sleeps for a minute and wakes up as a
zombie. Nothing that was acknowledged is lost, nothing is there twice, and the others take over in time.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.clickhouse_server import ClickhouseServer
from tests.support.fleet import BalancedSenders, Fleet, started
from tests.support.kafka_brokers import KafkaBrokers
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans
from tests.support.senders import post
from tests.system.harmonise_table import fresh

pytestmark = [pytest.mark.scale, pytest.mark.timeout(1200), pytest.mark.xdist_group("scale")]

# from the death of a process until what it worked on is done by another: the promise
TAKE_OVER_SECONDS = 30.0
ZOMBIE_SECONDS = 60.0
SPANS_BEFORE_EACH = 60
"""Acknowledged spans between two blows, so that each blow meets work in flight."""


@pytest.fixture(scope="module")
def fleet(
    mlflow_server: MlflowServer,
    kafka_brokers: KafkaBrokers,
    clickhouse_server: ClickhouseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    name = f"exam_{uuid.uuid4().hex[:8]}"
    environment = {
        "SIDESPAN_JOURNAL__URL": f"kafka://{kafka_brokers.bootstrap}/{name}",
        "SIDESPAN_INDEX__URL": f"clickhouse://default@127.0.0.1:{clickhouse_server.port}/{name}",
        "SIDESPAN_KAFKA__PARTITIONS": "8",
        "SIDESPAN_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
        "SIDESPAN_LOG__REQUESTS_TO": "stdout",
    }
    directory = tmp_path_factory.mktemp("fleet")
    with started(Fleet(directory=directory, mlflow_url=mlflow_server.url, environment=environment)) as fleet:
        yield fleet


@dataclass
class Exam:
    """What is known to have been acknowledged, and what must come of it."""

    fleet: Fleet
    mlflow: MlflowServer
    experiment_id: str
    senders: BalancedSenders
    halves: list[bytes] = field(default_factory=list)
    taken_over_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"x-mlflow-experiment-id": self.experiment_id}

    def send_more(self) -> None:
        self.senders.wait_for(len(self.senders.acknowledged) + SPANS_BEFORE_EACH)

    def blow(self, name: str, strike: Callable[[], None]) -> None:
        """Strike in the midst of work, and wait until all that was acknowledged by then is delivered."""
        self.send_more()
        self.halves.append(self.send_first_half())
        acknowledged = set(self.senders.acknowledged)
        strike()
        began = time.monotonic()
        until(lambda: acknowledged <= self.mlflow.spans(self.experiment_id), TAKE_OVER_SECONDS, name)
        until(lambda: acknowledged <= self.indexed(), TAKE_OVER_SECONDS, f"{name}: the index")
        self.taken_over_seconds[name] = time.monotonic() - began

    def send_first_half(self) -> bytes:
        """The web server's span of a trace whose agent comes later, from another process's hands."""
        trace_id = self._send("POST /ask", None)
        return trace_id

    def send_second_halves(self) -> None:
        for trace_id in self.halves:
            self._send("openai.chat", trace_id)

    def _send(self, name: str, trace_id: bytes | None) -> bytes:
        own_id, export = fresh("openai_openllmetry")
        for resource_spans in export.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                kept = [span for span in scope_spans.spans if span.name == name]
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)
        for span in all_spans(export):
            span.trace_id = trace_id or own_id
        body = export.SerializeToString()
        until(lambda: self._is_taken(body), TAKE_OVER_SECONDS, f"taking {name}")
        return trace_id or own_id

    def _is_taken(self, body: bytes) -> bool:
        for receiver in self.fleet.with_role("receive"):
            try:
                if post(receiver.port, body, self.headers)[0] == 200:
                    return True
            except OSError:
                continue
        return False

    def indexed(self) -> set[tuple[str, str]]:
        """(trace id, span id) of every span in the index."""
        return indexed_spans(self.fleet["query"].url, self.experiment_id)


def until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
