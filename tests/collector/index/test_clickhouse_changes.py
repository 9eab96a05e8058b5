"""What is told of changes on ClickHouse: by any replica, through crashes and inserts that are slow."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.index.clickhouse import changes, preparing
from collector.index.clickhouse.schema import Layout
from collector.index.clickhouse.server import ClickhouseServer as Connection
from collector.index.feed import CONSUMER
from collector.index.protocol import Changes, ChangesQuery, Index, IndexUnreachable, Lane, Look, TellsChanges
from collector.journal.sqlite.journal import SqliteJournal
from collector.model.batch import Position, Route
from collector.model.experiment import ExperimentReference
from collector.settings import ClickhouseSettings, EnginePlace
from tests.collector.index.test_clickhouse_index import LANE, count
from tests.collector.index.test_index_consumer import agent_draft, journal_in
from tests.support.clickhouse_server import ClickhouseStage, open_on

pytestmark = pytest.mark.scale
MINUTE_NS = 60 * 10**9


async def told(index: Index, after: int | None, **more: Any) -> Changes:
    assert isinstance(index, TellsChanges)
    return await index.changes(ChangesQuery(after=after, most=50, **{"looks": [Look()]} | more))


def trace_ids(found: Changes) -> list[str]:
    return [json.loads(each.body)["trace"]["trace_id"] for each in found.traces]


@dataclass
class Replicas:
    """Two logs with an indexer each, and one that only asks, in one database."""

    place: EnginePlace
    logs: list[SqliteJournal]
    indexers: list[Index]
    asking: Index

    async def indexed(self, number: int) -> str:
        """A trace that one of them has taken in."""
        draft = agent_draft()
        await self.logs[number].log.append([draft])
        await self.take(number)
        (trace_id,) = draft.trace_ids
        return trace_id.hex()

    async def take(self, number: int, *, commits: bool = True) -> None:
        batch = await self.indexers[number].take([LANE], limit_spans=10**6)
        if commits:
            for lane, token in batch.cursors.items():
                await self.logs[number].consumer(CONSUMER).commit(lane, through=Position(token))


@pytest.fixture
async def replicas(clickhouse: ClickhouseStage, tmp_path: Path) -> AsyncIterator[Replicas]:
    place = clickhouse.place()
    async with AsyncExitStack() as stack:
        logs, indexers = [], []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            logs.append(await stack.enter_async_context(journal_in(tmp_path / name)))
            opened = open_on(clickhouse, logs[-1].consumer(CONSUMER), place=place)
            indexers.append(await stack.enter_async_context(opened))
        asking = await stack.enter_async_context(open_on(clickhouse, None, place=place))
        yield Replicas(place, logs, indexers, asking)


async def until_told(index: Index, after: int, wanted: set[str]) -> list[str]:
    """Follow as a reader does, from position to position, until all of these were told."""
    found: list[str] = []
    deadline = time.monotonic() + 180
    while not wanted <= set(found):
        assert time.monotonic() < deadline
        step = await told(index, after)
        assert step.oldest <= after <= step.newest, "no gap, and no way back"
        found += trace_ids(step)
        after = step.newest
        await asyncio.sleep(0.05)
    return found


async def test_who_only_asks_is_told_what_others_indexed(replicas: Replicas) -> None:
    start = (await told(replicas.asking, None)).newest
    ids = {await replicas.indexed(number) for number in (0, 1, 0, 1)}
    assert sorted(await until_told(replicas.asking, start, ids)) == sorted(ids)


async def test_a_position_of_one_replica_holds_at_another(replicas: Replicas) -> None:
    start = (await told(replicas.asking, None)).newest
    first = await replicas.indexed(0)
    await until_told(replicas.asking, start, {first})
    middle = (await told(replicas.asking, start)).newest
    second = await replicas.indexed(1)
    assert await until_told(replicas.indexers[0], middle, {second}) == [second]


async def test_a_note_that_arrives_late_is_told_to_those_who_were_past_it(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Connection.insert
    tried: list[float] = []

    def slow(self: Connection, table: str, *args: Any, **options: Any) -> None:
        if table == "changes" and not tried:
            # the server has its time, and then nobody sees the row for long
            tried.append(time.monotonic())
            time.sleep(changes.NOTED_WITHIN_SECONDS + 0.1)
            return
        insert(self, table, *args, **options)

    start = (await told(replicas.asking, None)).newest
    monkeypatch.setattr(Connection, "insert", slow)
    trace_id = await replicas.indexed(0)
    assert tried
    assert await until_told(replicas.asking, start, {trace_id}) == [trace_id]


async def test_what_was_stored_and_not_noted_is_told_when_it_comes_again(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Connection.insert

    def dies(self: Connection, table: str, *args: Any, **options: Any) -> None:
        if table == "changes":
            raise IndexUnreachable("the server is lost")
        insert(self, table, *args, **options)

    start = (await told(replicas.asking, None)).newest
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "insert", dies)
        with pytest.raises(IndexUnreachable):
            await replicas.indexed(0)
    connection = Connection(replicas.place, ClickhouseSettings())
    assert (count(connection, "spans"), count(connection, "changes")) == (6, 0)
    await asyncio.wait_for(replicas.indexers[0].ready(), 180)
    await replicas.take(0)
    (trace_id,) = [f"{int(id):032x}" for (id,) in connection.rows("SELECT trace_id FROM traces")]
    assert await until_told(replicas.asking, start, {trace_id}) == [trace_id]


async def test_a_batch_that_comes_again_whole_is_told_once(replicas: Replicas) -> None:
    start = (await told(replicas.asking, None)).newest
    await replicas.logs[0].log.append([agent_draft()])
    await replicas.take(0, commits=False)
    await replicas.take(0)
    last = await replicas.indexed(0)
    assert len(await until_told(replicas.asking, start, {last})) == 2


async def test_a_trace_whose_experiment_gets_its_id_later_is_told_under_it(replicas: Replicas) -> None:
    start = (await told(replicas.asking, None)).newest
    await replicas.indexers[0].name(ExperimentReference(id="9"))
    route = Route(experiment_name="desk")
    draft = agent_draft(route=route)
    (trace_id,) = draft.trace_ids
    await replicas.logs[0].log.append([draft])
    by_name = Lane(lane=route.lane, experiment=ExperimentReference(name="desk"))
    await replicas.indexers[0].take([by_name], limit_spans=10**6)
    await replicas.indexers[0].name(ExperimentReference(id="9", name="desk"))
    found = await until_told(replicas.asking, start, {trace_id.hex()})
    assert found == [trace_id.hex()]
    under_it = Look(experiment_ids=frozenset({"9"}))
    step = await told(replicas.asking, start, looks=[under_it])
    assert trace_ids(step) == [trace_id.hex()]


def noted_at(connection: Connection, position: int) -> None:
    """A note as an indexer made it at that time."""
    connection.command(
        "INSERT INTO changes (position, number, experiment, trace_id, seen_unix_ns, spans)"
        " SELECT toInt64(?), 0, 1, 1, 1, [1]",
        values=[position],
    )


@pytest.mark.parametrize(
    ("ages_minutes", "oldest_minutes", "newest_minutes"),
    [
        pytest.param([20, 16, 5, 1], 16, 1, id="behind_the_newest_old_one_all_is_known"),
        pytest.param([5, 1], 30, 1, id="with_new_ones_only_all_that_was_kept_is_known"),
        pytest.param([20], 20, 15, id="where_nothing_changes_positions_go_on_with_the_time"),
        pytest.param([], 30, 15, id="where_nothing_is_left_too"),
    ],
)
async def test_positions_that_are_known(
    replicas: Replicas, ages_minutes: list[int], oldest_minutes: int, newest_minutes: int
) -> None:
    connection = Connection(replicas.place, ClickhouseSettings())
    connection.command("INSERT INTO sidespan_schema VALUES (2, now() - INTERVAL 1 DAY)")
    now = time.time_ns()
    for minutes in ages_minutes:
        noted_at(connection, now - minutes * MINUTE_NS)
    found = await told(replicas.asking, None)
    ages = [(now - position) / MINUTE_NS for position in (found.oldest, found.newest)]
    assert ages == pytest.approx([oldest_minutes, newest_minutes], abs=0.9)


async def test_a_position_that_another_server_told_a_moment_ago_is_known(replicas: Replicas) -> None:
    connection = Connection(replicas.place, ClickhouseSettings())
    noted_at(connection, time.time_ns() - MINUTE_NS)
    ahead = time.time_ns() - changes.SETTLED_NS // 4
    found = await told(replicas.asking, ahead)
    assert (list(found.traces), found.newest) == ([], ahead)
    assert found.oldest <= ahead


async def test_a_database_that_is_new_knows_all_since_it_was_made(replicas: Replicas) -> None:
    found = await told(replicas.asking, None)
    assert found.oldest == found.newest
    assert 0 <= time.time_ns() - found.oldest < 10 * MINUTE_NS


async def test_an_index_of_before_is_followed_from_its_update_on(replicas: Replicas) -> None:
    connection = Connection(replicas.place, ClickhouseSettings())
    connection.command("DROP TABLE changes")
    connection.command("TRUNCATE TABLE sidespan_schema")
    connection.command("INSERT INTO sidespan_schema VALUES (1, now() - INTERVAL 1 DAY)")
    layout = Layout(database=replicas.place.name, cluster=None, replicated=False, max_age_seconds=1e9)
    await asyncio.to_thread(preparing.prepare, connection, layout)
    start = await told(replicas.asking, None)
    assert time.time_ns() - start.oldest < 10 * MINUTE_NS
    trace_id = await replicas.indexed(0)
    assert await until_told(replicas.asking, start.newest, {trace_id}) == [trace_id]
