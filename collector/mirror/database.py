"""MLflow's SQLite file, read as the columns that MLflow itself counts by.

    trace ids -> one snapshot for each hundred of them -> {table: {column: values}}

The file is only ever read. A snapshot is short, because MLflow can't commit while one is held. Nothing is in
doubt here, as it may be in what MLflow's API tells (rows.py): each value is what MLflow would count.

Source: SqlTraceInfo, SqlSpan, SqlAssessments, SqlTraceTag and SqlTraceMetadata,
https://github.com/mlflow/mlflow/blob/master/mlflow/store/tracking/dbmodels/models.py.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from collector.mirror.filters import MAX_ENTRY_CHARACTERS, NOT_HELD
from collector.mirror.rows import COSTS, MAX_VALUE_CHARACTERS, TOKENS

# MLflow waits that long for a reader, and so do we for MLflow's commit
BUSY_SECONDS = 5.0
# one snapshot: some milliseconds
AT_ONCE = 100

Columns = Mapping[str, Mapping[str, list[Any]]]

_WHOLE = " AND ".join(f"typeof(t.{name}) IN ('integer', 'null')" for name in ("execution_time_ms", *TOKENS))
_SHORT = f"length(a.value) <= {MAX_VALUE_CHARACTERS}"
_OF_A_TRACE = {
    "experiment": "t.experiment_id",
    "trace_id": "t.request_id",
    "timestamp_ms": "t.timestamp_ms",
}
_TRACES = {
    **_OF_A_TRACE,
    "latency_ms": "t.execution_time_ms",
    "status": "t.status",
    "name": "t.trace_name",
    "session": "t.session_id",
    **{name: f"t.{name}" for name in TOKENS},
    "spans_are_held": "1",
    "is_whole": f"({_WHOLE})",
}
_SPANS = {
    **_OF_A_TRACE,
    "name": "s.name",
    "type": "s.type",
    "status": "s.status",
    "type_is_certain": "1",
    "start_ns": "s.start_time_unix_nano",
    "end_ns": "s.end_time_unix_nano",
    "end_is_certain": "1",
    **{name: f"s.{name}" for name in COSTS},
    "model": "s.model_name",
    "provider": "s.model_provider",
}
_ASSESSMENTS = {
    # of an assessment MLflow counts these, and not those of its trace
    "experiment": "a.experiment_id",
    "trace_id": "a.trace_id",
    "timestamp_ms": "a.trace_timestamp_ms",
    "id": "a.assessment_id",
    "name": "a.name",
    "type": "a.assessment_type",
    "value": f"CASE WHEN {_SHORT} THEN a.value END",
    "text_is_certain": f"({_SHORT})",
    "number": "a.aggregate_value",
    "valid": "a.valid",
}
_ENTRIES = {"trace_id": "e.request_id", "kind": "'{kind}'", "key": "e.key", "value": "e.value"}
_HELD_ENTRIES = (
    f" WHERE length(e.key) < {MAX_ENTRY_CHARACTERS} AND length(e.value) < {MAX_ENTRY_CHARACTERS}"
    f" AND e.key NOT IN ({', '.join(repr(key) for key in sorted(NOT_HELD))})"
)


def _selected(columns: Mapping[str, str], joined: str) -> str:
    """The rows of the traces whose ids are the only parameter, a JSON list; in the order of the list."""
    asked = "json_each(?) AS asked CROSS JOIN trace_info AS t ON t.request_id = asked.value"
    return f"SELECT {', '.join(columns.values())} FROM {asked}{joined}"  # noqa: S608, all of it from here


def _entries(table: str, kind: str) -> str:
    joined = f" CROSS JOIN {table} AS e ON e.request_id = t.request_id{_HELD_ENTRIES}"
    return _selected(_ENTRIES, joined).replace("{kind}", kind)


# table -> its columns, and what selects them
_READ: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "traces": (tuple(_TRACES), [_selected(_TRACES, "")]),
    "spans": (tuple(_SPANS), [_selected(_SPANS, " CROSS JOIN spans AS s ON s.trace_id = t.request_id")]),
    "entries": (
        tuple(_ENTRIES),
        [_entries("trace_tags", "tag"), _entries("trace_request_metadata", "metadata")],
    ),
    "assessments": (
        tuple(_ASSESSMENTS),
        [_selected(_ASSESSMENTS, " CROSS JOIN assessments AS a ON a.trace_id = t.request_id")],
    ),
}


class DatabaseAway(Exception):
    """The file can't be read now."""


class MlflowDatabase:
    """The file, opened for one reading by `opened_database`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def columns(self, trace_ids: Sequence[str], experiments: Collection[int]) -> Iterator[Columns]:
        """What the tables hold of those traces that are in these experiments, a snapshot at a time."""
        for first in range(0, len(trace_ids), AT_ONCE):
            asked = json.dumps(trace_ids[first : first + AT_ONCE])
            with self._snapshot():
                ids = [id for id, of in self._experiments(asked) if of in experiments]
                wanted = json.dumps(ids)
                found = {table: self._table(table, wanted) for table in _READ}
            yield found

    def _experiments(self, asked: str) -> list[tuple[str, int]]:
        sql = _selected({"id": "t.request_id", "of": "t.experiment_id"}, "")
        return self._db.execute(sql, [asked]).fetchall()

    def _table(self, table: str, wanted: str) -> Mapping[str, list[Any]]:
        names, selects = _READ[table]
        rows = [row for sql in selects for row in self._db.execute(sql, [wanted]).fetchall()]
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Statements in the block see the same state."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")


def gathered(parts: Iterator[Columns], spans: int) -> Iterator[Columns]:
    """The same in larger parts, of about so many spans: each part costs its reader as much as many rows."""
    whole: Columns = {}
    for part in parts:
        for table, columns in part.items() if whole else ():
            for name, values in columns.items():
                whole[table][name].extend(values)
        whole = whole or part
        if len(whole["spans"]["trace_id"]) >= spans:
            yield whole
            whole = {}
    if whole:
        yield whole


@contextmanager
def opened_database(file: Path) -> Iterator[MlflowDatabase]:
    """The file, until the block ends; in it and at its end raises DatabaseAway."""
    try:
        with closing(connect(file)) as db:
            yield MlflowDatabase(db)
    except sqlite3.Error as error:
        raise DatabaseAway(str(error)) from error


def connect(file: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that can't write, for any thread. Raises sqlite3.Error."""
    return sqlite3.connect(
        f"file:{quote(str(file))}?mode=ro",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
