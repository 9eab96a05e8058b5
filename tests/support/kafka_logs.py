"""Logs on real brokers as tests open them: topics of their own, and one process or several in the groups."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from collector.journal import Journal
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.journal import KafkaJournal, open_kafka_journal
from collector.model.batch import Draft, Entry, Parked, Route
from collector.settings import JournalSettings
from collector.settings.engines import Engine, EnginePlace, KafkaSettings
from tests.support.kafka_brokers import Brokers

MIB = 1024 * 1024
LANE = Route(experiment_id="1").lane


@dataclass(kw_only=True)
class KafkaLogPlace:
    """A log's topics and the settings of those that use it."""

    hosts: tuple[str, ...]
    replicas: int = 1
    name: str = field(default_factory=lambda: f"log{secrets.token_hex(6)}")
    partitions: int = 4
    more: dict[str, Any] = field(default_factory=dict)
    journal: JournalSettings = field(default_factory=JournalSettings)
    followers: Sequence[str] = ()

    def settings(self, **more: Any) -> KafkaSettings:
        patient = {"session_timeout_seconds": 6, "delivery_timeout_seconds": 60}
        told = {"partitions": self.partitions} | patient | self.more | more
        return KafkaSettings(replicas=self.replicas, min_insync_replicas=min(2, self.replicas), **told)

    @property
    def place(self) -> EnginePlace:
        return EnginePlace(engine=Engine.KAFKA, hosts=self.hosts, name=self.name)

    def connection(self, **more: Any) -> KafkaConnection:
        return KafkaConnection(self.place, self.settings(**more))

    @asynccontextmanager
    async def open(
        self, *, running: Collection[str] = ("delivery", "logs"), settles: bool = True, **more: Any
    ) -> AsyncIterator[KafkaJournal]:
        """A process that runs these consumers."""
        async with open_kafka_journal(
            self.place,
            settings=self.settings(**more),
            journal=self.journal,
            consumers=("delivery",),
            followers=self.followers,
            log_consumers=("logs",),
            running=running,
            keep_claims=1000,
        ) as journal:
            for group in journal.groups.values() if settles else ():
                await asyncio.wait_for(group.assigned(), 120)
            yield journal


def place_of(brokers: Brokers, **more: Any) -> KafkaLogPlace:
    """A new log on these brokers."""
    return KafkaLogPlace(hosts=brokers.hosts, replicas=brokers.replicas, **more)


def draft(payload: bytes = b"x", *, lane: str = LANE, trace_id: bytes | None = None) -> Draft:
    """Of a new trace, if none is named."""
    ids = frozenset({trace_id or os.urandom(16)})
    return Draft(lane=lane, payload=payload, span_count=1, trace_ids=ids)


def parked(entry: Entry) -> Parked:
    """It as a part that a target refused."""
    return Parked(
        lane=entry.lane,
        payload=entry.payload,
        span_count=entry.span_count,
        trace_ids=entry.trace_ids,
        reason="poison",
        message="refused",
        received_unix_ns=entry.received_unix_ns,
    )


async def take_all(
    journal: Journal, *, consumer: str = "delivery", letters: bool = False, limit_bytes: int = MIB
) -> list[bytes]:
    """Read and commit everything that waits now; `letters`: every entry becomes a dead letter."""
    of_name, taken = journal.consumer(consumer), list[bytes]()
    while pending := await of_name.pending():
        for lane in pending:
            entries = await of_name.read(lane.lane, limit_bytes=limit_bytes)
            if entries:
                await of_name.commit(
                    lane.lane,
                    first=entries[0].position,
                    through=entries[-1].position,
                    parked=[parked(entry) for entry in entries] if letters else (),
                )
            taken += [entry.payload for entry in entries]
    return taken


async def until(condition: Any, *, seconds: float = 180.0) -> None:
    """Wait for what an awaitable function says."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)
