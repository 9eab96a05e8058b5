"""The journal's dead letters: statements over their table. Synchronous, inside a transaction."""

import sqlite3
from collections.abc import Sequence

from collector.journal.sqlite import ownership
from collector.journal.sqlite.statements import compress, decompress, lane_id, pack_ids, unpack_ids
from collector.model.batch import FOREIGN_TRACE, DeadLetter, Parked


def park(db: sqlite3.Connection, parked: Sequence[Parked], *, now_ns: int) -> None:
    """Write what a target refused; in the same transaction as the cursor that passes it."""
    db.executemany(
        "INSERT INTO dead_letters (parked_unix_ns, received_unix_ns, lane, reason, message, span_count,"
        " size_bytes, client, trace_ids, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(now_ns, part.received_unix_ns, part.lane, part.reason, part.message, part.span_count),
                *(len(part.payload), part.client, pack_ids(part.trace_ids), compress(part.payload)),
            )
            for part in parked
        ],
    )


def park_damaged(db: sqlite3.Connection, *, sequence: int, now_ns: int) -> None:
    """Move an entry whose payload can't be read out of its lane's way, with its bytes as they are."""
    db.execute(
        "INSERT INTO dead_letters (parked_unix_ns, received_unix_ns, lane, reason, message, span_count,"
        " size_bytes, client, trace_ids, payload) SELECT ?, received_unix_ns, lane, 'damaged',"
        " 'the bytes on the disk are not what was written', span_count, size_bytes, client, trace_ids,"
        " payload FROM entries JOIN lanes ON lanes.id = lane_id WHERE sequence = ?",
        (now_ns, sequence),
    )
    db.execute("DELETE FROM entries WHERE sequence = ?", (sequence,))


_LETTER = (
    "id, parked_unix_ns, received_unix_ns, lane, reason, message, span_count, size_bytes, client, trace_ids"
)


def dead_letters(db: sqlite3.Connection, *, limit: int, after: int) -> list[DeadLetter]:
    query = f"SELECT {_LETTER}, NULL FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [_letter(row) for row in db.execute(query, (after, limit))]


def dead_letter(db: sqlite3.Connection, id: int) -> DeadLetter | None:
    query = f"SELECT {_LETTER}, payload FROM dead_letters WHERE id = ?"  # noqa: S608 (a constant)
    row = db.execute(query, (id,)).fetchone()
    return _letter(row) if row else None


def _letter(row: tuple[int, int, int, str, str, str, int, int, str, bytes, bytes | None]) -> DeadLetter:
    id, parked, received, lane, reason, message, span_count, size, client, ids, payload = row
    return DeadLetter(
        id=id,
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


def retry(db: sqlite3.Connection, ids: Sequence[int] | None) -> int:
    """Append dead letters again and remove them."""
    if ids is None:
        ids = [row[0] for row in db.execute("SELECT id FROM dead_letters ORDER BY id")]
    found = 0
    for id in ids:
        query = "SELECT lane, reason, trace_ids FROM dead_letters WHERE id = ?"
        row = db.execute(query, (id,)).fetchone()
        if row is None:
            continue
        found += 1
        if row[1] == FOREIGN_TRACE:
            ownership.reopen(db, unpack_ids(row[2]))
        db.execute(
            "INSERT INTO entries (lane_id, received_unix_ns, span_count, size_bytes, client, trace_ids,"
            " payload) SELECT ?, received_unix_ns, span_count, size_bytes, client, trace_ids, payload"
            " FROM dead_letters WHERE id = ?",
            (lane_id(db, row[0]), id),
        )
        db.execute("DELETE FROM dead_letters WHERE id = ?", (id,))
    return found


def drop(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    return sum(db.execute("DELETE FROM dead_letters WHERE id = ?", (id,)).rowcount for id in ids)
