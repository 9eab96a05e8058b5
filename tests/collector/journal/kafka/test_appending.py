"""Appends by a producer that fails as brokers make it fail."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from collector.journal.kafka.appending import Appender
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.records import Spot
from collector.model.batch import Draft
from collector.model.errors import Unavailable
from collector.settings.engines import LOG_ENGINES, EnginePlace, KafkaSettings, read_engine_url
from tests.collector.journal.kafka.test_partitioning import export
from tests.support.kafka_logs import draft

FATAL = KafkaError(KafkaError._FATAL, "out of order", fatal=True)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


@dataclass
class Cluster:
    """Each producer meets the error that its turn in `errors` has. `holds`: the last report is held back."""

    errors: list[KafkaError | None]
    is_raised: bool = True
    made: int = 0
    holds: threading.Event | None = None
    refuses_partition: int | None = None
    settings: KafkaSettings = field(default_factory=KafkaSettings)
    place: EnginePlace = field(default_factory=lambda: read_engine_url("kafka://b1/log", LOG_ENGINES))

    def producer(self) -> "Producer":
        self.made += 1
        return Producer(self.errors[min(self.made, len(self.errors)) - 1], self)


@dataclass
class Message:
    name: str
    number: int

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return 7


@dataclass
class Producer:
    error: KafkaError | None
    cluster: Cluster
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def produce(self, topic: str, *_: object, partition: int, on_delivery: Any, **more: object) -> None:
        if self.error is not None and self.cluster.is_raised:
            raise KafkaException(self.error)
        error = TIMED_OUT if partition == self.cluster.refuses_partition else self.error
        self.waiting.append(lambda: on_delivery(error, Message(topic, partition)))

    def poll(self, _: float) -> None:
        time.sleep(0.005)
        holds = self.cluster.holds
        while len(self.waiting) > (0 if holds is None or holds.is_set() else 1):
            self.waiting.pop(0)()

    flush = poll


@pytest.fixture(params=[True, False], ids=["refused at once", "refused later"])
def is_raised(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def appended(appender: Appender) -> list[Spot]:
    return await appender.append([draft()], received_unix_ns=1)


def of_many_partitions() -> Draft:
    """Its records go to several partitions."""
    return export({number.to_bytes(16, "big"): 1 for number in range(1, 200)})


async def test_an_export_is_acknowledged_with_the_last_of_its_records(
    close: Callable[[Appender], None],
) -> None:
    cluster = Cluster([None], holds=threading.Event())
    appender = Appender(cast(KafkaConnection, cluster), observe=lambda _: None)
    close(appender)
    append = asyncio.create_task(appender.append([of_many_partitions()], received_unix_ns=1))
    done, _ = await asyncio.wait([append], timeout=0.3)
    assert not done
    cast(threading.Event, cluster.holds).set()
    assert len(await append) == cluster.settings.partitions


async def test_an_export_of_which_one_record_is_not_acknowledged_is_to_come_again(
    close: Callable[[Appender], None],
) -> None:
    cluster = Cluster([None], refuses_partition=3)
    appender = Appender(cast(KafkaConnection, cluster), observe=lambda _: None)
    close(appender)
    with pytest.raises(Unavailable, match="send it again"):
        await appender.append([of_many_partitions()], received_unix_ns=1)


async def test_a_producer_that_is_spent_is_replaced(
    is_raised: bool, close: Callable[[Appender], None]
) -> None:
    cluster = Cluster([FATAL, None], is_raised)
    appender = Appender(cast(KafkaConnection, cluster), observe=lambda _: None)
    close(appender)
    with pytest.raises(Unavailable, match="send it again"):
        await appended(appender)
    async with asyncio.timeout(30):
        while cluster.made < 2:
            await asyncio.sleep(0.01)
    assert [spot.offset for spot in await appended(appender)] == [7]


async def test_a_record_that_is_refused_costs_no_producer(
    is_raised: bool, close: Callable[[Appender], None]
) -> None:
    cluster = Cluster([TOO_LARGE], is_raised)
    appender = Appender(cast(KafkaConnection, cluster), observe=lambda _: None)
    close(appender)
    for _ in range(3):
        with pytest.raises(Unavailable, match="send it again"):
            await appended(appender)
    assert cluster.made == 1


@pytest.fixture
async def close() -> AsyncIterator[Callable[[Appender], None]]:
    """What closes appenders when the test has ended."""
    opened: list[Appender] = []
    yield opened.append
    for appender in opened:
        await appender.close()
