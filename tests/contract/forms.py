"""The forms of the log, opened for a test, and what a crash or a proper restart makes of each."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from collector.journal import Journal
from collector.journal.memory import MemoryJournal
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.model.batch import Position
from collector.settings import JournalSettings

# reads log records, and no spans
LOGS = "logs"


def at(number: int) -> Position:
    """The position of the nth entry that was appended: both forms count from one."""
    return Position(number)


@dataclass
class Opened:
    """A journal; `crash` and `restart` go on with what is left of it."""

    journal: Journal
    crash: Callable[[], Awaitable[Journal]]
    restart: Callable[[], Awaitable[Journal]]
    close: Callable[[], Awaitable[None]]


@dataclass(kw_only=True)
class SqliteHome:
    """Journals of one test; a crash goes on with a copy of the files as they were at that moment."""

    base: Path
    settings: JournalSettings
    consumers: tuple[str, ...]
    followers: tuple[str, ...]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    count: int = 0

    async def open(self) -> SqliteJournal:
        return await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.count),
                settings=self.settings,
                consumers=self.consumers,
                followers=self.followers,
                log_consumers=(LOGS,),
                log_followers=self.followers,
                keep_claims=100_000,
            )
        )

    async def crash(self) -> SqliteJournal:
        old = self.base / str(self.count)
        self.count += 1
        shutil.copytree(old, self.base / str(self.count))
        return await self.open()

    async def restart(self) -> SqliteJournal:
        await self.stack.aclose()
        return await self.open()


@asynccontextmanager
async def on_sqlite(
    base: Path, settings: JournalSettings, consumers: tuple[str, ...], followers: tuple[str, ...] = ()
) -> AsyncIterator[Opened]:
    home = SqliteHome(base=base, settings=settings, consumers=consumers, followers=followers)
    journal = await home.open()
    yield Opened(journal, home.crash, home.restart, journal.close)
    await home.stack.aclose()


@asynccontextmanager
async def in_memory(
    base: Path, settings: JournalSettings, consumers: tuple[str, ...], followers: tuple[str, ...] = ()
) -> AsyncIterator[Opened]:
    journal = MemoryJournal(
        consumers=consumers,
        followers=followers,
        log_consumers=(LOGS,),
        log_followers=followers,
        max_bytes=settings.max_bytes,
        retention_seconds=settings.retention_seconds,
    )

    async def crash() -> Journal:
        journal.crash()
        return journal

    yield Opened(journal, crash, crash, journal.close)


FORMS = {"sqlite": on_sqlite, "memory": in_memory}
