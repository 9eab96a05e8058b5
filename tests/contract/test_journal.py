"""Every role of a journal ends with it. The other files here hold what each role promises, over all forms."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from collector.journal import Consumer, DeadLetters, Journal, Log, PendingTraces, TraceMemory
from collector.model.errors import JournalClosed
from tests.contract.entries import LANE, T1, draft
from tests.contract.forms import Opened, at

ROLES: dict[type, Callable[[Journal], object]] = {
    Log: lambda journal: journal.log,
    Consumer: lambda journal: journal.consumer("delivery"),
    TraceMemory: lambda journal: journal.traces,
    DeadLetters: lambda journal: journal.dead_letters("delivery"),
    PendingTraces: lambda journal: journal.pending_traces,
    Journal: lambda journal: journal,
}


VERBS: dict[str, tuple[type, Callable[[Any], Awaitable[object]]]] = {
    "append": (Log, lambda log: log.append([draft()])),
    "pending": (Consumer, lambda consumer: consumer.pending()),
    "read": (Consumer, lambda consumer: consumer.read(LANE, limit_bytes=1)),
    "read_ahead": (Consumer, lambda consumer: consumer.read_ahead(LANE, limit_bytes=1, after=None)),
    "awaiting": (Consumer, lambda consumer: consumer.awaiting(frozenset({T1}))),
    "mark": (Consumer, lambda consumer: consumer.mark(LANE, through=at(1))),
    "processed": (Consumer, lambda consumer: consumer.processed(LANE)),
    "commit": (Consumer, lambda consumer: consumer.commit(LANE, through=at(1))),
    "state": (Consumer, lambda consumer: consumer.state()),
    "replay": (Consumer, lambda consumer: consumer.replay(since_unix_ns=0)),
    "claim": (TraceMemory, lambda traces: traces.claim({T1: "/1"})),
    "recall": (TraceMemory, lambda traces: traces.recall("delivery", [T1])),
    "list": (DeadLetters, lambda letters: letters.list()),
    "one": (DeadLetters, lambda letters: letters.one(1)),
    "retry": (DeadLetters, lambda letters: letters.retry(None)),
    "drop": (DeadLetters, lambda letters: letters.drop([1])),
    "payloads": (PendingTraces, lambda traces: traces.payloads(T1)),
    "routes": (PendingTraces, lambda traces: traces.routes(T1)),
    "subscribe": (Journal, lambda journal: journal.subscribe(["forward:tee"])),
    "sweep": (Journal, lambda journal: journal.sweep()),
}


def test_the_table_of_verbs_is_whole() -> None:
    declared = {
        (role, name)
        for role in ROLES
        for name, member in vars(role).items()
        if inspect.iscoroutinefunction(member)
    }
    assert {(role, name) for name, (role, _) in VERBS.items()} == declared


@pytest.mark.parametrize(("role", "verb"), VERBS.values(), ids=VERBS)
async def test_use_after_close_is_one_named_error(
    opened: Opened, role: type, verb: Callable[[Any], Awaitable[object]]
) -> None:
    of_role = ROLES[role](opened.journal)
    await opened.close()
    await opened.close()
    with pytest.raises(JournalClosed):
        await verb(of_role)
