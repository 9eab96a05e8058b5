"""What a consumer remembers of a trace between two windows. Synchronous; each runs inside a transaction.

A note is written in the transaction that moves its consumer's cursor, so a crash loses neither or both. It
says how far that cursor moved: another consumer may need the note as long as entries up to there wait.
"""

import sqlite3
from collections.abc import Collection, Mapping

SCHEMA = """
CREATE TABLE notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    trace_id BLOB NOT NULL,
    note BLOB NOT NULL,
    lane_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    UNIQUE (consumer, trace_id)
);
"""


def remember(
    db: sqlite3.Connection, consumer: str, notes: Mapping[bytes, bytes], *, lane_id: int, through: int
) -> None:
    """Write notes, in the place of those that the consumer had of the same traces."""
    db.executemany(
        "INSERT OR REPLACE INTO notes (consumer, trace_id, note, lane_id, sequence) VALUES (?, ?, ?, ?, ?)",
        [(consumer, trace_id, note, lane_id, through) for trace_id, note in notes.items()],
    )


def recall(db: sqlite3.Connection, consumer: str, trace_ids: Collection[bytes]) -> dict[bytes, bytes]:
    """The consumer's notes of these traces; what has none is left out."""
    select = "SELECT note FROM notes WHERE consumer = ? AND trace_id = ?"
    found = ((trace_id, db.execute(select, (consumer, trace_id)).fetchone()) for trace_id in trace_ids)
    return {trace_id: row[0] for trace_id, row in found if row is not None}


def forget(db: sqlite3.Connection, *, keep: int) -> None:
    """Drop the oldest notes, but for those that may be asked for by who delivers what is in the log."""
    db.execute(
        "DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - ? AND NOT EXISTS (SELECT 1 FROM entries"
        " WHERE entries.lane_id = notes.lane_id AND entries.sequence <= notes.sequence)",
        (keep,),
    )
