"""What to do with a journal file that is broken: keep it, and take out of it what can be read."""

import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from collector.journal import sqlite

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_log = logging.getLogger("sidespan.journal")

ENTRY = "lane_id, received_unix_ns, span_count, size_bytes, attempts, client, trace_ids, payload"
LETTER = (
    "parked_unix_ns, received_unix_ns, lane, reason, message, span_count, size_bytes, client, trace_ids,"
    " payload"
)


def set_aside(path: Path, *, now_ns: int) -> Path:
    """Rename the file and its log; the new name of the file. Nothing is deleted."""
    aside = path.with_name(f"{path.name}.corrupt-{now_ns // 1_000_000_000}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def salvage(aside: Path, db: sqlite3.Connection) -> int:
    """Copy every readable entry and dead letter of the file `aside` into the new journal; how many.

    Entries that were delivered already may come again: MLflow upserts by trace and span id.
    """
    try:
        source = sqlite3.connect(aside, isolation_level=None)
        # without it SQLite reads nothing of a file that is shorter than its head says
        source.execute("PRAGMA writable_schema = ON")
        lanes = dict(source.execute("SELECT id, lane FROM lanes").fetchall())
    except sqlite3.Error as error:
        _log.error("nothing in the set-aside journal can be read", extra={"error": str(error)})
        return 0
    db.execute("BEGIN IMMEDIATE")
    entries = [
        (sqlite.lane_id(db, lanes[row[0]]), *row[1:])
        for row in _readable(source, "entries", "sequence", ENTRY)
        if row[0] in lanes
    ]
    db.executemany(f"INSERT INTO entries ({ENTRY}) VALUES ({_marks(ENTRY)})", entries)  # noqa: S608
    letters = list(_readable(source, "dead_letters", "id", LETTER))
    db.executemany(f"INSERT INTO dead_letters ({LETTER}) VALUES ({_marks(LETTER)})", letters)  # noqa: S608
    db.execute("COMMIT")
    source.close()
    return len(entries) + len(letters)


def _marks(columns: str) -> str:
    return ", ".join("?" * len(columns.split(",")))


def _readable(
    source: sqlite3.Connection, table: str, key: str, columns: str
) -> Iterator[tuple[int | str | bytes, ...]]:
    """Rows whose payload is whole, from both ends of the table up to the damage, oldest first."""
    found: dict[int, tuple[int | str | bytes, ...]] = {}
    for order in ("ASC", "DESC"):
        query = f"SELECT {key}, {columns} FROM {table} ORDER BY {key} {order}"  # noqa: S608 (constants)
        try:
            for number, *row in source.execute(query):
                if number in found:
                    break
                if _is_whole(row[-1]):
                    found[number] = tuple(row)
        except sqlite3.Error:
            continue
    for number in sorted(found):
        yield found[number]


def _is_whole(payload: bytes) -> bool:
    try:
        sqlite.decompress(payload)
    except (zstd.ZstdError, TypeError, ValueError):
        return False
    return True
