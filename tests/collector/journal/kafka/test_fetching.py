"""Records that are read once more: there, deleted, or out of reach."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from collector.journal.kafka import fetching
from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.records import Kind, Spot
from collector.model.errors import Unavailable
from collector.settings.engines import LOG_ENGINES, EnginePlace, read_engine_url


@dataclass
class Message:
    number: int
    is_end: bool = False

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self.is_end else None

    def offset(self) -> int:
        return self.number

    def value(self) -> bytes:
        return str(self.number).encode()


@dataclass
class Topic:
    """Has these records; `answers` so many of them, and then the brokers are away."""

    records: list[Message]
    answers: int = 100
    position: int = 0
    place: EnginePlace = field(default_factory=lambda: read_engine_url("kafka://b1/log", LOG_ENGINES))

    def consumer(self, *_: object, **more: object) -> "Topic":
        return self

    def assign(self, spots: list[Any]) -> None:
        self.position = 0

    def consume(self, count: int, seconds: float) -> list[Message]:
        found = self.records[self.position : self.answers]
        self.position += len(found)
        return found

    def unassign(self) -> None:
        pass

    close = unassign


Open = Callable[[Topic], Fetcher]


@pytest.fixture
async def fetcher_of(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens fetchers, which give up soon."""
    monkeypatch.setattr(fetching, "CALL_SECONDS", 0.2)
    opened: list[Fetcher] = []

    def open_it(topic: Topic) -> Fetcher:
        opened.append(Fetcher(cast(KafkaConnection, topic)))
        return opened[-1]

    yield open_it
    for each in opened:
        await each.close()


SPOTS = [Spot(0, Kind.SPANS, number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([Message(1), Message(2), Message(3)], [1, 2, 3]),
        ([Message(2), Message(3), Message(4)], [2, 3]),
        ([Message(1), Message(4, is_end=True)], [1]),
    ],
    ids=["all are there", "the first is deleted", "the last are deleted"],
)
async def test_what_is_deleted_is_left_out(
    fetcher_of: Open, records: list[Message], found: list[int]
) -> None:
    payloads = await fetcher_of(Topic(records)).payloads(SPOTS)
    assert {spot.offset: value for spot, value in payloads.items()} == {
        number: str(number).encode() for number in found
    }


@pytest.mark.parametrize("answers", [0, 1, 2])
async def test_what_can_not_be_read_now_is_not_taken_for_deleted(fetcher_of: Open, answers: int) -> None:
    """Else a consumer would pass it, and a dead letter be retried without its payload."""
    fetcher = fetcher_of(Topic([Message(1), Message(2), Message(3)], answers))
    with pytest.raises(Unavailable):
        await fetcher.payloads(SPOTS)
    with pytest.raises(Unavailable):
        await fetcher.letters([1, 2, 3])
