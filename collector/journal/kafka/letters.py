"""Dead letters: a compacted topic of one partition, projected into a table in each process that asks.

A letter's id is its offset plus one, so ids grow and are never used again. Its end (a retry, a drop) is a
record without a value under the same key; a retry writes the entry, for its consumer alone, in the same
transaction.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.partitioning import home_of, key_of
from collector.journal.kafka.records import (
    Kind,
    Names,
    Record,
    draft_of,
    entry_headers,
    letter_headers,
    letter_of,
)
from collector.journal.kafka.transactions import TransactionFailed, TransactionWriter
from collector.model.batch import FOREIGN_TRACE, DeadLetter, Parked, Route
from collector.model.errors import Reason, Unavailable
from collector.telemetry.fault_log import FaultLog

READ_RECORDS = 200
READ_SECONDS = 0.1
LOAD_SECONDS = 30.0
# whose dead letters foreign messages are; its lane names their topic
ROUTE = "route"
# letters of one transaction: their payloads are in memory
RETRIED_TOGETHER = 50
# the client chooses
ANY_PARTITION = -1

# where retried entries were written: partition and offset
Retried = Callable[[int, int], None]


def letter_record(names: Names, part: Parked, *, consumer: str) -> Record:
    """What puts a part into the dead letters."""
    headers = letter_headers(part, consumer=consumer, parked_unix_ns=time.time_ns())
    return Record(names.dead_letters, 0, secrets.token_bytes(16), bytes(part.payload), headers)


class LetterTable:
    """All dead letters, without their payloads. It reads from the first question on."""

    def __init__(self, connection: KafkaConnection, fetcher: Fetcher, *, retried: Retried) -> None:
        self._connection = connection
        self._names = Names(connection.place.name)
        self._fetcher = fetcher
        self._retried = retried
        self._loop = asyncio.get_running_loop()
        self._letters: dict[int, tuple[DeadLetter, bytes]] = {}
        self._ids: dict[bytes, int] = {}
        self._next = 0
        self._expected = 0
        self._is_loaded = False
        self._moved = asyncio.Event()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._faults = FaultLog()
        self._writer: TransactionWriter | None = None

    def expect(self, offset: int) -> None:
        """This process has written there: answers wait until it is read."""
        self._expected = max(self._expected, offset + 1)

    async def of(self, consumer: str) -> list[DeadLetter]:
        """A consumer's letters, oldest first. Raises Unavailable: the brokers don't answer."""
        await self._load()
        return [letter for letter, _ in self._letters.values() if letter.consumer == consumer]

    async def holding(self, trace_id: bytes) -> list[DeadLetter]:
        """Those with spans of a trace, of any consumer."""
        await self._load()
        return [letter for letter, _ in self._letters.values() if trace_id in letter.trace_ids]

    async def whole(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """They with their payloads, but for those that have ended meanwhile. Raises Unavailable."""
        payloads = await self._fetcher.letters(letter.id - 1 for letter in letters)
        return [
            replace(letter, payload=payloads[letter.id - 1])
            for letter in letters
            if letter.id - 1 in payloads and letter.id in self._letters
        ]

    async def retry(self, letters: Sequence[DeadLetter]) -> int:
        """Append them again for their consumer alone, and end them. Raises Unavailable."""
        for start in range(0, len(letters), RETRIED_TOGETHER):
            records = []
            for letter in await self.whole(letters[start : start + RETRIED_TOGETHER]):
                end = self._end(letter)  # before it may end elsewhere
                records += [await self._entry(letter), end]
            offsets = await self._write(records)
            for record, offset in zip(records, offsets, strict=True):
                if record.topic == self._names.data(Kind.FOLLOW_UPS):
                    self._retried(record.partition, offset)
        return len(letters)

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """End them. Raises Unavailable."""
        if letters:
            await self._write([self._end(letter) for letter in letters])
        return len(letters)

    async def close(self) -> None:
        """Twice is harmless."""
        self._ends.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._writer is not None:
            await self._writer.close()

    async def _entry(self, letter: DeadLetter) -> Record:
        if letter.consumer == ROUTE:
            topic = str(Route.from_lane(letter.lane).experiment_name)
            return Record(
                topic, ANY_PARTITION, None, letter.payload, await self._fetcher.foreign_headers(letter.id - 1)
            )
        draft = draft_of(letter)
        partition = home_of(letter.trace_ids, letter.lane, self._connection.settings.partitions)
        headers = entry_headers(
            draft,
            received_unix_ns=letter.received_unix_ns,
            consumer=letter.consumer,
            reopen=letter.reason == FOREIGN_TRACE,
        )
        key = key_of(next(iter(letter.trace_ids))) if len(letter.trace_ids) == 1 else None
        return Record(self._names.data(Kind.FOLLOW_UPS), partition, key, letter.payload, headers)

    def _end(self, letter: DeadLetter) -> Record:
        return Record(self._names.dead_letters, 0, self._letters[letter.id][1], None)

    async def _write(self, records: Sequence[Record]) -> list[int]:
        if self._writer is None:
            id = f"{self._names.name}-operator-{secrets.token_hex(8)}"
            self._writer = TransactionWriter(self._connection, id)
        try:
            offsets = await self._writer.write(records)
        except TransactionFailed as error:
            raise Unavailable(Reason.JOURNAL_FAILED, f"Kafka did not take it ({error}); try again") from error
        for record, offset in zip(records, offsets, strict=True):
            if record.topic == self._names.dead_letters:
                self.expect(offset)
        return offsets

    async def _load(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sidespan-kafka-letters", daemon=True)
            self._thread.start()
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                while not self._is_loaded or self._next < self._expected:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError as error:
            raise Unavailable(
                Reason.JOURNAL_FAILED, "Kafka does not answer: the dead letters can't be read now"
            ) from error

    # in the event loop

    def _take(self, records: Sequence[tuple[int, bytes | None, bytes | None, Any]]) -> None:
        for offset, key, value, headers in records:
            self._next = max(self._next, offset + 1)
            if key is None:  # the end of the topic, as it is now
                self._is_loaded = True
                continue
            self._letters.pop(self._ids.pop(key, 0), None)
            letter = None if value is None else letter_of(offset, value, headers)
            if letter is not None:
                self._ids[key] = letter.id
                self._letters[letter.id] = (letter, key)
        self._moved.set()

    # in the thread

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                self._read()
            except Exception as error:
                self._faults.tell_of("the dead letters are read anew", error)
                self._ends.wait(1.0)

    def _read(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        reading = {"enable.partition.eof": True, "queued.max.messages.kbytes": 8 * 1024}
        consumer = self._connection.consumer(
            f"{self._names.name}-letters", topics=[self._names.dead_letters], **reading
        )
        try:
            consumer.assign([TopicPartition(self._names.dead_letters, 0, OFFSET_BEGINNING)])
            while not self._ends.is_set():
                if messages := consumer.consume(READ_RECORDS, READ_SECONDS):
                    self._tell(messages)
        finally:
            consumer.close()

    def _tell(self, messages: Sequence[Any]) -> None:
        from confluent_kafka import KafkaError

        records: list[tuple[int, bytes | None, bytes | None, Any]] = []
        for message in messages:
            if message.error() is None:
                records.append((message.offset(), message.key(), message.value(), message.headers()))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                records.append((message.offset() - 1, None, None, None))
        self._loop.call_soon_threadsafe(self._take, records)
