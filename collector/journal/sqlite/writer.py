"""The two threads of the journal's file: one owns the write connection, one the read connection.

    append, commit, ... -> queue -> [ writer thread: BEGIN, all that waits, COMMIT ] -> futures

Requests that wait together share one commit; their futures are resolved after it. A commit costs the
processor more than what it writes, so it waits a moment while other requests are still being read: a client
that sends one after another never waits. The event loop never touches SQLite, and neither thread touches the
loop but through call_soon_threadsafe. Each statement lets go of the GIL and waits for it again while the
loop is busy: so a commit has as few as it can.
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.opening import SUSPECT_NAME
from collector.model.batch import Draft, merge, signal_of
from collector.model.errors import JournalClosed, Reason, Unavailable
from collector.settings import JournalSettings

_log = logging.getLogger("sidespan.journal")

CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
DAMAGED = "the journal file is damaged; restart the service to repair it"

# how long a commit waits for requests that are being read, where fewer than that many share it
GATHER_SECONDS = 0.008
ENOUGH = 32

T = TypeVar("T")
ObserveCommit = Callable[[float], None]
# how many requests are in flight, with those that wait for the journal
CountRequests = Callable[[], int]


@dataclass(slots=True, kw_only=True)
class _Work:
    """One thing for the writer: `drafts` to append, or `run` inside the transaction; then its `future`."""

    future: asyncio.Future[Any]
    drafts: Sequence[Draft] = ()
    run: Callable[[sqlite3.Connection], Any] | None = None


class JournalFile:
    """The connections to one journal's file, and the threads that own them, until `close`."""

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        *,
        settings: JournalSettings,
        observe_commit: ObserveCommit,
        requests: CountRequests = lambda: 0,
    ) -> None:
        self.refusing: str | None = None
        self._path = path
        self._folder = str(path.parent)
        self._settings = settings
        self._observe_commit = observe_commit
        self._requests = requests
        # appends that wait for their commit
        self._appending = 0
        self._loop = asyncio.get_running_loop()
        self._appended: dict[str, asyncio.Event] = {}
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        # the writer's: numbers of lanes that are there
        self._lanes: dict[str, int] = {}
        self._damaged = False
        self._closed = False
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._read_db = sqlite.connect(path, read_only=True)
        self._check_room(db)
        self._thread = threading.Thread(target=self._write_loop, args=(db,), name="journal-write")
        self._thread.start()

    async def append(self, drafts: Sequence[Draft]) -> int:
        """Insert `drafts`; the last sequence. Raises Unavailable, sqlite3.Error, OSError."""
        self._appending += 1
        try:
            sequence: int = await self._put(_Work(future=self._loop.create_future(), drafts=drafts))
        finally:
            self._appending -= 1
        return sequence

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run it in the writer's next transaction. Raises sqlite3.Error, OSError."""
        result: T = await self._put(_Work(future=self._loop.create_future(), run=run))
        return result

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run it on the read connection. Raises sqlite3.Error."""
        if self._closed:
            raise JournalClosed("the journal is closed")
        try:
            return await self._loop.run_in_executor(self._readers, run, self._read_db)
        except sqlite3.Error as error:
            self._note_damage(error)
            raise

    def appended(self, signals: str) -> asyncio.Event:
        """Set by the next `announce` for one who reads these signals; another follows it."""
        return self._appended.setdefault(signals, asyncio.Event())

    def announce(self, signal: str = "") -> None:
        """Wake those who wait for more to read: of one signal, or all of them."""
        for signals in [each for each in self._appended if signal in each]:
            self._appended.pop(signals).set()

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.shutdown(wait=True)
        self._read_db.close()

    async def _put(self, work: _Work) -> Any:
        if self._closed:
            raise JournalClosed("the journal is closed")
        self._queue.put(work)
        return await work.future

    def _resolve(self, works: Sequence[_Work], results: Sequence[Any]) -> None:
        _resolve(works, results)
        for signal in {signal_of(draft.lane) for work in works for draft in work.drafts}:
            self.announce(signal.value)

    # the writer's thread

    def _write_loop(self, db: sqlite3.Connection) -> None:
        while (first := self._queue.get()) is not None:
            if self._write_group(db, first):
                break
        with suppress(sqlite3.Error):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    def _write_group(self, db: sqlite3.Connection, first: _Work) -> bool:
        """One commit of what waits; whether the end was among it."""
        if self._queue.qsize() < ENOUGH and self._requests() > self._appending:
            time.sleep(GATHER_SECONDS)
        works, ended = self._take_more(first)
        results = self._run_group(db, works)
        self._loop.call_soon_threadsafe(self._resolve, works, results)
        return ended

    def _take_more(self, first: _Work) -> tuple[list[_Work], bool]:
        """Everything that waits, up to the bound of one commit; whether the end was among it."""
        works = [first]
        size = _size(first)
        while size < self._settings.max_commit_bytes:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                break
            if work is None:
                return works, True
            works.append(work)
            size += _size(work)
        return works, False

    def _run_group(self, db: sqlite3.Connection, works: Sequence[_Work]) -> list[Any]:
        """A result or an exception for each work; all of them in one transaction."""
        started = time.monotonic()
        try:
            free_pages = self._check_room(db)
            results = self._commit(db, works)
        except BaseException as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            self._lanes.clear()
            self._note_damage(error)
            if isinstance(error, sqlite3.Error | OSError):  # a bug is logged by who asked
                _log.error("a commit to the journal failed", extra={"error": str(error)})
            if len(works) > 1 and not isinstance(error, sqlite3.Error):
                # a bug in one of them must not fail the others
                return [result for work in works for result in self._run_group(db, [work])]
            return [error] * len(works)
        with suppress(sqlite3.Error):  # the commit is done; pages that stay are given back another time
            sqlite.give_back(db, free_pages)
        self._observe_commit(time.monotonic() - started)
        return results

    def _commit(self, db: sqlite3.Connection, works: Sequence[_Work]) -> list[Any]:
        refused = (
            Unavailable(Reason.JOURNAL_FULL, f"{self.refusing}; send it again") if self.refusing else None
        )
        entries = [] if refused else merge([draft for work in works for draft in work.drafts])
        payloads = [sqlite.compress(entry.payload) for entry in entries]
        db.execute("BEGIN IMMEDIATE")
        last: Any = refused
        if entries:
            last = sqlite.insert(db, entries, payloads, now_ns=time.time_ns(), lanes=self._lanes)
        results = [work.run(db) if work.run else last for work in works]
        db.execute("COMMIT")
        if any(work.run for work in works):  # it may have removed a lane
            self._lanes.clear()
        return results

    def _note_damage(self, error: BaseException) -> None:
        """Take nothing more into a broken file, and have the next start look at it."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT_CODES:
            self._damaged = True
            self.refusing = DAMAGED
            with suppress(OSError):
                self._path.with_name(SUSPECT_NAME).touch(mode=0o600)

    def _check_room(self, db: sqlite3.Connection) -> int:
        """Whether the journal takes more, to `refusing`; the free pages of its file."""
        if self._damaged:
            self.refusing = DAMAGED
            return 0
        all_pages, free_pages = sqlite.pages(db)
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        used = (all_pages - free_pages) * sqlite.PAGE_BYTES
        before = self.refusing
        if used >= self._settings.max_bytes:
            self.refusing = f"the journal is full ({used} of journal.max_bytes = {self._settings.max_bytes})"
        elif free < self._settings.min_free_disk_bytes:
            self.refusing = f"the disk of the journal has {free} bytes left"
        else:
            self.refusing = None
        if bool(before) != bool(self.refusing):
            _log.warning(
                "the journal refuses new entries" if self.refusing else "the journal takes entries again",
                extra={"reason": self.refusing or before},
            )
        return free_pages


def _size(work: _Work) -> int:
    return sum(len(draft.payload) for draft in work.drafts)


def _resolve(works: Sequence[_Work], results: Sequence[Any]) -> None:
    for work, result in zip(works, results, strict=True):
        if work.future.cancelled():
            continue
        if isinstance(result, BaseException):
            work.future.set_exception(result)
        else:
            work.future.set_result(result)
