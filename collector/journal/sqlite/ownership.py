"""Whose a trace id is. Synchronous; each runs inside a transaction.

MLflow has a trace id once, in the experiment that had it first. A claim is made when the first spans of an id
are about to be sent to a target. It holds from the first span that was delivered; until then only against the
client that made it, so that nobody takes an id away from its owner by naming it first.
"""

import sqlite3
from collections.abc import Iterable, Mapping

SCHEMA = """
CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id BLOB NOT NULL UNIQUE,
    target TEXT NOT NULL,
    client TEXT NOT NULL DEFAULT '',
    delivered INTEGER NOT NULL DEFAULT 0
);
"""
SINCE_3 = """
ALTER TABLE claims ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;
"""


def claim(
    db: sqlite3.Connection, claims: Mapping[bytes, str], clients: Mapping[bytes, str]
) -> dict[bytes, str]:
    """Make claims where nobody has one that holds; the target that each trace id belongs to now."""
    db.executemany(
        "INSERT INTO claims (trace_id, target, client) VALUES (?, ?, ?) ON CONFLICT (trace_id) DO UPDATE"
        " SET target = excluded.target, client = excluded.client"
        " WHERE NOT delivered AND client != excluded.client",
        [(trace_id, target, clients.get(trace_id, "")) for trace_id, target in claims.items()],
    )
    select = "SELECT target FROM claims WHERE trace_id = ?"
    return {trace_id: db.execute(select, (trace_id,)).fetchone()[0] for trace_id in claims}


def settle(db: sqlite3.Connection, delivered: Mapping[bytes, str]) -> None:
    """The target has spans of these trace ids: they are its own, unless another had them before."""
    db.executemany(
        "INSERT INTO claims (trace_id, target, delivered) VALUES (?, ?, 1) ON CONFLICT (trace_id) DO UPDATE"
        " SET target = excluded.target, delivered = 1 WHERE NOT delivered",
        delivered.items(),
    )


def reopen(db: sqlite3.Connection, trace_ids: Iterable[bytes]) -> None:
    """What another has of these trace ids may be gone from the target: it is to be asked again."""
    db.executemany(
        "DELETE FROM claims WHERE trace_id = ? AND delivered", [(trace_id,) for trace_id in trace_ids]
    )


def forget(db: sqlite3.Connection, *, keep: int) -> None:
    """Drop the oldest claims."""
    db.execute("DELETE FROM claims WHERE id <= (SELECT max(id) FROM claims) - ?", (keep,))
