"""Calls of the brokers that fail because somebody else leads a partition now."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from collector.journal.kafka.client import AdminCalls, KafkaConnection
from collector.journal.kafka.lag import LagBound
from collector.journal.kafka.owned import GroupMembers
from collector.journal.kafka.records import Kind
from collector.settings.engines import LOG_ENGINES, EnginePlace, KafkaSettings, read_engine_url


@dataclass
class Clients:
    """Makes clients that fail once the leader has moved: each knows the leader of the time it was made."""

    leader: int = 1
    is_away: bool = False
    code: int = KafkaError.FENCED_LEADER_EPOCH
    made: list["Client"] = field(default_factory=list)

    def admin(self) -> "Client":
        self.made.append(Client(self, self.leader))
        return self.made[-1]

    def calls(self) -> AdminCalls:
        return AdminCalls(cast(KafkaConnection, self))


@dataclass
class Client:
    clients: Clients
    leader: int

    def ends(self) -> int:
        if self.clients.is_away or self.leader != self.clients.leader:
            raise KafkaException(KafkaError(self.clients.code))
        return self.leader


ends: Callable[[Any], int] = Client.ends

MOVED = {
    "an older epoch": KafkaError.FENCED_LEADER_EPOCH,
    "a newer epoch": KafkaError.UNKNOWN_LEADER_EPOCH,
    "another leader": KafkaError.NOT_LEADER_FOR_PARTITION,
    "a leader that is gone": KafkaError._TIMED_OUT,
    "a lost connection": KafkaError._TRANSPORT,
}


@pytest.mark.parametrize("code", MOVED.values(), ids=MOVED.keys())
def test_a_leader_that_moved_costs_no_call(code: int) -> None:
    clients = Clients(code=code)
    calls = clients.calls()
    assert [calls.ask(ends), calls.ask(ends)] == [1, 1]
    clients.leader = 2
    assert [calls.ask(ends), calls.ask(ends)] == [2, 2]
    assert len(clients.made) == 2, "a client that answers is kept"


def test_brokers_that_are_away_are_asked_by_a_new_client_each_time() -> None:
    clients = Clients()
    calls = clients.calls()
    calls.ask(ends)
    clients.is_away = True
    for _ in range(3):
        with pytest.raises(KafkaException):
            calls.ask(ends)
    clients.is_away, clients.leader = False, 3
    assert calls.ask(ends) == 3
    assert len(clients.made) == 5


@dataclass
class Askers:
    """Consumers that ask where a group is. The first knows a coordinator that has moved."""

    settings: KafkaSettings = field(default_factory=lambda: KafkaSettings(partitions=1))
    place: EnginePlace = field(default_factory=lambda: read_engine_url("kafka://b1/log", LOG_ENGINES))
    moved: int = 1
    made: int = 0

    def asker(self, _: str) -> "Asker":
        self.made += 1
        return Asker(is_moved=self.made <= self.moved)

    def admin(self) -> "Ends":
        return Ends()


@dataclass
class Asker:
    is_moved: bool

    def committed(self, spots: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.is_moved:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return [TopicPartition(spot.topic, spot.partition, 3) for spot in spots]

    def close(self) -> None:
        pass


class Ends:
    def list_offsets(self, asked: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Any]:
        futures: dict[TopicPartition, Any] = {}
        for spot in asked:
            futures[spot] = Future[Any]()
            futures[spot].set_result(TopicPartition(spot.topic, spot.partition, 5))
        return futures


@pytest.mark.parametrize(("moved", "at"), [(0, 3), (1, 3), (2, None)])
def test_a_coordinator_that_moved_costs_no_call(moved: int, at: int | None) -> None:
    group = GroupMembers(name="deliver", spans=("delivery",))
    bound = LagBound(cast(KafkaConnection, Askers(moved=moved)), [group], ())
    if at is None:
        with pytest.raises(KafkaException):
            bound.ask()
    else:
        assert bound.ask().groups["deliver"][0, Kind.SPANS] == at
    bound.close()
