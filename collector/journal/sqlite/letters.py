"""The journal's dead letters: statements over their table. Synchronous, inside a transaction."""

import sqlite3
from collections.abc import Sequence

from collector.journal.sqlite import ownership
from collector.journal.sqlite.statements import (
    compress,
    decompress,
    lane_id,
    move_cursor,
    pack_ids,
    unpack_ids,
)
from collector.model.batch import FOREIGN_TRACE, DeadLetter, Parked, signal_of


def park(db: sqlite3.Connection, consumer: str, parked: Sequence[Parked], *, now_ns: int) -> None:
    """Write what a consumer's target refused; in the same transaction as the cursor that passes it."""
    db.executemany(
        "INSERT INTO dead_letters (consumer, parked_unix_ns, received_unix_ns, lane, reason, message,"
        " span_count, size_bytes, client, trace_ids, payload, signal)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(consumer, now_ns, part.received_unix_ns, part.lane, part.reason, part.message),
                *(part.span_count, len(part.payload), part.client, pack_ids(part.trace_ids)),
                compress(part.payload),
                signal_of(part.lane).value,
            )
            for part in parked
        ],
    )


def park_damaged(db: sqlite3.Connection, consumer: str, lane: str, *, sequence: int, now_ns: int) -> None:
    """Pass an entry whose payload can't be read; the letter has its bytes as they are."""
    db.execute(
        "INSERT INTO dead_letters (consumer, parked_unix_ns, received_unix_ns, lane, reason, message,"
        " span_count, size_bytes, client, trace_ids, payload, signal) SELECT ?, ?, received_unix_ns, ?,"
        " 'damaged', 'the bytes on the disk are not what was written', span_count, size_bytes, client,"
        " trace_ids, payload, ? FROM entries WHERE sequence = ?",
        (consumer, now_ns, lane, signal_of(lane).value, sequence),
    )
    move_cursor(db, consumer, lane, through=sequence)


_LETTER = (
    "id, consumer, parked_unix_ns, received_unix_ns, lane, reason, message, span_count, size_bytes, client,"
    " trace_ids"
)


def listed(db: sqlite3.Connection, consumer: str, *, limit: int, after: int) -> list[DeadLetter]:
    query = f"SELECT {_LETTER}, NULL FROM dead_letters WHERE consumer = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [_letter(row) for row in db.execute(query, (consumer, after, limit))]


def one(db: sqlite3.Connection, consumer: str, id: int) -> DeadLetter | None:
    query = f"SELECT {_LETTER}, payload FROM dead_letters WHERE consumer = ? AND id = ?"  # noqa: S608
    row = db.execute(query, (consumer, id)).fetchone()
    return _letter(row) if row else None


def _letter(row: tuple[int, str, int, int, str, str, str, int, int, str, bytes, bytes | None]) -> DeadLetter:
    id, consumer, parked, received, lane, reason, message, span_count, size, client, ids, payload = row
    return DeadLetter(
        id=id,
        consumer=consumer,
        parked_unix_ns=parked,
        received_unix_ns=received,
        lane=lane,
        reason=reason,
        message=message,
        span_count=span_count,
        size_bytes=size,
        trace_ids=unpack_ids(ids),
        client=client,
        payload=(decompress(payload) or b"") if payload is not None else b"",
    )


def retry(db: sqlite3.Connection, consumer: str, ids: Sequence[int] | None) -> int:
    """Append dead letters again, as entries that only their consumer sees, and remove them."""
    if ids is None:
        query = "SELECT id FROM dead_letters WHERE consumer = ? ORDER BY id"
        ids = [row[0] for row in db.execute(query, (consumer,))]
    return sum(_retry(db, consumer, id) for id in ids)


def _retry(db: sqlite3.Connection, consumer: str, id: int) -> bool:
    query = "SELECT lane, reason, trace_ids FROM dead_letters WHERE consumer = ? AND id = ?"
    row = db.execute(query, (consumer, id)).fetchone()
    if row is None:
        return False
    if row[1] == FOREIGN_TRACE:
        ownership.reopen(db, unpack_ids(row[2]))
    db.execute(
        "INSERT INTO entries (lane_id, received_unix_ns, span_count, size_bytes, client, consumer, trace_ids,"
        " payload) SELECT ?, received_unix_ns, span_count, size_bytes, client, consumer, trace_ids, payload"
        " FROM dead_letters WHERE id = ?",
        (lane_id(db, row[0]), id),
    )
    db.execute("DELETE FROM dead_letters WHERE id = ?", (id,))
    return True


def drop(db: sqlite3.Connection, consumer: str, ids: Sequence[int]) -> int:
    query = "DELETE FROM dead_letters WHERE consumer = ? AND id = ?"
    return sum(db.execute(query, (consumer, id)).rowcount for id in ids)
