"""Records that are read once more: payloads that memory had no room for, and what a replay looks through."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from collector.journal.kafka.client import CALL_SECONDS, KafkaConnection
from collector.journal.kafka.records import OWN_HEADERS, Headers, HeldRecord, Kind, Names, Spot, held_of
from collector.model.errors import Reason, Unavailable

READ_RECORDS = 200
READ_SECONDS = 0.05


class Fetcher:
    """One reader for all who ask; they take turns."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._names = Names(connection.place.name)
        self._consumer: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sidespan-kafka-fetch")

    async def payloads(self, spots: Iterable[Spot]) -> dict[Spot, bytes]:
        """What the records of entries hold; those that are deleted are left out. Raises Unavailable."""
        by_stream: defaultdict[tuple[int, Kind], set[int]] = defaultdict(set)
        for spot in spots:
            by_stream[spot.partition, spot.kind].add(spot.offset)
        found: dict[Spot, bytes] = {}
        for (partition, kind), offsets in by_stream.items():
            read = await self._ask(self._values, self._names.data(kind), partition, offsets)
            found |= {Spot(partition, kind, offset): value for offset, value in read.items()}
        return found

    async def letters(self, offsets: Iterable[int]) -> dict[int, bytes]:
        """The payloads of dead letters; those that have ended are left out. Raises Unavailable."""
        read: dict[int, bytes] = await self._ask(self._values, self._names.dead_letters, 0, set(offsets))
        return read

    async def foreign_headers(self, offset: int) -> Headers:
        """The headers that a dead letter of a foreign topic came with."""
        headers: Headers = await self._ask(self._foreign_headers, offset)
        return headers

    async def heads(
        self, partition: int, kind: Kind, *, since_unix_ms: int, low: int, end: int
    ) -> list[HeldRecord]:
        """Entries before `end` written since then, and all from `low` on; without payloads."""
        heads: list[HeldRecord] = await self._ask(self._heads, partition, kind, since_unix_ms, low, end)
        return heads

    async def close(self) -> None:
        """Twice is harmless."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await asyncio.to_thread(consumer.close)
        self._thread.shutdown(wait=False)

    async def _ask(self, question: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, *arguments)

    # in the thread

    def _values(self, topic: str, partition: int, offsets: set[int]) -> dict[int, bytes]:
        if not offsets:
            return {}
        messages = self._messages(topic, partition, min(offsets), max(offsets) + 1)
        return {m.offset(): m.value() for m in messages if m.offset() in offsets and m.value() is not None}

    def _foreign_headers(self, offset: int) -> Headers:
        messages = self._messages(self._names.dead_letters, 0, offset, offset + 1)
        return [h for m in messages for h in m.headers() or () if not h[0].startswith(OWN_HEADERS)]

    def _heads(self, partition: int, kind: Kind, since_unix_ms: int, low: int, end: int) -> list[HeldRecord]:
        from confluent_kafka import KafkaException, TopicPartition

        topic = self._names.data(kind)
        asked = [TopicPartition(topic, partition, since_unix_ms)]
        try:
            (since,) = self._opened().offsets_for_times(asked, CALL_SECONDS)
        except KafkaException as error:
            why = f"Kafka does not answer ({error.args[0].str()}); try again"
            raise Unavailable(Reason.JOURNAL_FAILED, why) from error
        start = min(low, since.offset) if since.offset >= 0 else low
        heads = []
        for message in self._messages(topic, partition, start, end):
            spot = Spot(partition, kind, message.offset())
            held = held_of(spot, message.value(), message.headers(), written_unix_ms=message.timestamp()[1])
            if held is not None:
                held.payload = None
                heads.append(held)
        return heads

    def _messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
        """From `start` up to `end`. Raises Unavailable: the brokers don't answer, and some may be there."""
        from confluent_kafka import KafkaError, TopicPartition

        if start >= end:
            return
        consumer = self._opened()
        consumer.assign([TopicPartition(topic, partition, start)])
        until = time.monotonic() + CALL_SECONDS
        try:
            while time.monotonic() < until:
                for message in consumer.consume(READ_RECORDS, READ_SECONDS):
                    until = time.monotonic() + CALL_SECONDS
                    if message.error() is not None:
                        if message.error().code() == KafkaError._PARTITION_EOF:
                            return
                    elif message.offset() >= end:
                        return
                    else:
                        yield message
                        if message.offset() == end - 1:
                            return
            raise Unavailable(Reason.JOURNAL_FAILED, f"Kafka does not answer: {topic} can't be read now")
        finally:
            consumer.unassign()

    def _opened(self) -> Any:
        if self._consumer is None:
            reading = {"enable.partition.eof": True, "queued.max.messages.kbytes": 16 * 1024}
            self._consumer = self._connection.consumer(
                f"{self._names.name}-fetcher",
                topics=[self._names.dead_letters, *(self._names.data(kind) for kind in Kind)],
                **reading,
            )
        return self._consumer
