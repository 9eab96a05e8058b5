"""States, outbox and dead letters of alerts: one SQLite file in the data folder. Synchronous.

A change of state and the notifications of it are one transaction with `synchronous=FULL`: after a crash both
are there or neither is, and then the next window brings the change again. A notification that is there twice
(same id, same channel) is one.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from collector.alerts.measurements import AlertGroup
from collector.alerts.notices import Notice, group_text
from collector.alerts.states import GroupState, GroupStatus
from collector.files.private import opener
from collector.model.errors import Misconfigured

FILE_NAME = "alerts.sqlite3"
SCHEMA_VERSION = 1
OUTBOX_FULL = "too many notifications wait for this channel"
_SCHEMA = """
CREATE TABLE states (alert TEXT, grp TEXT, state TEXT NOT NULL, notice TEXT, PRIMARY KEY (alert, grp));
CREATE TABLE snoozes (alert TEXT PRIMARY KEY, until_unix_ns INTEGER NOT NULL);
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, id TEXT NOT NULL,
    notice TEXT NOT NULL, created_unix_ns INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    UNIQUE (channel, id));
CREATE TABLE dead_letters (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, notice TEXT NOT NULL,
    reason TEXT NOT NULL, parked_unix_ns INTEGER NOT NULL);
"""

GroupKey = tuple[str, AlertGroup]
"""An alert's name, and one of its groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """The state of a group, and what was told of it last."""

    state: GroupState
    notice: Notice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingNotice:
    """A notification that waits for its channel; `attempts` have failed."""

    sequence: int
    notice: Notice
    created_unix_ns: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadNotice:
    """A notification that could not be sent, and why."""

    channel: str
    notice: Notice
    reason: str
    parked_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanges:
    """What one look at the alerts changes: states (None: removed), and notifications by channel."""

    states: Mapping[GroupKey, StoredState | None] = field(default_factory=dict)
    notices: Sequence[tuple[str, Notice]] = ()


class AlertStore:
    """One connection, used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection, *, max_pending: int, max_dead_letters: int) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._max_pending = max_pending
        self._max_dead_letters = max_dead_letters

    def close(self) -> None:
        """Use after it raises sqlite3.ProgrammingError."""
        with self._lock:
            self._db.close()

    def states(self) -> dict[GroupKey, StoredState]:
        """Every group that has a state."""
        rows = self._rows("SELECT alert, grp, state, notice FROM states")
        return {
            (alert, tuple(json.loads(group))): StoredState(
                state=_state_from_json(state), notice=None if notice is None else Notice.from_json(notice)
            )
            for alert, group, state, notice in rows
        }

    def snoozes(self) -> dict[str, int]:
        """Until when alerts sleep, by name."""
        return dict(self._rows("SELECT alert, until_unix_ns FROM snoozes"))

    def snooze(self, alert: str, until_unix_ns: int | None) -> None:
        """Put an alert to sleep, or (None) wake it."""
        with self._transaction():
            self._db.execute("DELETE FROM snoozes WHERE alert = ?", (alert,))
            if until_unix_ns is not None:
                self._db.execute("INSERT INTO snoozes VALUES (?, ?)", (alert, until_unix_ns))

    def change(self, changes: StateChanges, *, now_unix_ns: int) -> int:
        """Write all of it or nothing; how many notifications became dead letters for want of room."""
        with self._transaction():
            for (alert, group), stored in changes.states.items():
                self._put(alert, group, stored)
            return sum(self._post(channel, notice, now_unix_ns) for channel, notice in changes.notices)

    def _put(self, alert: str, group: AlertGroup, stored: StoredState | None) -> None:
        key = (alert, group_text(group))
        if stored is None:
            self._db.execute("DELETE FROM states WHERE alert = ? AND grp = ?", key)
            return
        notice = None if stored.notice is None else stored.notice.to_json()
        row = (*key, json.dumps(asdict(stored.state)), notice)
        self._db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", row)

    def _post(self, channel: str, notice: Notice, now_unix_ns: int) -> bool:
        (pending,) = self._db.execute("SELECT count(*) FROM outbox WHERE channel = ?", (channel,)).fetchone()
        if pending >= self._max_pending:
            self._bury(channel, notice.to_json(), OUTBOX_FULL, now_unix_ns)
            return True
        self._db.execute(
            "INSERT INTO outbox (channel, id, notice, created_unix_ns) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (channel, id) DO NOTHING",
            (channel, notice.id, notice.to_json(), now_unix_ns),
        )
        return False

    def first(self, channel: str) -> PendingNotice | None:
        """The oldest notification that waits for the channel."""
        rows = self._rows(
            "SELECT sequence, notice, created_unix_ns, attempts FROM outbox WHERE channel = ?"
            " ORDER BY sequence LIMIT 1",
            channel,
        )
        for sequence, notice, created, attempts in rows:
            return PendingNotice(
                sequence=sequence,
                notice=Notice.from_json(notice),
                created_unix_ns=created,
                attempts=attempts,
            )
        return None

    def sent(self, sequence: int) -> None:
        """The channel has it."""
        with self._transaction():
            self._db.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))

    def failed(self, sequence: int) -> None:
        """Another attempt has failed."""
        with self._transaction():
            self._db.execute("UPDATE outbox SET attempts = attempts + 1 WHERE sequence = ?", (sequence,))

    def park(self, sequence: int, reason: str, *, now_unix_ns: int) -> None:
        """It is given up: a dead letter."""
        self._park(
            "DELETE FROM outbox WHERE sequence = ? RETURNING channel, notice", sequence, reason, now_unix_ns
        )

    def park_all(self, channel: str, reason: str, *, now_unix_ns: int) -> None:
        """All that wait for a channel are given up."""
        self._park(
            "DELETE FROM outbox WHERE channel = ? RETURNING channel, notice", channel, reason, now_unix_ns
        )

    def _park(self, sql: str, value: int | str, reason: str, now_unix_ns: int) -> None:
        with self._transaction():
            for channel, notice in self._db.execute(sql, (value,)).fetchall():
                self._bury(channel, notice, reason, now_unix_ns)

    def _bury(self, channel: str, notice: str, reason: str, now_unix_ns: int) -> None:
        self._db.execute(
            "INSERT INTO dead_letters (channel, notice, reason, parked_unix_ns) VALUES (?, ?, ?, ?)",
            (channel, notice, reason, now_unix_ns),
        )
        self._db.execute(
            "DELETE FROM dead_letters WHERE channel = ?1 AND sequence NOT IN (SELECT sequence FROM"
            " dead_letters WHERE channel = ?1 ORDER BY sequence DESC LIMIT ?2)",
            (channel, self._max_dead_letters),
        )

    def channels(self) -> Sequence[str]:
        """Those for which something waits, also such as the settings name no more."""
        return [channel for (channel,) in self._rows("SELECT DISTINCT channel FROM outbox")]

    def pending(self) -> dict[str, int]:
        """How many notifications wait, by channel."""
        return dict(self._rows("SELECT channel, count(*) FROM outbox GROUP BY channel"))

    def dead(self) -> dict[str, int]:
        """How many dead letters there are, by channel."""
        return dict(self._rows("SELECT channel, count(*) FROM dead_letters GROUP BY channel"))

    def dead_letters(self, limit: int) -> Sequence[DeadNotice]:
        """The newest ones first."""
        rows = self._rows(
            "SELECT channel, notice, reason, parked_unix_ns FROM dead_letters ORDER BY sequence DESC LIMIT ?",
            limit,
        )
        return [
            DeadNotice(channel=channel, notice=Notice.from_json(notice), reason=reason, parked_unix_ns=parked)
            for channel, notice, reason, parked in rows
        ]

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of a block or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def open_store(folder: Path, *, needed: bool, max_pending: int, max_dead_letters: int) -> AlertStore:
    """The store in the data folder; in memory, if it isn't `needed` and there is none yet.

    Raises Misconfigured: it can't be used.
    """
    path = folder / FILE_NAME
    if not needed and not path.exists():
        path = Path(":memory:")
    try:
        if path.name == FILE_NAME:
            os.close(opener(str(path), os.O_RDWR | os.O_CREAT))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        _create(db, path)
    except (OSError, sqlite3.Error) as error:
        raise Misconfigured(
            f"the state of alerts in {str(path)!r} can't be read: {error}; to begin without it, move the "
            "file away"
        ) from error
    return AlertStore(db, max_pending=max_pending, max_dead_letters=max_dead_letters)


def _create(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        with closing(db.cursor()) as cursor:
            cursor.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
    elif version != SCHEMA_VERSION:
        db.close()
        raise Misconfigured(f"{str(path)!r} is of another version of Sidespan (schema {version})")


def _state_from_json(text: str) -> GroupState:
    document = json.loads(text)
    return GroupState(
        **document | {"status": GroupStatus(document["status"]), "told": tuple(document["told"])}
    )
