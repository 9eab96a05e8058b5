"""Foreign topics while their partitions move, by clients that say what brokers say then."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from collector.journal.kafka import foreign
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.foreign import ForeignTopics
from collector.settings.engines import LOG_ENGINES, EnginePlace, KafkaSettings, read_engine_url
from tests.collector.journal.kafka.test_transactions import Broker
from tests.support.kafka_logs import draft

FENCED = KafkaError(KafkaError._FATAL, "fenced", fatal=True)


@dataclass
class Message:
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def value(self) -> bytes:
        return b"export"

    def headers(self) -> None:
        return None

    def topic(self) -> str:
        return "otlp_spans"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


@dataclass
class Topic(Broker):
    """Has one message until it is committed. `trouble` comes to the first consumer with what it reads."""

    trouble: str = ""
    settings: KafkaSettings = field(default_factory=lambda: KafkaSettings(foreign_topics=("otlp_spans",)))
    place: EnginePlace = field(default_factory=lambda: read_engine_url("kafka://b1/log", LOG_ENGINES))
    opened: int = 0

    def consumer(self, *_: object, **more: object) -> "Consumer":
        self.opened += 1
        return Consumer(self, self.trouble if self.opened == 1 else "")


@dataclass
class Consumer:
    topic: Topic
    trouble: str
    revoked: Any = None

    def subscribe(self, topics: Sequence[str], *, on_revoke: Any, **more: Any) -> None:
        self.revoked = on_revoke

    def consume(self, count: int, seconds: float) -> list[Message]:
        if self.topic.committed:
            return []
        if self.trouble == "rebalance":
            self.revoked(self, [])
        return [Message(FENCED if self.trouble == "fenced" else None)]

    def consumer_group_metadata(self) -> object:
        return object()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("trouble", "opened"), [("", 1), ("rebalance", 2), ("fenced", 2)])
async def test_what_is_read_is_written_by_who_has_its_partition(
    trouble: str, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "PAUSE_SECONDS", 0.01)
    topic = Topic(trouble=trouble)
    topics = ForeignTopics(
        cast(KafkaConnection, topic), prepare=lambda value, _: [draft(value)], refusing=lambda: None
    )
    running = asyncio.create_task(topics.run())
    async with asyncio.timeout(30):
        while not topic.committed:
            await asyncio.sleep(0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert (topic.committed, topic.opened) == ([b"export"], opened)
    assert topic.passed == {("otlp_spans", 0): 8}
