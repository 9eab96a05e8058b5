"""The index on ClickHouse: how fast it is fed, and how fast it answers, on this one machine.

The server runs beside the process that feeds it. Spans are those of the captured agent run; the many that
questions are asked of are copies of these, made inside ClickHouse, over 30 days. All days but the newest are
merged, as the server does by itself. The newest is as it was written, and some of its rows are written anew
before each question, so what is known of it is never the answer.
"""

import asyncio
import json
import os
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

from collector.index.clickhouse import open_clickhouse_index
from collector.index.clickhouse.kept import QUIET_SECONDS
from collector.index.clickhouse.rows import SPAN_NAMES, TRACE_NAMES
from collector.index.clickhouse.schema import DAY
from collector.index.clickhouse.server import ClickhouseServer as Connection
from collector.index.feed import CONSUMER, Indexer
from collector.index.protocol import Index
from collector.journal import Consumer
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.mlflow.client import MlflowUnreachable
from collector.model.batch import Draft, Route
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings, JournalSettings
from collector.telemetry.metrics import Metrics
from tests.benchmarks.payloads import SPANS_A_TRACE
from tests.support.clickhouse_server import clickhouse_stage
from tests.support.otlp import agent_export, all_spans
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

BACKLOG_TRACES = int(os.environ.get("SIDESPAN_BENCH_BACKLOG_TRACES", "25000"))
SPANS = int(os.environ.get("SIDESPAN_BENCH_SPANS", "10000000"))
TRACES_AN_ENTRY = 25
ORIGINALS = 500
ASKED = 20
DAYS = 30
DAY_NS = 86_400 * 10**9

_SHIFT = f"toInt64(c % {DAYS} * {DAY_NS} + c % 86400 * 1000000000)"
_COPIES: dict[str, str] = {
    "trace_id": "bitShiftLeft(toUInt128(cityHash64(o.trace_id, c)), 64) + sipHash64(o.trace_id, c)",
    "start_unix_ns": f"o.start_unix_ns - {_SHIFT}",
    "low_ns": f"o.low_ns - {_SHIFT}",
    "seen_unix_ns": f"o.seen_unix_ns - {_SHIFT}",
    "duration_ns": "toInt64(o.duration_ns * (0.2 + 10 * pow(rand(c) / 4294967295, 3)))",
    "session": "concat('session-', toString(c % 20000))",
    "of_session": "concat('session-', toString(c % 20000))",
    "user": "concat('user-', toString(c % 500))",
    "service": "concat('service-', toString(c % 5))",
    "owning_agent": "concat('agent-', toString(c % 12))",
    "agents": "concat(char(31), 'agent-', toString(c % 12), char(31))",
    "status": "if(c % 33 = 0, 'ERROR', 'OK')",
    "is_error": "c % 33 = 0 AND o.kind = 'TOOL'",
    "error_group": "if(c % 33 = 0, concat('failed because of ', toString(c % 40)), NULL)",
}


class _NoMlflow:
    async def get(self, *_: Any, **__: Any) -> Any:
        raise MlflowUnreachable("no connection")


def run(directory: Path) -> None:
    print("== clickhouse")
    with clickhouse_stage(directory / "clickhouse") as stage:
        asyncio.run(_measure(directory, stage.place()))


async def _measure(directory: Path, place: EnginePlace) -> None:
    folder = directory / "backlog"
    folder.mkdir()
    settings = JournalSettings(min_free_disk_bytes=0, max_bytes=10**10)
    async with open_journal(
        folder, settings=settings, consumers=(), followers=(CONSUMER,), keep_claims=10
    ) as journal:
        await _fill(journal)
        consumer = journal.consumer(CONSUMER)
        given = IndexSettings(processes=2, max_age_seconds=1e9)
        async with open_clickhouse_index(place, ClickhouseSettings(), given, consumer) as index:
            await _feed(consumer, index)
    await asyncio.to_thread(_multiply, place)
    await asyncio.to_thread(_ask, directory, place)


async def _fill(journal: SqliteJournal) -> None:
    for _ in range(BACKLOG_TRACES // TRACES_AN_ENTRY):
        requests = [agent_export() for _ in range(TRACES_AN_ENTRY)]
        draft = Draft(
            lane=Route(experiment_id="1").lane,
            payload=b"".join(each.SerializeToString() for each in requests),
            span_count=TRACES_AN_ENTRY * SPANS_A_TRACE,
            trace_ids=frozenset(all_spans(each)[0].trace_id for each in requests),
        )
        await journal.log.append([draft])


async def _feed(consumer: Consumer, index: Index) -> None:
    indexer = Indexer(consumer, index, _NoMlflow(), Metrics())  # type: ignore[arg-type]
    await indexer.look()  # its processes start
    first = (await index.state()).spans
    began = time.monotonic()
    while await indexer.look():
        pass
    seconds = time.monotonic() - began
    spans = (await index.state()).spans
    assert spans == BACKLOG_TRACES * SPANS_A_TRACE
    print(f"   feeds {spans - first:,} spans at {(spans - first) / seconds:,.0f} spans/s (bar 20,000)")


def _multiply(place: EnginePlace) -> None:
    server = Connection(place, ClickhouseSettings(insert_timeout_seconds=1800, query_timeout_seconds=1800))
    copies = -(-SPANS // (ORIGINALS * SPANS_A_TRACE))
    chosen = f"SELECT trace_id FROM traces ORDER BY trace_id LIMIT {ORIGINALS}"
    server.command(f"CREATE TABLE chosen ENGINE = Memory AS {chosen}")
    for table, names in (("traces", TRACE_NAMES), ("spans", SPAN_NAMES)):
        server.command(
            f"CREATE TABLE originals_{table} ENGINE = Memory AS"
            f" SELECT * FROM {table} WHERE trace_id IN (SELECT trace_id FROM chosen)"
        )
        server.command(f"TRUNCATE TABLE {table}")
        listed = ", ".join(_COPIES.get(name, f'o."{name}"') for name in names)
        into = ", ".join(f'"{name}"' for name in names)
        server.command(
            f"INSERT INTO {table} ({into}) SELECT {listed} FROM originals_{table} AS o"
            f" CROSS JOIN (SELECT number + 1 AS c FROM numbers({copies})) AS n"
            f" SETTINGS max_partitions_per_insert_block = 1000, max_threads = 2"
        )
        # as the server does with each day that is over, a quarter of an hour after its last row
        days = server.rows(f"SELECT DISTINCT toString({DAY}) AS day FROM {table} ORDER BY day DESC")
        for (day,) in days[1:]:
            server.command(f"OPTIMIZE TABLE {table} PARTITION '{day}' FINAL")
    server.close()


def _ask(directory: Path, place: EnginePlace) -> None:
    server = Connection(place, ClickhouseSettings(query_timeout_seconds=600))
    parts = _parts(server)
    service = Sidespan(
        data_dir=directory / "asked",
        mlflow_url=f"http://127.0.0.1:{free_port()}",
        environment={
            "SIDESPAN_INDEX__URL": f"clickhouse://{place.hosts[0]}/{place.name}",
            "SIDESPAN_INDEX__MAX_AGE_SECONDS": "1e9",
            "SIDESPAN_CLICKHOUSE__QUERY_TIMEOUT_SECONDS": "600",
        },
    )
    service.start()
    try:
        counts = _get(service, "/-/index")
        time.sleep(QUIET_SECONDS + 1)  # days that were just written are left alone for so long
        first, *taken = [_overview_ms(service, server) for _ in range(ASKED + 1)]
    finally:
        service.stop()
    size = counts["size_bytes"] / counts["spans"]
    middle, slowest = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    print(
        f"   {counts['traces']:,} traces, {counts['spans']:,} spans in {parts} parts, while more arrive:"
        f" overview over HTTP {middle:.0f} ms, p95 {slowest:.0f}"
        f" (bar 500), {first:.0f} the first time; {size:.0f} bytes a span"
    )
    server.close()


def _overview_ms(service: Sidespan, server: Connection) -> float:
    _write_anew(server)
    began = time.perf_counter()
    found = _get(service, f"/-/traces/overview?since=-{DAYS + 1}d")
    taken = (time.perf_counter() - began) * 1000
    assert found["totals"]["count"]["b"] and found["models"] and found["tools"] and found["errors"]
    return taken


def _write_anew(server: Connection) -> None:
    """Newer rows of some traces of the newest day."""
    newest = "seen_unix_ns >= (SELECT max(seen_unix_ns) FROM traces) - 60000000000"
    for table, names in (("traces", TRACE_NAMES), ("spans", SPAN_NAMES)):
        into = ", ".join(f'"{name}"' for name in names)
        listed = ", ".join("version + 1" if name == "version" else f'"{name}"' for name in names)
        server.keep(f"INSERT INTO {table} ({into}) SELECT {listed} FROM {table} WHERE {newest}")


def _parts(server: Connection) -> int:
    [(parts,)] = server.rows(
        "SELECT count() FROM system.parts WHERE active AND table = 'spans' AND database = ?",
        [server.place.name],
        final=False,
    )
    return int(parts)


def _get(service: Sidespan, path: str) -> Any:
    with urllib.request.urlopen(service.url + path, timeout=600) as answer:
        return json.loads(answer.read())
