"""Runs the machine over the journal on disk and over its twin."""

from hypothesis import HealthCheck, settings

from tests.contract.journal_machine import MemoryMachine, SqliteMachine

TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
