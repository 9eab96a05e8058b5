"""The journal's file for those who follow the log from a process of their own: read only, entry by entry.

What reads a whole backlog (the index) shouldn't go through the service's process. It reads here, and tells
the service how far it is: the service moves its cursor.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from collector.journal.sqlite import reading, schema
from collector.journal.sqlite.reading import Head
from collector.journal.sqlite.statements import connect
from collector.model.batch import Position
from collector.model.errors import SidespanError


class JournalUnreadable(SidespanError):
    """The journal's file can't be read now; nothing is lost by trying again."""


class JournalReader:
    """Opened by `open_reader`; one thread may use it. Each verb raises JournalUnreadable."""

    def __init__(self, db: sqlite3.Connection, consumer: str) -> None:
        self._db = db
        self._consumer = consumer

    def identity(self) -> str:
        """A name of this journal that no other has: positions are worth nothing in another one."""
        with _unreadable():
            return schema.identity(self._db)

    def heads(self, lane: str, *, after: Position | None) -> Iterator[Head]:
        """The entries of a lane after the consumer's cursor and after `after`, in order, without payloads."""
        with _unreadable():
            yield from reading.heads(self._db, self._consumer, lane, after=after)

    def payload(self, position: Position) -> bytes | None:
        """The spans of one entry (protobuf); None if it is gone or damaged."""
        with _unreadable():
            return reading.payload(self._db, position)


@contextmanager
def open_reader(path: Path, consumer: str) -> Iterator[JournalReader]:
    """Read the journal at `path` as this consumer sees it. Raises JournalUnreadable."""
    with _unreadable():
        db = connect(path, read_only=True)
    with closing(db):
        yield JournalReader(db, consumer)


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalUnreadable(f"the journal can't be read: {error}") from error
