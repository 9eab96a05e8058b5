"""Which traces the journal has changed, for those who follow them. Synchronous.

    changes   position | experiment | trace id | ids of its new spans

A batch adds a row for each of its traces, in the transaction that puts their rows. Positions are times in
nanoseconds, made to grow, so that they hold across restarts. The first row is a mark without a trace: behind
it, every change is known.
"""

from collections.abc import Iterable, Mapping, Sequence

import duckdb

from collector.index.duckdb.dialect import DUCKDB
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.protocol import Changes, ChangesQuery
from collector.index.rows.gathered import TraceKey
from collector.index.sql.changes import ChangeBounds, ChangeTables, changes_between, wheres_of
from collector.index.sql.where import Values

Db = duckdb.DuckDBPyConnection
KEPT_NS = 15 * 60 * 10**9
KEPT_ROWS = 200_000
TABLE = (
    "CREATE TABLE IF NOT EXISTS changes (position BIGINT, experiment INTEGER, trace_id UUID, spans VARCHAR)"
)


def _keys(traces: Iterable[TraceKey]) -> Values:
    listed = list(traces)
    return [[experiment for experiment, _ in listed], [trace_id for _, trace_id in listed]]


_NOTED = ChangeTables(
    live=(
        "SELECT t.*, c.position FROM traces t JOIN (SELECT experiment, trace_id, max(position) AS position"
        " FROM changes WHERE position > {after} AND position <= {until} GROUP BY experiment, trace_id) c"
        " ON c.trace_id = t.trace_id AND c.experiment = t.experiment"
    ),
    page=(
        "page AS (SELECT t.* FROM traces t JOIN (SELECT unnest(?::INTEGER[]) AS experiment,"
        " unnest(?::UUID[]) AS trace_id) k ON k.trace_id = t.trace_id AND k.experiment = t.experiment)"
    ),
    fresh=(
        "fresh AS (SELECT c.experiment, c.trace_id,"
        " ('0x' || unnest(string_split(c.spans, ',')))::UBIGINT AS span_id FROM changes c SEMI JOIN page p"
        " ON p.experiment = c.experiment AND p.trace_id = c.trace_id"
        " WHERE c.position > {after} AND c.position <= {until})"
        " SELECT {columns} FROM spans s SEMI JOIN fresh f"
        " ON f.experiment = s.experiment AND f.trace_id = s.trace_id AND f.span_id = s.span_id"
        " WHERE s.start_unix_ns BETWEEN (SELECT min(low_ns) FROM page)"
        " AND (SELECT max(start_unix_ns + duration_ns) FROM page)"
    ),
    keys=_keys,
)


# writing


def make(db: Db, *, now_unix_ns: int) -> None:
    """The table, with its mark, where there is none."""
    db.execute(TABLE)
    db.execute(
        "INSERT INTO changes SELECT ?, NULL, NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM changes)",
        [now_unix_ns],
    )


def note(db: Db, found: Sequence[Mapping[TraceKey, str]], *, now_unix_ns: int) -> None:
    """These traces have new spans; in the transaction that puts them."""
    if not (fresh := {key: spans for each in found for key, spans in each.items()}):
        return
    db.execute(
        "INSERT INTO changes SELECT greatest(?, (SELECT max(position) FROM changes)) + row_number() OVER (),"
        " experiment, trace_id, spans FROM (SELECT unnest(?::INTEGER[]) AS experiment,"
        " unnest(?::UUID[]) AS trace_id, unnest(?::VARCHAR[]) AS spans)",
        [now_unix_ns, *_keys(fresh), list(fresh.values())],
    )


def forget(db: Db, *, now_unix_ns: int) -> None:
    """Take out what is old or too much, but for the row that says behind where all is known."""
    db.execute(
        "DELETE FROM changes WHERE position < (SELECT max(position) FROM changes WHERE position <="
        " greatest(?, coalesce((SELECT position FROM changes ORDER BY position DESC LIMIT 1 OFFSET ?), 0)))",
        [now_unix_ns - KEPT_NS, KEPT_ROWS],
    )


# reading


def changed(db: Db, query: ChangesQuery, *, now_unix_ns: int) -> Changes:
    """What changed. Raises BadParameter."""
    wheres = wheres_of(query, DUCKDB, now_unix_ns=now_unix_ns)
    db.execute("BEGIN")  # one state of the tables for all that is read
    try:
        oldest, newest = db.execute("SELECT min(position), max(position) FROM changes").fetchone() or (0, 0)
        bounds = ChangeBounds(oldest=oldest, newest=newest)
        return changes_between(DuckdbTables(db), _NOTED, query, wheres, bounds)
    finally:
        db.execute("ROLLBACK")
