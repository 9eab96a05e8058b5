"""Which traces have changed, for those who follow them: the same question on each engine. Synchronous.

An engine notes a row for each trace with new spans, at a position, and says how far positions go; its
`ChangeTables` are the SQL in which it finds those traces again. Filters and rights are conditions of the
question, so they are those of the table of traces.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.protocol import ChangedTrace, Changes, ChangesQuery, Look
from collector.index.queries.asked import Asked
from collector.index.queries.filters import TRACE_FILTERS, select_traces
from collector.index.rows.gathered import TraceKey
from collector.index.sql.answers import SqlTables
from collector.index.sql.columns import TRACE_COLUMNS
from collector.index.sql.dialect import Dialect
from collector.index.sql.selection import where_selected
from collector.index.sql.tables import scores_sql, trace_row
from collector.index.sql.where import Values, Where
from collector.model.parameters import BadParameter

PARAMETERS = (*TRACE_FILTERS, "trace_id")
TRACE_ID = re.compile(r"(?:tr-)?([0-9a-f]{32})", re.IGNORECASE)
MAX_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBounds:
    """Behind `oldest` every change is known, up to `newest`."""

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTables:
    """One engine's SQL over its notes of changes. `{after}` and `{until}` stand for positions.

    `live` gives rows of traces with the position of their last change. `page`, the rest of `WITH page`, gives
    the traces of some keys, for the values that `keys` makes of them. `fresh` goes on with `page`: a row of
    `spans s` for each new span of these traces, for `{columns}`.
    """

    live: str
    page: str
    fresh: str
    keys: Callable[[Iterable[TraceKey]], Values]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A trace to be shown: the position of its last change, and the looks that it is for."""

    position: int
    to: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """What is asked about: changes behind one position, up to another."""

    after: int
    until: int

    def of(self, sql: str, **parts: str) -> str:
        return sql.format(after=f"{self.after:d}", until=f"{self.until:d}", **parts)


def wheres_of(query: ChangesQuery, dialect: Dialect, *, now_unix_ns: int) -> list[Where]:
    """The traces that each look asks for. Raises BadParameter."""
    return [_where(look, dialect, now_unix_ns) for look in query.looks]


def _where(look: Look, dialect: Dialect, now_unix_ns: int) -> Where:
    asked = Asked(parameters=look.parameters, now_unix_ns=now_unix_ns, experiments=look.experiment_ids)
    asked.known(PARAMETERS)
    where = where_selected(select_traces(asked), TRACE_COLUMNS, dialect)
    if ids := asked.all("trace_id"):
        where.add(dialect.is_one_of(dialect.hex_id("trace_id")), [_trace_id(text) for text in ids])
    return where


def _trace_id(text: str) -> str:
    match = TRACE_ID.fullmatch(text.strip())
    if match is None:
        raise BadParameter("trace_id", text[:MAX_SHOWN_CHARACTERS], "must be 32 hex digits")
    return match.group(1).lower()


def changes_between(
    tables: SqlTables, noted: ChangeTables, query: ChangesQuery, wheres: Sequence[Where], bounds: ChangeBounds
) -> Changes:
    """What changed behind `query.after`, as far as the bounds go."""
    oldest, newest = bounds.oldest, bounds.newest
    until = newest if query.until is None else min(query.until, newest)
    if query.after is None or query.after >= until or not wheres:
        return Changes(oldest=oldest, newest=newest, left_out=[0] * len(wheres))
    asked = _Range(after=query.after, until=until)
    chosen, left_out = _choose(tables, noted, asked, wheres, query.most)
    bodies = _bodies(tables, noted, asked, chosen)
    traces = [
        ChangedTrace(position=found.position, to=found.to, body=bodies[key])
        for key, found in sorted(chosen.items(), key=lambda item: item[1].position)
        if key in bodies
    ]
    return Changes(oldest=oldest, newest=newest, traces=traces, left_out=left_out)


def _choose(
    tables: SqlTables, noted: ChangeTables, asked: _Range, wheres: Sequence[Where], most: int
) -> tuple[dict[TraceKey, _Chosen], list[int]]:
    """The newest traces of each look, and how many each has beyond them."""
    dialect = tables.dialect
    flags = ", ".join(f"({where.sql}) AS is_{number}" for number, where in enumerate(wheres))
    key = ("experiment", dialect.hex_id("trace_id"))
    counts = ", ".join(
        f"count(*) FILTER (WHERE {is_meant}), {dialect.highest('position', key, most, is_meant)}"
        for is_meant in (f"is_{number}" for number in range(len(wheres)))
    )
    values: Values = [value for where in wheres for value in where.values]
    [row] = tables.fetch(
        (
            f"WITH live AS ({asked.of(noted.live)}) SELECT {counts} FROM"
            f" (SELECT position, experiment, trace_id, {flags} FROM live)",
            values,
        )
    )
    chosen: dict[TraceKey, _Chosen] = {}
    for number, listed in enumerate(row[1::2]):
        for position, experiment, trace_id in listed or ():
            chosen.setdefault((experiment, trace_id), _Chosen(position, [])).to.append(number)
    return chosen, [max(0, count - most) for count in row[::2]]


def _bodies(
    tables: SqlTables, noted: ChangeTables, asked: _Range, chosen: Mapping[TraceKey, _Chosen]
) -> dict[TraceKey, str]:
    """Of each trace its row and its new spans, as JSON."""
    if not chosen:
        return {}
    row = trace_row(tables.dialect)
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in row.items())
    scored = scores_sql("(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM page)", tables.dialect)
    rows = tables.fetch(
        (
            f"WITH {noted.page} SELECT t.experiment, {columns} FROM page t"
            f" LEFT JOIN experiments e ON e.number = t.experiment LEFT JOIN ({scored}) c"
            " ON c.experiment = t.experiment AND c.trace_id = t.trace_id",
            noted.keys(chosen),
        )
    )
    spans = _spans(tables, noted, asked, chosen)
    bodies = {}
    for experiment, *values in rows:
        shown = dict(zip(row, values, strict=True))
        key = experiment, shown["trace_id"]
        document = {"trace": shown, "spans": spans.get(key, [])}
        bodies[key] = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return bodies


def _spans(
    tables: SqlTables, noted: ChangeTables, asked: _Range, keys: Iterable[TraceKey]
) -> dict[TraceKey, list[dict[str, Any]]]:
    """The new spans of these traces, the first that began first."""
    row = _span_row(tables.dialect)
    columns = ", ".join(("s.experiment", tables.dialect.hex_id("s.trace_id"), *row.values()))
    sql = asked.of(noted.fresh, columns=columns)
    found: dict[TraceKey, list[dict[str, Any]]] = {}
    for experiment, trace_id, *values in tables.fetch(
        (f"WITH {noted.page}, {sql} ORDER BY s.start_unix_ns, s.span_id", noted.keys(keys))
    ):
        found.setdefault((experiment, trace_id), []).append(dict(zip(row, values, strict=True)))
    return found


def _span_row(dialect: Dialect) -> Mapping[str, str]:
    """Field of a new span -> SQL over `spans s`."""
    return {
        "span_id": dialect.span_hex_id("s.span_id"),
        "parent_span_id": dialect.span_hex_id("s.parent_span_id"),
        "name": "s.name",
        "kind": "s.kind",
        "start_unix_ns": "s.start_unix_ns",
        "duration_seconds": "s.duration_ns / 1e9",
        "is_error": "s.is_error",
        "model": "coalesce(s.request_model, s.model)",
        "tool": "s.tool",
        "cost_usd": "s.cost_usd",
    }
