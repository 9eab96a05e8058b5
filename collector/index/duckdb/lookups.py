"""What DuckDB's tables are asked beside the questions of index/sql/. Synchronous."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import duckdb

from collector.index.duckdb.dialect import DUCKDB, DuckdbDialect
from collector.index.protocol import ExperimentCounts
from collector.index.queries.filters import Selection
from collector.index.rows.columns import FACT_COLUMNS
from collector.index.rows.one_trace import IndexedTrace
from collector.index.rows.rows import facts_of_row, pairs_of
from collector.index.sql.selection import where_experiments
from collector.index.sql.stats import Numbers
from collector.index.sql.tables import TablePage, scores_sql
from collector.index.sql.where import Query
from collector.spans.labels import TraceLabels

Db = duckdb.DuckDBPyConnection
CHUNK_BYTES = 256 * 1024
OPTIONS = {"csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet, COMPRESSION zstd"}


@dataclass(frozen=True, slots=True)
class DuckdbTables:
    """A connection as index/sql/answers.py asks it."""

    db: Db
    dialect: DuckdbDialect = DUCKDB

    def fetch(self, query: Query) -> list[tuple[Any, ...]]:
        """As in the protocol."""
        return self.db.execute(query[0], query[1]).fetchall()

    def numbers(self, numbers: Numbers) -> list[tuple[Any, ...]]:
        """As in the protocol."""
        return self.fetch(numbers.sql(self.dialect))

    def export(
        self, page: TablePage, *, limit: int, format: str, temporary: Path
    ) -> Callable[[], Iterator[bytes]]:
        """As in the protocol: a file of `temporary`, which is gone when it was sent."""
        temporary.mkdir(exist_ok=True)
        folder = TemporaryDirectory(dir=temporary)
        path = Path(folder.name) / f"{uuid4().hex}.{format}"
        columns = ", ".join(f'"{column}"' for column in page.columns)
        try:
            self.db.execute(
                f"COPY (SELECT {columns} FROM ({page.sql}) LIMIT {limit}) TO '{path}' ({OPTIONS[format]})",
                page.values,
            )
        except BaseException:
            folder.cleanup()
            raise

        def chunks() -> Iterator[bytes]:
            with folder, path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        return chunks

    def beside(self) -> "DuckdbTables":
        """As in the protocol."""
        return DuckdbTables(self.db.cursor())


def find_trace(db: Db, trace_id: str, experiments: frozenset[str] | None) -> IndexedTrace | None:
    """One trace; None: there is no such trace to be seen."""
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
    return IndexedTrace(
        spans=[facts_of_row(trace_id, row[0], row[1], row[2:]) for row in rows],
        experiment_id=id,
        experiment_name=name,
        whole=bool(complete and not missing),
        run_id=run_id,
        session=session,
        user=user,
    )


def scores(db: Db, trace_id: str, experiments: frozenset[str] | None) -> list[dict[str, Any]]:
    """The scores of one trace, the oldest first, as far as they may be seen."""
    where = where_experiments(Selection(visible_experiment_ids=experiments), DUCKDB)
    where.add("trace_id = ?", trace_id)
    # one that was sent to another experiment than its trace is none of the trace's
    where.add("experiment IN (SELECT experiment FROM traces WHERE trace_id = ?)", trace_id)
    rows = DuckdbTables(db).fetch((scores_sql(where.sql, DUCKDB), where.values))
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
        trace_id: TraceLabels(session=session, user=user, tags=pairs_of(tags))
        for trace_id, session, user, tags in rows
    }


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
