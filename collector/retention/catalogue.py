"""What is in the archive, and how far its way out of MLflow or back has come: one SQLite file. Synchronous.

    written -> deleting -> archived -> restored -> returned -> written …

    written    the archive has it, and MLflow too
    deleting   MLflow is asked to delete it; after a crash nobody knows whether it has
    archived   only the archive has it
    restored   its spans are in the journal, on their way back to MLflow
    returned   MLflow has all of it again

The archive's own manifests say what is in its files; whatever is missing here is read from them again.
"""

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from collector.files.private import make_folder, opener
from collector.model.errors import Misconfigured
from collector.retention.frames import FrameRecord

FILE_NAME = "retention.sqlite3"
SCHEMA_VERSION = 2
AT_ONCE = 500
_SCHEMA = """
CREATE TABLE traces (
    trace_id TEXT PRIMARY KEY, experiment_id TEXT NOT NULL, state TEXT NOT NULL, spans INTEGER NOT NULL,
    archived_unix_ns INTEGER NOT NULL, restored_unix_ns INTEGER);
CREATE INDEX traces_by_experiment ON traces (experiment_id, state);
CREATE INDEX unsettled ON traces (state) WHERE state = 'deleting';
CREATE INDEX restored ON traces (state) WHERE state = 'restored';
CREATE TABLE frames (
    file TEXT, start INTEGER, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (file, start));
CREATE TABLE places (trace_id TEXT, file TEXT, start INTEGER, PRIMARY KEY (trace_id, file, start));
CREATE TABLE files (file TEXT PRIMARY KEY, data_bytes INTEGER NOT NULL, manifest_bytes INTEGER NOT NULL);
CREATE TABLE owner (id TEXT NOT NULL);
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, report TEXT NOT NULL);
"""
# the first one had no name of its own, and restored spans only
_FROM_1 = """
CREATE TABLE owner (id TEXT NOT NULL);
UPDATE traces SET state = 'returned' WHERE state = 'restored';
CREATE INDEX restored ON traces (state) WHERE state = 'restored';
"""


class ArchiveState(StrEnum):
    """How far a trace has come."""

    WRITTEN = "written"
    DELETING = "deleting"
    ARCHIVED = "archived"
    RESTORED = "restored"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlace:
    """Where a frame is, and what it must hash to."""

    file: str
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguedTrace:
    """A trace that the archive has, in one frame or in several."""

    trace_id: str
    experiment_id: str
    state: ArchiveState
    spans: int
    archived_unix_ns: int
    restored_unix_ns: int | None
    places: tuple[FramePlace, ...]


class Catalogue:
    """One connection, used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    def close(self) -> None:
        """Use after it raises sqlite3.ProgrammingError."""
        with self._lock:
            self._db.close()

    def sizes(self, file: str) -> tuple[int, int]:
        """Bytes of a day's frames and of its manifest that are known to be whole."""
        rows = self._rows("SELECT data_bytes, manifest_bytes FROM files WHERE file = ?", file)
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def owner(self) -> str:
        """The name under which this service writes to the archive, the same after a restart."""
        with self._transaction() as db:
            found = db.execute("SELECT id FROM owner").fetchone() or (uuid.uuid4().hex,)
            db.execute("DELETE FROM owner")
            db.execute("INSERT INTO owner VALUES (?)", found)
        return str(found[0])

    def newest_file(self) -> str | None:
        """The day's file that was begun last."""
        rows = self._rows("SELECT file FROM files ORDER BY rowid DESC LIMIT 1")
        return str(rows[0][0]) if rows else None

    def add(
        self,
        file: str,
        experiment_id: str,
        records: Sequence[FrameRecord],
        manifest_bytes: int,
        *,
        state: ArchiveState,
    ) -> None:
        """Frames of a day's file. A trace that is known keeps its state, unless MLflow has it again."""
        with self._transaction() as db:
            for record in records:
                self._add_frame(db, file, experiment_id, record, state)
            end = max((record.end for record in records), default=0)
            db.execute(
                "INSERT INTO files VALUES (?, ?, ?) ON CONFLICT (file) DO UPDATE SET"
                " data_bytes = max(data_bytes, excluded.data_bytes),"
                " manifest_bytes = excluded.manifest_bytes",
                (file, end, manifest_bytes),
            )

    def _add_frame(
        self,
        db: sqlite3.Connection,
        file: str,
        experiment_id: str,
        record: FrameRecord,
        state: ArchiveState,
    ) -> None:
        frame = (file, record.offset, record.bytes, record.sha256)
        db.execute("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?)", frame)
        for trace in record.traces:
            db.execute(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (trace.trace_id, file, record.offset)
            )
            db.execute(
                "INSERT INTO traces VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (trace_id) DO UPDATE SET"
                " state = excluded.state, spans = max(spans, excluded.spans),"
                " archived_unix_ns = excluded.archived_unix_ns",
                (trace.trace_id, experiment_id, state, trace.spans, record.archived_unix_ns),
            )

    def move(
        self,
        trace_ids: Collection[str],
        state: ArchiveState,
        *,
        out_of: ArchiveState | None = None,
        now_unix_ns: int | None = None,
    ) -> None:
        """These traces (hex) are in this state now; `now_unix_ns`: they were restored.

        `out_of`: only those in that state, for others were restored meanwhile, say.
        """
        with self._transaction() as db:
            db.executemany(
                "UPDATE traces SET state = ?, restored_unix_ns = coalesce(?, restored_unix_ns)"
                " WHERE trace_id = ? AND state = coalesce(?, state)",
                [(state, now_unix_ns, trace_id, out_of) for trace_id in trace_ids],
            )

    def find(self, trace_ids: Collection[str]) -> dict[str, CataloguedTrace]:
        """Those of these traces that the archive has."""
        found: dict[str, CataloguedTrace] = {}
        wanted = list(trace_ids)
        for start in range(0, len(wanted), AT_ONCE):
            for each in self._find(wanted[start : start + AT_ONCE]):
                found[each.trace_id] = each
        return found

    def _find(self, trace_ids: Sequence[str]) -> Iterator[CataloguedTrace]:
        marks = ", ".join("?" * len(trace_ids))
        places: dict[str, list[FramePlace]] = {}
        for id, file, offset, size, checksum in self._rows(
            "SELECT p.trace_id, p.file, p.start, f.bytes, f.sha256 FROM places p JOIN frames f"  # noqa: S608
            f" ON f.file = p.file AND f.start = p.start WHERE p.trace_id IN ({marks}) ORDER BY p.rowid",
            *trace_ids,
        ):
            place = FramePlace(file=file, offset=offset, bytes=size, sha256=checksum)
            places.setdefault(id, []).append(place)
        for id, experiment_id, state, spans, archived, restored in self._rows(
            f"SELECT * FROM traces WHERE trace_id IN ({marks})",  # noqa: S608
            *trace_ids,
        ):
            yield CataloguedTrace(
                trace_id=id,
                experiment_id=experiment_id,
                state=ArchiveState(state),
                spans=spans,
                archived_unix_ns=archived,
                restored_unix_ns=restored,
                places=tuple(places.get(id, ())),
            )

    def gone(self, trace_ids: Collection[str]) -> frozenset[str]:
        """Those of these traces that only the archive has, or soon will."""
        states = (ArchiveState.DELETING, ArchiveState.ARCHIVED)
        return frozenset(id for id, each in self.find(trace_ids).items() if each.state in states)

    def ids(
        self, state: ArchiveState, *, experiment_id: str | None = None, after: str = "", limit: int = AT_ONCE
    ) -> list[tuple[str, str]]:
        """Ids and experiments of traces in a state, a page in the order of ids."""
        where, values = ("", []) if experiment_id is None else (" AND experiment_id = ?", [experiment_id])
        return self._rows(
            f"SELECT trace_id, experiment_id FROM traces WHERE state = ? AND trace_id > ?{where}"  # noqa: S608
            " ORDER BY trace_id LIMIT ?",
            state,
            after,
            *values,
            limit,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """How many traces are in each state, by experiment."""
        found: dict[str, dict[str, int]] = {}
        for experiment_id, state, count in self._rows(
            "SELECT experiment_id, state, count(*) FROM traces GROUP BY experiment_id, state"
        ):
            found.setdefault(experiment_id, {})[state] = count
        return found

    def note_run(self, report: Mapping[str, Any]) -> None:
        """Keep the report of a run that has ended; the last hundred are kept."""
        with self._transaction() as db:
            db.execute("INSERT INTO runs (report) VALUES (?)", (json.dumps(report),))
            db.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - 100")

    def last_run(self) -> dict[str, Any] | None:
        """The report of the run that ended last."""
        rows = self._rows("SELECT report FROM runs ORDER BY id DESC LIMIT 1")
        return json.loads(rows[0][0]) if rows else None

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of a block or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def open_catalogue(data_dir: Path) -> Catalogue:
    """The catalogue in the data folder. Raises Misconfigured."""
    path = data_dir / FILE_NAME
    try:
        make_folder(data_dir)
        os.close(opener(str(path), os.O_RDWR | os.O_CREAT))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
        if version == 1:
            db.executescript(f"BEGIN IMMEDIATE; {_FROM_1} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
    except (OSError, sqlite3.Error) as error:
        raise Misconfigured(f"the catalogue of the archive, {str(path)!r}, can't be read: {error}") from error
    if version not in (0, 1, SCHEMA_VERSION):
        db.close()
        raise Misconfigured(f"{str(path)!r} is of another version of Sidespan (schema {version})")
    return Catalogue(db)
