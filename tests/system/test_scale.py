"""The exam of a fleet: two receivers, two deliverers, two indexers and one that answers, without a disk.

Under load each process is killed, then a broker; then a deliverer sleeps for a minute and wakes up as a
zombie. Nothing that was acknowledged is lost, nothing is there twice, and the others take over in time.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collector.cli import remote
from tests.support.clickhouse_server import ClickhouseServer, clickhouse_stage
from tests.support.fleet import ROLES, BalancedSenders, Fleet, started
from tests.support.forked import sidespan_command
from tests.support.kafka_brokers import Brokers, kafka
from tests.support.logs import logs, result
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, all_spans
from tests.support.senders import Senders, SpanKey, post
from tests.support.sidespan import Sidespan
from tests.system.harmonise_table import fresh, shown

pytestmark = [pytest.mark.scale, pytest.mark.timeout(1500), pytest.mark.xdist_group("scale")]

# from a blow until all that was acknowledged before it is delivered and indexed: the promise
TAKE_OVER_SECONDS = 30.0
# what is slow by itself is slow every time; a busy machine isn't
TRIES = 3
ZOMBIE_SECONDS = 60.0
# for what isn't promised within a time
PATIENCE_SECONDS = 180.0
# so many are acknowledged between two blows that each meets work in flight
SPANS_BEFORE_EACH = 60
JUDGE = "helpful"


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with kafka(tmp_path_factory.mktemp("kafka"), count=3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseServer]:
    with clickhouse_stage(tmp_path_factory.mktemp("clickhouse")) as stage:
        yield stage.servers[0]


@pytest.fixture(scope="module")
def fleet(
    mlflow_server: MlflowServer,
    brokers: Brokers,
    clickhouse: ClickhouseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    environment = {
        "SIDESPAN_JOURNAL__URL": f"kafka://{','.join(brokers.hosts)}/exam",
        "SIDESPAN_INDEX__URL": f"clickhouse://{clickhouse.host}/exam",
        "SIDESPAN_KAFKA__PARTITIONS": "4",
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
    clickhouse: ClickhouseServer
    experiment_id: str
    senders: BalancedSenders
    # of traces of which a part is sent before a blow: what is to come after it
    halves: dict[bytes, bytes] = field(default_factory=dict)
    recovered_seconds: dict[str, list[float]] = field(default_factory=dict)

    def blow(self, name: str, strike: Callable[[], None], mend: Callable[[], None]) -> None:
        """Strike in the midst of work; all that was acknowledged by then is where it belongs in time."""
        for _ in range(TRIES):
            seconds = self.recovered(name, strike)
            mend()
            if seconds <= TAKE_OVER_SECONDS:
                return
        raise AssertionError(f"{name}: taken over only after {self.recovered_seconds[name]} s")

    def recovered(self, name: str, strike: Callable[[], None]) -> float:
        """How long it takes after a blow until all that was acknowledged before it is where it belongs."""
        self.senders.wait_for(len(self.senders.acknowledged) + SPANS_BEFORE_EACH, seconds=PATIENCE_SECONDS)
        self.send_first_half()
        acknowledged = set(self.senders.acknowledged)
        strike()
        began = time.monotonic()
        until(lambda: acknowledged <= self.delivered(), f"{name}: MLflow")
        until(lambda: acknowledged <= self.indexed(), f"{name}: the index")
        seconds = round(time.monotonic() - began, 1)
        self.recovered_seconds.setdefault(name, []).append(seconds)
        return seconds

    def zombie(self) -> None:
        """A deliverer sleeps for a minute while others go on, and wakes up among them."""
        for _ in range(TRIES):
            began = time.monotonic()
            asleep = self.recovered("asleep", lambda: self.fleet.pause("deliver-1"))
            time.sleep(max(0.0, began + ZOMBIE_SECONDS - time.monotonic()))
            awake = self.recovered("awake", lambda: self.fleet.resume("deliver-1"))
            if max(asleep, awake) <= TAKE_OVER_SECONDS:
                return
        raise AssertionError(f"a paused deliverer: {self.recovered_seconds}")

    def send_first_half(self) -> None:
        """The web server's span of a trace whose model call, which names the trace, comes after the blow."""
        trace_id, first = fresh("openai_openllmetry")
        second = type(first).FromString(first.SerializeToString())
        for export, name in ((first, "POST /ask"), (second, "openai.chat")):
            for scope_spans in (each for of in export.resource_spans for each in of.scope_spans):
                kept = [span for span in scope_spans.spans if span.name == name]
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)
            assert len(all_spans(export)) == 1
        self.send("/v1/traces", first.SerializeToString())
        self.halves[trace_id] = second.SerializeToString()

    def send_second_halves(self) -> None:
        """And a judgement of each trace, twice, as a client sends it that has had no answer."""
        for trace_id, second in self.halves.items():
            self.send("/v1/traces", second)
            judged = logs(result(JUDGE, trace_id=trace_id, value=0.5)).SerializeToString()
            for _ in range(2):
                self.send("/v1/logs", judged)

    def send(self, path: str, body: bytes) -> None:
        until(lambda: self._is_taken(path, body), f"a request to {path}")

    def _is_taken(self, path: str, body: bytes) -> bool:
        headers = {"x-mlflow-experiment-id": self.experiment_id}
        for receiver in self.fleet.with_role("receive"):
            try:
                if post(receiver.port, body, headers, path=path)[0] == 200:
                    return True
            except OSError:
                continue
        return False

    def delivered(self) -> set[SpanKey]:
        return self.mlflow.spans(self.experiment_id)

    def indexed(self) -> set[SpanKey]:
        """Every span in the index; none is there twice."""
        text = self.clickhouse.query("SELECT trace_id, span_id FROM exam.spans FINAL")
        rows = [line.split("\t") for line in text.splitlines()]
        found = {(f"tr-{int(trace_id):032x}", f"{int(span_id):016x}") for trace_id, span_id in rows}
        assert len(found) == len(rows)
        return found

    def judgements(self, trace_id: bytes) -> int:
        path = f"/api/3.0/mlflow/traces/tr-{trace_id.hex()}"
        info = remote.get_json(self.mlflow.url, path)["trace"]["trace_info"]
        return sum(each["assessment_name"] == JUDGE for each in info.get("assessments", ()))


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.2)


def test_a_fleet_loses_nothing_whatever_dies(
    fleet: Fleet, brokers: Brokers, mlflow_server: MlflowServer, clickhouse: ClickhouseServer
) -> None:
    experiment_id = mlflow_server.create_experiment(f"exam-{uuid.uuid4().hex[:12]}")
    headers = {"x-mlflow-experiment-id": experiment_id}
    ports = [each.port for each in fleet.with_role("receive")]
    with BalancedSenders(ports, headers=headers, threads=2, pause_seconds=0.3) as senders:
        exam = Exam(fleet, mlflow_server, clickhouse, experiment_id, senders)
        for name in ROLES:
            exam.blow(name, fleet[name].kill, fleet[name].start)
        broker = brokers.brokers[0]

        def broker_comes_back() -> None:
            broker.start()
            # one may be lost while the others are in step, which those of a busy machine sometimes aren't
            until(brokers.are_in_step, "copies in step")

        until(brokers.are_in_step, "copies in step")
        exam.blow("broker", broker.kill, broker_comes_back)
        exam.zombie()
    exam.send_second_halves()
    halves = {
        (f"tr-{trace_id.hex()}", span.span_id.hex())
        for trace_id in exam.halves
        for span in all_spans(fresh("openai_openllmetry")[1])
        if span.name in ("POST /ask", "openai.chat")
    }
    everything = senders.acknowledged | halves
    until(lambda: exam.delivered() == everything, "MLflow has exactly what was sent")
    until(lambda: exam.indexed() == everything, "the index has exactly what was sent")
    print("recovered after seconds:", exam.recovered_seconds, "slowest answer:", senders.slowest_seconds)

    for trace_id in exam.halves:
        found = shown(mlflow_server, experiment_id, trace_id)
        assert (found.name, found.session, found.user) == ("openai.chat", "web-session", "web-user")
        until(lambda id=trace_id: exam.judgements(id) >= 1, "judged")  # type: ignore[misc]
    assert {exam.judgements(trace_id) for trace_id in exam.halves} == {1}
    check = remote.get_json(fleet["query"].url, f"/-/index/verify?experiment_id={experiment_id}")
    (row,) = check["experiments"]
    assert (row["traces"]["difference"], row["spans"]["difference"]) == (0, 0)
    assert fleet["query"].health()["parts"]["journal"]["dead_letters"] == 0
    assert fleet.folders() == [], "replicas keep nothing"


def test_every_replica_knows_the_same_clients_and_says_what_is_not_its_role(fleet: Fleet) -> None:
    query, receiver = fleet["query"], fleet["receive-1"]
    refused = post(query.port, b"")
    assert (refused[0], b"without the role receive" in refused[2]) == (503, True)
    with pytest.raises(remote.Refused, match="the role query"):
        remote.get_json(receiver.url, "/-/traces")
    parts = {name: set(each.health()["parts"]) for name, each in fleet.replicas.items()}
    assert "receiver" in parts["receive-1"] and "receiver" not in parts["deliver-1"]
    assert {"delivery", "logs"} <= parts["deliver-1"] & parts["query"]


def test_the_query_process_follows_reads_and_explains_what_others_took(
    fleet: Fleet, mlflow_server: MlflowServer
) -> None:
    experiment_id = mlflow_server.create_experiment(f"live-{uuid.uuid4().hex[:12]}")
    url, request = fleet["query"].url, agent_export()
    trace_id = all_spans(request)[0].trace_id.hex()
    begun, told = threading.Event(), list[str]()

    def follow() -> None:
        path = f"/-/traces/live?experiment_id={experiment_id}"
        for line in remote.get_lines(url, path, timeout_seconds=PATIENCE_SECONDS):
            begun.set()
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: "))["trace"]["trace_id"])
                return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    assert begun.wait(PATIENCE_SECONDS)
    headers = {"x-mlflow-experiment-id": experiment_id}
    until(
        lambda: post(fleet["receive-1"].port, request.SerializeToString(), headers)[0] == 200, "it is taken"
    )
    reader.join(PATIENCE_SECONDS)
    assert told == [trace_id]

    def has_all_spans(of: str) -> bool:
        try:
            return len(remote.get_json(url, f"/-/traces/{trace_id}{of}")["spans"]) == len(all_spans(request))
        except remote.Refused:  # neither MLflow nor the index has it yet, and this process can't tell
            return False

    until(lambda: has_all_spans(""), "its summary")
    until(lambda: has_all_spans("/explanation"), "its explanation")


def test_lag_is_counted_by_group_and_partition(fleet: Fleet) -> None:
    named = [
        f'sidespan_log_lag_entries{{group="{group}",partition="{partition}"}}'
        for group in ("deliver", "index")
        for partition in range(4)
    ]

    def is_counted() -> bool:
        metrics = remote.get(fleet["query"].url, "/-/metrics").decode()
        return all(each in metrics for each in named)

    until(is_counted, "each group's lag of each partition")


def test_the_doctor_examines_brokers_topics_groups_and_clickhouse(fleet: Fleet) -> None:
    environment = dict(fleet.environment) | {"SIDESPAN_MLFLOW__URL": fleet.mlflow_url}
    checks: dict[str, dict[str, Any]] = {}

    def all_is_well() -> bool:
        told = sidespan_command("doctor", "--url", fleet["query"].url, "--json", **environment)
        checks.update({check["name"]: check for check in json.loads(told.stdout)["checks"]})
        return all(check["ok"] for check in checks.values())

    # copies on a busy machine are behind now and then, which the doctor says
    until(all_is_well, "the doctor finds nothing")
    assert checks["kafka"]["finding"].startswith("3 brokers")
    topics = {f"topic exam-{name}" for name in ("spans", "logs", "state", "follow-ups", "dead-letters")}
    assert topics | {"group deliver", "group index", "clickhouse"} <= checks.keys()
    assert not {"disk", "data_dir"} & checks.keys(), "replicas have none"


def test_one_node_is_drained_and_its_traces_move_to_the_new_index(
    fleet: Fleet, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    experiment_id = mlflow_server.create_experiment(f"move-{uuid.uuid4().hex[:12]}")
    headers = {"x-mlflow-experiment-id": experiment_id}
    node = Sidespan(data_dir=tmp_path / "node", mlflow_url=mlflow_server.url)
    node.start()
    try:
        with Senders(node.port, headers=headers, threads=1) as before:
            before.wait_for(30, seconds=PATIENCE_SECONDS)
        with BalancedSenders([fleet["receive-1"].port], headers=headers, threads=1) as after:
            after.wait_for(30, seconds=PATIENCE_SECONDS)
        drained = sidespan_command("drain", "--url", node.url, "--timeout", "180s")
        assert drained.returncode == 0, drained.stdout + drained.stderr
    finally:
        node.stop()
    everything = before.acknowledged | after.acknowledged
    until(lambda: mlflow_server.spans(experiment_id) == everything, "all is delivered")
    url = fleet["query"].url
    moved = sidespan_command("index", "backfill", "--url", url, "--experiment", experiment_id)
    assert moved.returncode == 0, moved.stderr
    until(lambda: _counts_agree(url, experiment_id), "the index has both")


def _counts_agree(url: str, experiment_id: str) -> bool:
    (row,) = remote.get_json(url, f"/-/index/verify?experiment_id={experiment_id}")["experiments"]
    return (row["traces"]["difference"], row["spans"]["difference"]) == (0, 0)
