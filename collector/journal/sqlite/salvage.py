"""What to do with a journal file that is broken: keep it, and take out of it what can be read."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite import subscriptions
from collector.model.batch import signal_of

Row = tuple[int | str | bytes | None, ...]

_log = logging.getLogger("sidespan.journal")

# an earlier schema has no consumer: the entry is everybody's, and the letter or the attempt delivery's
ENTRY = "lane_id, received_unix_ns, span_count, size_bytes, client, consumer, trace_ids, payload"
LETTER = (
    "consumer, parked_unix_ns, received_unix_ns, lane, reason, message, span_count, size_bytes, client,"
    " trace_ids, payload"
)
LANE_OF_A_LETTER = LETTER.split(", ").index("lane")
ATTEMPTS = (
    "SELECT sequence, consumer, count FROM attempts",
    "SELECT sequence, 'delivery', attempts FROM entries NOT INDEXED WHERE attempts > 0",
)
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("lane", "reason", "message", "client"), str),
    **dict.fromkeys(("trace_ids", "payload"), bytes),
    "consumer": (str, type(None)),
}
LAST_KEY = 2**62


def set_aside(path: Path, *, now_ns: int) -> Path:
    """Rename the file and its log; the new name of the file. Nothing is deleted."""
    aside = path.with_name(f"{path.name}.corrupt-{now_ns // 1_000_000_000}")
    # the log first: SQLite would play it into whatever file stands under the name
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def salvage(broken: Path, db: sqlite3.Connection) -> int:
    """Copy every readable entry and dead letter of the file `broken` into the new journal; how many.

    Row by row: the file may be larger than memory. Entries that were delivered already may come again:
    MLflow upserts by trace and span id.
    """
    source = sqlite3.connect(broken, isolation_level=None)
    with closing(source):
        try:
            # without it SQLite reads nothing of a file that is shorter than its head says
            source.execute("PRAGMA writable_schema = ON")
            lanes = _lanes(source)
        except sqlite3.Error as error:
            _log.error("nothing in the broken journal can be read", extra={"error": str(error)})
            return 0
        db.execute("BEGIN IMMEDIATE")
        count = _copy_entries(source, db, lanes) + _copy_letters(source, db)
        _copy_subscriptions(source, db)
        db.execute("COMMIT")
    return count


def _copy_entries(source: sqlite3.Connection, db: sqlite3.Connection, lanes: Mapping[int, str]) -> int:
    attempts = _attempts(source)
    insert = _insert("entries", ENTRY)
    columns = ENTRY if _has_consumer(source, "entries") else ENTRY.replace("consumer", "NULL")
    count = 0
    for sequence, row in _readable(source, "entries", "sequence", columns, ENTRY):
        lane = lanes.get(int(row[0] or 0))
        if lane is None:
            continue
        copied = db.execute(insert, (sqlite.lane_id(db, lane), *row[1:])).lastrowid
        db.executemany(
            "INSERT INTO attempts (consumer, sequence, count) VALUES (?, ?, ?)",
            [(consumer, copied, times) for consumer, times in attempts.get(sequence, {}).items()],
        )
        count += 1
    return count


def _copy_letters(source: sqlite3.Connection, db: sqlite3.Connection) -> int:
    known = "coalesce(consumer, 'delivery')" if _has_consumer(source, "dead_letters") else "'delivery'"
    columns = LETTER.replace("consumer", known)
    rows = (
        (*row, signal_of(str(row[LANE_OF_A_LETTER])).value)
        for _, row in _readable(source, "dead_letters", "id", columns, LETTER)
    )
    return db.executemany(_insert("dead_letters", f"{LETTER}, signal"), rows).rowcount


def _copy_subscriptions(source: sqlite3.Connection, db: sqlite3.Connection) -> None:
    """Who was subscribed gets everything again rather than nothing of it."""
    with suppress(sqlite3.Error):
        for name in subscriptions.subscribed(source):
            subscriptions.keep(db, name)


def _insert(table: str, columns: str) -> str:
    marks = ", ".join("?" * len(columns.split(",")))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 (constants)


def _has_consumer(source: sqlite3.Connection, table: str) -> bool:
    try:
        source.execute(f"SELECT consumer FROM {table} LIMIT 0")  # noqa: S608 (constants)
    except sqlite3.Error:
        return False
    return True


def _attempts(source: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """By sequence and consumer, as far as they can be read."""
    found: dict[int, dict[str, int]] = {}
    for query in ATTEMPTS:
        with suppress(sqlite3.Error):
            for sequence, consumer, count in source.execute(query):
                found.setdefault(sequence, {})[consumer] = count
            break
    return found


def _lanes(source: sqlite3.Connection) -> dict[int, str]:
    """From the table and from the index over it, in case that one of them is damaged."""
    lanes: dict[int, str] = {}
    for index in ("NOT INDEXED", "INDEXED BY sqlite_autoindex_lanes_1"):
        with suppress(sqlite3.Error):
            for number, lane in source.execute(f"SELECT id, lane FROM lanes {index}"):  # noqa: S608
                lanes.setdefault(number, lane)
    return lanes


def _readable(
    source: sqlite3.Connection, table: str, key: str, columns: str, names: str
) -> Iterator[tuple[int, Row]]:
    """Rows that are whole with their keys, in order, before, between and behind the damaged places."""
    query = f"SELECT {key}, {columns} FROM {table} NOT INDEXED WHERE {key} > ? ORDER BY {key}"  # noqa: S608
    at: int | None = 0
    while at is not None:
        try:
            for number, *row in source.execute(query, (at,)):
                at = number
                if _is_whole(row, names.split(", ")):
                    yield number, tuple(row)
            return
        except sqlite3.Error:
            at = _behind_damage(at, lambda position: _can_read(source, query, position))


def _can_read(source: sqlite3.Connection, query: str, after: int) -> bool:
    try:
        source.execute(query, (after,)).fetchone()
    except sqlite3.Error:
        return False
    return True


def _behind_damage(at: int, can_read: Callable[[int], bool]) -> int | None:
    """The first position after `at` from which reading goes on; None if there is none."""
    step = 1
    while not can_read(at + step):
        step *= 2
        if at + step > LAST_KEY:
            return None
    broken, good = at + step // 2, at + step
    while good - broken > 1:
        middle = (broken + good) // 2
        broken, good = (broken, middle) if can_read(middle) else (middle, good)
    return good


def _is_whole(row: Sequence[object], names: Sequence[str]) -> bool:
    """Whether each column holds what its name says; the payload has a checksum."""
    values = dict(zip(names, row, strict=True))
    payload, trace_ids = values["payload"], values["trace_ids"]
    return (
        all(isinstance(value, KINDS.get(name, int)) for name, value in values.items())
        and isinstance(trace_ids, bytes)
        and len(trace_ids) % 16 == 0
        and isinstance(payload, bytes)
        and sqlite.decompress(payload) is not None
    )
