"""Runs the machine over the journal on disk, over its twin, and over the one on Kafka."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.journal_machine import KafkaMachine, MemoryMachine, SqliteMachine
from tests.support.kafka_brokers import Brokers

TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.scale
@pytest.mark.timeout(600)
def test_the_machine_on_kafka(one_broker: Brokers) -> None:
    KafkaMachine.hosts = one_broker.hosts
    few = settings(
        max_examples=4,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # the same few each time: so few of many would find something new once in a while
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(KafkaMachine, settings=few)
