"""What members and operators write, in transactions: all records and offsets of one, or nothing.

Writes that wait together share a transaction, as appends share a commit in SQLite's form.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from collector.journal.kafka.client import CALL_SECONDS, TRANSACTION_SECONDS, KafkaConnection
from collector.journal.kafka.records import Record
from collector.model.errors import SidespanError

RETRY_SECONDS = 0.2
# so long a transaction is tried again: brokers agree on a new leader meanwhile
TRY_SECONDS = 10.0
# the client has been seen to wait for ever in a call that it promises to end; so long all tries of a
# transaction may take together before that is assumed
STALLED_SECONDS = 90.0
# so many records at the most in one transaction
MAX_RECORDS = 5000

_BROKEN = "an earlier change of these partitions was not written"

# offsets of a group to write, by topic and partition
Offsets = Mapping[tuple[str, int], int]


class TransactionFailed(SidespanError):
    """Nothing of it was written: the brokers are away, or another member has the partitions now."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A group member's part in a transaction. `holds`: whether the partitions are still its own."""

    metadata: Callable[[], Any]
    holds: Callable[[Mapping[int, int]], bool]


@dataclass(slots=True, eq=False)
class _Write:
    records: Sequence[Record]
    offsets: Offsets
    tenures: Mapping[int, int]
    done: "asyncio.Future[list[int]]"


@dataclass(slots=True)
class TransactionWriter:
    """Writes until it is closed. `membership` None: an operator's, without offsets.

    A member writes what its memory says, which has changed already: once a write of a partition has failed,
    all later ones of the same tenure fail, for their offsets pass what the failed one should have written.
    """

    connection: KafkaConnection
    transactional_id: str
    membership: Membership | None = None
    _waiting: list[_Write] = field(default_factory=list)
    # partition -> the last tenure in which a write of it has failed
    _broken: dict[int, int] = field(default_factory=dict)
    _task: "asyncio.Task[None] | None" = None
    _producer: Any = None
    # of the transaction that may use the producer: one that stalled and wakes up may not
    _turn: int = 0

    async def write(
        self,
        records: Sequence[Record],
        *,
        offsets: Offsets | None = None,
        tenures: Mapping[int, int] | None = None,
    ) -> list[int]:
        """The offsets of the records, once they are there. Raises TransactionFailed."""
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        write = _Write(records, offsets or {}, tenures or {}, done)
        if self._is_broken(write):
            raise TransactionFailed(_BROKEN)
        self._waiting.append(write)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Finish what was asked for. Twice is harmless."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._producer = None

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                written = await self._committed(batch)
            except Exception as error:
                self._fail(batch, error)
            else:
                for write, offsets in zip(batch, written, strict=True):
                    if not write.done.done():
                        write.done.set_result(offsets)

    async def _committed(self, batch: Sequence[_Write]) -> list[list[int]]:
        """In a thread, which is left alone if it stalls. Raises TransactionFailed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[list[int]]] = loop.create_future()
        self._turn += 1

        def tell(settle: Callable[[Any], None], value: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: None if done.done() else settle(value))

        def commit(turn: int) -> None:
            try:
                tell(done.set_result, self._commit(batch, turn))
            except Exception as error:
                tell(done.set_exception, error)

        name = "sidespan-kafka-transactions"
        threading.Thread(target=commit, args=(self._turn,), name=name, daemon=True).start()
        try:
            return await asyncio.wait_for(done, STALLED_SECONDS)
        except TimeoutError as error:
            self._turn += 1
            self._producer = None  # a new one takes its id, and ends what it left open
            raise TransactionFailed("the client of the brokers does not come back") from error

    def _next(self) -> list[_Write]:
        batch: list[_Write] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].records) <= MAX_RECORDS):
            batch.append(self._waiting.pop(0))
            size += len(batch[-1].records)
        return batch

    def _fail(self, batch: Sequence[_Write], error: Exception) -> None:
        """Every waiter hears of it, and those that wait with what rests on it."""
        failure = error if isinstance(error, TransactionFailed) else TransactionFailed(str(error))
        failure.__cause__ = error if failure is not error else error.__cause__
        for write in batch:
            for partition, tenure in write.tenures.items():
                self._broken[partition] = max(tenure, self._broken.get(partition, tenure))
        for write in batch:
            _refuse(write, failure)
        for write in filter(self._is_broken, self._waiting):
            _refuse(write, TransactionFailed(_BROKEN))
        self._waiting = [write for write in self._waiting if not self._is_broken(write)]

    def _is_broken(self, write: _Write) -> bool:
        return any(tenure <= self._broken.get(partition, -1) for partition, tenure in write.tenures.items())

    # in the thread

    def _commit(self, batch: Sequence[_Write], turn: int) -> list[list[int]]:
        """Try for TRY_SECONDS. Raises TransactionFailed."""
        from confluent_kafka import KafkaException

        until = time.monotonic() + TRY_SECONDS
        while True:
            try:
                return self._try(batch, turn)
            except KafkaException as error:
                self._check(turn)
                told = error.args[0]
                if not self._abort(told) or time.monotonic() > until:
                    raise TransactionFailed(told.str()) from error
            time.sleep(RETRY_SECONDS)

    def _check(self, turn: int) -> None:
        if turn != self._turn:
            raise TransactionFailed("another transaction has begun meanwhile")

    def _try(self, batch: Sequence[_Write], turn: int) -> list[list[int]]:
        producer = self._opened()
        offsets: dict[tuple[str, int], int] = {}
        tenures: dict[int, int] = {}
        for write in batch:
            offsets |= write.offsets
            tenures |= write.tenures
        metadata = None if self.membership is None else self.membership.metadata()
        # in this order: the offsets are taken with the generation in which the partitions were ours
        if self.membership is not None and not self.membership.holds(tenures):
            raise TransactionFailed("another member has these partitions now")
        producer.begin_transaction()
        written = [self._produce(producer, write.records) for write in batch]
        if metadata is not None and offsets:
            producer.send_offsets_to_transaction(_partitions(offsets), metadata, CALL_SECONDS)
        producer.flush(CALL_SECONDS)
        self._check(turn)
        self._end(producer)
        return written

    def _end(self, producer: Any) -> None:
        """Commit. Raises KafkaException: it is certain that nothing was written, and it may be tried again.

        Raises TransactionFailed: nobody knows. What is read anew shows it, once the brokers have ended the
        transaction; to write it again could write it twice.
        """
        from confluent_kafka import KafkaException

        until = time.monotonic() + TRY_SECONDS
        while True:
            try:
                producer.commit_transaction(CALL_SECONDS)
                return
            except KafkaException as error:
                told = error.args[0]
                if told.txn_requires_abort():
                    raise
                if not told.retriable() or time.monotonic() > until:
                    self._producer = None
                    raise TransactionFailed(f"the end of the transaction is unknown: {told.str()}") from error

    def _produce(self, producer: Any, records: Sequence[Record]) -> list[int]:
        offsets = [0] * len(records)
        for number, record in enumerate(records):

            def delivered(error: Any, message: Any, number: int = number) -> None:
                if error is None:
                    offsets[number] = message.offset()

            while True:
                try:
                    producer.produce(
                        record.topic,
                        record.value,
                        record.key,
                        partition=record.partition,
                        headers=list(record.headers),
                        on_delivery=delivered,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        return offsets

    def _opened(self) -> Any:
        if self._producer is None:
            told = {
                "transactional.id": self.transactional_id,
                "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                # no record may outlive its transaction
                "delivery.timeout.ms": int(
                    min(TRANSACTION_SECONDS, self.connection.settings.delivery_timeout_seconds) * 1000
                ),
                "linger.ms": 0,
            }
            producer = self.connection.producer(**told)
            producer.init_transactions(TRY_SECONDS)
            self._producer = producer
        return self._producer

    def _abort(self, told: Any) -> bool:
        """Leave the transaction; whether another try may help. A fatal error costs the producer."""
        from confluent_kafka import KafkaException

        if told.fatal():
            self._producer = None
            return False
        if self._producer is not None:
            try:
                self._producer.abort_transaction(CALL_SECONDS)
            except KafkaException:
                self._producer = None  # a new one takes its id, and ends what it left open
        return True


def _refuse(write: _Write, failure: TransactionFailed) -> None:
    if not write.done.done():
        write.done.set_exception(failure)
        write.done.exception()  # a waiter that was cancelled doesn't fetch it


def _partitions(offsets: Offsets) -> list[Any]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
