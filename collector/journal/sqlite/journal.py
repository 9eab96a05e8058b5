"""The journal on SQLite: how it opens, and an object for each of its roles over one file."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.journal import FOLLOWED_SHARE, NOTHING, JournalState, PendingLane, Subscriptions
from collector.journal.sqlite import letters, notes, ownership, reading, subscriptions
from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.lock import only_process
from collector.journal.sqlite.opening import FILE_NAME, open_file
from collector.journal.sqlite.writer import CountRequests, JournalFile, ObserveCommit
from collector.model.batch import (
    DeadLetter,
    Draft,
    Entry,
    FollowUp,
    Parked,
    Position,
    Route,
    Signal,
)
from collector.model.errors import Misconfigured, Reason, Unavailable
from collector.settings import JournalSettings

_log = logging.getLogger("sidespan.journal")

Sweep = Callable[[sqlite3.Connection, str | None], int]
SignalsOf = Callable[[str], str]
# told in the writer's thread: a follower, and how many spans or log records went before it had read them
ObserveSkipped = Callable[[str, int], None]
# so many entries of a lane at a time, until the journal has room again: followers lose the oldest
SKIPPED_AT_ONCE = 100
# of these, in one transaction: it must not hold up those who append
MAX_SKIPS = 50


@asynccontextmanager
async def open_journal(
    data_dir: Path,
    *,
    settings: JournalSettings,
    consumers: Sequence[str],
    keep_claims: int,
    followers: Sequence[str] = (),
    log_consumers: Sequence[str] = (),
    log_followers: Sequence[str] = (),
    observe_commit: ObserveCommit = lambda seconds: None,
    observe_skipped: ObserveSkipped = lambda consumer, spans: None,
    requests: CountRequests = lambda: 0,
) -> AsyncIterator["SqliteJournal"]:
    """The journal in `data_dir`, until the block ends.

    `consumers` and `followers` read spans, `log_consumers` and `log_followers` log records; a name may stand
    in both. `observe_skipped` hears, in another thread, what was deleted before a follower had read it.
    `requests` says how many requests are in flight: a commit waits a moment for those that are being read.
    A file of an earlier version is brought up to this one. A file that is broken is set aside and what is
    readable in it is carried over.
    Raises Misconfigured: the directory is in use, can't be written, or the disk is full.
    """
    with only_process(data_dir):
        path = data_dir / FILE_NAME
        try:
            db = await asyncio.to_thread(open_file, path)
        except (sqlite3.OperationalError, sqlite3.NotSupportedError, OSError) as error:
            raise Misconfigured(f"journal {path} can't be opened: {error}") from error
        journal = SqliteJournal(
            JournalFile(path, db, settings=settings, observe_commit=observe_commit, requests=requests),
            settings=settings,
            consumers=consumers,
            followers=followers,
            log_consumers=log_consumers,
            log_followers=log_followers,
            keep_claims=keep_claims,
            observe_skipped=observe_skipped,
        )
        try:
            yield journal
        finally:
            await journal.close()


class SqliteJournal:
    """The real Journal (see the protocol). Opened by `open_journal`."""

    def __init__(
        self,
        file: JournalFile,
        *,
        settings: JournalSettings,
        consumers: Sequence[str],
        followers: Sequence[str],
        log_consumers: Sequence[str],
        log_followers: Sequence[str],
        keep_claims: int,
        observe_skipped: ObserveSkipped,
    ) -> None:
        self.file = file
        self.log = SqliteLog(file)
        self.traces = SqliteTraceMemory(file)
        self.pending_traces = SqlitePendingTraces(file)
        self._settings = settings
        self._holders = {Signal.TRACES.value: consumers, Signal.LOGS.value: log_consumers}
        self._followers = {Signal.TRACES.value: followers, Signal.LOGS.value: log_followers}
        self._keep_claims = keep_claims
        self._observe_skipped = observe_skipped

    def consumer(self, name: str) -> "SqliteConsumer":
        return SqliteConsumer(file=self.file, name=name, sweep=self._sweep, signals_of=self._signals)

    def _signals(self, name: str) -> str:
        """The names of the signals that a consumer reads, in one text; spans, if nobody has said it."""
        readers = {each: {*self._holders[each], *self._followers[each]} for each in self._holders}
        return " ".join(each for each in readers if name in readers[each]) or Signal.TRACES.value

    def dead_letters(self, consumer: str) -> "SqliteDeadLetters":
        return SqliteDeadLetters(file=self.file, consumer=consumer)

    async def subscribe(self, names: Collection[str]) -> Subscriptions:
        return await self.file.write(partial(subscriptions.subscribe, names=frozenset(names)))

    async def sweep(self) -> int:
        return await self.file.write(partial(self._sweep, lane=None))

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file. Twice is harmless."""
        await self.file.close()

    def _sweep(self, db: sqlite3.Connection, lane: str | None) -> int:
        before_ns = time.time_ns() - int(self._settings.retention_seconds * 1e9)
        everybody = {each: (*self._holders[each], *self._followers[each]) for each in self._holders}
        deleted = sqlite.sweep(db, everybody, received_before_ns=before_ns, lane=lane)
        # what only repeats the data must not fill the disk that takes it in
        for _ in range(MAX_SKIPS):
            if not self._is_half_full(db) or not (skipped := self._skip(db, lane, before_ns)):
                break
            deleted += skipped
        if lane is None:
            sqlite.forget(db)
            ownership.forget(db, keep=self._keep_claims)
            notes.forget(db, keep=self._settings.max_notes)
        return deleted

    def _is_half_full(self, db: sqlite3.Connection) -> bool:
        return sqlite.used_bytes(db) >= self._settings.max_bytes * FOLLOWED_SHARE

    def _skip(self, db: sqlite3.Connection, lane: str | None, before_ns: int) -> int:
        """Delete the oldest entries that only followers have not passed; how many."""
        deleted, skipped = sqlite.skip(
            db,
            self._holders,
            self._followers,
            received_before_ns=before_ns,
            lane=lane,
            limit=SKIPPED_AT_ONCE,
        )
        for follower, spans in skipped.items():
            self._observe_skipped(follower, spans)
        return deleted


@dataclass(frozen=True, slots=True)
class SqliteLog:
    """See `Log`."""

    file: JournalFile

    @property
    def refusing(self) -> str | None:
        return self.file.refusing

    async def append(self, drafts: Sequence[Draft]) -> Position:
        try:
            if self.file.refusing:
                # let one through now and then, so that the writer looks at the disk again
                await self.file.write(lambda db: None)
            if self.file.refusing:
                raise Unavailable(Reason.JOURNAL_FULL, f"{self.file.refusing}; send it again")
            sequence = await self.file.append(drafts)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                Reason.JOURNAL_FAILED, f"the journal could not be written ({error}); send it again"
            ) from error
        return Position(sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteConsumer:
    """See `Consumer`. `sweep` deletes what a commit has passed, inside its transaction."""

    file: JournalFile
    name: str
    sweep: Sweep
    signals_of: SignalsOf

    @property
    def signals(self) -> str:
        return self.signals_of(self.name)

    def _bound(self, behind: str | None) -> reading.Behind | None:
        return None if behind is None else reading.Behind(consumer=behind, signals=self.signals_of(behind))

    @property
    def appended(self) -> asyncio.Event:
        return self.file.appended(self.signals)

    async def pending(self, *, behind: str | None = None) -> list[PendingLane]:
        bound = self._bound(behind)
        run = partial(reading.pending, consumer=self.name, signals=self.signals, behind=bound)
        return await self.file.read(run)

    async def read(self, lane: str, *, limit_bytes: int, behind: str | None = None) -> list[Entry]:
        bound = self._bound(behind)
        run = partial(reading.read, consumer=self.name, lane=lane, limit_bytes=limit_bytes, behind=bound)
        while True:
            try:
                return await self.file.read(run)
            except reading.DamagedEntry as damaged:
                _log.error(
                    "an entry is damaged: to the dead letters",
                    extra={"sequence": damaged.sequence, "consumer": self.name},
                )
                await self._park_damaged(lane, damaged.sequence)

    async def awaiting(self, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        run = partial(reading.awaiting, consumer=self.name, trace_ids=trace_ids, signals=self.signals)
        return await self.file.read(run)

    async def read_ahead(self, lane: str, *, limit_bytes: int, after: Position | None) -> list[Entry]:
        return await self.file.read(
            partial(reading.read_ahead, consumer=self.name, lane=lane, limit_bytes=limit_bytes, after=after)
        )

    async def mark(self, lane: str, *, through: Position) -> None:
        await self.file.write(partial(sqlite.mark, consumer=self.name, lane=lane, through=through.token))

    async def processed(self, lane: str) -> None:
        await self.file.write(partial(sqlite.unmark, consumer=self.name, lane=lane))

    async def commit(
        self,
        lane: str,
        *,
        through: Position,
        parked: Sequence[Parked] = (),
        first: Position | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
        follow_ups: Sequence[FollowUp] = (),
    ) -> None:
        def move(db: sqlite3.Connection) -> None:
            if first is not None and sqlite.has_moved_back(db, self.name, lane, first=first.token):
                sqlite.unmark(db, self.name, lane)
                return
            letters.park(db, self.name, parked, now_ns=time.time_ns())
            if remember:
                number = sqlite.lane_id(db, lane)
                notes.remember(db, self.name, remember, lane_id=number, through=through.token)
            ownership.settle(db, delivered)
            sqlite.follow_up(db, follow_ups)
            sqlite.move_cursor(db, self.name, lane, through=through.token)
            self.sweep(db, lane)

        await self.file.write(move)
        self.file.announce()

    async def replay(self, *, since_unix_ns: int) -> int:
        count = await self.file.write(partial(sqlite.replay, consumer=self.name, since_unix_ns=since_unix_ns))
        self.file.announce()
        return count

    async def state(self) -> JournalState:
        return await self.file.read(partial(reading.state, consumer=self.name, signals=self.signals))

    async def _park_damaged(self, lane: str, sequence: int) -> None:
        await self.file.write(
            partial(
                letters.park_damaged,
                consumer=self.name,
                lane=lane,
                sequence=sequence,
                now_ns=time.time_ns(),
            )
        )
        self.file.announce()


@dataclass(frozen=True, slots=True)
class SqliteTraceMemory:
    """See `TraceMemory`."""

    file: JournalFile

    async def claim(
        self, claims: Mapping[bytes, str], *, clients: Mapping[bytes, str] = NOTHING
    ) -> Mapping[bytes, str]:
        return await self.file.write(partial(ownership.claim, claims=claims, clients=clients))

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        return await self.file.read(partial(notes.recall, consumer=consumer, trace_ids=trace_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDeadLetters:
    """See `DeadLetters`."""

    file: JournalFile
    consumer: str

    async def list(self, *, limit: int = 100, after: int = 0) -> Sequence[DeadLetter]:
        return await self.file.read(partial(letters.listed, consumer=self.consumer, limit=limit, after=after))

    async def one(self, id: int) -> DeadLetter | None:
        return await self.file.read(partial(letters.one, consumer=self.consumer, id=id))

    async def retry(self, ids: Sequence[int] | None) -> int:
        count = await self.file.write(partial(letters.retry, consumer=self.consumer, ids=ids))
        self.file.announce()
        return count

    async def drop(self, ids: Sequence[int]) -> int:
        return await self.file.write(partial(letters.drop, consumer=self.consumer, ids=ids))


@dataclass(frozen=True, slots=True)
class SqlitePendingTraces:
    """See `PendingTraces`."""

    file: JournalFile

    async def payloads(self, trace_id: bytes) -> Sequence[bytes]:
        return await self.file.read(partial(sqlite.find, trace_id=trace_id))

    async def routes(self, trace_id: bytes) -> Sequence[Route]:
        lanes = await self.file.read(partial(sqlite.lanes_of, trace_id=trace_id))
        return [Route.from_lane(lane) for lane in lanes]
