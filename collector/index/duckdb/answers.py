"""Questions asked of a connection, and their answers as JSON, CSV or Parquet. Synchronous."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import duckdb

from collector.index.duckdb.columns import FACT_COLUMNS
from collector.index.duckdb.dialect import DUCKDB
from collector.index.duckdb.rows import facts_of_row
from collector.index.protocol import ExperimentCounts
from collector.index.queries.asked import Asked
from collector.index.queries.filters import Selection
from collector.index.queries.overview import (
    TOPS,
    comparison_questions,
    difference,
    overview_questions,
    with_parameters,
)
from collector.index.queries.stats import NS_A_SECOND, StatsQuery, bucket_seconds, question
from collector.index.queries.tables import (
    TableQuery,
    cursor_text,
    errors_query,
    sessions_query,
    traces_query,
)
from collector.index.sql.columns import SEPARATOR
from collector.index.sql.selection import where_experiments
from collector.index.sql.stats import Groups, groups_sql, range_sql, series_sql, total_sql
from collector.index.sql.tables import scores_sql, table_sql
from collector.index.sql.where import Query
from collector.spans.labels import TraceLabels
from collector.spans.values import SpanFacts

Db = duckdb.DuckDBPyConnection
CHUNK_BYTES = 256 * 1024
MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
TRACES_OF_A_SESSION = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file to be sent and then removed."""

    folder: "TemporaryDirectory[str]"
    path: Path
    media_type: str
    name: str

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes; the file is gone afterwards."""
        with self.folder, self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def traces(db: Db, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/traces."""
    return _table(db, traces_query(asked), temporary)


def sessions(db: Db, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/sessions."""
    return _table(db, sessions_query(asked), temporary)


def errors(db: Db, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/traces/errors."""
    return _table(db, errors_query(asked), temporary)


def session(db: Db, asked: Asked, id: str) -> dict[str, Any] | None:
    """GET /-/sessions/{id}: its sums and its turns, oldest first; None: no trace says so."""
    of = {"session": (id,)}
    asked.known(("experiment_id", "experiment_name"))
    found = _rows(db, sessions_query(with_parameters(asked, **of)))[0]
    if not found:
        return None
    page = traces_query(with_parameters(asked, **of, sort=("start",), limit=(str(TRACES_OF_A_SESSION),)))
    turns, _ = _rows(db, page)
    models = stats(db, with_parameters(asked, **of, of=("models",), by=("model",), metric=MODEL_METRICS))
    tools = stats(db, with_parameters(asked, **of, of=("tools",), by=("tool",), metric=TOOL_METRICS))
    return {
        "sessions": found,
        "turns": turns[:TRACES_OF_A_SESSION],
        "turns_omitted": max(0, sum(each["turns"] for each in found) - TRACES_OF_A_SESSION),
        "models": models["groups"],
        "tools": tools["groups"],
    }


MODEL_METRICS = ("count", "errors", "duration_seconds_p95", "input_tokens", "output_tokens", "cost_usd")
TOOL_METRICS = ("count", "errors", "recovered_retries", "duration_seconds_p95")


def stats(db: Db, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/stats."""
    return _answer(db, question(asked))


def compare(db: Db, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/compare: what is at the top of either side, with the numbers of both."""
    sides = comparison_questions(asked)
    asks, by = sides["a"], len(sides["a"].by)
    # in turn from either side: what is asked for with a higher `top` begins with the same groups
    tops = zip_longest(*(_top_groups(db, each) for each in sides.values()))
    groups = list(dict.fromkeys(tuple(row[:by]) for rank in tops for row in rank if row is not None))
    found = {side: _values_by_group(db, each, groups) for side, each in sides.items()}
    total = {side: _fetch(db, total_sql(each, DUCKDB))[0] for side, each in sides.items()}
    return {
        "of": asks.of,
        "by": asks.by,
        "metrics": asks.metrics,
        "total": _both(asks, total["a"], total["b"]),
        "groups": [
            {
                "key": _key(db, asks, group),
                "values": _both(asks, found["a"].get(group, ()), found["b"].get(group, ())),
            }
            for group in groups
        ],
    }


def overview(db: Db, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/overview."""
    asks = overview_questions(asked)
    # questions about little data don't keep two cores busy each by itself
    with ThreadPoolExecutor(2) as threads:
        slowest_first = sorted(asks, key=lambda name: asks[name].of == "traces")
        pending = {
            name: threads.submit(_answer, db.cursor(), asks[name], total=name in ("totals", "before"))
            for name in slowest_first
        }
        answers = {name: each.result() for name, each in pending.items()}
    totals = answers["totals"]["total"]
    before = answers["before"]["total"] if "before" in answers else {}
    return {
        "totals": {
            name: difference(before.get(name), value) if before else difference(None, value)
            for name, value in totals.items()
        },
        "bucket_seconds": answers["axis"]["bucket_seconds"],
        "axis": answers["axis"]["series"],
        **{name: answers[name]["groups"] for name in TOPS},
    }


def facets(db: Db, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/facets: what there is to filter by, the most frequent values first."""
    names = (
        *("experiment", "service", "environment", "version", "agent", "model", "response_model", "tool"),
        *("name", "user"),
    )
    return {
        name: [
            {"value": group["key"][name], "count": group["values"]["count"]}
            for group in stats(db, with_parameters(asked, by=(name,), metric=("count",), top=("50",)))[
                "groups"
            ]
            if group["key"][name] is not None
        ]
        for name in names
    }


def find_spans(
    db: Db, trace_id: str, experiments: frozenset[str] | None
) -> tuple[list[SpanFacts], Mapping[str, Any]] | None:
    """The facts of one trace's spans, and what its row says; None: there is no such trace to be seen."""
    where = where_experiments(Selection(visible_experiment_ids=experiments), DUCKDB)
    found = db.execute(
        "SELECT t.experiment, e.id, e.name, t.low_ns, t.start_unix_ns + t.duration_ns, t.complete,"
        ' t.missing_parents, t.run_id, t.session, t."user"'
        f" FROM (SELECT * FROM traces WHERE trace_id = ? AND {where.sql}) t"
        " LEFT JOIN experiments e ON e.number = t.experiment ORDER BY t.span_count DESC LIMIT 1",
        [trace_id, *where.values],
    ).fetchone()
    if found is None:
        return None
    experiment, id, name, low, high, complete, missing, run_id, session, user = found
    columns = ", ".join(f'"{column.name}"' for column in FACT_COLUMNS)
    rows = db.execute(
        f"SELECT span_id, parent_span_id, {columns}, tags, links, error_message, own_facts FROM spans"
        " WHERE start_unix_ns BETWEEN ? AND ? AND trace_id = ? AND experiment = ?",
        [low, high, trace_id, experiment],
    ).fetchall()
    about = {
        "experiment_id": id,
        "experiment_name": name,
        "whole": bool(complete and not missing),
        "run_id": run_id,
        "session": session,
        "user": user,
    }
    return [facts_of_row(trace_id, row[0], row[1], row[2:]) for row in rows], about


def scores(db: Db, trace_id: str, experiments: frozenset[str] | None) -> list[dict[str, Any]]:
    """The scores of one trace, the oldest first, as far as they may be seen."""
    where = where_experiments(Selection(visible_experiment_ids=experiments), DUCKDB)
    where.add("trace_id = ?", trace_id)
    # one that was sent to another experiment than its trace is none of the trace's
    where.add("experiment IN (SELECT experiment FROM traces WHERE trace_id = ?)", trace_id)
    rows = _fetch(db, (scores_sql(where.sql, DUCKDB), where.values))
    return [score for _, _, listed in rows for score in listed]


def owners(db: Db, trace_id: str) -> frozenset[str]:
    """The ids of the experiments in which a trace is."""
    rows = db.execute(
        "SELECT e.id FROM traces t JOIN experiments e ON e.number = t.experiment"
        " WHERE t.trace_id = ? AND e.id IS NOT NULL",
        [trace_id],
    )
    return frozenset(row[0] for row in rows.fetchall())


def labels(db: Db, experiment_id: str, trace_ids: Sequence[str]) -> dict[str, TraceLabels]:
    """What the index says of these traces' sessions, users and tags; what it hasn't got is missing."""
    rows = db.execute(
        "SELECT replace(t.trace_id::VARCHAR, '-', ''), t.session, t.\"user\", t.tags FROM traces t"
        " JOIN experiments e ON e.number = t.experiment WHERE e.id = ? AND t.trace_id IN"
        " (SELECT unnest(?::UUID[]))",
        [experiment_id, list(trace_ids)],
    ).fetchall()
    return {
        trace_id: TraceLabels(session=session, user=user, tags=_pairs(tags))
        for trace_id, session, user, tags in rows
    }


def _pairs(tags: str | None) -> tuple[tuple[str, str], ...]:
    listed = (tags or "").strip(SEPARATOR).split(SEPARATOR)
    parts = (tag.partition("=") for tag in listed if tag)
    return tuple((name, value) for name, _, value in parts)


def experiment_counts(db: Db) -> list[ExperimentCounts]:
    """What there is of each experiment, the largest first."""
    rows = db.execute(
        "SELECT e.id, e.name, count(*), sum(t.span_count), coalesce(any_value(s.scores), 0),"
        " min(t.start_unix_ns), max(t.start_unix_ns)"
        " FROM traces t JOIN experiments e ON e.number = t.experiment"
        " LEFT JOIN (SELECT experiment, count(*) AS scores FROM scores GROUP BY experiment) s"
        " ON s.experiment = t.experiment GROUP BY 1, 2 ORDER BY 3 DESC"
    )
    names = [field.name for field in fields(ExperimentCounts)]
    return [ExperimentCounts(**dict(zip(names, row, strict=True))) for row in rows.fetchall()]


def _answer(db: Db, asks: StatsQuery, *, total: bool = True) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "of": asks.of,
        "by": asks.by,
        "metrics": asks.metrics,
        "groups": [],
        "more_groups": False,
    }
    if total:
        answer["total"] = dict(zip(asks.metrics, _fetch(db, total_sql(asks, DUCKDB))[0], strict=True))
    groups: list[Sequence[Any]] = []
    if asks.by:
        rows = _fetch(db, groups_sql(asks, DUCKDB))
        answer["more_groups"] = len(rows) > asks.top
        groups = [row[: len(asks.by)] for row in rows[: asks.top]]
        answer["groups"] = [
            {"key": _key(db, asks, row), "values": dict(zip(asks.metrics, row[len(asks.by) :], strict=True))}
            for row in rows[: asks.top]
        ]
    if asks.bucket is not None:
        _add_series(db, asks, answer, groups)
    return answer


def _add_series(db: Db, asks: StatsQuery, answer: dict[str, Any], groups: Sequence[Sequence[Any]]) -> None:
    first, last = (None, None) if asks.since_unix_ns else _fetch(db, range_sql(asks, DUCKDB))[0]
    begin = asks.since_unix_ns or first or 0
    # without a beginning the axis is as long as what there is
    end = asks.until_unix_ns if asks.since_unix_ns else last or 0
    step = bucket_seconds(asks, begin, end)
    answer["bucket_seconds"] = step
    series: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for number, *row in _fetch(db, series_sql(asks, DUCKDB, step, groups)):
        key = tuple(row[: len(asks.by)])
        values = dict(zip(asks.metrics, row[len(asks.by) :], strict=True))
        series.setdefault(key, []).append({"start_unix_ns": number * step * NS_A_SECOND, "values": values})
    if not asks.by:
        answer["series"] = series.get((), [])
    for group, shown in zip(groups, answer["groups"], strict=True):
        shown["series"] = series.get(tuple(group), [])


def _key(db: Db, asks: StatsQuery, row: Sequence[Any]) -> dict[str, Any]:
    key = dict(zip(asks.by, row, strict=False))
    if "experiment" in key:
        found = db.execute("SELECT coalesce(name, id) FROM experiments WHERE number = ?", [key["experiment"]])
        key["experiment"] = (found.fetchone() or (None,))[0]
    return key


def _top_groups(db: Db, asks: StatsQuery) -> Sequence[Sequence[Any]]:
    return _fetch(db, groups_sql(asks, DUCKDB))[: asks.top] if asks.by else []


def _values_by_group(db: Db, asks: StatsQuery, groups: Groups) -> Mapping[tuple[Any, ...], Sequence[Any]]:
    rows = _fetch(db, groups_sql(asks, DUCKDB, groups)) if groups else []
    by = len(asks.by)
    return {tuple(row[:by]): row[by:] for row in rows}


def _both(asks: StatsQuery, a: Sequence[Any], b: Sequence[Any]) -> dict[str, Any]:
    """Metric by metric; a side without rows has nothing."""
    sides = (values or [None] * len(asks.metrics) for values in (a, b))
    return {name: difference(*pair) for name, *pair in zip(asks.metrics, *sides, strict=True)}


def _fetch(db: Db, query: Query) -> list[tuple[Any, ...]]:
    return db.execute(query[0], query[1]).fetchall()


def _rows(db: Db, query: TableQuery) -> tuple[list[dict[str, Any]], str | None]:
    page = table_sql(query, DUCKDB)
    rows = _fetch(db, (page.sql, page.values))
    shown = rows[: query.limit]
    more = len(rows) > query.limit and shown[-1][-1] is not None
    cursor = cursor_text(shown[-1][-2], shown[-1][-1]) if more else None
    return [dict(zip(page.columns, row, strict=False)) for row in shown], cursor


def _table(db: Db, query: TableQuery, temporary: Path) -> dict[str, Any] | Export:
    if query.format == "json":
        rows, cursor = _rows(db, query)
        return {query.table: rows, "next_cursor": cursor}
    return _export(db, query, temporary)


def _export(db: Db, query: TableQuery, temporary: Path) -> Export:
    temporary.mkdir(exist_ok=True)
    folder = TemporaryDirectory(dir=temporary)
    path = Path(folder.name) / f"{uuid4().hex}.{query.format}"
    page = table_sql(query, DUCKDB)
    columns = ", ".join(f'"{column}"' for column in page.columns)
    options = "FORMAT csv, HEADER" if query.format == "csv" else "FORMAT parquet, COMPRESSION zstd"
    try:
        db.execute(
            f"COPY (SELECT {columns} FROM ({page.sql}) LIMIT {query.limit}) TO '{path}' ({options})",
            page.values,
        )
    except BaseException:
        folder.cleanup()
        raise
    name = f"{query.table}.{query.format}"
    return Export(folder=folder, path=path, media_type=MEDIA[query.format], name=name)
