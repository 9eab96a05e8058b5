"""The journal on SQLite: one thread owns the write connection, one the read connection.

    append, commit, ... -> queue -> [ writer thread: BEGIN, all that waits, COMMIT ] -> futures

Requests that wait together share one commit; their futures are resolved after it. The event loop never
touches SQLite, and neither thread touches the loop but through call_soon_threadsafe.
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from collector.journal import NOTHING, JournalState, PendingLane
from collector.journal.sqlite import letters, notes, ownership, reading
from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.lock import only_process
from collector.journal.sqlite.opening import FILE_NAME, SUSPECT_NAME, open_file
from collector.model.batch import DeadLetter, Draft, Entry, Parked, merge
from collector.model.errors import JournalClosed, Misconfigured, Reason, Unavailable
from collector.settings import Journal as JournalSettings

_log = logging.getLogger("sidespan.journal")

CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# so full may the journal be while entries wait for followers
FOLLOWED_SHARE = 0.5
DAMAGED = "the journal file is damaged; restart the service to repair it"

T = TypeVar("T")
ObserveCommit = Callable[[float], None]


@dataclass(slots=True, kw_only=True)
class _Work:
    """One thing for the writer: `drafts` to append, or `run` inside the transaction; then its `future`."""

    future: asyncio.Future[Any]
    drafts: Sequence[Draft] = ()
    run: Callable[[sqlite3.Connection], Any] | None = None


@asynccontextmanager
async def open_journal(
    data_dir: Path,
    *,
    settings: JournalSettings,
    consumers: Sequence[str],
    keep_claims: int,
    followers: Sequence[str] = (),
    observe_commit: ObserveCommit = lambda seconds: None,
) -> AsyncIterator["SqliteJournal"]:
    """The journal in `data_dir`, until the block ends.

    A file that is broken is set aside and what is readable in it is carried over.
    Raises Misconfigured: the directory is in use, can't be written, or the disk is full.
    """
    with only_process(data_dir):
        path = data_dir / FILE_NAME
        try:
            db = await asyncio.to_thread(open_file, path)
        except (sqlite3.OperationalError, sqlite3.NotSupportedError, OSError) as error:
            raise Misconfigured(f"journal {path} can't be opened: {error}") from error
        journal = SqliteJournal(
            path,
            db,
            settings=settings,
            consumers=consumers,
            followers=followers,
            keep_claims=keep_claims,
            observe_commit=observe_commit,
        )
        try:
            yield journal
        finally:
            await journal.close()


class SqliteJournal:
    """The real Journal (see the protocol). Opened by `open_journal`."""

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        *,
        settings: JournalSettings,
        consumers: Sequence[str],
        followers: Sequence[str],
        keep_claims: int,
        observe_commit: ObserveCommit,
    ) -> None:
        self.appended = asyncio.Event()
        self._path = path
        self._settings = settings
        self._consumers = consumers
        self._followers = followers
        self._keep_claims = keep_claims
        self._observe_commit = observe_commit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._refusing: str | None = None
        self._damaged = False
        self._closed = False
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._read_db = sqlite.connect(path, read_only=True)
        self._check_room(db)
        self._thread = threading.Thread(target=self._write_loop, args=(db,), name="journal-write")
        self._thread.start()

    @property
    def refusing(self) -> str | None:
        return self._refusing

    # the verbs

    async def append(self, drafts: Sequence[Draft]) -> int:
        try:
            if self._refusing:
                # let one through now and then, so that the writer looks at the disk again
                await self._write(lambda db: None)
            if self._refusing:
                raise Unavailable(Reason.JOURNAL_FULL, f"{self._refusing}; send it again")
            sequence: int = await self._put(_Work(future=self._loop.create_future(), drafts=drafts))
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                Reason.JOURNAL_FAILED, f"the journal could not be written ({error}); send it again"
            ) from error
        self._announce()
        return sequence

    async def pending(self, consumer: str, *, behind: str | None = None) -> list[PendingLane]:
        return await self._read(partial(reading.pending, consumer=consumer, behind=behind))

    async def read(
        self,
        consumer: str,
        lane: str,
        *,
        limit_bytes: int,
        after: int | None = None,
        behind: str | None = None,
    ) -> list[Entry]:
        run = partial(
            reading.read, consumer=consumer, lane=lane, limit_bytes=limit_bytes, after=after, behind=behind
        )
        while True:
            try:
                return await self._read(run)
            except reading.DamagedEntry as damaged:
                _log.error("an entry is damaged: to the dead letters", extra={"sequence": damaged.sequence})
                park = partial(letters.park_damaged, sequence=damaged.sequence, now_ns=time.time_ns())
                await self._write(park)

    async def begin(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        claims: Mapping[bytes, str],
        clients: Mapping[bytes, str] = NOTHING,
    ) -> Mapping[bytes, str]:
        def claim(db: sqlite3.Connection) -> Mapping[bytes, str]:
            sqlite.mark(db, consumer, lane, through=through)
            return ownership.claim(db, claims, clients)

        owners: Mapping[bytes, str] = await self._write(claim)
        return owners

    async def processed(self, consumer: str, lane: str) -> None:
        await self._write(partial(sqlite.unmark, consumer=consumer, lane=lane))

    async def commit(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        parked: Sequence[Parked] = (),
        first: int | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
    ) -> None:
        def move(db: sqlite3.Connection) -> None:
            if first is not None and sqlite.has_moved_back(db, consumer, lane, first=first):
                sqlite.unmark(db, consumer, lane)
                return
            letters.park(db, parked, now_ns=time.time_ns())
            if remember:
                notes.remember(db, consumer, remember, lane_id=sqlite.lane_id(db, lane), through=through)
            ownership.settle(db, delivered)
            sqlite.move_cursor(db, consumer, lane, through=through)
            self._sweep(db, lane)

        await self._write(move)
        self._announce()

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        return await self._read(partial(notes.recall, consumer=consumer, trace_ids=trace_ids))

    async def state(self, consumer: str) -> JournalState:
        return await self._read(partial(reading.state, consumer=consumer))

    async def find(self, trace_id: bytes) -> list[bytes]:
        return await self._read(partial(sqlite.find, trace_id=trace_id))

    async def lanes_of(self, trace_id: bytes) -> list[str]:
        return await self._read(partial(sqlite.lanes_of, trace_id=trace_id))

    async def replay(self, consumer: str, *, since_unix_ns: int) -> int:
        count: int = await self._write(partial(sqlite.replay, consumer=consumer, since_unix_ns=since_unix_ns))
        self._announce()
        return count

    async def sweep(self) -> int:
        count: int = await self._write(self._sweep)
        return count

    async def dead_letters(self, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        return await self._read(partial(letters.dead_letters, limit=limit, after=after))

    async def dead_letter(self, id: int) -> DeadLetter | None:
        return await self._read(partial(letters.dead_letter, id=id))

    async def retry(self, ids: Sequence[int] | None) -> int:
        count: int = await self._write(partial(letters.retry, ids=ids))
        self._announce()
        return count

    async def drop(self, ids: Sequence[int]) -> int:
        count: int = await self._write(partial(letters.drop, ids=ids))
        return count

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.shutdown(wait=True)
        self._read_db.close()

    # how they get to the threads

    def _announce(self) -> None:
        self.appended.set()
        self.appended = asyncio.Event()

    async def _write(self, run: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._put(_Work(future=self._loop.create_future(), run=run))

    async def _put(self, work: _Work) -> Any:
        if self._closed:
            raise JournalClosed("the journal is closed")
        self._queue.put(work)
        return await work.future

    async def _read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise JournalClosed("the journal is closed")
        try:
            return await self._loop.run_in_executor(self._readers, run, self._read_db)
        except sqlite3.Error as error:
            self._note_damage(error)
            raise

    # the writer's thread

    def _write_loop(self, db: sqlite3.Connection) -> None:
        while (first := self._queue.get()) is not None:
            works, ended = self._take_more(first)
            results = self._run_group(db, works)
            self._loop.call_soon_threadsafe(_resolve, works, results)
            if ended:
                break
        with suppress(sqlite3.Error):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

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
            self._check_room(db)
            refused = (
                Unavailable(Reason.JOURNAL_FULL, f"{self._refusing}; send it again")
                if self._refusing
                else None
            )
            entries = [] if refused else merge([draft for work in works for draft in work.drafts])
            payloads = [sqlite.compress(entry.payload) for entry in entries]
            db.execute("BEGIN IMMEDIATE")
            last = sqlite.insert(db, entries, payloads, now_ns=time.time_ns()) if entries else refused
            results = [work.run(db) if work.run else last for work in works]
            db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            self._note_damage(error)
            _log.error("a commit to the journal failed", extra={"error": str(error)})
            if len(works) > 1 and not isinstance(error, sqlite3.Error):
                # a bug in one of them must not fail the others
                return [result for work in works for result in self._run_group(db, [work])]
            return [error] * len(works)
        with suppress(sqlite3.Error):  # the commit is done; pages that stay are given back another time
            sqlite.give_back(db)
        self._observe_commit(time.monotonic() - started)
        return results

    def _note_damage(self, error: BaseException) -> None:
        """Take nothing more into a broken file, and have the next start look at it."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT_CODES:
            self._damaged = True
            self._refusing = DAMAGED
            with suppress(OSError):
                self._path.with_name(SUSPECT_NAME).touch(mode=0o600)

    def _check_room(self, db: sqlite3.Connection) -> None:
        if self._damaged:
            self._refusing = DAMAGED
            return
        disk = os.statvfs(self._path.parent)
        free = disk.f_bavail * disk.f_frsize
        used = sqlite.used_bytes(db)
        before = self._refusing
        if used >= self._settings.max_bytes:
            self._refusing = f"the journal is full ({used} of journal.max_bytes = {self._settings.max_bytes})"
        elif free < self._settings.min_free_disk_bytes:
            self._refusing = f"the disk of the journal has {free} bytes left"
        else:
            self._refusing = None
        if bool(before) != bool(self._refusing):
            _log.warning(
                "the journal refuses new entries" if self._refusing else "the journal takes entries again",
                extra={"reason": self._refusing or before},
            )

    def _sweep(self, db: sqlite3.Connection, lane: str | None = None) -> int:
        before_ns = time.time_ns() - int(self._settings.retention_seconds * 1e9)
        # what only repeats the data must not fill the disk that takes it in
        roomy = sqlite.used_bytes(db) < self._settings.max_bytes * FOLLOWED_SHARE
        awaited = (*self._consumers, *self._followers) if roomy else self._consumers
        deleted = sqlite.sweep(db, awaited, received_before_ns=before_ns, lane=lane)
        if lane is None:
            sqlite.forget(db)
            ownership.forget(db, keep=self._keep_claims)
            notes.forget(db, keep=self._settings.max_notes)
        return deleted


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
