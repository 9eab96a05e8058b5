"""Traces as they come: what a real service tells those who follow, the slow and the cut off among them."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli.follow import ServerEvent, read_events
from tests.support.otlp import agent_export, all_spans, new_trace_id, trace_ids_of
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within
from tests.system.test_index import NOWHERE, send, started, until

pytestmark = pytest.mark.slow

BOUNDS = {
    "SIDESPAN_LIVE__MAX_READERS": "4",
    "SIDESPAN_LIVE__HEARTBEAT_SECONDS": "0.3",
    "SIDESPAN_LIVE__MAX_WAITING_EVENTS": "5",
    # after which a client that reads nothing is cut off
    "SIDESPAN_SERVER__BODY_TIMEOUT_SECONDS": "600",
}


@dataclass
class Follower:
    """A client that reads events in a thread of its own, until the stream ends."""

    service: Sidespan
    parameters: dict[str, Any] = field(default_factory=dict)
    last_event_id: str = ""
    token: str | None = None
    events: list[ServerEvent] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Follower":
        query = urlencode(self.parameters, doseq=True)
        request = urllib.request.Request(f"{self.service.url}/-/traces/live?{query}")
        if self.last_event_id:
            request.add_header("Last-Event-ID", self.last_event_id)
        if self.token:
            request.add_header("authorization", f"Bearer {self.token}")
        self.answer = urllib.request.urlopen(request, timeout=60)
        self.reading = threading.Thread(target=self._read)
        self.reading.start()
        until(lambda: bool(self.events), service=self.service)
        return self

    def __exit__(self, *_: object) -> None:
        # a close in this thread would wait for the read in the other
        self.answer.fp.raw._sock.shutdown(socket.SHUT_RDWR) if not self.ended.is_set() else None
        self.reading.join()
        self.answer.close()

    def _read(self) -> None:
        try:
            for event in read_events(line.decode().rstrip("\n") for line in self.answer):
                self.events.append(event)
        except (OSError, HTTPException):
            pass  # cut off
        self.ended.set()

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.kind == "trace"]

    @property
    def count(self) -> int:
        """Events that came or were missed."""
        return sum(event.kind == "trace" for event in self.events) + sum(each or 0 for each in self.missed)

    @property
    def missed(self) -> list[int | None]:
        return [json.loads(event.data)["missed"] for event in self.events if event.kind == "missed"]

    @property
    def trace_ids(self) -> list[str]:
        return [each["trace"]["trace_id"] for each in self.told]

    def wait(self, count: int) -> None:
        until(lambda: self.count >= count, service=self.service)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """In front of an MLflow that isn't there, with room for few readers."""
    folder = tmp_path_factory.mktemp("live")
    service = Sidespan(data_dir=folder / "data", mlflow_url=NOWHERE, environment=BOUNDS)
    yield started(service)
    service.kill()


def sent(service: Sidespan, experiment_id: str = "1") -> str:
    """The id of a trace that was just acknowledged."""
    request = agent_export()
    send(service, request, x_mlflow_experiment_id=experiment_id)
    [trace_id] = trace_ids_of(request)
    return trace_id.hex()


@patient
def test_a_trace_is_told_within_a_second_of_its_acknowledgement(alone: Sidespan) -> None:
    with Follower(alone) as follower:
        for number in range(5):
            trace_id = sent(alone)
            with within(1.0, processes=alone.processes()):
                follower.wait(number + 1)
            assert follower.trace_ids[-1] == trace_id
        assert {len(each["spans"]) for each in follower.told} == {6}


def test_a_running_trace_is_told_with_what_is_new_of_it(alone: Sidespan) -> None:
    request = agent_export()
    *others, root = sorted(all_spans(request), key=lambda span: not span.parent_span_id)
    [trace_id] = trace_ids_of(request)
    with Follower(alone, {"trace_id": trace_id.hex()}) as follower:
        for number, chosen in enumerate(([others[0]], others[1:], [root])):
            part = agent_export()
            scope = part.resource_spans[0].scope_spans[0]
            del scope.spans[:]
            scope.spans.extend(chosen)
            send(alone, part, x_mlflow_experiment_id="1")
            follower.wait(number + 1)
    assert [each["trace"]["span_count"] for each in follower.told] == [1, 5, 6]
    assert [len(each["spans"]) for each in follower.told] == [1, 4, 1]
    assert [each["trace"]["complete"] for each in follower.told] == [False, False, True]


def test_filters_are_those_of_traces(alone: Sidespan) -> None:
    with Follower(alone, {"experiment_id": ["7", "8"], "tool": "no*"}) as none:
        with Follower(alone, {"experiment_id": ["7", "8"]}) as some:
            ids = [sent(alone, each) for each in ("7", "9", "8")]
            some.wait(2)
            assert some.trace_ids == [ids[0], ids[2]]
            assert none.told == []


@pytest.mark.parametrize("parameters", ["sesion=a", "since=yesterday", "trace_id=abc", "sort=start"])
def test_a_parameter_that_cannot_be_right_is_refused(alone: Sidespan, parameters: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{alone.url}/-/traces/live?{parameters}", timeout=60)
    with raised.value as error:
        assert error.code == 400
        assert json.loads(error.read())["error"]["parameter"] == parameters.partition("=")[0]


def test_heartbeats_come_and_bring_the_position_on(alone: Sidespan) -> None:
    with Follower(alone, {"experiment_id": "none"}) as follower:
        first = follower.events[0].id
        sent(alone)
        until(lambda: int(follower.events[-1].id) > int(first), service=alone)
        assert {event.kind for event in follower.events} == {""}


def test_a_reader_beyond_the_bound_is_told_why(alone: Sidespan) -> None:
    followers = [Follower(alone) for _ in range(4)]
    for each in followers:
        each.__enter__()
    try:
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{alone.url}/-/traces/live", timeout=60)
        with raised.value as error:
            assert (error.code, "live.max_readers" in error.read().decode()) == (503, True)
    finally:
        for each in followers:
            each.__exit__()

    def is_free() -> bool:
        with Follower(alone):
            return True

    until(is_free, service=alone)


@pytest.mark.timeout(400)  # 40,000 spans are indexed
def test_a_reader_that_stops_reading_slows_nobody_and_is_told_what_it_missed(alone: Sidespan) -> None:
    with closing(socket.socket()) as slow, Follower(alone) as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", alone.port))
        slow.sendall(b"GET /-/traces/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        began = slow.recv(4096)
        while b"\nid: " not in began:
            began += slow.recv(4096)
        for number in range(20):
            send(alone, large_traces(10), x_mlflow_experiment_id="1")
            count = 10 * (number + 1)
            until(lambda count=count: quick.count >= count, service=alone)
        slow.settimeout(30)
        rest = read_until(slow, b"event: missed")
        last = sent(alone).encode()
        rest += read_until(slow, last)
        told = (began + rest).count(b"event: trace")
        missed = sum(json.loads(line[6:])["missed"] for line in rest.split(b"\n") if b'{"missed' in line)
        assert missed > 0
        assert told + missed == count + 1


def large_traces(count: int) -> ExportTraceServiceRequest:
    """So large that a few hundred of them are more than the sockets between two processes hold."""
    request = agent_export()
    scope = request.resource_spans[0].scope_spans[0]
    first = scope.spans[0]
    del scope.spans[:]
    for _ in range(count):
        trace_id = new_trace_id()
        for number in range(200):
            span = scope.spans.add()
            span.CopyFrom(first)
            span.trace_id, span.span_id = trace_id, (number + 1).to_bytes(8, "big")
            span.name = "x" * 200
    return request


def read_until(connection: socket.socket, text: bytes) -> bytes:
    read = b""
    while text not in read:
        piece = connection.recv(1 << 16)
        assert piece, "the stream has ended"
        read += piece
    return read


def test_a_client_that_is_cut_off_resumes_where_it_was(alone: Sidespan) -> None:
    with Follower(alone) as first:
        sent(alone)
        first.wait(1)
    between = [sent(alone) for _ in range(3)]
    with Follower(alone, last_event_id=first.events[-1].id) as again:
        again.wait(3)
        assert (again.trace_ids, again.missed) == (between, [])
        after = sent(alone)
        again.wait(4)
        assert again.trace_ids[-1] == after


def test_an_id_that_nobody_knows_is_told_as_a_gap(alone: Sidespan) -> None:
    with Follower(alone, last_event_id="12") as follower:
        until(lambda: follower.missed == [None], service=alone)


def test_a_kill_of_the_service_costs_no_event(tmp_path: Path) -> None:
    service = started(Sidespan(data_dir=tmp_path / "data", mlflow_url=NOWHERE, environment=BOUNDS))
    try:
        with Follower(service) as first:
            sent(service)
            first.wait(1)
            service.kill()
            assert first.ended.wait(60)
        started(service)
        between = [sent(service) for _ in range(2)]
        with Follower(service, last_event_id=first.events[-1].id) as again:
            again.wait(2)
            assert (again.trace_ids, again.missed) == (between, [])
            began = time.monotonic()
            service.stop()
            assert time.monotonic() - began < 10
            assert again.ended.wait(60)
    finally:
        service.kill()


def test_the_command_follows_across_a_restart(tmp_path: Path) -> None:
    service = started(Sidespan(data_dir=tmp_path / "data", mlflow_url=NOWHERE, environment=BOUNDS))
    command = [sys.executable, "-m", "collector", "summary", "traces", "--follow", "--url", service.url]
    lines: list[str] = []
    follower = subprocess.Popen([*command, "--where", "span=x"], stderr=subprocess.PIPE, text=True)
    assert "no such parameter" in follower.communicate()[1]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert follower.stdout is not None
    reading = threading.Thread(target=lambda: lines.extend(follower.stdout or ()))
    reading.start()
    try:

        def is_told() -> bool:
            sent(service)
            return bool(lines)

        until(is_told, service=service)
        service.stop()
        started(service)
        trace_id = sent(service)
        until(lambda: any(trace_id in line for line in lines), service=service)
        assert "6 of 6 spans new" in lines[-1]
    finally:
        follower.terminate()
        reading.join()
        follower.stdout.close()
        follower.wait()
        service.kill()
