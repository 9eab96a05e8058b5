"""Sampling as a consumer: what it lets pass, what it waits for, what a restart finds."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.journal.sqlite.journal import SqliteConsumer
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Draft, Parked
from collector.sampling.consumer import CONSUMER, Sampler, rest
from tests.support.otlp import all_spans
from tests.support.sampled import ONE, TWO, Sampled, draft, span
from tests.support.stage import Stage, named, until
from tests.support.timing import patient, within

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
SHORT = {"wait_seconds": 0.2}


@pytest.fixture
def values() -> dict[str, Any]:
    """A test that needs other settings overrides this fixture."""
    return {}


@pytest.fixture
async def sampled(tmp_path: Path, values: dict[str, Any]) -> AsyncIterator[Sampled]:
    sampled = Sampled(tmp_path, values)
    await sampled.open()
    yield sampled
    await sampled.stack.aclose()


async def test_a_trace_is_decided_once_its_root_is_there(sampled: Sampled) -> None:
    await sampled.append(span(A, error=True, name="child"))
    await sampled.sampler.look()
    assert await sampled.passed() == []
    assert sampled.sampler.open_traces == 1
    await sampled.append(span(A, root=True, name="root"))
    await sampled.sampler.look()
    assert await sampled.passed() == ["child", "root"]
    assert await sampled.reason(A) == "error"
    assert sampled.sampler.open_traces == 0


async def test_a_backlog_is_judged_whole(sampled: Sampled) -> None:
    await sampled.append(span(A, root=True))
    await sampled.append(span(B, root=True))
    await sampled.append(span(A, error=True))
    await sampled.append(span(B, error=True), lane=TWO)
    await sampled.sampler.look()
    assert [await sampled.reason(A), await sampled.reason(B)] == ["error", "error"]


async def test_dropped_traces_are_not_forwarded_and_kept_ones_are_whole(sampled: Sampled) -> None:
    await sampled.append(span(A), span(B), span(A, root=True), span(B, root=True, error=True))
    await sampled.sampler.look()
    assert {span.trace_id for span in await sampled.delivered()} == {B}
    assert (sampled.counted("kept", "error"), sampled.counted("dropped", "not_sampled")) == (1, 1)


@pytest.mark.parametrize("end", ["none", "crash", "restart"])
async def test_late_spans_follow_the_decision_on_their_trace(sampled: Sampled, end: str) -> None:
    await sampled.append(span(A, root=True), span(B, root=True, error=True))
    await sampled.sampler.look()
    assert len(await sampled.delivered()) == 1
    if end != "none":
        await getattr(sampled, end)()
    await sampled.append(span(A, error=True), span(B))
    await sampled.sampler.look()
    assert [span.trace_id for span in await sampled.delivered()] == [B]
    assert [await sampled.reason(A), await sampled.reason(B)] == ["not_sampled", "error"]
    assert sampled.counted("kept", "error") == (1 if end == "none" else 0), "a trace is counted once"


@pytest.mark.parametrize("end", ["crash", "restart"])
async def test_what_was_seen_of_an_open_trace_is_read_again(sampled: Sampled, end: str) -> None:
    await sampled.append(span(A, error=True))
    await sampled.append(span(B, root=True))
    await sampled.sampler.look()
    await getattr(sampled, end)()
    await sampled.append(span(A, root=True))
    await sampled.sampler.look()
    assert [await sampled.reason(A), await sampled.reason(B)] == ["error", "not_sampled"]
    assert len(await sampled.delivered()) == 2


async def test_an_open_trace_holds_up_what_is_behind_it_in_its_lane_only(sampled: Sampled) -> None:
    await sampled.append(span(A, name="open"))
    await sampled.append(span(B, root=True, name="behind"))
    await sampled.append(span(C, root=True, name="elsewhere"), lane=TWO)
    await sampled.sampler.look()
    assert [await sampled.passed(ONE), await sampled.passed(TWO)] == [[], ["elsewhere"]]
    assert sampled.sampler.held_traces == 2
    await sampled.append(span(A, root=True, name="root"))
    await sampled.sampler.look()
    assert await sampled.passed(ONE) == ["open", "behind", "root"]
    assert sampled.sampler.held_traces == 0


async def test_an_entry_passes_when_the_last_of_its_traces_is_decided(sampled: Sampled) -> None:
    await sampled.append(span(A, root=True), span(B))
    await sampled.sampler.look()
    assert await sampled.passed() == []
    await sampled.append(span(B, root=True))
    await sampled.sampler.look()
    assert len(await sampled.passed()) == 3


async def test_an_entry_that_cant_be_judged_passes_and_is_kept(
    sampled: Sampled, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Draft(lane=ONE, payload=b"\xff\xff", span_count=1, trace_ids=frozenset({A, B}))
    await sampled.append(span(B))
    await sampled.journal.log.append([broken])
    await sampled.append(span(C, root=True))
    with caplog.at_level(logging.ERROR):
        await sampled.sampler.look()
    assert "can't be judged" in caplog.text
    assert await sampled.journal.consumer(CONSUMER).pending() == []
    assert [await sampled.reason(id) for id in (A, B, C)] == ["unreadable", "unreadable", "not_sampled"]
    assert sampled.counted("kept", "unreadable") == 2


async def test_a_damaged_entry_is_passed_on_and_is_a_dead_letter_of_delivery(sampled: Sampled) -> None:
    await sampled.append(span(A, root=True))
    with closing(sqlite3.connect(sampled.base / "0" / FILE_NAME)) as db, db:
        db.execute("UPDATE entries SET payload = ?", (b"what the disk made of it",))
    await sampled.append(span(B, error=True, root=True))
    await sampled.sampler.look()
    assert [await sampled.reason(A), await sampled.reason(B)] == ["unreadable", "error"]
    assert len(await sampled.passed()) == 1
    assert await sampled.journal.dead_letters(CONSUMER).list() == []
    (letter,) = await sampled.journal.dead_letters(DELIVERY).list()
    assert (letter.reason, letter.trace_ids) == ("damaged", {A})


async def test_a_retry_is_delivered_without_passing_through_sampling_again(sampled: Sampled) -> None:
    await sampled.append(span(A, error=True, root=True))
    await sampled.sampler.look()
    (entry,) = await sampled.delivery.read(ONE, limit_bytes=2**20, behind=CONSUMER)
    refused = Parked(
        **{each.name: getattr(entry, each.name) for each in fields(Draft)},
        reason="refused",
        message="m",
        received_unix_ns=entry.received_unix_ns,
    )
    await sampled.delivery.commit(ONE, through=entry.position, parked=[refused])
    await sampled.append(span(B))
    await sampled.journal.dead_letters(DELIVERY).retry(None)
    await sampled.sampler.look()
    assert await sampled.delivered() == [], "behind a trace that is not decided yet"
    await sampled.append(span(B, root=True))
    await sampled.sampler.look()
    assert [found.trace_id for found in await sampled.delivered()] == [A]
    assert sampled.counted("kept", "error") == 1


async def test_a_failed_commit_loses_nothing(sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    await sampled.append(span(A, error=True))
    await sampled.append(span(B, root=True))
    await sampled.sampler.look()
    await sampled.append(span(A, root=True))
    await sampled.append(span(C))

    async def fails(*args: object, **more: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteConsumer, "commit", fails)
        with pytest.raises(sqlite3.OperationalError):
            await sampled.sampler.run()
    assert await sampled.passed() == []
    task = asyncio.create_task(sampled.sampler.run())
    await until(lambda: has_passed(sampled, 3))
    task.cancel()
    assert [await sampled.reason(A), await sampled.reason(B)] == ["error", "not_sampled"]


async def test_an_end_between_two_lanes_doesnt_split_a_trace(
    sampled: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sampled.append(span(A, root=True), lane=ONE)
    await sampled.append(span(A), lane=TWO)
    commit = SqliteConsumer.commit

    async def dies(consumer: SqliteConsumer, lane: str, **more: Any) -> None:
        if lane == TWO:
            raise sqlite3.OperationalError("disk I/O error")
        await commit(consumer, lane, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteConsumer, "commit", dies)
        with pytest.raises(sqlite3.OperationalError):
            await sampled.sampler.run()
    assert [await sampled.passed(ONE), await sampled.passed(TWO)] == [["span"], []]
    await sampled.crash()
    await sampled.append(span(A, error=True), lane=TWO)
    await sampled.sampler.look()
    assert await sampled.reason(A) == "not_sampled"
    assert [await sampled.delivered(ONE), await sampled.delivered(TWO)] == [[], []]


async def has_passed(sampled: Sampled, spans: int) -> bool:
    return len(await sampled.passed()) == spans


class TestAShortWait:
    @pytest.fixture
    def values(self) -> dict[str, Any]:
        return SHORT

    async def test_a_trace_without_a_root_is_decided_after_its_time(self, sampled: Sampled) -> None:
        task = asyncio.create_task(sampled.sampler.run())
        started = time.monotonic()
        await sampled.append(span(A, error=True))
        await until(lambda: has_passed(sampled, 1), seconds=30)
        assert time.monotonic() - started >= 0.2
        assert await sampled.reason(A) == "error"
        task.cancel()

    async def test_a_clock_set_back_holds_up_nothing(
        self, sampled: Sampled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later = time.time_ns() + 3600 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: later)
            await sampled.append(span(A))
        task = asyncio.create_task(sampled.sampler.run())
        await until(lambda: has_passed(sampled, 1))
        task.cancel()

    async def test_a_trace_whose_time_ran_out_while_nobody_ran_is_decided_at_once(
        self, sampled: Sampled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sampled.append(span(A))
        await sampled.restart()
        await sampled.append(span(A, error=True))
        later = time.time_ns() + 3600 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: later)
        await sampled.sampler.look()
        assert await sampled.reason(A) == "error", "judged with all that came meanwhile"
        assert len(await sampled.passed()) == 2


class TestFewOpenTraces:
    @pytest.fixture
    def values(self) -> dict[str, Any]:
        return {"max_open_traces": 10}

    async def test_over_the_bound_the_oldest_are_decided_early(self, sampled: Sampled) -> None:
        ids = [bytes([number]) * 16 for number in range(100)]
        for id in ids:
            await sampled.append(span(id, name=str(id[0])))
        await sampled.sampler.look()
        assert sampled.sampler.open_traces == 10
        assert await sampled.passed() == [str(number) for number in range(90)]

    async def test_over_the_bound_those_with_a_root_go_first(self, sampled: Sampled) -> None:
        ids = [bytes([number]) * 16 for number in range(12)]
        await sampled.append(span(ids[0]))
        for id in ids[1:]:
            await sampled.append(span(id, root=True))
        await sampled.append(span(ids[0], error=True))
        await sampled.append(span(ids[11], error=True))
        await sampled.append(span(ids[1], error=True))
        await sampled.sampler.look()
        assert sampled.sampler.open_traces == 1
        await sampled.append(span(ids[0], root=True))
        await sampled.sampler.look()
        reasons = [await sampled.reason(ids[number]) for number in (0, 11, 1)]
        assert reasons == ["error", "error", "not_sampled"], "the third was decided before its error came"

    async def test_one_open_trace_cant_hold_up_any_number_of_others(self, sampled: Sampled) -> None:
        await sampled.append(span(A))
        for number in range(79):
            await sampled.append(span(bytes([number]) * 16, root=True))
            await sampled.sampler.look()
        assert await sampled.passed() == []
        await sampled.append(span(B, root=True))
        await sampled.sampler.look()
        assert len(await sampled.passed()) == 81


@patient
@pytest.mark.parametrize(
    ("busy_share", "shortest", "longest"),
    [(1.0, 0.12, 2.0), (0.0, 0.01, 0.1)],
    ids=["rests while others are busy", "goes on when nobody is"],
)
async def test_answers_to_clients_come_before_sampling(
    busy_share: float, shortest: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "process_time", lambda: time.monotonic() * busy_share)
    started = time.monotonic()
    with within(longest):
        await rest(worked_seconds=0.01)
    assert time.monotonic() - started >= shortest


async def test_delivery_gets_what_sampling_has_passed_and_gets_it_soon(tmp_path: Path) -> None:
    stage = Stage(tmp_path, behind=CONSUMER)
    await stage.open()
    await stage.start()
    sampler = Sampler(
        stage.journal.consumer(CONSUMER), stage.journal.traces, Sampled(tmp_path).keep(), stage.metrics
    )
    sampling = asyncio.create_task(sampler.run())
    request = named("late", spans=1)
    (root,) = all_spans(request)
    await stage.append(named("before"))
    await stage.drained()
    await stage.append(named("first"))
    await stage.journal.log.append([draft(span(root.trace_id, name="child"))])
    await stage.append(named("behind"))

    async def first_is_there() -> bool:
        return sampler.open_traces == 1 and "first-0" in stage.mlflow.names

    await until(first_is_there)
    assert stage.mlflow.names == {"before-0", "first-0"}
    with within(2):  # woken, not found by chance
        await stage.append(request)
        await stage.drained()
    assert stage.mlflow.names == {"before-0", "first-0", "child", "behind-0", "late-0"}
    assert await stage.consumer.pending() == []
    sampling.cancel()
    await stage.cancel()
    await stage.stack.aclose()
    await stage.server.aclose()
