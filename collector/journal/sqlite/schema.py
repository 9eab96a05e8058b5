"""The journal's schema, and the way to it from earlier ones. Synchronous.

    lanes         (id, lane, signal)                          the route's canonical text, once
    entries       (sequence, lane_id, received_unix_ns, span_count, size_bytes, client, consumer,
                   trace_ids, payload)                         AUTOINCREMENT: SQLite reuses plain rowids
    cursors       (consumer, lane_id, sequence, marked)        marked: last entry being processed, or NULL
    attempts      (consumer, sequence, count)                  crashes while a consumer processed an entry
    claims        (trace_id, target, client, delivered)        whose a trace id is (ownership.py)
    notes         (consumer, trace_id, note, ...)              what a consumer remembers of a trace (notes.py)
    dead_letters  (id, consumer, signal, parked_unix_ns, ..., payload)

`payload` is one zstd frame with checksum around an ExportTraceServiceRequest, or an ExportLogsServiceRequest
where the lane's or the letter's `signal` is "logs"; `trace_ids` the distinct 16-byte ids one after the other.
`entries.consumer` is NULL, or the only consumer that sees the entry.
"""

import random
import sqlite3

from collector.journal.sqlite import notes, ownership

SCHEMA_VERSION = 5

# cover counts and look-ups by trace, which must not read the payloads' pages
_INDEXES = """
CREATE INDEX entries_by_lane ON entries (lane_id, sequence, consumer, span_count, trace_ids);
CREATE INDEX entries_of_one ON entries (consumer, lane_id, sequence) WHERE consumer IS NOT NULL;
CREATE INDEX dead_letters_by_consumer ON dead_letters (consumer, id, span_count, trace_ids);
"""
_ATTEMPTS = """
CREATE TABLE attempts (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (consumer, sequence)
) WITHOUT ROWID;
"""
SCHEMA = f"""
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL UNIQUE,
    signal TEXT NOT NULL DEFAULT 'traces'
);
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    lane_id INTEGER NOT NULL,
    received_unix_ns INTEGER NOT NULL,
    span_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    client TEXT NOT NULL,
    consumer TEXT,
    trace_ids BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE cursors (
    consumer TEXT NOT NULL,
    lane_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    marked INTEGER,
    PRIMARY KEY (consumer, lane_id)
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    parked_unix_ns INTEGER NOT NULL,
    received_unix_ns INTEGER NOT NULL,
    lane TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    span_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    client TEXT NOT NULL,
    trace_ids BLOB NOT NULL,
    payload BLOB NOT NULL,
    signal TEXT NOT NULL DEFAULT 'traces'
);
{_ATTEMPTS}
{_INDEXES}
{notes.SCHEMA}
{ownership.SCHEMA}
"""

# dead letters and attempts had no consumer, and only delivery made some; the column entries.attempts stays
# where it is, unused: dropping it would write the whole table anew
_SINCE_4 = f"""
{_ATTEMPTS}
INSERT INTO attempts SELECT 'delivery', sequence, attempts FROM entries WHERE attempts > 0;
ALTER TABLE entries ADD COLUMN consumer TEXT;
ALTER TABLE dead_letters ADD COLUMN consumer TEXT NOT NULL DEFAULT 'delivery';
DROP INDEX entries_by_lane;
DROP INDEX dead_letters_by_trace;
{_INDEXES}
"""  # noqa: S608 (constants)
_SINCE_5 = """
ALTER TABLE lanes ADD COLUMN signal TEXT NOT NULL DEFAULT 'traces';
ALTER TABLE dead_letters ADD COLUMN signal TEXT NOT NULL DEFAULT 'traces';
"""
# what makes the next schema of each: of before notes, of 0.1.0, of before dead letters had a consumer, of
# before there were logs
MIGRATIONS = {1: notes.SCHEMA, 2: ownership.SINCE_3, 3: _SINCE_4, 4: _SINCE_5}

_FIRST_TABLES = {"lanes", "entries", "cursors", "claims", "dead_letters"}
_TABLES_SINCE = {2: {"notes"}, 4: {"attempts"}}


def create_or_check(connection: sqlite3.Connection, *, thorough: bool) -> None:
    """Make the schema in a new file; in an old one check that it is ours and, if `thorough`, whole.

    An earlier schema is brought up to this one, step by step, each in a transaction of its own.
    Raises sqlite3.DatabaseError (broken), NotSupportedError (of another version).
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version == 0 and not tables:
        _make(connection, SCHEMA, SCHEMA_VERSION)
        _identify(connection)
        return
    if version not in (0, *MIGRATIONS, SCHEMA_VERSION):
        raise sqlite3.NotSupportedError(f"journal of schema {version}, this is {SCHEMA_VERSION}")
    if version == 0 or not tables >= _tables_of(version):
        raise sqlite3.DatabaseError(f"schema {version} with the tables {', '.join(sorted(tables))}")
    for known in range(version, SCHEMA_VERSION):
        _make(connection, MIGRATIONS[known], known + 1)
    result = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
    if result != "ok":
        raise sqlite3.DatabaseError(f"quick_check: {result}")
    _identify(connection)


def _make(connection: sqlite3.Connection, statements: str, version: int) -> None:
    connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {version}; COMMIT")


def _tables_of(version: int) -> set[str]:
    return _FIRST_TABLES.union(*(tables for since, tables in _TABLES_SINCE.items() if version >= since))


def _identify(db: sqlite3.Connection) -> None:
    """Give the file a name, if it has none: what follows the log from outside knows by it which one it is."""
    if not db.execute("PRAGMA application_id").fetchone()[0]:
        db.execute(f"PRAGMA application_id = {random.randrange(1, 2**31)}")


def identity(db: sqlite3.Connection) -> str:
    """A name of this file that no other journal has."""
    return str(db.execute("PRAGMA application_id").fetchone()[0])
