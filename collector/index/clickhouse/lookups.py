"""What ClickHouse's tables are asked beside the questions of index/sql/. Synchronous."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from collector.index.clickhouse.dialect import CLICKHOUSE, ClickhouseDialect
from collector.index.clickhouse.kept import NumbersNow
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.protocol import ExperimentCounts, IndexState
from collector.index.queries.filters import Selection
from collector.index.rows.columns import FACT_COLUMNS
from collector.index.rows.one_trace import IndexedTrace
from collector.index.rows.rows import facts_of_row, pairs_of
from collector.index.sql.selection import where_experiments
from collector.index.sql.stats import Numbers
from collector.index.sql.tables import TablePage, scores_sql
from collector.index.sql.where import Query
from collector.spans.labels import TraceLabels

_FACTS = ", ".join(f'"{column.name}"' for column in FACT_COLUMNS)
# columns of answers that are lists: other engines write them without quotes
_LISTS = frozenset({"agents", "models", "response_models", "tools", "tags", "kinds"})


@dataclass(frozen=True, slots=True)
class ClickhouseTables:
    """The tables as index/sql/answers.py asks them."""

    server: ClickhouseServer
    kept: NumbersNow | None = None
    dialect: ClickhouseDialect = CLICKHOUSE

    def fetch(self, query: Query) -> list[tuple[Any, ...]]:
        """As in the protocol."""
        return self.server.rows(*query)

    def numbers(self, numbers: Numbers) -> list[tuple[Any, ...]]:
        """As in the protocol: of what is kept of days, as far as possible."""
        found = None if self.kept is None else self.kept.rows(numbers)
        return self.fetch(numbers.sql(self.dialect)) if found is None else found

    def export(
        self, page: TablePage, *, limit: int, format: str, temporary: Path
    ) -> Callable[[], Iterator[bytes]]:
        """As in the protocol; nothing is written here."""
        columns = ", ".join(_written(name, format) for name in page.columns)
        sql = f"SELECT {columns} FROM ({page.sql}) LIMIT {limit}"
        chunks = self.server.file(sql, page.values, format)
        return lambda: chunks

    def beside(self) -> "ClickhouseTables":
        """The same: any thread may ask."""
        return self


def _written(name: str, format: str) -> str:
    if format == "csv" and name in _LISTS:
        return f"concat('[', arrayStringConcat(\"{name}\", ', '), ']') AS \"{name}\""
    return f'"{name}"'


def find_trace(
    server: ClickhouseServer, trace_id: str, experiments: frozenset[str] | None
) -> IndexedTrace | None:
    """One trace; None: there is no such trace to be seen."""
    number = int(trace_id, 16)
    seen = _seen(server, [number])
    if seen is None:
        return None
    where = where_experiments(Selection(visible_experiment_ids=experiments), CLICKHOUSE)
    found = server.rows(
        "SELECT t.experiment, e.id, e.name, t.complete, t.missing_parents, t.run_id, t.session,"
        ' t."user" FROM (SELECT * FROM traces WHERE seen_unix_ns BETWEEN ? AND ?'
        f" AND trace_id = toUInt128(?) AND {where.sql}) t"
        " LEFT JOIN experiments e ON e.number = t.experiment ORDER BY t.span_count DESC LIMIT 1",
        [*seen, str(number), *where.values],
    )
    if not found:
        return None
    experiment, id, name, complete, missing, run_id, session, user = found[0]
    rows = server.rows(
        f"SELECT span_id, parent_span_id, {_FACTS}, tags, links, error_message, own_facts FROM spans"
        " WHERE seen_unix_ns BETWEEN ? AND ? AND experiment = ? AND trace_id = toUInt128(?)",
        [*seen, experiment, str(number)],
    )
    return IndexedTrace(
        spans=[facts_of_row(trace_id, row[0], row[1], row[2:]) for row in rows],
        experiment_id=id,
        experiment_name=name,
        whole=bool(complete and not missing),
        run_id=run_id,
        session=session,
        user=user,
    )


def _seen(server: ClickhouseServer, numbers: Sequence[int]) -> tuple[int, int] | None:
    """Between which times these traces were first seen: no other day needs to be looked at."""
    rows = server.rows(
        "SELECT min(seen_unix_ns), max(seen_unix_ns) FROM trace_days"
        " WHERE trace_id IN (SELECT toUInt128(arrayJoin(?)))",
        [[str(number) for number in numbers]],
        final=False,
    )
    low, high = rows[0]
    return None if low is None else (low, high)


def scores(
    server: ClickhouseServer, trace_id: str, experiments: frozenset[str] | None
) -> list[dict[str, Any]]:
    """The scores of one trace, the oldest first, as far as they may be seen."""
    number = str(int(trace_id, 16))
    where = where_experiments(Selection(visible_experiment_ids=experiments), CLICKHOUSE)
    where.add("trace_id = toUInt128(?)", number)
    # one that was sent to another experiment than its trace is none of the trace's
    where.add("experiment IN (SELECT experiment FROM trace_days WHERE trace_id = toUInt128(?))", number)
    rows = server.rows(scores_sql(where.sql, CLICKHOUSE), where.values)
    return [score for _, _, listed in rows for score in listed]


def owners(server: ClickhouseServer, trace_id: str) -> frozenset[str]:
    """The ids of the experiments in which a trace is."""
    number = int(trace_id, 16)
    seen = _seen(server, [number])
    if seen is None:
        return frozenset()
    rows = server.rows(
        "SELECT id FROM experiments WHERE id IS NOT NULL AND number IN (SELECT experiment FROM traces"
        " WHERE seen_unix_ns BETWEEN ? AND ? AND trace_id = toUInt128(?))",
        [*seen, str(number)],
    )
    return frozenset(row[0] for row in rows)


def labels(server: ClickhouseServer, experiment_id: str, trace_ids: Sequence[str]) -> dict[str, TraceLabels]:
    """What the index says of these traces' sessions, users and tags; what it hasn't got is missing."""
    numbers = [int(trace_id, 16) for trace_id in trace_ids]
    seen = _seen(server, numbers) if numbers else None
    if seen is None:
        return {}
    rows = server.rows(
        f'SELECT {CLICKHOUSE.hex_id("trace_id")}, session, "user", tags FROM traces'
        " WHERE seen_unix_ns BETWEEN ? AND ? AND trace_id IN (SELECT toUInt128(arrayJoin(?)))"
        " AND experiment IN (SELECT number FROM experiments WHERE id = ?)",
        [*seen, [str(number) for number in numbers], experiment_id],
    )
    return {
        trace_id: TraceLabels(session=session, user=user, tags=pairs_of(tags))
        for trace_id, session, user, tags in rows
    }


def experiment_ids_of(server: ClickhouseServer) -> list[str]:
    """The experiments that there are, or were, traces of."""
    return [row[0] for row in server.rows("SELECT id FROM experiments WHERE id IS NOT NULL ORDER BY id")]


def state_of(server: ClickhouseServer, *, size_bytes: int) -> IndexState:
    """What there is of each experiment, the largest first."""
    rows = server.rows(
        "SELECT e.id, e.name, t.traces, t.spans, coalesce(s.scores, 0), t.first, t.last"
        " FROM (SELECT experiment, count() AS traces, sum(span_count) AS spans, min(start_unix_ns) AS first,"
        " max(start_unix_ns) AS last FROM traces GROUP BY experiment) t"
        " JOIN experiments e ON e.number = t.experiment"
        " LEFT JOIN (SELECT experiment, count() AS scores FROM scores GROUP BY experiment) s"
        " ON s.experiment = t.experiment ORDER BY traces DESC"
    )
    names = [field.name for field in fields(ExperimentCounts)]
    experiments = [ExperimentCounts(**dict(zip(names, row, strict=True))) for row in rows]
    return IndexState(
        traces=sum(each.traces for each in experiments),
        spans=sum(each.spans for each in experiments),
        scores=sum(each.scores for each in experiments),
        size_bytes=size_bytes,
        experiments=experiments,
    )
