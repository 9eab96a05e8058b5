"""From the journal into the index: batches, helping processes, deaths, entries that can't be read."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb import take as take_module
from collector.index.duckdb.take import Taker
from collector.index.feed import ALONE_AFTER, CONSUMER, SKIP_AFTER, Indexer
from collector.index.protocol import IndexAway, IndexedBatch, Lane
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.mlflow.client import MlflowUnreachable
from collector.model.batch import Draft, Position, Route, Signal
from collector.model.experiment import ExperimentReference
from collector.settings import JournalSettings
from collector.spans.facts import export_facts
from collector.telemetry.metrics import Metrics
from tests.support.indexed import content, put, store_in
from tests.support.logs import logs, record, result
from tests.support.otlp import agent_export, all_spans

ROUTE = Route(experiment_id="1")


def draft(payload: bytes, trace_ids: set[bytes], spans: int = 6, route: Route = ROUTE) -> Draft:
    return Draft(lane=route.lane, payload=payload, span_count=spans, trace_ids=frozenset(trace_ids))


def agent_draft(route: Route = ROUTE) -> Draft:
    request = agent_export()
    ids = {span.trace_id for span in all_spans(request)}
    return draft(request.SerializeToString(), ids, route=route)


@asynccontextmanager
async def journal_in(folder: Path, **settings: Any) -> AsyncIterator[SqliteJournal]:
    async with open_journal(
        folder,
        settings=JournalSettings(min_free_disk_bytes=0, **settings),
        consumers=("delivery",),
        followers=(CONSUMER,),
        log_followers=(CONSUMER,),
        keep_claims=10,
    ) as journal:
        yield journal


def taken(taker: Taker, *lanes: Lane, limit_spans: int = 10**6) -> int:
    """All that there is; how many spans."""
    total = 0
    for _ in range(100):
        found = taker.take(lanes, limit_spans=limit_spans)
        total += found.spans
        if not found.more:
            return total
    raise AssertionError("it never ends")


LANE = Lane(lane=ROUTE.lane, experiment=ExperimentReference(id="1"))


@pytest.mark.parametrize("processes", [1, 3])
async def test_batches_and_helping_processes_end_in_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(take_module, "SHARED_FROM_SPANS", 10)
    async with journal_in(tmp_path) as journal:
        drafts = [agent_draft() for _ in range(30)]
        split = agent_export()
        spans = all_spans(split)
        # a trace in two entries, far apart
        for at, half in ((0, spans[:3]), (31, spans[3:])):
            part = type(split)()
            part.resource_spans.add().scope_spans.add().spans.extend(half)
            drafts.insert(at, draft(part.SerializeToString(), {spans[0].trace_id}, 3))
        for each in drafts:
            await journal.log.append([each])

        def run() -> None:
            with store_in(tmp_path / "whole") as store:
                taker = Taker(store, tmp_path / FILE_NAME, processes=1, preview_characters=200)
                assert taken(taker, LANE) == 186
                expected = content(store)
            with store_in(tmp_path / "parts") as store:
                taker = Taker(store, tmp_path / FILE_NAME, processes=processes, preview_characters=200)
                assert taken(taker, LANE, limit_spans=40) == 186
                assert taken(taker, LANE) == 0
                taker.close()
                found = content(store)
            seen = 6  # when a trace was first seen is when its first batch came
            assert [row[:seen] + row[seen + 1 :] for row in found[0]] == [
                row[:seen] + row[seen + 1 :] for row in expected[0]
            ]
            assert found[1] == expected[1]

        await asyncio.to_thread(run)


async def test_scores_are_read_from_log_records_and_spans_and_the_rest_of_logs_is_passed(
    tmp_path: Path,
) -> None:
    logged = Lane(lane=ROUTE.lane_of(Signal.LOGS), experiment=ExperimentReference(id="1"))
    carrying = agent_export()
    root = all_spans(carrying)[0]
    root.attributes.add(key="annotations.0.annotation.name").value.string_value = "tone"
    root.attributes.add(key="annotations.0.annotation.label").value.string_value = "kind"
    said = [
        result("helpful", value=0.5, trace_id=root.trace_id),
        result("of_a_session", value=0.5, session__id="s-1"),
        result("late", value=1.0, trace_id=root.trace_id, time_unix_nano=2**64 - 1),
        record("gen_ai.choice", trace_id=root.trace_id, span_id=root.span_id),
    ]
    async with journal_in(tmp_path) as journal:
        await journal.log.append([draft(carrying.SerializeToString(), {root.trace_id})])
        for payload in (logs(*said).SerializeToString(), b"\xff gen_ai.evaluation.result"):
            await journal.log.append([replace(draft(payload, {root.trace_id}, 4), lane=logged.lane)])
        assert [lane.lane for lane in await journal.consumer(CONSUMER).pending()] == [LANE.lane, logged.lane]

        def run() -> None:
            with store_in(tmp_path / "index") as store:
                taker = Taker(store, tmp_path / FILE_NAME, processes=1, preview_characters=200)
                batch = taker.take([LANE, logged])
                assert (batch.spans, batch.unreadable, batch.more) == (6, 1, False)
                store.forget_cursors()
                taker.take([LANE, logged])
                rows = store.db.execute("SELECT name, value, label FROM scores ORDER BY name").fetchall()
                assert rows == [("helpful", 0.5, None), ("late", 1.0, None), ("tone", None, "kind")]
                assert store.counts() == (1, 6)

        await asyncio.to_thread(run)


async def test_what_comes_in_otherwise_while_a_batch_is_begun_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_module, "SHARED_FROM_SPANS", 1)
    async with journal_in(tmp_path) as journal:
        whole = agent_export()
        spans = all_spans(whole)
        part = type(whole)()
        part.resource_spans.add().scope_spans.add().spans.extend(spans[:3])
        for each in (agent_draft(), agent_draft(), draft(part.SerializeToString(), {spans[0].trace_id}, 3)):
            await journal.log.append([each])

        def run() -> None:
            with store_in(tmp_path / "index") as store:
                taker = Taker(store, tmp_path / FILE_NAME, processes=2, preview_characters=200)
                assert taker.take([LANE], limit_spans=12).more  # the last entry is begun
                taker.put_off()
                put(
                    store, list(export_facts(whole)), experiment=ExperimentReference(id="1")
                )  # as a backfill does
                assert taker.take([LANE], limit_spans=12).spans == 3
                taker.close()
                assert store.counts() == (3, 18)
                assert [file.name for file in (tmp_path / "index").glob("batch*")] == []

        await asyncio.to_thread(run)


async def test_what_was_put_and_not_said_so_is_not_read_again(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await journal.log.append([agent_draft()])
        with store_in(tmp_path / "index") as store:
            taker = Taker(store, tmp_path / FILE_NAME, processes=1, preview_characters=200)
            taker.follow()
            first = taker.take([LANE])
            assert first.spans == 6
            # the service died here: its cursor didn't move
            again = taker.take([LANE])
            assert (again.spans, again.cursors) == (0, first.cursors)


async def test_an_entry_that_is_no_otlp_costs_itself_only(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        for each in (agent_draft(), draft(b"\xff\xff no protobuf", {b"x" * 16}, 1), agent_draft()):
            await journal.log.append([each])
        with store_in(tmp_path / "index") as store:
            taker = Taker(store, tmp_path / FILE_NAME, processes=1, preview_characters=200)
            found = taker.take([LANE])
            assert (found.unreadable, store.counts()) == (1, (2, 12))


async def test_the_journal_waits_for_the_index_only_while_it_is_less_than_half_full(tmp_path: Path) -> None:
    async with journal_in(tmp_path, max_bytes=4 * 1024 * 1024) as journal:
        last = await journal.log.append([agent_draft()])
        await journal.consumer("delivery").commit(ROUTE.lane, through=last)
        assert await journal.sweep() == 0
        assert len(await journal.consumer(CONSUMER).pending()) == 1
        for number in range(40):
            last = await journal.log.append([draft(os.urandom(60_000), {number.to_bytes(16, "big")})])
        await journal.consumer("delivery").commit(ROUTE.lane, through=last)
        await journal.sweep()
        assert await journal.consumer(CONSUMER).pending() == []


@dataclass
class FakeIndex:
    """Answers or dies as told; takes one entry at a time, as the process would."""

    journal: SqliteJournal
    poison: Position | None = None
    down: bool = False
    asked: list[int] = field(default_factory=list)
    named: list[Any] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    trouble: str | None = None
    starting: bool = False

    async def ready(self) -> None:
        pass

    async def name(self, experiment: ExperimentReference) -> None:
        self.named.append(experiment)

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        self.asked.append(limit_spans)
        cursors, spans = {}, 0
        for each in lanes:
            entries = await self.journal.consumer(CONSUMER).read(each.lane, limit_bytes=10**9)
            for entry in entries[: 1 if limit_spans == 1 else None]:
                if self.down or entry.position == self.poison:
                    raise IndexAway("its process ended")
                cursors[each.lane] = entry.position.token
                spans += entry.span_count
        return IndexedBatch(
            spans=spans,
            cursors=cursors,
            unreadable=0,
            failed=0,
            more=False,
            unnamed=[ExperimentReference(id="1")],
        )


class NoMlflow:
    async def get(self, *_: Any, **__: Any) -> Any:
        raise MlflowUnreachable("no connection")


async def look(indexer: Indexer) -> None:
    """Until there is nothing more; deaths are survived as `run` survives them."""
    for _ in range(60):
        try:
            if not await indexer.look():
                return
        except IndexAway:
            continue
    raise AssertionError("it never ends")


async def test_an_entry_that_kills_the_index_is_passed_over_and_its_neighbours_are_not(
    tmp_path: Path,
) -> None:
    async with journal_in(tmp_path) as journal:
        positions = [await journal.log.append([agent_draft()]) for _ in range(5)]
        index, metrics = FakeIndex(journal, poison=positions[2]), Metrics()
        await look(Indexer(journal.consumer(CONSUMER), index, NoMlflow(), metrics))
        assert await journal.consumer(CONSUMER).pending() == []
        assert index.asked.count(1) > 0 and index.asked[:ALONE_AFTER] == [24_000] * ALONE_AFTER
        assert metrics.index_skipped._value.get() == 1
        assert metrics.indexed_spans._value.get() == 24
        assert len(index.asked) < 5 + 3 * SKIP_AFTER


async def test_while_the_index_is_away_nothing_moves_and_the_lag_grows(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await journal.log.append([agent_draft()])
        indexer = Indexer(journal.consumer(CONSUMER), FakeIndex(journal, down=True), NoMlflow(), Metrics())
        with pytest.raises(IndexAway):
            await indexer.look()
        await asyncio.sleep(0.05)
        assert indexer.lag_seconds > 0.04
        assert indexer.known_lag_seconds is not None
        assert len(await journal.consumer(CONSUMER).pending()) == 1
