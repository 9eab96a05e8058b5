"""Which traces the journal has changed, for those who follow them. Synchronous.

    changes   position | experiment | trace id | ids of its new spans

A batch adds a row for each of its traces, in the transaction that puts their rows. Positions are times in
nanoseconds, made to grow, so that they hold across restarts. The first row is a mark without a trace: behind
it, every change is known.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from collector.index.duckdb.dialect import DUCKDB
from collector.index.protocol import ChangedTrace, Changes, ChangesQuery, Look
from collector.index.queries.asked import Asked
from collector.index.queries.filters import TRACE_FILTERS, select_traces
from collector.index.rows.gathered import TraceKey
from collector.index.sql.columns import TRACE_COLUMNS
from collector.index.sql.selection import where_selected
from collector.index.sql.tables import scores_sql, trace_row
from collector.index.sql.where import Values, Where
from collector.model.parameters import BadParameter

Db = duckdb.DuckDBPyConnection
KEPT_NS = 15 * 60 * 10**9
KEPT_ROWS = 200_000
TABLE = (
    "CREATE TABLE IF NOT EXISTS changes (position BIGINT, experiment INTEGER, trace_id UUID, spans VARCHAR)"
)
PARAMETERS = (*TRACE_FILTERS, "trace_id")
TRACE_ID = re.compile(r"(?:tr-)?([0-9a-f]{32})", re.IGNORECASE)
MAX_SHOWN_CHARACTERS = 80
# what the journal changed, at its newest
_LIVE = (
    "SELECT t.*, c.position FROM traces t JOIN (SELECT experiment, trace_id, max(position) AS position"
    " FROM changes WHERE position > ? AND position <= ? GROUP BY experiment, trace_id) c"
    " ON c.trace_id = t.trace_id AND c.experiment = t.experiment"
)
_PAGE = (
    "page AS (SELECT t.* FROM traces t JOIN (SELECT unnest(?::INTEGER[]) AS experiment,"
    " unnest(?::UUID[]) AS trace_id) k ON k.trace_id = t.trace_id AND k.experiment = t.experiment)"
)
_SPAN = {
    "span_id": DUCKDB.span_hex_id("s.span_id"),
    "parent_span_id": DUCKDB.span_hex_id("s.parent_span_id"),
    "name": "s.name",
    "kind": "s.kind",
    "start_unix_ns": "s.start_unix_ns",
    "duration_seconds": "s.duration_ns / 1e9",
    "is_error": "s.is_error",
    "model": "coalesce(s.request_model, s.model)",
    "tool": "s.tool",
    "cost_usd": "s.cost_usd",
}


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
        [
            now_unix_ns,
            [experiment for experiment, _ in fresh],
            [trace_id for _, trace_id in fresh],
            list(fresh.values()),
        ],
    )


def forget(db: Db, *, now_unix_ns: int) -> None:
    """Take out what is old or too much, but for the row that says behind where all is known."""
    db.execute(
        "DELETE FROM changes WHERE position < (SELECT max(position) FROM changes WHERE position <="
        " greatest(?, coalesce((SELECT position FROM changes ORDER BY position DESC LIMIT 1 OFFSET ?), 0)))",
        [now_unix_ns - KEPT_NS, KEPT_ROWS],
    )


# reading


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A trace to be shown: the position of its last change, and the looks that it is for."""

    position: int
    to: list[int]


def changed(db: Db, query: ChangesQuery, *, now_unix_ns: int) -> Changes:
    """What changed. Raises BadParameter."""
    wheres = [_where(look, now_unix_ns) for look in query.looks]
    db.execute("BEGIN")  # one state of the tables for all that is read
    try:
        bounds = db.execute("SELECT min(position), max(position) FROM changes").fetchone()
        oldest, newest = bounds or (0, 0)
        until = newest if query.until is None else min(query.until, newest)
        if query.after is None or query.after >= until or not wheres:
            return Changes(oldest=oldest, newest=newest, left_out=[0] * len(wheres))
        chosen, left_out = _choose(db, query.after, until, wheres, query.most)
        bodies = _bodies(db, chosen, query.after, until)
    finally:
        db.execute("ROLLBACK")
    traces = [
        ChangedTrace(position=found.position, to=found.to, body=bodies[key])
        for key, found in sorted(chosen.items(), key=lambda item: item[1].position)
        if key in bodies
    ]
    return Changes(oldest=oldest, newest=newest, traces=traces, left_out=left_out)


def _where(look: Look, now_unix_ns: int) -> Where:
    asked = Asked(parameters=look.parameters, now_unix_ns=now_unix_ns, experiments=look.experiment_ids)
    asked.known(PARAMETERS)
    where = where_selected(select_traces(asked), TRACE_COLUMNS, DUCKDB)
    if ids := asked.all("trace_id"):
        where.add("list_contains(?::UUID[], trace_id)", [_trace_id(text) for text in ids])
    return where


def _trace_id(text: str) -> str:
    match = TRACE_ID.fullmatch(text.strip())
    if match is None:
        raise BadParameter("trace_id", text[:MAX_SHOWN_CHARACTERS], "must be 32 hex digits")
    return match.group(1).lower()


def _choose(
    db: Db, after: int, until: int, wheres: Sequence[Where], most: int
) -> tuple[dict[TraceKey, _Chosen], list[int]]:
    """The newest traces of each look, and how many each has beyond them."""
    flags = ", ".join(f"({where.sql}) AS is_{number}" for number, where in enumerate(wheres))
    key = "{'position': position, 'experiment': experiment, 'trace_id': " + DUCKDB.hex_id("trace_id") + "}"
    counts = ", ".join(
        f"count(*) FILTER (WHERE is_{number}), arg_max({key}, position, {most:d}) FILTER (WHERE is_{number})"
        for number in range(len(wheres))
    )
    values: Values = [value for where in wheres for value in where.values]
    row = db.execute(
        f"WITH live AS ({_LIVE}) SELECT {counts} FROM"  # noqa: S608 (values travel beside it)
        f" (SELECT position, experiment, trace_id, {flags} FROM live)",
        [after, until, *values],
    ).fetchone()
    assert row is not None  # an aggregate
    chosen: dict[TraceKey, _Chosen] = {}
    for number, listed in enumerate(row[1::2]):
        for each in listed or ():
            at = each["experiment"], each["trace_id"]
            chosen.setdefault(at, _Chosen(each["position"], [])).to.append(number)
    return chosen, [max(0, count - most) for count in row[::2]]


def _bodies(db: Db, chosen: Mapping[TraceKey, _Chosen], after: int, until: int) -> dict[TraceKey, str]:
    """Of each trace its row and its new spans, as JSON."""
    if not chosen:
        return {}
    keys = [[experiment for experiment, _ in chosen], [trace_id for _, trace_id in chosen]]
    row = trace_row(DUCKDB)
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in row.items())
    scored = scores_sql("(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM page)", DUCKDB)
    rows = db.execute(
        f"WITH {_PAGE} SELECT t.experiment, {columns} FROM page t"  # noqa: S608 (values travel beside it)
        f" LEFT JOIN experiments e ON e.number = t.experiment LEFT JOIN ({scored}) c"
        " ON c.experiment = t.experiment AND c.trace_id = t.trace_id",
        keys,
    ).fetchall()
    spans = _spans(db, keys, after, until)
    bodies = {}
    for experiment, *values in rows:
        shown = dict(zip(row, values, strict=True))
        key = experiment, shown["trace_id"]
        document = {"trace": shown, "spans": spans.get(key, [])}
        bodies[key] = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return bodies


def _spans(db: Db, keys: Values, after: int, until: int) -> dict[TraceKey, list[dict[str, Any]]]:
    """The new spans of these traces, the first that began first."""
    columns = ", ".join(_SPAN.values())
    rows = db.execute(
        f"WITH {_PAGE}, fresh AS (SELECT c.experiment, c.trace_id,"  # noqa: S608 (values travel beside it)
        " ('0x' || unnest(string_split(c.spans, ',')))::UBIGINT AS span_id FROM changes c SEMI JOIN page p"
        " ON p.experiment = c.experiment AND p.trace_id = c.trace_id"
        " WHERE c.position > ? AND c.position <= ?)"
        f" SELECT s.experiment, {DUCKDB.hex_id('s.trace_id')}, {columns} FROM spans s SEMI JOIN fresh f"
        " ON f.experiment = s.experiment AND f.trace_id = s.trace_id AND f.span_id = s.span_id"
        " WHERE s.start_unix_ns BETWEEN (SELECT min(low_ns) FROM page)"
        " AND (SELECT max(start_unix_ns + duration_ns) FROM page) ORDER BY s.start_unix_ns, s.span_id",
        [*keys, after, until],
    ).fetchall()
    found: dict[TraceKey, list[dict[str, Any]]] = {}
    for experiment, trace_id, *values in rows:
        found.setdefault((experiment, trace_id), []).append(dict(zip(_SPAN, values, strict=True)))
    return found
