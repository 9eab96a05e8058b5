"""The forms of the log, opened for a test, and what a crash or a proper restart makes of each."""

import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

from collector.journal import Journal
from collector.journal.kafka import state
from collector.journal.kafka.client import KafkaConnection, require_client
from collector.journal.kafka.journal import KafkaJournal, open_kafka_journal
from collector.journal.kafka.owned import OwnedPartition
from collector.journal.kafka.records import HeldRecord, Spot
from collector.journal.kafka.state import ConsumerGroupState
from collector.journal.memory import MemoryJournal
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.model.batch import Draft, Position, signal_of
from collector.settings import JournalSettings
from collector.settings.engines import Engine, EnginePlace, KafkaSettings

# reads log records, and no spans
LOGS = "logs"
# what brokers on a busy machine may take
PATIENCE_SECONDS = 120.0


# the positions on Kafka in the order in which they were first seen; None: the form counts from one
_seen: list[Position] | None = None


def at(number: int) -> Position:
    """The position of the nth entry that was appended.

    The embedded forms count from one; on Kafka a position names a partition, a topic and an offset.
    """
    if _seen is None:
        return Position(number)
    return _seen[number - 1] if number <= len(_seen) else _YetToBeSeen(number)


class _YetToBeSeen(Position):
    """The nth entry was appended and not read yet: its position is looked up when it is used."""

    @property
    def token(self) -> int:  # type: ignore[override]
        assert _seen is not None
        return _seen[self.number - 1].token

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "number", number)


@dataclass
class Opened:
    """A journal; `crash` and `restart` go on with what is left of it."""

    journal: Journal
    crash: Callable[[], Awaitable[Journal]]
    restart: Callable[[], Awaitable[Journal]]
    close: Callable[[], Awaitable[None]]
    # whether a commit deletes what everybody has passed; else the next sweep does
    deletes_at_commit: bool = True
    # whether consumers can come and go with the settings
    subscribes: bool = True


@dataclass(kw_only=True)
class SqliteHome:
    """Journals of one test; a crash goes on with a copy of the files as they were at that moment."""

    base: Path
    settings: JournalSettings
    consumers: tuple[str, ...]
    followers: tuple[str, ...]
    log_consumers: tuple[str, ...] = (LOGS,)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    count: int = 0

    async def open(self) -> SqliteJournal:
        return await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.count),
                settings=self.settings,
                consumers=self.consumers,
                followers=self.followers,
                log_consumers=self.log_consumers,
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
    base: Path,
    settings: JournalSettings,
    consumers: tuple[str, ...],
    followers: tuple[str, ...] = (),
    log_consumers: tuple[str, ...] = (LOGS,),
) -> AsyncIterator[Opened]:
    home = SqliteHome(
        base=base,
        settings=settings,
        consumers=consumers,
        followers=followers,
        log_consumers=log_consumers,
    )
    journal = await home.open()
    yield Opened(journal, home.crash, home.restart, journal.close)
    await home.stack.aclose()


@asynccontextmanager
async def in_memory(
    base: Path,
    settings: JournalSettings,
    consumers: tuple[str, ...],
    followers: tuple[str, ...] = (),
    log_consumers: tuple[str, ...] = (LOGS,),
) -> AsyncIterator[Opened]:
    journal = MemoryJournal(
        consumers=consumers,
        followers=followers,
        log_consumers=log_consumers,
        log_followers=followers,
        max_bytes=settings.max_bytes,
        retention_seconds=settings.retention_seconds,
    )

    async def crash() -> Journal:
        journal.crash()
        return journal

    yield Opened(journal, crash, crash, journal.close)


@dataclass(kw_only=True)
class KafkaHome:
    """A log in topics of its own; a crash writes nothing more, and the next owner reads on."""

    hosts: tuple[str, ...]
    settings: JournalSettings
    consumers: tuple[str, ...]
    followers: tuple[str, ...]
    log_consumers: tuple[str, ...]
    kafka: KafkaSettings
    name: str = field(default_factory=lambda: f"test{secrets.token_hex(6)}")
    journal: KafkaJournal | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def open(self) -> KafkaJournal:
        place = EnginePlace(engine=Engine.KAFKA, hosts=self.hosts, name=self.name)
        self.journal = await self.stack.enter_async_context(
            open_kafka_journal(
                place,
                settings=self.kafka,
                journal=self.settings,
                consumers=self.consumers,
                followers=self.followers,
                log_consumers=self.log_consumers,
                log_followers=self.followers,
                running=(*self.consumers, *self.followers, *self.log_consumers),
                keep_claims=100_000,
            )
        )
        for group in self.journal.groups.values():
            await group.assigned()
        self._keep_order(self.journal)
        return self.journal

    def _keep_order(self, journal: KafkaJournal) -> None:
        """Append only when all that was written is seen: Kafka keeps no order between two topics."""
        append = journal.appender.append

        async def seen(spots: Sequence[Spot]) -> None:
            journal.expect(spots)
            for group in journal.groups.values():
                await group.state.see_own()

        async def append_in_order(drafts: Sequence[Draft], *, received_unix_ns: int) -> list[Spot]:
            spots: list[Spot] = []
            await seen(spots)
            for _, of_one_topic in groupby(drafts, key=lambda draft: signal_of(draft.lane)):
                spots += await append(list(of_one_topic), received_unix_ns=received_unix_ns)
                await seen(spots)
            return spots

        journal.appender.append = append_in_order  # type: ignore[method-assign]

    async def crash(self) -> KafkaJournal:
        assert self.journal is not None
        await self.journal.close(is_abandoned=True)
        return await self.open()

    async def restart(self) -> KafkaJournal:
        assert self.journal is not None
        await self.journal.close()
        return await self.open()


@asynccontextmanager
async def on_kafka(
    base: Path,
    settings: JournalSettings,
    consumers: tuple[str, ...],
    followers: tuple[str, ...] = (),
    log_consumers: tuple[str, ...] = (LOGS,),
    *,
    hosts: tuple[str, ...],
    partitions: int = 1,
) -> AsyncIterator[Opened]:
    """On one partition, for the suite compares what lanes hold in order."""
    global _seen
    kafka = KafkaSettings(
        partitions=partitions,
        replicas=1,
        min_insync_replicas=1,
        max_lag_bytes=settings.max_bytes,
        max_message_bytes=2 * 1024 * 1024,
        session_timeout_seconds=6,
        delivery_timeout_seconds=PATIENCE_SECONDS,
    )
    home = KafkaHome(
        hosts=hosts,
        settings=settings,
        consumers=consumers,
        followers=followers,
        log_consumers=log_consumers,
        kafka=kafka,
    )
    _seen = []
    journal = await home.open()
    enter = ConsumerGroupState._enter

    def noted(group: ConsumerGroupState, partition: OwnedPartition, held: HeldRecord) -> bool:
        if _seen is not None and held.spot.position not in _seen:
            _seen.append(held.spot.position)
        return enter(group, partition, held)

    with (
        patch.object(ConsumerGroupState, "_enter", noted),
        patch.object(state, "SEE_OWN_SECONDS", PATIENCE_SECONDS),
        patch.object(KafkaConnection, "asker", _patient_asker),
    ):
        try:
            yield Opened(
                journal, home.crash, home.restart, journal.close, deletes_at_commit=False, subscribes=False
            )
        finally:
            _seen = None
            await home.stack.aclose()


def _patient_asker(connection: KafkaConnection, group: str) -> Any:
    """Waits for the end of what is being committed; a service does with what was committed before."""
    return require_client().Consumer(
        {**connection.common(), "group.id": group, "isolation.level": "read_committed"}
    )


FORMS = {"sqlite": on_sqlite, "memory": in_memory}
