"""The journal's file: how it is opened, and statements over its tables (schema.py). Synchronous.

Each function but `connect` runs inside a transaction.
"""

import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from collector.files.private import opener
from collector.model.batch import Draft, FollowUp, signal_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PAGE_BYTES = 8192
# beyond every sequence: nobody reads what is up to here
NEVER_READ = 2**62

_compressor = zstd.ZstdCompressor(
    options={
        zstd.CompressionParameter.compression_level: 1,
        zstd.CompressionParameter.checksum_flag: 1,
    }
)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. Durability is asserted, not assumed."""
    if not read_only:  # its log and its index have the mode that the file has
        os.close(opener(str(path), os.O_RDWR | os.O_CREAT))
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=64, timeout=5
    )
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return connection
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous = FULL")
    if mode != "wal" or connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise sqlite3.OperationalError(f"{path}: write-ahead log not available (mode {mode})")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def compress(payload: bytes | memoryview) -> bytes:
    """One zstd frame. Only the writer's thread may call it: the compressor is used again."""
    return _compressor.compress(payload, mode=_compressor.FLUSH_FRAME)


def decompress(payload: bytes) -> bytes | None:
    """Undo `compress`; None if a byte is wrong."""
    try:
        return zstd.decompress(payload)
    except zstd.ZstdError:
        return None


def pack_ids(trace_ids: Iterable[bytes]) -> bytes:
    return b"".join(sorted(trace_ids))


def unpack_ids(packed: bytes) -> frozenset[bytes]:
    return frozenset(packed[i : i + 16] for i in range(0, len(packed), 16))


_INSERT = (
    "INSERT INTO entries (lane_id, received_unix_ns, span_count, size_bytes, client, trace_ids, payload)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def lane_id(db: sqlite3.Connection, lane: str) -> int:
    """The lane's number, made if it is new."""
    row = db.execute("SELECT id FROM lanes WHERE lane = ?", (lane,)).fetchone()
    if row is None:
        values = (lane, signal_of(lane).value)
        row = db.execute("INSERT INTO lanes (lane, signal) VALUES (?, ?) RETURNING id", values).fetchone()
    return int(row[0])


def insert(
    db: sqlite3.Connection,
    drafts: Sequence[Draft],
    payloads: Sequence[bytes],
    *,
    now_ns: int,
    lanes: dict[str, int],
) -> int:
    """Append drafts whose compressed `payloads` stand beside them; the last sequence.

    `lanes` holds the numbers of lanes that are there for certain, and gets those that were looked up.
    """
    sequence = 0
    for draft, payload in zip(drafts, payloads, strict=True):
        if draft.lane not in lanes:
            lanes[draft.lane] = lane_id(db, draft.lane)
        ids = pack_ids(draft.trace_ids)
        row = (lanes[draft.lane], now_ns, draft.span_count, len(draft.payload), draft.client, ids, payload)
        sequence = db.execute(_INSERT, row).lastrowid or 0
    return sequence


def follow_up(db: sqlite3.Connection, follow_ups: Sequence[FollowUp]) -> None:
    """Append entries that one consumer alone sees. Only in the writer's thread: it compresses."""
    db.executemany(
        "INSERT INTO entries (lane_id, received_unix_ns, span_count, size_bytes, client, consumer, trace_ids,"
        " payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(lane_id(db, (draft := each.draft).lane), each.received_unix_ns, draft.span_count),
                *(len(draft.payload), draft.client, each.consumer, pack_ids(draft.trace_ids)),
                compress(draft.payload),
            )
            for each in follow_ups
        ],
    )


def mark(db: sqlite3.Connection, consumer: str, lane: str, *, through: int) -> None:
    number = lane_id(db, lane)
    db.execute(
        "INSERT INTO cursors (consumer, lane_id, sequence, marked) VALUES (?, ?, 0, ?)"
        " ON CONFLICT (consumer, lane_id) DO UPDATE SET marked = excluded.marked",
        (consumer, number, through),
    )


def unmark(db: sqlite3.Connection, consumer: str, lane: str) -> None:
    db.execute(
        "UPDATE cursors SET marked = NULL WHERE consumer = ? AND lane_id = ?", (consumer, lane_id(db, lane))
    )


def move_cursor(db: sqlite3.Connection, consumer: str, lane: str, *, through: int) -> None:
    db.execute(
        "INSERT INTO cursors (consumer, lane_id, sequence) VALUES (?, ?, ?)"
        " ON CONFLICT (consumer, lane_id) DO UPDATE"
        " SET sequence = max(sequence, excluded.sequence), marked = NULL",
        (consumer, lane_id(db, lane), through),
    )


def has_moved_back(db: sqlite3.Connection, consumer: str, lane: str, *, first: int) -> bool:
    """Whether entries before `first` wait again: a replay since the window that begins there was read."""
    row = db.execute(
        "SELECT 1 FROM entries WHERE lane_id = :lane_id AND sequence < :first AND sequence > coalesce("
        "(SELECT sequence FROM cursors WHERE consumer = :consumer AND lane_id = :lane_id), 0)"
        " AND (consumer IS NULL OR consumer = :consumer) LIMIT 1",
        {"lane_id": lane_id(db, lane), "first": first, "consumer": consumer},
    ).fetchone()
    return row is not None


def sweep(
    db: sqlite3.Connection,
    consumers: Mapping[str, Sequence[str]],
    *,
    received_before_ns: int,
    lane: str | None = None,
    limit: int = 5000,
) -> int:
    """Delete entries that every consumer has passed who sees them, of one lane or of all; how many.

    `consumers` are those of each signal.
    """
    deleted = 0
    for number, signal, cursors in _cursors(db, lane):
        passed = min((cursors.get(consumer, 0) for consumer in consumers[signal]), default=NEVER_READ)
        if passed:
            deleted += len(_delete(db, None, number, passed, received_before_ns, limit))
        for consumer, sequence in cursors.items():
            deleted += len(_delete(db, consumer, number, sequence, received_before_ns, limit))
    return deleted


def skip(
    db: sqlite3.Connection,
    holders: Mapping[str, Sequence[str]],
    followers: Mapping[str, Sequence[str]],
    *,
    received_before_ns: int,
    lane: str | None,
    limit: int,
) -> tuple[int, Counter[str]]:
    """Delete the oldest entries that the holders of each signal have passed, read by followers or not.

    How many, and how many spans or log records went before a follower had passed them.
    """
    deleted, skipped = 0, Counter[str]()
    for number, signal, cursors in _cursors(db, lane):
        passed = min((cursors.get(consumer, 0) for consumer in holders[signal]), default=NEVER_READ)
        gone = _delete(db, None, number, passed, received_before_ns, limit) if passed else []
        deleted += len(gone)
        for follower in followers[signal]:
            at = cursors.get(follower, 0)
            skipped[follower] += sum(spans for sequence, spans in gone if sequence > at)
    return deleted, +skipped


def _cursors(db: sqlite3.Connection, lane: str | None) -> Iterator[tuple[int, str, dict[str, int]]]:
    """Lanes, or one, with their signal and the cursors in them by consumer."""
    one = [(lane_id(db, lane), signal_of(lane).value)] if lane else None
    for number, signal in one or db.execute("SELECT id, signal FROM lanes").fetchall():
        query = "SELECT consumer, sequence FROM cursors WHERE lane_id = ?"
        yield number, signal, dict(db.execute(query, (number,)).fetchall())


def _delete(
    db: sqlite3.Connection, consumer: str | None, lane: int, through: int, received_before_ns: int, limit: int
) -> list[tuple[int, int]]:
    """The oldest entries up to `through` that are this consumer's alone (None: everybody's).

    The sequence of each, and its count of spans or log records.
    """
    whose, values = ("consumer IS NULL", ()) if consumer is None else ("consumer = ?", (consumer,))
    return db.execute(
        "DELETE FROM entries WHERE sequence IN (SELECT sequence FROM entries"  # noqa: S608 (constants)
        f" WHERE {whose} AND lane_id = ? AND sequence <= ? AND received_unix_ns <= ? ORDER BY sequence"
        " LIMIT ?) RETURNING sequence, span_count",
        (*values, lane, through, received_before_ns, limit),
    ).fetchall()


def forget(db: sqlite3.Connection) -> None:
    """Drop lanes without entries, and attempts at entries that are gone."""
    db.execute("DELETE FROM attempts WHERE sequence NOT IN (SELECT sequence FROM entries)")
    empty = "SELECT l.id FROM lanes l WHERE NOT EXISTS (SELECT 1 FROM entries WHERE lane_id = l.id)"
    db.execute(f"DELETE FROM cursors WHERE lane_id IN ({empty})")  # noqa: S608 (a constant)
    db.execute(f"DELETE FROM lanes WHERE id IN ({empty})")  # noqa: S608 (a constant)


def recover(db: sqlite3.Connection) -> int:
    """Count an attempt for entries that were being processed when the last process ended; how many.

    It counts for the consumer that was processing them, and for no other.
    """
    cut_short = db.execute(
        "INSERT INTO attempts (consumer, sequence, count) SELECT c.consumer, e.sequence, 1 FROM cursors c"
        " JOIN entries e ON e.lane_id = c.lane_id AND e.sequence > c.sequence AND e.sequence <= c.marked"
        " WHERE e.consumer IS NULL OR e.consumer = c.consumer"
        " ON CONFLICT (consumer, sequence) DO UPDATE SET count = count + 1"
    ).rowcount
    db.execute("UPDATE cursors SET marked = NULL WHERE marked IS NOT NULL")
    return cut_short


def pages(db: sqlite3.Connection) -> tuple[int, int]:
    """Pages of the file, and how many of them are free: these are used again before the file grows."""
    all_pages, free = db.execute(
        "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
    ).fetchone()
    return int(all_pages), int(free)


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the pages in use."""
    all_pages, free = pages(db)
    return (all_pages - free) * PAGE_BYTES


def give_back(db: sqlite3.Connection, free_pages: int, *, keep_pages: int = 4096) -> None:
    """Return free pages to the disk, a bounded number at a time, when there are many."""
    if free_pages > keep_pages:
        db.execute("PRAGMA incremental_vacuum(2000)").fetchall()


def find(db: sqlite3.Connection, trace_id: bytes) -> list[bytes]:
    queries = {
        "entries": "SELECT payload FROM lanes JOIN entries ON lane_id = lanes.id"
        " WHERE sequence = ? AND signal = 'traces'",
        "dead_letters": "SELECT payload FROM dead_letters WHERE id = ? AND signal = 'traces'",
    }
    found: list[bytes] = []
    for table, _, number in _holders(db, trace_id):
        contents = [decompress(row[0]) for row in db.execute(queries[table], (number,))]
        found += [content for content in contents if content is not None]
    return found


def lanes_of(db: sqlite3.Connection, trace_id: bytes) -> list[str]:
    queries = {
        "entries": "SELECT lane FROM lanes JOIN entries ON lane_id = lanes.id"
        " WHERE sequence = ? AND signal = 'traces'",
        "dead_letters": "SELECT lane FROM dead_letters WHERE id = ? AND signal = 'traces'",
    }
    return [
        str(row[0])
        for table, _, number in _holders(db, trace_id)
        for row in db.execute(queries[table], (number,))
    ]


def _holders(db: sqlite3.Connection, trace_id: bytes) -> list[tuple[str, str, int]]:
    """(table, key column, key) of what names a trace; dead letters first, then oldest first.

    What is there for a subscribed consumer alone is left out.
    """
    others = (
        "(consumer IS NULL OR consumer NOT IN (SELECT consumer FROM cursors WHERE lane_id = 0))"
        " AND instr(trace_ids, ?) > 0"
    )
    indexes = (
        ("dead_letters", "id", "SELECT id, trace_ids FROM dead_letters INDEXED BY dead_letters_by_consumer"),
        ("entries", "sequence", "SELECT sequence, trace_ids FROM entries INDEXED BY entries_by_lane"),
    )
    return [
        (table, key, number)
        for table, key, index in indexes
        for number, ids in sorted(db.execute(f"{index} WHERE {others}", (trace_id,)))
        if trace_id in unpack_ids(ids)
    ]


def replay(db: sqlite3.Connection, consumer: str, *, since_unix_ns: int) -> int:
    again = 0
    for number, sequence in db.execute(
        "SELECT lane_id, sequence FROM cursors WHERE consumer = ?", (consumer,)
    ).fetchall():
        first, count = db.execute(
            "SELECT min(sequence), count(*) FROM entries WHERE lane_id = ? AND sequence <= ?"
            " AND received_unix_ns >= ? AND (consumer IS NULL OR consumer = ?)",
            (number, sequence, since_unix_ns, consumer),
        ).fetchone()
        if count:
            again += count
            db.execute(
                "UPDATE cursors SET sequence = ? WHERE consumer = ? AND lane_id = ?",
                (first - 1, consumer, number),
            )
    return again
