"""The index's file: what is in it, changed in transactions. Synchronous; one thread owns the connection.

    one batch = BEGIN; old rows of its traces out; new rows in; the lanes' cursors on; COMMIT

so a crash neither loses nor doubles. A file that can't be read is set aside, and the index begins anew from
what the journal still holds.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from collector.files.private import make_folder
from collector.index.duckdb import changes as change_table
from collector.index.duckdb import scores as score_table
from collector.index.duckdb.held import wait_until_free
from collector.index.duckdb.schema import SCHEMA, SCHEMA_VERSION
from collector.index.duckdb.shard import Batch, write_rows
from collector.index.duckdb.upgrade import STEPS, upgrade
from collector.index.protocol import Delivered
from collector.index.rows.columns import FACT_COLUMNS, SCORE_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS, Column
from collector.index.rows.gathered import Gathered, TraceKey
from collector.index.rows.rows import facts_of_row
from collector.model.experiment import ExperimentReference
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.score_facts import ScoreFact

_log = logging.getLogger("sidespan.index")

FILE_NAME = "index.duckdb"
# a folder for files on their way to a client
EXPORTS = "exports"
# so many of the oldest traces go at once where the file is too large
OLDEST_SHARE = 0.1
# of lanes that are gone the cursors are worth nothing: sequences never come again
MAX_CURSORS = 5000
# what is stored was cut already
UNCUT = 1_000_000


def open_store(folder: Path, *, memory_bytes: int, threads: int) -> "Store":
    """The index in `folder`. A file of an earlier version is brought up to date (upgrade.py).

    One that is broken, or of a later version, is set aside. Raises BlockingIOError: another process keeps it.
    """
    make_folder(folder)
    path = folder / FILE_NAME
    wait_until_free(path)
    for leftover in folder.glob("*.csv"):
        leftover.unlink()
    shutil.rmtree(folder / EXPORTS, ignore_errors=True)
    config = {
        "memory_limit": f"{memory_bytes // 1_000_000}MB",
        "threads": threads,
        "temp_directory": str(folder / "temp"),
        # each checkpoint writes the last rows again, which grow into groups of 122,880
        "checkpoint_threshold": "256MB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    try:
        return Store(path, _connect(path, config))
    except (duckdb.Error, _OtherVersion) as error:
        aside = path.with_name(f"{FILE_NAME}.broken-{time.time_ns()}")
        _log.error(
            "the index can't be used and is set aside", extra={"error": str(error), "file": str(aside)}
        )
        path.rename(aside)
        with suppress(FileNotFoundError):
            path.with_name(f"{FILE_NAME}.wal").rename(f"{aside}.wal")
        return Store(path, _connect(path, config))


class _OtherVersion(Exception):
    pass


def _connect(path: Path, config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(str(path), config=dict(config))
    try:
        tables = {row[0] for row in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if not tables:
            with transaction(db):
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES (?, NULL)", [SCHEMA_VERSION])
        _bring_up_to_date(db)
    except BaseException:
        db.close()
        raise
    return db


def _bring_up_to_date(db: duckdb.DuckDBPyConnection) -> None:
    """Raises _OtherVersion: there is no way from the file's version to ours."""
    found = db.execute("SELECT schema_version FROM meta").fetchone()
    version = int(found[0]) if found else 0
    if version in STEPS:
        _log.info("the index is brought up to date", extra={"from": version, "to": SCHEMA_VERSION})
        with transaction(db):
            version = upgrade(db.execute, version)
        db.execute("CHECKPOINT")
    if version != SCHEMA_VERSION:
        raise _OtherVersion(f"an index of version {version}, this is {SCHEMA_VERSION}")


@contextmanager
def transaction(db: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of it, or nothing."""
    db.execute("BEGIN")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):
            db.execute("ROLLBACK")
        raise


class Store:
    """The tables, and every change to them."""

    def __init__(self, path: Path, db: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.db = db
        change_table.make(db, now_unix_ns=time.time_ns())

    def reader(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same tables, for one thread."""
        return self.db.cursor()

    def close(self) -> None:
        """Everything to the file, and let go of it."""
        self.db.close()

    # how far the journal is read

    def follow(self, journal: str) -> None:
        """Note which journal the cursors are of; those of another one are worth nothing."""
        if self._value("SELECT journal FROM meta") != journal:
            with transaction(self.db):
                self.db.execute("UPDATE meta SET journal = ?", [journal])
                self.db.execute("DELETE FROM cursors")

    def cursors(self) -> dict[str, int]:
        """How far each lane is in here."""
        return dict(self.db.execute("SELECT lane, sequence FROM cursors").fetchall())

    def forget_cursors(self) -> None:
        """Have everything that the journal still holds come again."""
        self.db.execute("DELETE FROM cursors")

    # experiments

    def number_of(self, experiment: ExperimentReference) -> int:
        """The number that stands for an experiment, made if it is new; what is new of it is noted."""
        by_id = self._experiment("id = ?", experiment.id) if experiment.id is not None else None
        # a name alone is the experiment that had it last; one that got its id by now is that experiment
        by_name = self._experiment("name = ? ORDER BY id IS NULL, number DESC", experiment.name)
        if experiment.id is None:
            return by_name[0] if by_name else self._new_experiment(experiment)
        if by_id is None and by_name is not None and by_name[1] is None:
            self.db.execute("UPDATE experiments SET id = ? WHERE number = ?", [experiment.id, by_name[0]])
            return by_name[0]
        number = by_id[0] if by_id else self._new_experiment(experiment)
        if experiment.name is not None:
            self.db.execute("UPDATE experiments SET name = ? WHERE number = ?", [experiment.name, number])
            self._join(number, experiment.name)
        return number

    def unnamed(self) -> list[ExperimentReference]:
        """Experiments of which only one of id and name is known."""
        rows = self.db.execute("SELECT id, name FROM experiments WHERE id IS NULL OR name IS NULL").fetchall()
        return [ExperimentReference(id=id, name=name) for id, name in rows]

    def _join(self, number: int, name: str) -> None:
        """What came under the name alone is the same experiment's; a trace in both becomes one."""
        alone = self._experiment("name = ? AND id IS NULL", name)
        if alone is None:
            return
        shared = self.db.execute(
            "SELECT replace(trace_id::VARCHAR, '-', '') FROM traces WHERE experiment IN (?, ?)"
            " GROUP BY trace_id HAVING count(*) > 1",
            [number, alone[0]],
        ).fetchall()
        keys = [(each, trace_id) for (trace_id,) in shared for each in (number, alone[0])]
        if keys:
            whole: dict[TraceKey, Gathered] = {}
            for (_, trace_id), trace in self.stored(keys).items():
                merged = whole.setdefault((number, trace_id), trace)
                if merged is not trace:
                    merged.spans += trace.spans
                    merged.run_id = merged.run_id or trace.run_id
                    merged.labels = trace.labels if merged.labels == NO_LABELS else merged.labels
            batch = write_rows(whole, into=self.path.parent, name="joined", preview_characters=UNCUT)
            self.put([replace(batch, keys=keys)], {})
        with transaction(self.db):
            score_table.move(self.db, to=number, of=alone[0])
            for table in ("spans", "traces", "labels", "changes"):
                self.db.execute(f"UPDATE {table} SET experiment = ? WHERE experiment = ?", [number, alone[0]])
            self.db.execute("DELETE FROM experiments WHERE number = ?", [alone[0]])

    def _experiment(self, condition: str, value: str | None) -> tuple[int, str | None] | None:
        if value is None:
            return None
        query = f"SELECT number, id FROM experiments WHERE {condition} LIMIT 1"
        row = self.db.execute(query, [value]).fetchone()
        return row and (row[0], row[1])

    def _new_experiment(self, experiment: ExperimentReference) -> int:
        number = int(self._value("SELECT coalesce(max(number), 0) + 1 FROM experiments"))
        self.db.execute("INSERT INTO experiments VALUES (?, ?, ?)", [number, experiment.id, experiment.name])
        return number

    # traces

    def stored(self, keys: Sequence[TraceKey]) -> dict[TraceKey, Gathered]:
        """Of these traces those that are in here, with all their spans."""
        if not keys:
            return {}
        self._wanted(keys)
        labelled = self._labels()
        rows = self.db.execute(
            "SELECT t.experiment, replace(t.trace_id::VARCHAR, '-', ''), t.run_id, t.seen_unix_ns, t.low_ns,"
            " t.start_unix_ns + t.duration_ns FROM traces t SEMI JOIN wanted w"
            " ON t.trace_id = w.trace_id AND t.experiment = w.experiment"
        ).fetchall()
        found = {
            (experiment, trace_id): Gathered(run_id=run_id, seen_unix_ns=seen)
            for experiment, trace_id, run_id, seen, _, _ in rows
        }
        if rows:
            self._read_spans(found, rows)
        for key, labels in labelled.items():
            found.setdefault(key, Gathered()).labels = labels
        return found

    def _read_spans(self, found: Mapping[TraceKey, Gathered], rows: Sequence[Any]) -> None:
        self._wanted(list(found))
        # the range lets DuckDB pass over most of the table
        low, high = min(row[4] for row in rows), max(row[5] for row in rows)
        for experiment, trace_id, span in self._spans(low, high):
            found[experiment, trace_id].spans.append(span)

    def _spans(self, low: int, high: int) -> Iterator[tuple[int, str, Any]]:
        columns = ", ".join(f's."{column.name}"' for column in FACT_COLUMNS)
        rows = self.db.execute(
            "SELECT s.experiment, replace(s.trace_id::VARCHAR, '-', ''), s.span_id, s.parent_span_id,"
            f" {columns}, s.tags, s.links, s.error_message, s.own_facts FROM spans s SEMI JOIN wanted w"
            " ON s.trace_id = w.trace_id AND s.experiment = w.experiment"
            " WHERE s.start_unix_ns BETWEEN ? AND ?",
            [low, high],
        ).fetchall()
        for experiment, trace_id, span_id, parent, *facts in rows:
            yield experiment, trace_id, facts_of_row(trace_id, span_id, parent, facts)

    def put(self, batches: Sequence[Batch], cursors: Mapping[str, int]) -> None:
        """The rows of `batches` in the place of what is stored of their traces, and the lanes' cursors on."""
        self._wanted([key for batch in batches for key in batch.keys])
        with transaction(self.db):
            low, high = self.db.execute(
                "SELECT min(t.low_ns), max(t.start_unix_ns + t.duration_ns) FROM traces t SEMI JOIN wanted w"
                " ON t.trace_id = w.trace_id AND t.experiment = w.experiment"
            ).fetchall()[0]
            if low is not None:
                self._delete_wanted("spans", "AND start_unix_ns BETWEEN ? AND ?", [low, high])
                self._delete_wanted("traces", "", [])
            self._copy("traces", TRACE_COLUMNS, [batch.traces_file for batch in batches])
            self._copy("spans", SPAN_COLUMNS, [batch.spans_file for batch in batches])
            scores = [batch.scores_file for batch in batches if batch.scores_file.stat().st_size]
            if scores:
                score_table.make_room(self.db)
                self._copy("new_scores", SCORE_COLUMNS, scores)
                score_table.add_new(self.db)
            change_table.note(self.db, [batch.fresh for batch in batches], now_unix_ns=time.time_ns())
            for lane, sequence in cursors.items():
                self.db.execute("DELETE FROM cursors WHERE lane = ?", [lane])
                self.db.execute("INSERT INTO cursors VALUES (?, ?)", [lane, sequence])
        for file in (file for batch in batches for file in batch.files):
            file.unlink(missing_ok=True)

    def _wanted(self, keys: Sequence[TraceKey]) -> None:
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE wanted AS"
            " SELECT unnest(?::INTEGER[]) AS experiment, unnest(?::UUID[]) AS trace_id",
            [[experiment for experiment, _ in keys], [trace_id for _, trace_id in keys]],
        )

    def _delete_wanted(self, table: str, condition: str, values: Sequence[int]) -> None:
        self.db.execute(
            f"DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM wanted w WHERE w.trace_id = {table}.trace_id"
            f" AND w.experiment = {table}.experiment) {condition}",
            list(values),
        )

    def _copy(self, table: str, columns: Sequence[Column], files: Sequence[Path]) -> None:
        full = [str(file) for file in files if file.stat().st_size]
        if not full:
            return
        shape = ", ".join(f"'{column.name}': '{column.type}'" for column in columns)
        names = ", ".join(f'"{column.name}"' for column in columns)
        self.db.execute(
            f"INSERT INTO {table} ({names}) SELECT * FROM read_csv(?, columns = {{{shape}}}, header = false,"
            " auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '',"
            " new_line = '\\r\\n', max_line_size = 16777216)",
            [full],
        )

    # keeping

    def forget(self, *, seen_before_unix_ns: int, max_bytes: int) -> int:
        """Take out what is too old, and the oldest where there is too much; how many traces went."""
        gone = self._forget_before(seen_before_unix_ns)
        change_table.forget(self.db, now_unix_ns=time.time_ns())
        self.db.execute(
            "DELETE FROM cursors WHERE sequence < (SELECT min(sequence) FROM"
            " (SELECT sequence FROM cursors ORDER BY sequence DESC LIMIT ?))",
            [MAX_CURSORS],
        )
        if self.size_bytes() > max_bytes:
            seen = "SELECT seen_unix_ns FROM traces UNION ALL SELECT seen_unix_ns FROM scores"
            oldest = self._value(f"SELECT quantile_disc(seen_unix_ns, ?) FROM ({seen})", [OLDEST_SHARE])
            if oldest is not None:
                gone += self._forget_before(int(oldest) + 1)
        return gone

    def _forget_before(self, seen_unix_ns: int) -> int:
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE wanted AS SELECT experiment, trace_id FROM traces"
            " WHERE seen_unix_ns < ?",
            [seen_unix_ns],
        )
        count = int(self._value("SELECT count(*) FROM wanted"))
        alone = score_table.forget_alone(self.db, seen_before_unix_ns=seen_unix_ns)
        if count or alone:
            with transaction(self.db):
                for table in ("spans", "traces", "scores"):
                    self._delete_wanted(table, "", [])
                self.db.execute("DELETE FROM labels WHERE seen_unix_ns < ?", [seen_unix_ns])
            self.db.execute("CHECKPOINT")
        return count

    # labels

    def _labels(self) -> dict[TraceKey, TraceLabels]:
        """Of the wanted traces, what MLflow was told of them."""
        rows = self.db.execute(
            "SELECT l.experiment, replace(l.trace_id::VARCHAR, '-', ''), l.session, l.\"user\", l.tags"
            " FROM labels l SEMI JOIN wanted w ON l.trace_id = w.trace_id AND l.experiment = w.experiment"
        ).fetchall()
        return {
            (experiment, trace_id): TraceLabels(
                session=session, user=user, tags=tuple((name, value) for name, value in json.loads(tags))
            )
            for experiment, trace_id, session, user, tags in rows
        }

    def put_labels(self, labels: Mapping[TraceKey, TraceLabels], *, seen_unix_ns: int) -> None:
        """What MLflow holds of these traces, in the place of what was known of it; rows stay as they are."""
        self._wanted(list(labels))
        rows = [
            [experiment, trace_id, each.session, each.user, json.dumps(each.tags), seen_unix_ns]
            for (experiment, trace_id), each in labels.items()
            if each != NO_LABELS
        ]
        with transaction(self.db):
            self._delete_wanted("labels", "", [])
            if rows:
                self.db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?)", rows)

    def put_scores(self, scores: Mapping[TraceKey, Sequence[ScoreFact]], delivered: Delivered) -> None:
        """What MLflow says of the scores of these traces."""
        with transaction(self.db):
            score_table.replace(self.db, scores, delivered, now_unix_ns=time.time_ns())

    def size_bytes(self) -> int:
        """Blocks in use; free ones are used again before the file grows."""
        row = self.db.execute("SELECT block_size, used_blocks FROM pragma_database_size()").fetchone()
        log = self.path.with_name(f"{FILE_NAME}.wal")
        return (int(row[0]) * int(row[1]) if row else 0) + (log.stat().st_size if log.exists() else 0)

    def counts(self) -> tuple[int, int]:
        """Traces and spans."""
        return int(self._value("SELECT count(*) FROM traces")), int(self._value("SELECT count(*) FROM spans"))

    def _value(self, query: str, values: Sequence[Any] = ()) -> Any:
        row = self.db.execute(query, list(values)).fetchone()
        return None if row is None else row[0]
