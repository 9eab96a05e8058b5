"""Consumers that come and go with the settings: where they begin, and what is left when they are gone."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from collector.journal import Journal, Subscriptions
from collector.model.batch import FollowUp, Route, Signal
from tests.contract.entries import LANE, MIB, OTHER, T1, draft, parked, read_all
from tests.contract.forms import LOGS, Opened, at

TEE = "forward:tee"
LOG_LANE = Route(experiment_id="1").lane_of(Signal.LOGS)


@pytest.fixture
def consumers() -> tuple[str, ...]:
    return ("delivery", TEE)


@pytest.fixture
def log_consumers() -> tuple[str, ...]:
    return (LOGS, TEE)


@pytest.fixture(autouse=True)
def _can_subscribe(opened: Opened) -> None:
    if not opened.subscribes:
        pytest.skip("settings refuse other backends where the log is on Kafka")


def changed(*begun: str, **ended: int) -> Subscriptions:
    return Subscriptions(begun=frozenset(begun), ended=ended)


async def payloads(journal: Journal, lane: str = LANE) -> list[bytes]:
    return [entry.payload for entry in await journal.consumer(TEE).read(lane, limit_bytes=MIB)]


async def test_a_new_consumer_starts_at_the_present(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"before"), draft(b"before", lane=LOG_LANE)])
    assert await opened.journal.subscribe([TEE]) == changed(TEE)
    assert await opened.journal.consumer(TEE).pending() == []
    await opened.journal.log.append([draft(b"after"), draft(b"new lane", lane=OTHER)])
    after = await opened.crash()
    assert await after.subscribe([TEE]) == changed()
    assert (await payloads(after), await payloads(after, OTHER)) == ([b"after"], [b"new lane"])
    assert await read_all(after) == [b"before", b"after"]


async def test_a_consumer_that_is_subscribed_before_the_first_entry_gets_it(journal: Journal) -> None:
    await journal.subscribe([TEE])
    await journal.log.append([draft(b"first")])
    assert await payloads(journal) == [b"first"]


async def test_a_replay_brings_what_was_there_before_if_it_still_is(journal: Journal) -> None:
    await journal.log.append([draft(b"before")])
    await journal.subscribe([TEE])
    assert await journal.consumer(TEE).replay(since_unix_ns=0) == 1
    assert await payloads(journal) == [b"before"]


async def test_one_consumer_may_read_both_signals(journal: Journal) -> None:
    await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
    tee = journal.consumer(TEE)
    assert {each.lane for each in await tee.pending()} == {LANE, LOG_LANE}
    assert (await tee.state()).pending_entries == 2
    assert await tee.awaiting(frozenset({T1})) == {T1}


async def test_an_entry_of_either_signal_waits_for_it(journal: Journal) -> None:
    await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
    await journal.consumer("delivery").commit(LANE, through=at(1))
    await journal.consumer(LOGS).commit(LOG_LANE, through=at(2))
    assert (await payloads(journal), await payloads(journal, LOG_LANE)) == ([b"spans"], [b"logs"])
    await journal.consumer(TEE).commit(LANE, through=at(1))
    await journal.consumer(TEE).commit(LOG_LANE, through=at(2))
    assert await journal.consumer(TEE).replay(since_unix_ns=0) == 0, "both are deleted"


async def test_behind_a_consumer_of_spans_log_records_wait_for_nobody(journal: Journal) -> None:
    await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
    tee = journal.consumer(TEE)
    assert [each.lane for each in await tee.pending(behind="delivery")] == [LOG_LANE]
    assert await tee.read(LANE, limit_bytes=MIB, behind="delivery") == []
    (entry,) = await tee.read(LOG_LANE, limit_bytes=MIB, behind="delivery")
    assert entry.payload == b"logs"
    await journal.consumer("delivery").commit(LANE, through=at(1))
    assert len(await tee.pending(behind="delivery")) == 2


async def test_one_that_is_gone_leaves_nothing_and_comes_back_as_a_new_one(opened: Opened) -> None:
    journal = opened.journal
    await journal.subscribe([TEE, "forward:other"])
    await journal.log.append([draft(b"one")])
    own = FollowUp(consumer=TEE, draft=draft(b"own"), received_unix_ns=1)
    notes: Mapping[bytes, bytes] = {T1: b"note"}
    tee = journal.consumer(TEE)
    await tee.commit(LANE, through=at(1), parked=[parked(), parked()], remember=notes, follow_ups=[own])
    await tee.mark(LANE, through=at(2))
    after = await opened.crash()
    assert await after.subscribe(["forward:other"]) == changed(**{TEE: 2})
    assert await after.dead_letters(TEE).list() == []
    assert await after.traces.recall(TEE, [T1]) == {}
    assert await after.subscribe([TEE, "forward:other"]) == changed(TEE)
    assert await after.consumer(TEE).pending() == []
    assert await read_all(after) == [b"one"], "the others have lost nothing"


async def test_a_look_at_a_trace_leaves_out_what_is_there_for_it_alone(journal: Journal) -> None:
    await journal.subscribe([TEE])
    await journal.log.append([draft(b"one")])
    letter = replace(parked(b"one"), trace_ids=frozenset({T1}))
    own = FollowUp(consumer=TEE, draft=draft(b"own"), received_unix_ns=1)
    await journal.consumer(TEE).commit(LANE, through=at(1), parked=[letter], follow_ups=[own])
    assert await journal.pending_traces.payloads(T1) == [b"one"]
    assert len(await journal.pending_traces.routes(T1)) == 1


async def test_the_consumers_that_are_always_there_come_and_go_with_nobody(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"one")])
    await opened.journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    after = await opened.restart()
    assert await after.subscribe([]) == changed()
    assert len(await after.dead_letters("delivery").list()) == 1
