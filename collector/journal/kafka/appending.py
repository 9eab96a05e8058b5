"""Receivers' side: drafts to records, acknowledged by `min.insync.replicas` copies before the answer.

One producer for the process; a thread serves its reports, and wakes the event loop once for many of them.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.partitioning import Placed, place
from collector.journal.kafka.records import Kind, Names, Spot, entry_headers
from collector.model.batch import Draft, Signal, signal_of
from collector.model.errors import Reason, Unavailable

POLL_SECONDS = 0.1
CLOSE_SECONDS = 5.0

KINDS = {Signal.TRACES: Kind.SPANS, Signal.LOGS: Kind.LOGS}


@dataclass(slots=True)
class _Append:
    """Records of one append that are on their way."""

    done: "asyncio.Future[list[Spot]]"
    left: int
    spots: list[Spot] = field(default_factory=list)
    error: str | None = None


class Appender:
    """Opened in an event loop; `close` waits for what is on its way.

    A producer that has met a fatal error takes nothing more; another takes its place.
    """

    def __init__(self, connection: KafkaConnection, *, observe: Callable[[float], None]) -> None:
        self._connection = connection
        self._names = Names(connection.place.name)
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._producer = connection.producer()
        self._topics = {self._names.data(kind): kind for kind in Kind}
        self._reports: deque[tuple[_Append, Any, Any]] = deque()
        self._is_told = False
        self._is_spent = False
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sidespan-kafka-append", daemon=True)
        self._thread.start()

    async def append(self, drafts: Sequence[Draft], *, received_unix_ns: int) -> list[Spot]:
        """Where the records of the drafts are, once they are acknowledged.

        Raises Rejected (too_large), Unavailable (journal_full, journal_failed).
        """
        from confluent_kafka import KafkaException

        settings = self._connection.settings
        placed = place(drafts, partitions=settings.partitions, max_bytes=settings.max_message_bytes)
        if not placed:
            return []
        began = time.perf_counter()
        append = _Append(self._loop.create_future(), len(placed))
        for number, each in enumerate(placed):
            try:
                self._produce(each, append, received_unix_ns)
            except BufferError as error:
                append.left -= len(placed) - number
                append.error = str(error)
                raise Unavailable(
                    Reason.JOURNAL_FULL, "too much is on its way to Kafka; send it again"
                ) from error
            except KafkaException as error:
                append.left -= len(placed) - number
                self._is_spent |= _is_fatal(error.args[0])
                raise Unavailable(Reason.JOURNAL_FAILED, _not_taken(error.args[0].str())) from error
        spots = await append.done
        self._observe(time.perf_counter() - began)
        if append.error is not None:
            raise Unavailable(Reason.JOURNAL_FAILED, _not_taken(append.error))
        return spots

    def _produce(self, placed: Placed, append: _Append, received_unix_ns: int) -> None:
        draft = placed.draft
        self._producer.produce(
            self._names.data(KINDS[signal_of(draft.lane)]),
            bytes(draft.payload),
            placed.key,
            partition=placed.partition,
            headers=list(entry_headers(draft, received_unix_ns=received_unix_ns)),
            on_delivery=lambda error, message: self._report(append, error, message),
        )

    async def close(self) -> None:
        """Twice is harmless."""
        if not self._ends.is_set():
            await asyncio.to_thread(self._producer.flush, CLOSE_SECONDS)
            self._ends.set()
            await asyncio.to_thread(self._thread.join)

    # in the thread

    def _serve(self) -> None:
        while not self._ends.is_set():
            self._producer.poll(POLL_SECONDS)
            if self._is_spent:
                spent, self._producer = self._producer, self._connection.producer()
                spent.flush(CLOSE_SECONDS)  # what it still had is reported as failed
                self._is_spent = False

    def _report(self, append: _Append, error: Any, message: Any) -> None:
        self._is_spent |= error is not None and _is_fatal(error)
        self._reports.append((append, error, message))
        if not self._is_told:  # the loop takes all that is there when it comes to it
            self._is_told = True
            self._loop.call_soon_threadsafe(self._take)

    # in the event loop

    def _take(self) -> None:
        self._is_told = False
        while self._reports:
            append, error, message = self._reports.popleft()
            append.left -= 1
            if error is not None:
                append.error = error.str()
            else:
                kind = self._topics[message.topic()]
                append.spots.append(Spot(message.partition(), kind, message.offset()))
            if append.left == 0 and not append.done.done():
                append.done.set_result(append.spots)


def _is_fatal(error: Any) -> bool:
    from confluent_kafka import KafkaError

    return bool(error.fatal()) or error.code() == KafkaError._FATAL


def _not_taken(why: str) -> str:
    return f"Kafka did not acknowledge it ({why}); send it again"
