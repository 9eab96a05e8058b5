"""Requests that are small on the wire and large in memory, against the service as a process of its own.

Meanwhile another client sends small exports: what it waits at the most is how long the service was away.
"""

import http.client
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from collector.receivers.decoder.client import WAIT_SECONDS
from tests.support import hostile_bodies as hostile
from tests.support.hostile_bodies import MIB
from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan, rss_bytes
from tests.support.timing import Late, patient, stopwatch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MAX_WAIT_SECONDS = 0.5
MAX_GROWTH_BYTES = 300_000_000
# one that is taken is held as text, as messages and as what goes into the journal
MAX_GROWTH_OF_TAKEN_BYTES = 400_000_000
# what an allocator keeps, and what the journal and delivery hold of bodies that were taken
MAX_LEFT_BYTES = 100_000_000

# 413: refused before it is built; 200: taken
EXPECTED = dict.fromkeys(hostile.BODIES, {413}) | {
    "json_objects_under_an_unknown_key": {200, 413},
    "json_with_one_long_text": {200, 413},
    "two_megabytes_of_empty_attributes": {200},
    "a_malformed_megabyte": {400},
}


@dataclass
class Watch:
    """The longest wait of a client beside, and the most memory of the service with what it started.

    How long others held the processors is left out of the wait.
    """

    service: Sidespan
    before_bytes: int = 0
    peak_bytes: int = 0
    longest_seconds: float = 0.0
    failures: list[int] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def growth_bytes(self) -> int:
        return self.peak_bytes - self.before_bytes

    def expect_short_waits(self) -> None:
        """Raise Late if a small export waited too long."""
        if self.longest_seconds >= MAX_WAIT_SECONDS:
            raise Late(f"a small export waited {self.longest_seconds:.3f} s")

    def send_small_ones(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=300)
        body = export().SerializeToString()
        assert self.service.process is not None
        events = Path(f"/proc/{self.service.process.pid}/task/{self.service.process.pid}")
        while not self.stopping.is_set():
            waited_seconds = stopwatch(events)
            connection.request("POST", "/v1/traces", body, {"content-type": hostile.PROTOBUF})
            answer = connection.getresponse()
            answer.read()
            self.longest_seconds = max(self.longest_seconds, waited_seconds())
            if answer.status != 200:
                self.failures.append(answer.status)
            time.sleep(0.005)
        connection.close()

    def look_at_memory(self) -> None:
        while not self.stopping.is_set():
            self.peak_bytes = max(self.peak_bytes, held_bytes(self.service))
            time.sleep(0.01)


def held_bytes(service: Sidespan) -> int:
    """By the service and its decoder; the index is another's concern."""
    total = service.rss_bytes()
    for process in _decoders(service):
        with suppress(OSError, StopIteration):  # it has ended
            total += rss_bytes(process)
    return total


def decoders(service: Sidespan) -> list[psutil.Process]:
    return [psutil.Process(process) for process in _decoders(service)]


def _decoders(service: Sidespan) -> list[int]:
    """Looked for among its children only: a look at all processes of the machine would take a processor."""
    assert service.process is not None
    children: list[int] = []
    for listed in Path(f"/proc/{service.process.pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            children += map(int, listed.read_text().split())
    return [child for child in children if _is_decoder(child)]


def _is_decoder(process: int) -> bool:
    try:
        return b"collector.receivers.decoder" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def watched(service: Sidespan) -> Iterator[Watch]:
    watch = Watch(service, before_bytes=held_bytes(service))
    threads = [threading.Thread(target=run) for run in (watch.send_small_ones, watch.look_at_memory)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    try:
        yield watch
        time.sleep(0.2)
    finally:
        watch.stopping.set()
        for thread in threads:
            thread.join()


def post(service: Sidespan, name: str) -> int:
    _, content_type, coding = hostile.BODIES[name]
    return post_body(service, hostile.body(name), content_type, coding)


def post_till_it_has_its_turn(service: Sidespan, name: str) -> int:
    """One after the other is decoded; who waits too long for it is told to come again."""
    while True:
        began = time.monotonic()
        if (status := post(service, name)) != 503 or time.monotonic() - began < WAIT_SECONDS:
            return status


def post_body(service: Sidespan, body: bytes, content_type: str, coding: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    try:
        connection.request(
            "POST", "/v1/traces", body, {"content-type": content_type, "content-encoding": coding}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """Without an MLflow: what is sent here is of no use to one."""
    running = Sidespan(
        data_dir=tmp_path_factory.mktemp("large") / "data",
        mlflow_url=f"http://127.0.0.1:{free_port()}",
        environment={"SIDESPAN_INDEX__ENABLED": "false"},
    )
    running.start()
    post_body(running, export().SerializeToString(), hostile.PROTOBUF, "identity")
    yield running
    running.kill()


@patient
@pytest.mark.parametrize("name", hostile.BODIES)
def test_a_body_that_grows_costs_nobody_else_anything(service: Sidespan, name: str) -> None:
    hostile.body(name)
    with watched(service) as watch:
        status = post(service, name)
    print(f"{name}: {status}, +{watch.growth_bytes / 1e6:.0f} MB, {watch.longest_seconds:.3f} s")
    assert status in EXPECTED[name]
    assert watch.failures == []
    assert watch.growth_bytes <= (MAX_GROWTH_OF_TAKEN_BYTES if status == 200 else MAX_GROWTH_BYTES)
    assert settles(service, watch.before_bytes + MAX_LEFT_BYTES)
    watch.expect_short_waits()


def settles(service: Sidespan, at_most_bytes: int) -> bool:
    """Whether memory is back after a while."""
    deadline = time.monotonic() + 60
    while held_bytes(service) > at_most_bytes and time.monotonic() < deadline:
        time.sleep(0.1)
    return held_bytes(service) <= at_most_bytes


@pytest.mark.timeout(900)  # half a minute of the processor, which a busy machine may hand out slowly
@patient
def test_all_of_them_at_once_take_little_more_than_one(service: Sidespan) -> None:
    for name in hostile.BODIES:
        hostile.body(name)
    statuses: list[tuple[str, int]] = []

    def send(name: str) -> None:
        statuses.append((name, post_till_it_has_its_turn(service, name)))

    with watched(service) as watch:
        threads = [threading.Thread(target=send, args=(name,)) for name in hostile.BODIES for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"all: +{watch.growth_bytes / 1e6:.0f} MB, {watch.longest_seconds:.3f} s")
    assert [row for row in statuses if row[1] not in EXPECTED[row[0]]] == []
    assert watch.failures == []
    # one is read while one that was taken is on its way to the disk
    assert watch.growth_bytes <= MAX_GROWTH_OF_TAKEN_BYTES + 64 * MIB
    assert settles(service, watch.before_bytes + MAX_LEFT_BYTES)
    watch.expect_short_waits()


def large(spans: int = 3000) -> bytes:
    """Of an honest client: over what is read on the event loop."""
    request = export(spans=spans)
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.attributes.add(key="text").value.string_value = "some text " * 100
    body = request.SerializeToString()
    assert len(body) > 2 * MIB
    return body


def test_an_honest_large_body_is_stored(service: Sidespan) -> None:
    before = service.pending_spans()
    assert post_body(service, large(), hostile.PROTOBUF, "identity") == 200
    assert post_body(service, hostile.smallest(large()), hostile.PROTOBUF, "gzip") == 200
    assert service.pending_spans() == before + 6000


def test_a_decoder_that_dies_costs_its_export_a_503_and_is_started_again(service: Sidespan) -> None:
    for seconds in (0.3, 3, 30):  # on a busy machine the export may not have reached it sooner
        assert post_body(service, large(), hostile.PROTOBUF, "identity") == 200
        if (status := _status_of_what_a_killed_decoder_had(service, seconds)) != 200:
            break
    assert status == 503
    assert post_body(service, large(), hostile.PROTOBUF, "identity") == 200


def _status_of_what_a_killed_decoder_had(service: Sidespan, seconds: float) -> int:
    """It is held up before, and killed so many seconds later."""
    [decoder] = decoders(service)
    decoder.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post_body, service, large(), hostile.PROTOBUF, "identity")
        time.sleep(seconds)
        decoder.kill()
        return posted.result()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill"])
def test_no_decoder_outlives_the_service(tmp_path: Path, number: int) -> None:
    service = Sidespan(
        data_dir=tmp_path / "data",
        mlflow_url=f"http://127.0.0.1:{free_port()}",
        environment={"SIDESPAN_INDEX__ENABLED": "false"},
    )
    service.start()
    assert decoders(service) == []  # it starts when it is needed
    assert post_body(service, large(), hostile.PROTOBUF, "identity") == 200
    [decoder] = decoders(service)
    service.stop(number)
    decoder.wait(timeout=60)
    assert not decoder.is_running()
