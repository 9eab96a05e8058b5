"""Questions asked of an engine's tables, and their answers as JSON, CSV or Parquet. Synchronous."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from collector.index.protocol import IndexQuery, QueryKind
from collector.index.queries.asked import Asked
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
from collector.index.sql.dialect import Dialect
from collector.index.sql.stats import Groups, Numbers, counts_sql, groups_sql, range_sql
from collector.index.sql.tables import TablePage, table_sql
from collector.index.sql.where import Query

MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
TRACES_OF_A_SESSION = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Rows as a file on its way to a client: `chunks` gives its bytes, once."""

    chunks: Callable[[], Iterator[bytes]]
    media_type: str
    name: str


class SqlTables(Protocol):
    """One engine's tables, as questions ask them. Each verb raises what the engine raises."""

    @property
    def dialect(self) -> Dialect:
        """What the engine says differently."""

    def fetch(self, query: Query) -> list[tuple[Any, ...]]:
        """The rows of an answer."""

    def numbers(self, numbers: Numbers) -> list[tuple[Any, ...]]:
        """The rows of `numbers.sql`, whichever way the engine finds them."""

    def export(
        self, page: TablePage, *, limit: int, format: str, temporary: Path
    ) -> Callable[[], Iterator[bytes]]:
        """The first `limit` rows as CSV or Parquet; what has to be written first goes into `temporary`."""

    def beside(self) -> "SqlTables":
        """The same tables, for another thread."""


def answer(db: SqlTables, query: IndexQuery, asked: Asked, temporary: Path) -> dict[str, Any] | Export | None:
    """The answer to any question; None: there is no such session. Raises BadParameter."""
    if query.kind is QueryKind.SESSION:
        return session(db, asked, query.session)
    if query.kind in _TABLES:
        return _TABLES[query.kind](db, asked, temporary)
    return _DOCUMENTS[query.kind](db, asked)


def encoded(document: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """As Starlette's JSONResponse writes it."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def traces(db: SqlTables, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/traces."""
    return _table(db, traces_query(asked), temporary)


def sessions(db: SqlTables, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/sessions."""
    return _table(db, sessions_query(asked), temporary)


def errors(db: SqlTables, asked: Asked, temporary: Path) -> dict[str, Any] | Export:
    """GET /-/traces/errors."""
    return _table(db, errors_query(asked), temporary)


def session(db: SqlTables, asked: Asked, id: str) -> dict[str, Any] | None:
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


def stats(db: SqlTables, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/stats."""
    return _answer(db, question(asked))


def compare(db: SqlTables, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/compare: what is at the top of either side, with the numbers of both."""
    sides = comparison_questions(asked)
    asks, by = sides["a"], len(sides["a"].by)
    # in turn from either side: what is asked for with a higher `top` begins with the same groups
    tops = zip_longest(*(_top_groups(db, each) for each in sides.values()))
    groups = list(dict.fromkeys(tuple(row[:by]) for rank in tops for row in rank if row is not None))
    found = {side: _values_by_group(db, each, groups) for side, each in sides.items()}
    total = {side: _total(db, each) for side, each in sides.items()}
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


def overview(db: SqlTables, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/overview."""
    asks = overview_questions(asked)
    # questions about little data don't keep two cores busy each by itself
    with ThreadPoolExecutor(2) as threads:
        slowest_first = sorted(asks, key=lambda name: asks[name].of == "traces")
        pending = {
            name: threads.submit(_answer, db.beside(), asks[name], total=name in ("totals", "before"))
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


def facets(db: SqlTables, asked: Asked) -> dict[str, Any]:
    """GET /-/traces/facets: what there is to filter by, the most frequent values first."""
    names = (
        *("experiment", "service", "environment", "version", "agent", "model", "response_model", "tool"),
        *("name", "user"),
    )
    return {
        name: _counts(db, with_parameters(asked, by=(name,), metric=("count",), top=("50",)))
        for name in names
    }


def _counts(db: SqlTables, asked: Asked) -> list[dict[str, Any]]:
    asks = question(asked)
    rows = db.fetch(counts_sql(asks, db.dialect))
    named = [(*_key(db, asks, row).values(), row[-1]) for row in rows]
    return [{"value": value, "count": int(count)} for value, count in named if value is not None]


def _answer(db: SqlTables, asks: StatsQuery, *, total: bool = True) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "of": asks.of,
        "by": asks.by,
        "metrics": asks.metrics,
        "groups": [],
        "more_groups": False,
    }
    if total:
        answer["total"] = dict(zip(asks.metrics, _total(db, asks), strict=True))
    groups: list[Sequence[Any]] = []
    if asks.by:
        rows = db.numbers(Numbers(asks=asks))
        answer["more_groups"] = len(rows) > asks.top
        groups = [row[: len(asks.by)] for row in rows[: asks.top]]
        answer["groups"] = [
            {"key": _key(db, asks, row), "values": dict(zip(asks.metrics, row[len(asks.by) :], strict=True))}
            for row in rows[: asks.top]
        ]
    if asks.bucket is not None:
        _add_series(db, asks, answer, groups)
    return answer


def _total(db: SqlTables, asks: StatsQuery) -> Sequence[Any]:
    return db.numbers(Numbers(asks=asks, in_total=True))[0]


def _add_series(
    db: SqlTables, asks: StatsQuery, answer: dict[str, Any], groups: Sequence[Sequence[Any]]
) -> None:
    first, last = (None, None) if asks.since_unix_ns else db.fetch(range_sql(asks, db.dialect))[0]
    begin = asks.since_unix_ns or first or 0
    # without a beginning the axis is as long as what there is
    end = asks.until_unix_ns if asks.since_unix_ns else last or 0
    step = bucket_seconds(asks, begin, end)
    answer["bucket_seconds"] = step
    series: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for number, *row in db.numbers(Numbers(asks=asks, step_seconds=step, groups=groups)):
        key = tuple(row[: len(asks.by)])
        values = dict(zip(asks.metrics, row[len(asks.by) :], strict=True))
        series.setdefault(key, []).append({"start_unix_ns": number * step * NS_A_SECOND, "values": values})
    if not asks.by:
        answer["series"] = series.get((), [])
    for group, shown in zip(groups, answer["groups"], strict=True):
        shown["series"] = series.get(tuple(group), [])


def _key(db: SqlTables, asks: StatsQuery, row: Sequence[Any]) -> dict[str, Any]:
    key = dict(zip(asks.by, row, strict=False))
    if "experiment" in key:
        named = "SELECT coalesce(name, id) FROM experiments WHERE number = ?"
        key["experiment"] = next(iter(db.fetch((named, [key["experiment"]]))), (None,))[0]
    return key


def _top_groups(db: SqlTables, asks: StatsQuery) -> Sequence[Sequence[Any]]:
    return db.numbers(Numbers(asks=asks))[: asks.top] if asks.by else []


def _values_by_group(
    db: SqlTables, asks: StatsQuery, groups: Groups
) -> Mapping[tuple[Any, ...], Sequence[Any]]:
    rows = db.fetch(groups_sql(asks, db.dialect, groups)) if groups else []
    by = len(asks.by)
    return {tuple(row[:by]): row[by:] for row in rows}


def _both(asks: StatsQuery, a: Sequence[Any], b: Sequence[Any]) -> dict[str, Any]:
    """Metric by metric; a side without rows has nothing."""
    sides = (values or [None] * len(asks.metrics) for values in (a, b))
    return {name: difference(*pair) for name, *pair in zip(asks.metrics, *sides, strict=True)}


def _rows(db: SqlTables, query: TableQuery) -> tuple[list[dict[str, Any]], str | None]:
    page = table_sql(query, db.dialect)
    rows = db.fetch((page.sql, page.values))
    shown = rows[: query.limit]
    more = len(rows) > query.limit and shown[-1][-1] is not None
    cursor = cursor_text(shown[-1][-2], shown[-1][-1]) if more else None
    return [dict(zip(page.columns, row, strict=False)) for row in shown], cursor


def _table(db: SqlTables, query: TableQuery, temporary: Path) -> dict[str, Any] | Export:
    if query.format == "json":
        rows, cursor = _rows(db, query)
        return {query.table: rows, "next_cursor": cursor}
    return _export(db, query, temporary)


def _export(db: SqlTables, query: TableQuery, temporary: Path) -> Export:
    page = table_sql(query, db.dialect)
    return Export(
        chunks=db.export(page, limit=query.limit, format=query.format, temporary=temporary),
        media_type=MEDIA[query.format],
        name=f"{query.table}.{query.format}",
    )


_TABLES: Mapping[QueryKind, Callable[[SqlTables, Asked, Path], dict[str, Any] | Export]] = {
    QueryKind.TRACES: traces,
    QueryKind.SESSIONS: sessions,
    QueryKind.ERRORS: errors,
}
_DOCUMENTS: Mapping[QueryKind, Callable[[SqlTables, Asked], dict[str, Any]]] = {
    QueryKind.STATS: stats,
    QueryKind.COMPARE: compare,
    QueryKind.OVERVIEW: overview,
    QueryKind.FACETS: facets,
}
