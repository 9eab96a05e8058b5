"""The index on ClickHouse, beside its contract: starts, outages, crashes, repeats, schemas."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.index.clickhouse import examine_clickhouse, preparing, take
from collector.index.clickhouse import schema as schema_module
from collector.index.clickhouse.make import LoadedPiece, make_rows
from collector.index.clickhouse.schema import SCHEMA_VERSION, Layout, creation
from collector.index.clickhouse.server import ClickhouseServer as Connection
from collector.index.clickhouse.server import bind
from collector.index.feed import CONSUMER, Indexer
from collector.index.protocol import (
    IndexAway,
    IndexFailure,
    IndexQuery,
    IndexUnreachable,
    Lane,
    QueryKind,
    QueryTimedOut,
    TraceQuery,
)
from collector.model.batch import Draft, Route
from collector.model.errors import Misconfigured
from collector.model.experiment import ExperimentReference
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings
from collector.telemetry.metrics import Metrics
from tests.collector.index.test_index_consumer import NoMlflow, agent_draft, draft, journal_in
from tests.support.clickhouse_rows import put_rows, tables_on
from tests.support.clickhouse_server import ClickhouseServer, ClickhouseStage, open_on
from tests.support.indexed import made_spans
from tests.support.otlp import agent_export, all_spans

pytestmark = pytest.mark.scale
LANE = Lane(lane=Route(experiment_id="1").lane, experiment=ExperimentReference(id="1", name="shop"))
SETTINGS = ClickhouseSettings()
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def count(server: Connection, table: str, *, final: bool = True) -> int:
    return int(server.rows(f"SELECT count() FROM {table}", final=final)[0][0])


def piece_of(draft: Draft, sequence: int, experiment: int = 1) -> LoadedPiece:
    return LoadedPiece(
        sequence=sequence,
        experiment=experiment,
        run_id=None,
        received_unix_ns=10**18 + sequence,
        span_count=draft.span_count,
        trace_ids=draft.trace_ids,
        lane=draft.lane,
        payload=bytes(draft.payload),
    )


def test_an_insert_that_comes_twice_is_there_once(clickhouse: ClickhouseStage) -> None:
    with tables_on(clickhouse) as tables:
        pieces = [piece_of(agent_draft(), sequence) for sequence in range(1, 9)]
        made = make_rows(pieces, {}, preview_characters=200)
        for _ in range(2):
            tables.store.put(made.rows)
        server = tables.store.server
        assert [count(server, table, final=False) for table in ("traces", "spans")] == [8, 48]
        # other entries, even with the same spans, are not the same insert
        moved = [piece_of(Draft(**_fields(each)), each.sequence + 100) for each in pieces]
        tables.store.put(make_rows(moved, {}, preview_characters=200).rows)
        assert count(server, "spans", final=False) == 96
        assert [count(server, table) for table in ("traces", "spans")] == [8, 48]


def _fields(piece: LoadedPiece) -> dict[str, Any]:
    names = ("lane", "payload", "span_count", "trace_ids")
    return {name: getattr(piece, name) for name in names}


def test_what_was_held_up_does_not_undo_what_came_after(clickhouse: ClickhouseStage) -> None:
    whole = agent_export()
    ids = frozenset(span.trace_id for span in all_spans(whole))
    first, late = type(whole)(), type(whole)()
    for part, spans in ((first, all_spans(whole)[:4]), (late, all_spans(whole)[4:])):
        part.resource_spans.add().scope_spans.add().spans.extend(spans)
    with tables_on(clickhouse) as tables:
        pieces = [
            piece_of(draft(part.SerializeToString(), set(ids)), place)
            for place, part in ((7, first), (8, late))
        ]
        held_up = make_rows(pieces[:1], {}, preview_characters=200)
        tables.store.put(make_rows(pieces, {}, preview_characters=200).rows)
        tables.store.put(held_up.rows)
        rows = tables.store.server.rows("SELECT span_count FROM traces")
        assert (rows, tables.counts()) == ([(6,)], (1, 6))


def test_text_of_every_kind_comes_back_as_it_was(clickhouse: ClickhouseStage) -> None:
    texts = [
        "\\N",
        " led by spaces",
        "'",
        '"',
        "a,b",
        "\r\n",
        "\x00",
        "🎉",
        "\x1e",
        "NULL",
        "\\",
        "\t",
        "?",
        "{v0}",
    ]
    with tables_on(clickhouse) as tables:
        for number, text in enumerate(texts):
            request = agent_export()
            span = all_spans(request)[0]
            span.name = text
            part = type(request)()
            part.resource_spans.add().scope_spans.add().spans.append(span)
            piece = piece_of(draft(part.SerializeToString(), {span.trace_id}, 1), number + 1)
            tables.store.put(make_rows([piece], {}, preview_characters=200).rows)
        rows = tables.store.server.rows("SELECT name FROM spans")
        assert {name for (name,) in rows} == set(texts)
        for text in texts:
            assert tables.store.server.rows("SELECT count() FROM spans WHERE name = ?", [text]) == [(1,)]


def test_places_for_values_are_never_in_texts() -> None:
    sql, values = bind("SELECT '?' || ? FROM t WHERE a = ? AND b IS NOT DISTINCT FROM ?", ["x", 1, None])
    where = "a = {v1:Int64} AND b IS NOT DISTINCT FROM {v2:Nullable(String)}"
    assert sql == f"SELECT '?' || {{v0:String}} FROM t WHERE {where}"
    assert values == {"v0": "x", "v1": 1, "v2": None}


async def test_a_database_of_another_version_is_refused_with_the_way_out(clickhouse: ClickhouseStage) -> None:
    place = clickhouse.place()
    async with open_on(clickhouse, None, place=place):
        pass
    server = Connection(place, SETTINGS)
    server.command(f"INSERT INTO sidespan_schema (version) VALUES ({SCHEMA_VERSION + 1})")
    versions = f"schema version {SCHEMA_VERSION + 1}, and this Sidespan has {SCHEMA_VERSION}"
    with pytest.raises(Misconfigured, match=f"{versions}.* index.url another"):
        async with open_on(clickhouse, None, place=place):
            pass
    other = clickhouse.place()
    server = Connection(other, SETTINGS)
    server.command("CREATE TABLE traces (a Int8) ENGINE = Memory")
    with pytest.raises(Misconfigured, match="tables that Sidespan has not made"):
        async with open_on(clickhouse, None, place=other):
            pass


def test_tables_of_an_earlier_version_are_brought_up_to_date(
    clickhouse: ClickhouseStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tables_on(clickhouse) as tables:
        put_rows(tables, made_spans(range(3)))
        server = tables.store.server
        layout = Layout(database=server.place.name, cluster=None, replicated=False, max_age_seconds=1e9)
        for module in (preparing, schema_module):
            monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        step = "ALTER TABLE traces ADD COLUMN IF NOT EXISTS mood Nullable(String)"
        monkeypatch.setattr(schema_module, "STEPS", {SCHEMA_VERSION: lambda layout: [step]})
        for _ in range(2):
            preparing.prepare(server, layout)
        assert count(server, "traces") == 3
        assert server.rows("SELECT DISTINCT mood FROM traces") == [(None,)]
        assert preparing.stored_version(server, layout) == SCHEMA_VERSION + 1


@pytest.mark.parametrize("servers", ["clickhouse", "clickhouse_cluster"])
def test_tables_of_the_first_version_get_what_the_second_has(
    servers: str, request: pytest.FixtureRequest
) -> None:
    with tables_on(request.getfixturevalue(servers)) as tables:
        put_rows(tables, made_spans(range(3)))
        server, layout = tables.store.server, tables.layout
        added = {"changes", "daily_numbers"}
        for host in server.hosts:
            for name in added | {layout.stored(each) for each in added}:
                server.command(f"DROP TABLE IF EXISTS {name} SYNC", host=host)
            server.command("TRUNCATE TABLE sidespan_schema", host=host)
            server.command("INSERT INTO sidespan_schema (version) VALUES (1)", host=host)
        preparing.prepare(server, layout)
        assert count(server, "traces") == 3
        assert [count(server, name) for name in sorted(added)] == [0, 0]
        assert preparing.stored_version(server, layout) == SCHEMA_VERSION


async def test_retention_follows_the_setting_and_takes_whole_days(clickhouse: ClickhouseStage) -> None:
    place = clickhouse.place()
    for seconds in (1e9, 86_400.0 * 30):
        settings = IndexSettings(processes=1, max_age_seconds=seconds)
        async with open_on(clickhouse, None, place=place, index=settings) as index:
            old = {"traces": [_mlflow_trace(10**18), _mlflow_trace(time.time_ns())]}
            if seconds == 1e9:
                await index.put(json.dumps(old).encode(), LANE.experiment)
    server = Connection(place, SETTINGS)
    server.command("OPTIMIZE TABLE traces FINAL")
    assert count(server, "traces") == 1


def _mlflow_trace(at_ns: int) -> dict[str, Any]:
    from tests.collector.index.test_index_contract import mlflow_trace
    from tests.support.otlp import new_span_id, new_trace_id

    trace = mlflow_trace(new_trace_id(), new_span_id())
    for span in trace["spans"]:
        span |= {"start_time_unix_nano": at_ns, "end_time_unix_nano": at_ns + 1}
    return trace


async def test_a_query_that_takes_too_long_names_the_parameter(clickhouse: ClickhouseStage) -> None:
    place = clickhouse.place()
    connection = Connection(place, ClickhouseSettings(query_timeout_seconds=1))
    with pytest.raises(QueryTimedOut) as raised:
        await asyncio.to_thread(
            connection.rows, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(*)"
        )
    assert raised.value.document["parameter"] == "since"


async def test_a_trace_in_several_parts_of_a_batch_is_one_trace(
    clickhouse: ClickhouseStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "PART_SPANS", 6)
    split = agent_export()
    trace_id = all_spans(split)[0].trace_id
    async with journal_in(tmp_path) as journal:
        for span in all_spans(split):
            part = type(split)()
            part.resource_spans.add().scope_spans.add().spans.append(span)
            late = draft(part.SerializeToString(), {trace_id}, 1)
            await journal.log.append([late, agent_draft()])
        consumer = journal.consumer(CONSUMER)
        async with open_on(clickhouse, consumer) as index:
            batch = await index.take([LANE], limit_spans=10**6)
            assert (batch.spans, batch.more, len(batch.cursors)) == (42, False, 1)
            state = await index.state()
            assert (state.traces, state.spans) == (7, 42)
            summary = await index.trace(TraceQuery(trace_id=trace_id.hex(), max_spans=100))
            assert summary is not None and json.loads(summary)["span_count"] == 6


async def test_what_only_asks_takes_nothing(clickhouse: ClickhouseStage) -> None:
    async with open_on(clickhouse, None) as index:
        with pytest.raises(IndexFailure, match="does not feed"):
            await index.take([LANE], limit_spans=1)


async def until(what: Callable[[], bool], seconds: float = 180) -> None:
    for _ in range(int(seconds / 0.05)):
        if what():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never happens")


async def test_an_outage_costs_no_entry_and_ends_by_itself(tmp_path: Path) -> None:
    server = ClickhouseServer(tmp_path / "server")
    servers = ClickhouseStage(servers=[server])
    async with journal_in(tmp_path) as journal:
        consumer = journal.consumer(CONSUMER)
        async with open_on(servers, consumer) as index:  # the server is not there yet
            assert index.trouble is not None
            with pytest.raises(IndexAway):
                await index.ask(IndexQuery(kind=QueryKind.TRACES))
            assert await index.owners("ab" * 16) == frozenset()
            try:
                server.start()
                await asyncio.wait_for(index.ready(), 180)
                indexer = Indexer(consumer, index, NoMlflow(), Metrics())  # type: ignore[arg-type]
                await journal.log.append([agent_draft()])
                while await indexer.look():
                    pass
                for _ in range(7):  # more than an entry may kill the index
                    server.kill()
                    await journal.log.append([agent_draft()])
                    with pytest.raises(IndexUnreachable):
                        await index.take([LANE], limit_spans=10**6)
                    assert "does not answer" in (index.trouble or "")
                    server.start()
                    await asyncio.wait_for(index.ready(), 180)
                    assert indexer._deaths == 0
                while await indexer.look():
                    pass
                state = await index.state()
                assert (state.traces, state.spans) == (8, 48)
                assert await consumer.pending() == []
            finally:
                server.kill()


FEED = """
import asyncio, os, sys
from pathlib import Path
from collector.index.feed import CONSUMER, Indexer
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings
from collector.index.clickhouse import open_clickhouse_index
from collector.settings.engines import INDEX_ENGINES, read_engine_url
from collector.telemetry.metrics import Metrics
from tests.collector.index.test_index_consumer import NoMlflow, journal_in

async def main():
    folder, url, cluster = sys.argv[1:]
    place = read_engine_url(url, INDEX_ENGINES)
    settings = IndexSettings(processes=2, max_age_seconds=1e9)
    async with journal_in(Path(folder)) as journal:
        consumer = journal.consumer(CONSUMER)
        given = ClickhouseSettings(cluster=cluster or None)
        async with open_clickhouse_index(place, given, settings, consumer) as index:
            indexer = Indexer(consumer, index, NoMlflow(), Metrics())
            indexer._limit_spans = 60
            print("begun", flush=True)
            while await indexer.look():
                indexer._limit_spans = 60
    print("done", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("servers", ["clickhouse", "clickhouse_cluster"])
async def test_a_feed_that_is_killed_again_and_again_loses_and_doubles_nothing(
    servers: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stage: ClickhouseStage = request.getfixturevalue(servers)
    place = stage.place()
    async with journal_in(tmp_path) as journal:
        split = agent_export()
        parts = [type(split)() for _ in range(2)]
        for part, spans in zip(parts, (all_spans(split)[:3], all_spans(split)[3:]), strict=True):
            part.resource_spans.add().scope_spans.add().spans.extend(spans)
        trace_id = all_spans(split)[0].trace_id
        drafts = [agent_draft() for _ in range(120)]
        drafts.insert(3, draft(parts[0].SerializeToString(), {trace_id}, 3))
        drafts.insert(110, draft(parts[1].SerializeToString(), {trace_id}, 3))
        for each in drafts:
            await journal.log.append([each])
    script = tmp_path / "feed.py"
    script.write_text(FEED)
    url = f"clickhouse://{','.join(place.hosts)}/{place.name}"
    command = [sys.executable, str(script), str(tmp_path), url, stage.cluster or ""]
    server = Connection(place, ClickhouseSettings(cluster=stage.cluster))
    kills = 0
    for wanted in (1, 20, 60, 90):
        feed = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
        assert feed.stdout is not None and feed.stdout.readline() == b"begun\n"
        await until(
            lambda wanted=wanted, feed=feed: count(server, "spans") >= wanted * 6 or feed.poll() is not None
        )
        kills += feed.poll() is None
        feed.send_signal(signal.SIGKILL)
        feed.wait()
        feed.stdout.close()
    assert kills
    done = await asyncio.to_thread(
        subprocess.run, command, env=ENVIRONMENT, capture_output=True, timeout=300, check=False
    )
    assert done.stdout.endswith(b"done\n"), done.stderr.decode()[-2000:]
    assert [count(server, table) for table in ("traces", "spans")] == [121, 726]
    assert server.rows("SELECT sum(span_count), countIf(span_count <> 6) FROM traces") == [(726, 0)]


def test_on_replicas_tables_are_replicated_and_on_a_cluster_distributed() -> None:
    layout = Layout(database="d", cluster="c", replicated=True, max_age_seconds=60)
    made = {statement.split()[5]: statement for statement in creation(layout)}
    assert (
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/d/spans_local', '{replica}'"
        in made["spans_local"]
    )
    assert "Distributed('c', 'd', 'spans_local', cityHash64(trace_id))" in made["spans"]
    assert "non_replicated_deduplication_window" not in made["spans_local"]


async def test_a_cluster_that_the_server_does_not_know_is_refused(clickhouse: ClickhouseStage) -> None:
    unknown = ClickhouseStage(servers=clickhouse.servers, cluster="elsewhere")
    with pytest.raises(Misconfigured, match="knows no cluster 'elsewhere'"):
        async with open_on(unknown, None):
            pass


async def test_a_cluster_of_which_a_server_is_not_named_is_refused(
    clickhouse_cluster: ClickhouseStage,
) -> None:
    half = ClickhouseStage(servers=clickhouse_cluster.servers[:1], cluster=clickhouse_cluster.cluster)
    with pytest.raises(Misconfigured, match="1 of the 2 servers of the cluster"):
        async with open_on(half, None):
            pass


async def test_any_host_of_the_url_answers(clickhouse: ClickhouseStage) -> None:
    good = clickhouse.place()
    hosts = ("127.0.0.1:9", *good.hosts)  # nobody listens on the first
    place = EnginePlace(engine=good.engine, hosts=hosts, name=good.name)
    async with open_on(clickhouse, None, place=place) as index:
        assert index.trouble is None
        assert (await index.state()).traces == 0


async def test_the_doctor_is_told_what_the_server_is(
    clickhouse: ClickhouseStage, clickhouse_cluster: ClickhouseStage
) -> None:
    place = clickhouse.place()
    assert str(await examine_clickhouse(place, SETTINGS)).endswith(", no tables yet")
    async with open_on(clickhouse, None, place=place):
        assert str(await examine_clickhouse(place, SETTINGS)).endswith(f"schema version {SCHEMA_VERSION}")
    shards = ClickhouseSettings(cluster=clickhouse_cluster.cluster)
    assert "of 2 servers" in str(await examine_clickhouse(clickhouse_cluster.place(), shards))
    nobody = EnginePlace(engine=place.engine, hosts=("127.0.0.1:9",), name="nothing")
    with pytest.raises(Misconfigured, match="does not answer"):
        await examine_clickhouse(nobody, SETTINGS)
