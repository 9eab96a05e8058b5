"""Which consumers come and go with the settings. Synchronous, inside a transaction.

A cursor in lane 0, which no lane has as its number, says that a consumer is subscribed.
"""

import sqlite3

from collector.journal import Subscriptions

NO_LANE = 0


def subscribe(db: sqlite3.Connection, names: frozenset[str]) -> Subscriptions:
    """Make these the subscribed consumers."""
    known = subscribed(db)
    for name in names - known:
        _begin(db, name)
    return Subscriptions(begun=names - known, ended={name: _end(db, name) for name in known - names})


def subscribed(db: sqlite3.Connection) -> frozenset[str]:
    """The consumers that are subscribed."""
    rows = db.execute("SELECT consumer FROM cursors WHERE lane_id = ?", (NO_LANE,))
    return frozenset(name for (name,) in rows)


def keep(db: sqlite3.Connection, name: str) -> None:
    """Subscribe a consumer at the log's beginning, as it was to the file that this one replaces."""
    db.execute("INSERT INTO cursors (consumer, lane_id, sequence) VALUES (?, ?, 0)", (name, NO_LANE))


def _begin(db: sqlite3.Connection, name: str) -> None:
    """At the present: what is in the log was there before."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
    last = row[0] if row else 0
    db.execute(
        "INSERT OR REPLACE INTO cursors (consumer, lane_id, sequence) SELECT ?, id, ? FROM lanes",
        (name, last),
    )
    db.execute(
        "INSERT INTO cursors (consumer, lane_id, sequence) VALUES (?, ?, ?)",
        (name, NO_LANE, last),
    )


def _end(db: sqlite3.Connection, name: str) -> int:
    """Delete what the consumer has left behind; how many dead letters went."""
    for table in ("entries", "cursors", "attempts", "notes"):
        db.execute(f"DELETE FROM {table} WHERE consumer = ?", (name,))  # noqa: S608 (constants)
    return db.execute("DELETE FROM dead_letters WHERE consumer = ?", (name,)).rowcount
