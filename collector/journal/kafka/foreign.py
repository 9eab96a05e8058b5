"""Topics that others write: brought into the log, split by trace, each record once.

What the OpenTelemetry Collector's kafka exporter writes (`otlp_proto`) may have no key, so a trace's spans
may come by several partitions. The records and the offsets of the foreign topic are one transaction: a crash
repeats nothing and loses nothing. A message that is no export goes to the dead letters of `route`; its retry
writes it to its topic again.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collector.journal.kafka.appending import KINDS
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.letters import ROUTE, letter_record
from collector.journal.kafka.partitioning import place
from collector.journal.kafka.records import Names, Record, entry_headers, told
from collector.journal.kafka.transactions import Membership, TransactionFailed, TransactionWriter
from collector.model.batch import Draft, Parked, Route, signal_of
from collector.model.errors import Rejected

_log = logging.getLogger("sidespan.kafka")

READ_RECORDS = 500
READ_SECONDS = 0.2
PAUSE_SECONDS = 1.0

# a message's value and headers (names in lower case) to what it holds; raises Rejected
Prepare = Callable[[bytes, Mapping[str, str]], Sequence[Draft]]


class ForeignTopics:
    """Brings foreign topics in until `run` is cancelled. `refusing`: why the log takes nothing, or None."""

    def __init__(
        self, connection: KafkaConnection, *, prepare: Prepare, refusing: Callable[[], str | None]
    ) -> None:
        self._connection = connection
        self._names = Names(connection.place.name)
        self._prepare = prepare
        self._refusing = refusing
        self._consumer: Any = None
        self._tenure = 0

    async def run(self) -> None:
        """Any exception is a bug, or the brokers' absence; what was not written is read again."""
        whose = self._connection.settings.member or secrets.token_hex(8)
        membership = Membership(lambda: self._consumer.consumer_group_metadata(), self._holds)
        id = f"{self._names.group(ROUTE)}-{whose}"
        writer = TransactionWriter(self._connection, id, membership)
        try:
            while True:
                try:
                    await self._bring(writer)
                except TransactionFailed as error:
                    _log.warning("foreign messages come again", extra={"why": str(error)})
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await writer.close()

    async def _bring(self, writer: TransactionWriter) -> None:
        """From where the group is. Raises TransactionFailed."""
        self._consumer = await asyncio.to_thread(self._subscribed)
        try:
            while True:
                if why := self._refusing():
                    _log.debug("foreign topics wait", extra={"why": why})
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                tenure = self._tenure  # of before: what is read may be another's when the call returns
                messages = await asyncio.to_thread(self._consumer.consume, READ_RECORDS, READ_SECONDS)
                good = _readable(messages)
                if good:
                    records = await asyncio.to_thread(self._records, good)
                    await writer.write(records, offsets=_after(good), tenures={0: tenure})
        finally:
            await asyncio.to_thread(self._consumer.close)

    def _holds(self, tenures: Mapping[int, int]) -> bool:
        return all(tenure == self._tenure for tenure in tenures.values())

    # in a thread

    def _subscribed(self) -> Any:
        settings = self._connection.settings
        told: dict[str, Any] = {"session.timeout.ms": int(settings.session_timeout_seconds * 1000)}
        if settings.member:
            told["group.instance.id"] = settings.member
        consumer = self._connection.consumer(self._names.group(ROUTE), topics=settings.foreign_topics, **told)
        consumer.subscribe(list(settings.foreign_topics), on_revoke=self._moved, on_lost=self._moved)
        self._tenure += 1
        return consumer

    def _moved(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._tenure += 1

    def _records(self, messages: Sequence[Any]) -> list[Record]:
        return [record for message in messages for record in self._of(message)]

    def _of(self, message: Any) -> list[Record]:
        settings = self._connection.settings
        value = message.value() or b""
        try:
            drafts = self._prepare(value, told(message.headers()))
            placed = place(drafts, partitions=settings.partitions, max_bytes=settings.max_message_bytes)
        except Rejected as error:
            return [self._letter(message, value, error)]
        now_ns = time.time_ns()
        return [
            Record(
                self._names.data(KINDS[signal_of(each.draft.lane)]),
                each.partition,
                each.key,
                bytes(each.draft.payload),
                entry_headers(each.draft, received_unix_ns=now_ns),
            )
            for each in placed
        ]

    def _letter(self, message: Any, value: bytes, error: Rejected) -> Record:
        place = f"{message.topic()}, partition {message.partition()}, offset {message.offset()}"
        is_kept = len(value) <= self._connection.settings.max_message_bytes
        part = Parked(
            lane=Route(experiment_name=message.topic()).lane,
            payload=value if is_kept else b"",
            span_count=0,
            trace_ids=frozenset(),
            reason=error.reason.value,
            message=f"a message of the topic {place}{'' if is_kept else ' (too large to be kept)'}: {error}",
            received_unix_ns=message.timestamp()[1] * 10**6,
        )
        record = letter_record(self._names, part, consumer=ROUTE)
        return record._replace(headers=[*record.headers, *(message.headers() or ())])


def _after(messages: Sequence[Any]) -> dict[tuple[str, int], int]:
    return {(message.topic(), message.partition()): message.offset() + 1 for message in messages}


def _readable(messages: Sequence[Any]) -> list[Any]:
    """Those that hold something. Raises TransactionFailed: this consumer gets nothing more."""
    for message in messages:
        if message.error() is not None and message.error().fatal():
            raise TransactionFailed(message.error().str())
    return [message for message in messages if message.error() is None]
