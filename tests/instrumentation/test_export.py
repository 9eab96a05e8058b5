"""The pipeline: when spans go, what waits, what is lost, what an agent feels of it, and how it ends."""

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from instrumentation.context import RUN, run
from instrumentation.export import Bounds, Pipeline, bounds_of
from instrumentation.mend import Mending
from instrumentation.wire import MAX_REQUEST_BYTES, RunSession, Wire
from tests.instrumentation.recorder import recording
from tests.instrumentation.test_situations import clean
from tests.support.forked import PYDANTIC_AI, run_forked
from tests.support.ports import free_port
from tests.support.timing import Late, patient, within


class FakeWire:
    """Takes what it is given, unless it is told to refuse, to be away or to be slow."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.times: list[float] = []
        self.away = False
        self.refuses = False
        self.held = threading.Event()
        self.held.set()
        self.gave_up = False
        self.status: int | None = 200
        self.reason = "no answer"

    def send(self, spans: Sequence[ReadableSpan]) -> tuple[int, list[ReadableSpan]]:
        self.held.wait(20)
        self.times.append(time.monotonic())
        if self.away:
            return 0, list(spans)
        if self.refuses:
            return len(spans), []
        self.batches.append([span.name for span in spans])
        return 0, []

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    def give_up(self) -> None:
        self.gave_up = True

    def renew(self) -> None:
        self.reason = "renewed"

    def close(self) -> None: ...


@contextmanager
def pipeline(
    wire: Any, *, batch: bool = True, **bounds: Any
) -> Iterator[tuple[Pipeline, Callable[[str], None]]]:
    """A pipeline on a provider of its own, and how to end a span of a name."""
    made = Pipeline(wire=wire, mend=Mending().mend, bounds=Bounds(**bounds), batch=batch)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(made)
    tracer = provider.get_tracer("tests")
    try:
        yield made, lambda name: tracer.start_span(name).end()
    finally:
        made.end(0.1)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@patient
def test_the_first_spans_go_soon_and_later_ones_in_batches() -> None:
    wire = FakeWire()
    with pipeline(wire, first_delay_seconds=0.05, delay_seconds=0.6) as (_, end):
        with within(0.4):
            end("first")
            until(lambda: wire.names == ["first"])
        with within(0.2):
            for name in "abc":
                end(name)
        until(lambda: len(wire.batches) == 2)
        assert wire.batches[1] == ["a", "b", "c"]
        assert wire.times[1] - wire.times[0] > 0.4


def test_a_full_batch_goes_at_once() -> None:
    wire = FakeWire()
    with pipeline(wire, first_delay_seconds=60, delay_seconds=60, batch_spans=10) as (_, end):
        for n in range(10):
            end(str(n))
        until(lambda: len(wire.names) == 10)


def test_a_flush_sends_everything_and_says_so() -> None:
    wire = FakeWire()
    with pipeline(wire, first_delay_seconds=60, batch_spans=4) as (made, end):
        for n in range(10):
            end(str(n))
        assert made.flush(5)
        assert len(wire.names) == 10


@patient
def test_a_flush_keeps_its_time_and_says_when_it_was_not_enough() -> None:
    wire = FakeWire()
    wire.held.clear()
    with pipeline(wire) as (made, end):
        end("a")
        with within(1):
            assert not made.flush(0.2)
        wire.held.set()
        assert made.flush(5)


def test_what_is_refused_is_lost_once_and_said(caplog: pytest.LogCaptureFixture) -> None:
    wire = FakeWire()
    wire.refuses = True
    with pipeline(wire) as (made, end):
        end("a")
        assert not made.flush(5)
        wire.refuses = False
        assert made.flush(5)
    assert "refused permanently" in caplog.text


def test_what_cannot_be_sent_waits_in_order_and_one_warning_tells(caplog: pytest.LogCaptureFixture) -> None:
    wire = FakeWire()
    wire.away = True
    with pipeline(wire, first_delay_seconds=0.01, delay_seconds=0.01) as (made, end):
        for name in "abc":
            end(name)
            assert not made.flush(0.2)  # tries at once, whatever the pause
        assert len(wire.times) >= 3
        wire.away = False
        assert made.flush(5)
        assert wire.names == ["a", "b", "c"]
        told = [r.getMessage() for r in caplog.records if r.name == "instrumentation"]
    assert len([text for text in told if "can't be sent" in text]) == 1
    assert len([text for text in told if "sent again" in text]) == 1


def test_the_queue_is_bounded_and_counts_what_it_loses() -> None:
    wire = FakeWire()
    wire.held.clear()
    with pipeline(wire, queue_spans=20, batch_spans=5, first_delay_seconds=0) as (made, end):
        for n in range(100):
            end(str(n))
        assert made.lost_spans >= 70
        wire.held.set()
        assert not made.flush(5)
        assert len(wire.names) + made.lost_spans == 100


@patient
def test_ending_a_span_costs_the_agent_next_to_nothing_whatever_the_endpoint_does() -> None:
    wire = FakeWire()
    wire.held.clear()
    waited, worked = [], []
    with pipeline(wire) as (_, end):
        end("warm")
        for n in range(500):
            began, began_work = time.perf_counter(), time.thread_time()
            end(str(n))
            waited.append(time.perf_counter() - began)
            worked.append(time.thread_time() - began_work)
        assert not wire.held.is_set()  # whoever had waited for the endpoint would not have come here
        wire.held.set()
    assert max(worked) < 0.05
    if sorted(waited)[-6] >= 0.05:  # a busy machine may take the thread away now and then
        raise Late(f"waited {sorted(waited)[-6]:.2f} s")


def test_the_end_sends_what_is_left() -> None:
    wire = FakeWire()
    with pipeline(wire, first_delay_seconds=60) as (made, end):
        end("a")
        made.end(5)
        end("too late")
    assert wire.names == ["a"]
    assert wire.gave_up


@patient
def test_the_end_waits_for_a_dead_endpoint_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    wire = FakeWire()
    wire.held.clear()
    with pipeline(wire) as (made, end):
        end("a")
        with within(1.5):
            made.end(0.3)
        wire.held.set()
    assert "1 spans could not be sent before the end" in caplog.text


def test_simple_mode_sends_each_span_as_it_ends() -> None:
    wire = FakeWire()
    with pipeline(wire, batch=False) as (made, end):
        end("a")
        assert wire.batches == [["a"]]
        assert made.flush(1)


def test_a_span_that_cannot_be_mended_is_sent_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    wire = FakeWire()

    def fail(span: ReadableSpan) -> ReadableSpan:
        raise RuntimeError("a bug")

    made = Pipeline(wire=wire, mend=fail, bounds=Bounds())  # type: ignore[arg-type]
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(made)
    provider.get_tracer("tests").start_span("a").end()
    assert made.flush(5)
    assert wire.names == ["a"]
    made.end(0.1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_sends_its_own_spans_and_not_its_parents() -> None:
    wire = FakeWire()
    with pipeline(wire, first_delay_seconds=60) as (made, end):
        end("parent")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            end("child")
            made.flush(5)
            os.write(writer, f"{','.join(wire.names)} {wire.reason}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1000) == b"child renewed"
        assert wire.reason != "renewed"
        assert made.flush(5)
        assert wire.names == ["parent"]


class Recording:
    """An exporter that notes what the session would send along."""

    def __init__(self, session: RunSession) -> None:
        self.session = session
        self.sent: list[tuple[str | None, list[str]]] = []

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.sent.append((self.session.run_id, [span.name for span in spans]))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def spans_of(*runs: str | None, size: int = 10) -> list[ReadableSpan]:
    return [
        ReadableSpan(name=f"{number}", attributes={"text": "x" * size, **({RUN: each} if each else {})})
        for number, each in enumerate(runs)
    ]


def test_each_run_has_requests_of_its_own() -> None:
    session = RunSession()
    exporter = Recording(session)
    wire = Wire(exporter, session)  # type: ignore[arg-type]
    assert wire.send(spans_of("r1", None, "r1", "r2")) == (0, [])
    assert exporter.sent == [("r1", ["0", "2"]), (None, ["1"]), ("r2", ["3"])]
    wire.close()


def test_a_body_that_would_be_too_large_goes_in_parts() -> None:
    session = RunSession()
    exporter = Recording(session)
    wire = Wire(exporter, session)  # type: ignore[arg-type]
    wire.send(spans_of(*[None] * 4, size=MAX_REQUEST_BYTES // 3))
    assert [names for _, names in exporter.sent] == [["0", "1"], ["2", "3"]]
    wire.close()


def test_a_dead_endpoint_is_a_later_and_the_exporter_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    from instrumentation.handle import open_wire

    wire = open_wire(f"http://127.0.0.1:{free_port()}/v1/traces", None, None)
    threading.Timer(0.3, wire.give_up).start()
    provider = TracerProvider(shutdown_on_exit=False)
    with run("r"):
        span = provider.get_tracer("tests").start_span("a")
    span.end()
    refused, later = wire.send([span])  # type: ignore[list-item]
    assert (refused, len(later), wire.status) == (0, 1, None)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    wire.close()


BOUNDS = {
    "nothing_set": ({}, Bounds()),
    "delay": (
        {"OTEL_BSP_SCHEDULE_DELAY": "5000"},
        Bounds(delay_seconds=5, first_delay_seconds=0.2),
    ),
    "a_short_delay_holds_for_the_first_too": (
        {"OTEL_BSP_SCHEDULE_DELAY": "50"},
        Bounds(delay_seconds=0.05, first_delay_seconds=0.05),
    ),
    "sizes": (
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7", "OTEL_BSP_MAX_QUEUE_SIZE": "70"},
        Bounds(batch_spans=7, queue_spans=70),
    ),
}


@pytest.mark.parametrize(("environment", "bounds"), BOUNDS.values(), ids=BOUNDS)
def test_the_standard_variables_set_the_bounds(environment: dict[str, str], bounds: Bounds) -> None:
    assert bounds_of(environment) == bounds


@pytest.mark.parametrize("text", ["-1", "many", "0", "1.5"])
def test_a_bound_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="OTEL_BSP_MAX_QUEUE_SIZE"):
        bounds_of({"OTEL_BSP_MAX_QUEUE_SIZE": text})


SIGTERM_CODE = """
import os, signal, sys
import instrumentation
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
{before}
instrumentation.configure()
Agent(TestModel(), name="test").run_sync("x")
os.kill(os.getpid(), signal.SIGTERM)
print("went on")
"""


def test_a_process_that_is_terminated_sends_what_is_left_and_ends_by_the_signal() -> None:
    with recording() as recorder:
        done = run_python(SIGTERM_CODE.format(before=""), SIDESPAN_ENDPOINT=recorder.url)
        assert (done.returncode, done.stdout) == (-15, "")
        assert len(recorder.spans) == 2


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    with recording() as recorder:
        handles = "signal.signal(signal.SIGTERM, lambda *_: print('handled'))"
        done = run_python(SIGTERM_CODE.format(before=handles), SIDESPAN_ENDPOINT=recorder.url)
        assert (done.returncode, done.stdout.split()) == (0, ["handled", "went", "on"])


@patient
def test_a_dead_endpoint_holds_the_end_of_a_process_for_seconds_at_the_most() -> None:
    with within(9):
        done = run_python(
            "import instrumentation\nfrom pydantic_ai import Agent\n"
            "from pydantic_ai.models.test import TestModel\n"
            "instrumentation.configure()\nAgent(TestModel(), name='test').run_sync('x')",
            SIDESPAN_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        )
    assert done.returncode == 0
    assert len(done.stderr.strip().splitlines()) <= 2


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_forked("-c", code, imported=PYDANTIC_AI, environment=clean(**environment))
