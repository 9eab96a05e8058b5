"""The rows of the mirror, in a DuckDB file of their own that begins empty with each process.

One thread changes them, others read, each with a connection of its own. A change takes the place of whole
traces in one transaction, so a question never sees half of one.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from collector.mirror.database import gathered, opened_database
from collector.mirror.question import MetricQuestion, PassOnReason
from collector.mirror.rows import COSTS, TOKENS
from collector.mirror.search import SearchQuestion
from collector.mirror.search_sql import page_sql, search_doubts_sql
from collector.mirror.sql import Values, doubts_sql, question_sql

FILE = "mirror.duckdb"
QUERY_SECONDS = 10.0
# spans that are inserted at once
MAX_GATHERED = 20_000
Statement = tuple[str, Values]
_OF_A_TRACE = {"experiment": "BIGINT", "trace_id": "VARCHAR", "timestamp_ms": "BIGINT"}
_FACT = dict.fromkeys(("name", "type", "status"), "VARCHAR")
TABLES: Mapping[str, Mapping[str, str]] = {
    "traces": {
        **_OF_A_TRACE,
        "latency_ms": "BIGINT",
        **dict.fromkeys(("status", "name", "session"), "VARCHAR"),
        **dict.fromkeys(TOKENS, "BIGINT"),
        **dict.fromkeys(("spans_are_held", "is_whole"), "BOOLEAN"),
    },
    "spans": {
        **_OF_A_TRACE,
        **_FACT,
        "type_is_certain": "BOOLEAN",
        **dict.fromkeys(("start_ns", "end_ns"), "BIGINT"),
        "end_is_certain": "BOOLEAN",
        **dict.fromkeys(COSTS, "DOUBLE"),
        **dict.fromkeys(("model", "provider"), "VARCHAR"),
    },
    "entries": dict.fromkeys(("trace_id", "kind", "key", "value"), "VARCHAR"),
    "assessments": {
        **_OF_A_TRACE,
        **dict.fromkeys(("id", "name", "type", "value"), "VARCHAR"),
        "number": "DOUBLE",
        **dict.fromkeys(("text_is_certain", "valid"), "BOOLEAN"),
    },
}


class MirrorStore:
    """The rows of one process. `hold` and `clear` are called by one thread at a time, `measure` by any."""

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        """Raises duckdb.Error, OSError."""
        self._folder = folder
        remove_mirror(folder)
        self._db = duckdb.connect(str(folder / FILE), config={"memory_limit": f"{memory_bytes}B"})
        for name, columns in TABLES.items():
            listed = ", ".join(f"{column} {type}" for column, type in columns.items())
            self._db.execute(f"CREATE TABLE {name} ({listed})")

    def hold(self, document: Mapping[str, Any]) -> None:
        """{"gone": trace ids whose rows go, and the rows that come: {table: [row]}}."""
        with self._changing(document["gone"]):
            for table, columns in TABLES.items():
                if document[table]:
                    self._insert(table, columns, document[table])

    def pull(self, document: Mapping[str, Any]) -> dict[str, str]:
        """{"file", "trace_ids", those "gone", "experiments"}: read traces of these experiments from the file.

        The experiment of each that is there, by its id. Raises DatabaseAway, duckdb.Error.
        """
        experiments = frozenset(map(int, document["experiments"]))
        held: dict[str, str] = {}
        with opened_database(Path(document["file"])) as database, self._changing(document["gone"]):
            for found in gathered(database.columns(document["trace_ids"], experiments), MAX_GATHERED):
                for table, columns in found.items():
                    self._insert_columns(table, columns)
                traces = found["traces"]
                held |= zip(traces["trace_id"], map(str, traces["experiment"]), strict=True)
        return held

    @contextmanager
    def _changing(self, gone: Sequence[str]) -> Iterator[None]:
        """A transaction in which the rows of these traces go first."""
        self._db.begin()
        try:
            for table in TABLES if gone else ():
                self._db.execute(
                    f"DELETE FROM {table} WHERE trace_id IN"
                    " (SELECT unnest(from_json(?::JSON, '[\"VARCHAR\"]')))",
                    [json.dumps(gone)],
                )
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise

    def _insert_columns(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        if not columns["trace_id"]:
            return
        lists = json.dumps({name: [TABLES[table][name]] for name in columns})
        listed = ", ".join(f"unnest(held.{name}) AS {name}" for name in columns)
        sql = (
            f"INSERT INTO {table} BY NAME SELECT {listed} FROM (SELECT from_json(?::JSON, '{lists}') AS held)"
        )
        self._db.execute(sql, [msgspec.json.encode(columns).decode()])

    def _insert(self, table: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        listed = f"from_json(?::JSON, '{json.dumps([columns])}')"
        sql = f"INSERT INTO {table} BY NAME SELECT unnest({listed}, recursive := true)"
        self._db.execute(sql, [json.dumps(rows)])

    def clear(self, experiment: int) -> None:
        """Forget an experiment."""
        self._db.begin()
        ids = "SELECT trace_id FROM traces WHERE experiment = ?"
        self._db.execute(f"DELETE FROM entries WHERE trace_id IN ({ids})", [experiment])
        for table in ("spans", "assessments", "traces"):
            self._db.execute(f"DELETE FROM {table} WHERE experiment = ?", [experiment])
        self._db.commit()

    def measure(self, question: MetricQuestion) -> dict[str, Any]:
        """{"rows": the rows of the result}, or {"doubt": why the rows can't answer}. Raises duckdb.Error."""
        return self._asked(doubts_sql(question), question_sql(question))

    def find(self, question: SearchQuestion) -> dict[str, Any]:
        """{"rows": the traces of a page and one more, as PAGE of search_sql.py}, or {"doubt"}.

        Raises duckdb.Error.
        """
        return self._asked(search_doubts_sql(question), page_sql(question))

    def _asked(self, doubts: Mapping[PassOnReason, Statement], asked: Statement) -> dict[str, Any]:
        db = self._db.cursor()
        timer = threading.Timer(QUERY_SECONDS, db.interrupt)
        timer.start()
        try:
            # one view of the rows for both
            db.begin()
            for reason, (sql, values) in doubts.items():
                if db.execute(sql, values).fetchone() is not None:
                    return {"doubt": reason.value}
            return {"rows": db.execute(*asked).fetchall()}
        finally:
            timer.cancel()
            db.close()

    def close(self) -> None:
        """Let go of the file, and remove it."""
        self._db.close()
        remove_mirror(self._folder)


def remove_mirror(folder: Path) -> None:
    """Remove what a process has left that had no time to do so. Raises OSError."""
    for name in (FILE, f"{FILE}.wal"):
        (folder / name).unlink(missing_ok=True)
