"""What makes no progress is seen, and what can't be added or stored costs no delivery."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.answers.health import ServiceHealth
from collector.answers.rights import EVERYTHING
from collector.delivery import worker as worker_module
from collector.delivery.mlflow import window as window_module
from collector.delivery.mlflow.forward import Forwarded, forwarder
from collector.index.duckdb.engine import is_about_the_data
from collector.index.duckdb.shard import write_rows
from collector.index.feed import Indexer
from collector.index.protocol import BatchRefused, IndexedBatch
from collector.index.rows.gathered import Gathered
from collector.model.faults import Faults
from collector.receivers.bounds import InFlightBounds
from collector.receivers.grpc.opening import NO_GRPC
from collector.settings import HarmoniseSettings
from collector.telemetry.fault_log import AGAIN_SECONDS, FaultLog
from collector.telemetry.metrics import Metrics
from tests.collector.index.test_index_consumer import (
    CONSUMER,
    FakeIndex,
    NoMlflow,
    agent_draft,
    journal_in,
    look,
)
from tests.support.fake_mlflow import mlflow_error
from tests.support.indexed import made_trace, store_in
from tests.support.otlp import export
from tests.support.stage import ONE, TWO, Stage, named, until


def raised(text: str = "secret") -> Faults:
    faults = Faults()
    try:
        raise ValueError(text)
    except ValueError as error:
        faults.add(error)
    return faults


async def test_a_lane_that_a_bug_holds_up_is_named_and_the_others_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = window_module.deliver_window

    async def fail_in_one(entries: Any, *, lane: str, **others: Any) -> Any:
        if lane == ONE.lane:
            raise RuntimeError("secret content")
        return await whole(entries, lane=lane, **others)

    monkeypatch.setattr(window_module, "deliver_window", fail_in_one)
    await stage.append(export(), ONE)
    await stage.append(named("good"), TWO)
    with caplog.at_level(logging.ERROR):
        worker = await stage.start()
        await until(lambda: _is(bool(worker.stuck()) and bool(stage.mlflow.names)))
        health = ServiceHealth(
            log=stage.journal.log,
            consumer=stage.consumer,
            worker=worker,
            logs=stage.journal.consumer("logs"),
            log_worker=worker,
            bounds=InFlightBounds(max_requests=1, max_bytes=1),
            mlflow=stage.target.mlflow,
            max_bytes=1,
            grpc=NO_GRPC.to_json(),
        )
        found = await health.read(rights=EVERYTHING)
        await asyncio.sleep(0.3)
    part = found["parts"]["delivery"]
    (lane,) = part["stuck_lanes"]
    assert not part["ok"] and "no progress" in part["reason"]
    assert found["ready"], "data is still taken"
    assert (lane["experiment_id"], "RuntimeError" in lane["reason"]) == ("1", True)
    assert lane["since"].endswith("+00:00")
    assert stage.mlflow.names == {"good-0"}
    assert await stage.pending() == 1
    assert caplog.text.count("a lane makes no progress") == 1
    assert caplog.text.count("could not be processed") == 1
    assert "secret" not in str(found)


async def _is(value: bool) -> bool:
    return value


async def test_a_lane_that_waits_while_mlflow_takes_others_is_stuck_after_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(request: web.Request, _: list[Span]) -> web.StreamResponse | None:
        is_one = request.headers["x-mlflow-experiment-id"] == "1"
        return mlflow_error(503, "TEMPORARILY_UNAVAILABLE") if is_one else None

    stage.mlflow.fault = fault
    await stage.append(export(), ONE)
    worker = await stage.start()
    await until(stage.waits)
    assert worker.stuck(target_answers=True) == [], "it has not waited for long"
    monkeypatch.setattr(worker_module, "STUCK_SECONDS", 0.0)
    assert worker.stuck() == [], "MLflow may be away"
    await stage.append(export(), TWO)
    await until(lambda: _is(bool(worker.stuck())))


async def test_a_span_that_mlflow_refuses_for_what_was_added_is_sent_as_it_came(stage: Stage) -> None:
    def fault(_: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        added = any(pair.key == "mlflow.spanType" for span in spans for pair in span.attributes)
        return mlflow_error(400, "INVALID_PARAMETER_VALUE") if added else None

    stage.forward = forwarder(HarmoniseSettings())
    stage.mlflow.fault = fault
    await stage.append(export(spans=2))
    await stage.start()
    await stage.drained()
    assert await stage.letters() == []
    assert stage.counted("sidespan_spans_delivered_total") == 2
    withdrawn = {"processor": "harmonise", "outcome": "withdrawn"}
    assert stage.counted("sidespan_processor_spans_total", **withdrawn) == 2


async def test_what_a_step_raises_costs_what_it_adds(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> Forwarded:
        raise RuntimeError("a bug")

    stage.forward = fail
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await stage.append(export(spans=2))
        await stage.start()
        await stage.drained()
    assert stage.counted("sidespan_spans_delivered_total") == 6
    assert stage.counted("sidespan_processor_spans_total", processor="forward", outcome="failed") == 6
    assert caplog.text.count("a step before has failed") == 1


async def test_clients_marks_are_not_delivered(stage: Stage) -> None:
    request = export()
    for key in ("sidespan.added", "sidespan.replaced"):
        request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key=key).value.string_value = "[]"
    await stage.append(request)
    await stage.start()
    await stage.drained()
    ((_, (span,), _),) = stage.mlflow.requests
    assert [pair.key for pair in span.attributes] == []


def test_a_place_is_logged_once_an_hour_without_the_message(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = FaultLog(clock=lambda: now[0])
    with caplog.at_level(logging.ERROR):
        for _ in range(100):
            log.tell("it failed", raised())
        assert len(caplog.records) == 1
        now[0] = AGAIN_SECONDS
        log.tell("it failed", raised())
    assert len(caplog.records) == 2
    assert "raised" in vars(caplog.records[0])["traceback"]
    assert "secret" not in vars(caplog.records[0])["traceback"].splitlines()[-1]


class RefusingIndex(FakeIndex):
    """Refuses rows of one entry, as the process does where DuckDB can't store them."""

    async def take(self, lanes: Any, *, limit_spans: int) -> IndexedBatch:
        poison, self.poison = self.poison, None
        try:
            held = [
                entry.position
                for each in lanes
                for entry in await self.journal.consumer(CONSUMER).read(each.lane, limit_bytes=10**9)
            ]
            if poison in (held[:1] if limit_spans == 1 else held):
                self.asked.append(limit_spans)
                raise BatchRefused("ConversionException")
            return await super().take(lanes, limit_spans=limit_spans)
        finally:
            self.poison = poison


async def test_rows_that_cannot_be_stored_cost_their_entry_alone(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        positions = [await journal.log.append([agent_draft()]) for _ in range(5)]
        index, metrics = RefusingIndex(journal, poison=positions[2]), Metrics()
        await look(Indexer(journal.consumer(CONSUMER), index, NoMlflow(), metrics))
        assert await journal.consumer(CONSUMER).pending() == []
        assert metrics.index_skipped._value.get() == 1
        assert metrics.indexed_spans._value.get() == 24


def test_only_what_the_data_is_to_blame_for_is_passed_over() -> None:
    import duckdb

    assert is_about_the_data(ValueError()) and is_about_the_data(duckdb.ConversionException())
    assert not any(map(is_about_the_data, (OSError(), duckdb.IOException(), duckdb.FatalException())))


def test_a_span_without_rows_leaves_its_neighbours_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collector.index.rows import gathered

    trace_rows = gathered.trace_rows
    spans = next(each for each in map(made_trace, range(50)) if sum(s.tool is not None for s in each) == 1)

    def fail_at_tools(spans: Any, **others: Any) -> Any:
        if any(span.tool for span in spans):
            raise RuntimeError("a bug")
        return trace_rows(spans, **others)

    monkeypatch.setattr(gathered, "trace_rows", fail_at_tools)
    with store_in(tmp_path) as store:
        batch = write_rows(
            {(1, spans[0].trace_id): Gathered(spans=spans)},
            into=tmp_path,
            name="t",
            preview_characters=9,
        )
        store.put([batch], {})
        assert batch.faults.count == 1
        assert store.counts() == (1, len(spans))
        models = store.db.execute("SELECT count(model) FROM spans").fetchone()
        assert models == (sum(span.model is not None for span in spans),)
