"""Calls of the brokers that fail because somebody else leads a partition now."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from collector.journal.kafka.client import AdminCalls, KafkaConnection


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
