"""Each form of the log: entries of one signal are seen by the consumers of that signal alone."""

from dataclasses import replace

import pytest

from collector.journal import Journal
from collector.model.batch import FollowUp, Route, Signal, is_waiting, signal_of
from tests.contract.entries import LANE, MIB, T1, T2, draft, parked, read_all
from tests.contract.forms import LOGS, Opened, at

LOG_LANE = Route(experiment_id="1").lane_of(Signal.LOGS)
WAITING_LANE = Route(experiment_id="1").lane_of(Signal.LOGS, waiting=True)


def test_a_lane_says_what_its_entries_hold() -> None:
    odd = Route(experiment_name="x", workspace="logs").lane
    assert [signal_of(lane) for lane in (LANE, odd, LOG_LANE, WAITING_LANE)] == [
        *(Signal.TRACES, Signal.TRACES),
        *(Signal.LOGS, Signal.LOGS),
    ]
    assert [is_waiting(lane) for lane in (odd, LOG_LANE, WAITING_LANE)] == [False, False, True]
    assert Route.from_lane(WAITING_LANE) == Route.from_lane(LANE)


async def test_a_consumer_sees_the_entries_of_its_signal_only(journal: Journal) -> None:
    await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
    delivery, logs = journal.consumer("delivery"), journal.consumer(LOGS)
    assert [each.lane for each in await delivery.pending()] == [LANE]
    assert [each.lane for each in await logs.pending()] == [LOG_LANE]
    assert [(await each.state()).pending_entries for each in (delivery, logs)] == [1, 1]


class TestWithAFollower:
    @pytest.fixture
    def followers(self) -> tuple[str, ...]:
        return ("index",)

    async def test_it_sees_both_signals_and_an_entry_of_either_waits_for_it(self, journal: Journal) -> None:
        await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
        index, logs = journal.consumer("index"), journal.consumer(LOGS)
        assert [each.lane for each in await index.pending()] == [LANE, LOG_LANE]
        await journal.consumer("delivery").commit(LANE, through=at(1))
        await logs.commit(LOG_LANE, through=at(2))
        assert (await index.state()).pending_entries == 2
        await index.commit(LOG_LANE, through=at(2))
        assert await logs.replay(since_unix_ns=0) == 0, "it is deleted"
        assert [each.lane for each in await index.pending()] == [LANE]


async def test_an_entry_waits_for_the_consumers_of_its_signal_only(journal: Journal) -> None:
    await journal.log.append([draft(b"spans"), draft(b"logs", lane=LOG_LANE)])
    await journal.consumer("delivery").commit(LANE, through=at(1))
    assert await journal.consumer("delivery").replay(since_unix_ns=0) == 0, "it is deleted"
    logs = journal.consumer(LOGS)
    assert [entry.payload for entry in await logs.read(LOG_LANE, limit_bytes=MIB)] == [b"logs"]
    await logs.commit(LOG_LANE, through=at(2))
    assert await logs.replay(since_unix_ns=0) == 0


async def test_a_look_at_a_trace_finds_spans_and_no_log_records(journal: Journal) -> None:
    logs = journal.consumer(LOGS)
    await journal.log.append([draft(b"a span"), draft(b"a record", lane=LOG_LANE)])
    await journal.log.append([draft(b"a letter", lane=LOG_LANE)])
    letter = replace(parked(lane=LOG_LANE), trace_ids=frozenset({T1}))
    await logs.commit(LOG_LANE, through=at(2), parked=[letter])
    assert await journal.pending_traces.payloads(T1) == [b"a span"]
    assert await journal.pending_traces.routes(T1) == [Route.from_lane(LANE)]
    assert await journal.pending_traces.payloads(T2) == []


async def test_a_commit_appends_what_follows_for_one_consumer_alone(opened: Opened) -> None:
    journal = opened.journal
    await journal.log.append([draft(b"record", lane=LOG_LANE)])
    again = FollowUp(consumer=LOGS, draft=draft(b"waits", lane=WAITING_LANE), received_unix_ns=7)
    spans = FollowUp(consumer="delivery", draft=draft(b"joined"), received_unix_ns=8)
    await journal.consumer(LOGS).commit(LOG_LANE, through=at(1), follow_ups=[again, spans])
    after = await opened.crash()
    (waiting,) = await after.consumer(LOGS).read(WAITING_LANE, limit_bytes=MIB)
    assert (waiting.payload, waiting.received_unix_ns) == (b"waits", 7)
    assert await read_all(after) == [b"joined"]
    assert await after.consumer("other").pending() == []


async def test_a_commit_that_does_not_hold_appends_nothing(journal: Journal) -> None:
    for payload in (b"a", b"b"):
        await journal.log.append([draft(payload, lane=LOG_LANE)])
    logs = journal.consumer(LOGS)
    again = FollowUp(consumer=LOGS, draft=draft(b"waits", lane=WAITING_LANE), received_unix_ns=7)
    await logs.commit(LOG_LANE, through=at(2), first=at(2), follow_ups=[again])
    assert [each.lane for each in await logs.pending()] == [LOG_LANE]


async def test_a_dead_letter_of_a_log_goes_back_to_its_consumer(journal: Journal) -> None:
    await journal.log.append([draft(b"record", lane=LOG_LANE)])
    await journal.consumer(LOGS).commit(LOG_LANE, through=at(1), parked=[parked(b"bad", LOG_LANE)])
    assert await journal.dead_letters("delivery").list() == []
    assert await journal.dead_letters(LOGS).retry(None) == 1
    (entry,) = await journal.consumer(LOGS).read(LOG_LANE, limit_bytes=MIB)
    assert entry.payload == b"bad"
