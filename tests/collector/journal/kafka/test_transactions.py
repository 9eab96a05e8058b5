"""Transactions by a client that fails as brokers make it fail."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from collector.journal.kafka import transactions
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.records import Record
from collector.journal.kafka.transactions import Membership, TransactionFailed, TransactionWriter
from collector.settings.engines import KafkaSettings


@dataclass
class Broker:
    """Keeps what is committed; a commit of a record in `refused` fails for good."""

    settings: KafkaSettings = field(default_factory=KafkaSettings)
    refused: set[bytes] = field(default_factory=set)
    # of these the client's call comes back only when it is let go
    stalled: set[bytes] = field(default_factory=set)
    let_go: threading.Event = field(default_factory=threading.Event)
    committed: list[bytes] = field(default_factory=list)
    passed: dict[tuple[str, int], int] = field(default_factory=dict)

    def producer(self, **_: Any) -> "Producer":
        return Producer(self)

    def writer(self) -> TransactionWriter:
        membership = Membership(lambda: object(), lambda tenures: True)
        return TransactionWriter(cast(KafkaConnection, self), "writer", membership)


@dataclass
class Producer:
    broker: Broker
    written: list[bytes] = field(default_factory=list)
    passed: dict[tuple[str, int], int] = field(default_factory=dict)

    def init_transactions(self, _: float) -> None:
        pass

    def begin_transaction(self) -> None:
        self.written, self.passed = [], {}

    def produce(self, _: str, value: bytes, *rest: object, **more: object) -> None:
        self.written.append(value)

    def send_offsets_to_transaction(self, spots: Sequence[Any], *_: object) -> None:
        self.passed = {(spot.topic, spot.partition): spot.offset for spot in spots}

    def flush(self, _: float) -> None:
        if self.broker.stalled & set(self.written):
            assert self.broker.let_go.wait(60)

    def commit_transaction(self, _: float) -> None:
        if self.broker.refused & set(self.written):
            raise KafkaException(KafkaError(KafkaError._FENCED, "fenced", fatal=True))
        self.broker.committed += self.written
        self.broker.passed |= self.passed

    def abort_transaction(self, _: float) -> None:
        pass


def record(value: bytes, partition: int = 0) -> Record:
    return Record("state", partition, b"key", value)


def offsets(offset: int, partition: int = 0) -> dict[tuple[str, int], int]:
    return {("spans", partition): offset}


async def test_what_rests_on_a_write_that_failed_is_not_written_either() -> None:
    broker = Broker(refused={b"dead letter"})
    writer = broker.writer()
    first = asyncio.create_task(writer.write([record(b"dead letter")], offsets=offsets(5), tenures={0: 1}))
    await asyncio.sleep(0)  # it is on its way: the next ones wait for it
    second = asyncio.create_task(writer.write([record(b"later")], offsets=offsets(9), tenures={0: 1}))
    other = asyncio.create_task(writer.write([record(b"other", 1)], offsets=offsets(3, 1), tenures={1: 2}))
    found = await asyncio.gather(first, second, other, return_exceptions=True)
    assert [isinstance(each, TransactionFailed) for each in found] == [True, True, False]
    with pytest.raises(TransactionFailed):
        await writer.write([record(b"later still")], offsets=offsets(9), tenures={0: 1})
    assert (broker.committed, broker.passed) == ([b"other"], offsets(3, 1))
    await writer.write([record(b"read anew")], offsets=offsets(5), tenures={0: 3})
    assert broker.committed == [b"other", b"read anew"]
    await writer.close()


async def test_a_client_that_never_comes_back_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "STALLED_SECONDS", 0.2)
    broker = Broker(stalled={b"stalled"})
    writer = broker.writer()
    with pytest.raises(TransactionFailed, match="does not come back"):
        await writer.write([record(b"stalled")], offsets=offsets(5), tenures={0: 1})
    monkeypatch.undo()
    await writer.write([record(b"read anew")], offsets=offsets(5), tenures={0: 3})
    stalled = [each for each in threading.enumerate() if each.name == "sidespan-kafka-transactions"]
    broker.let_go.set()
    for thread in stalled:
        await asyncio.to_thread(thread.join, 60)
    assert broker.committed == [b"read anew"]
    await writer.close()
