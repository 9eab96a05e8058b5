"""The journal's promises, one suite over both forms."""

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from collector.journal import Consumer, DeadLetters, Journal, Log, PendingTraces, TraceMemory
from collector.model.batch import Draft, FollowUp, Parked, Position, Route, Signal, is_waiting, signal_of
from collector.model.errors import JournalClosed, Unavailable
from collector.settings import JournalSettings
from tests.contract.forms import FORMS, LOGS, Opened, at

MIB = 1024 * 1024
LANE = Route(experiment_id="1").lane
OTHER = Route(experiment_name="öther", run_id="r").lane
T1, T2 = b"1" * 16, b"2" * 16


def draft(payload: bytes = b"x", *, lane: str = LANE, trace_id: bytes = T1, client: str = "") -> Draft:
    return Draft(lane=lane, payload=payload, span_count=1, trace_ids=frozenset({trace_id}), client=client)


def parked(payload: bytes = b"bad", lane: str = LANE) -> Parked:
    return Parked(
        lane=lane,
        payload=payload,
        span_count=2,
        trace_ids=frozenset({T2}),
        reason="poison",
        message="MLflow answered 500",
        received_unix_ns=7,
        client="team",
    )


@pytest.fixture
def settings() -> JournalSettings:
    """A test that needs others overrides this fixture."""
    return JournalSettings(min_free_disk_bytes=0)


@pytest.fixture
def consumers() -> tuple[str, ...]:
    """A test that needs others overrides this fixture."""
    return ("delivery",)


@pytest.fixture
def followers() -> tuple[str, ...]:
    """A test that needs some overrides this fixture."""
    return ()


@pytest.fixture(params=FORMS.values(), ids=FORMS)
async def opened(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    settings: JournalSettings,
    consumers: tuple[str, ...],
    followers: tuple[str, ...],
) -> AsyncIterator[Opened]:
    async with request.param(tmp_path, settings, consumers, followers) as opened:
        yield opened


@pytest.fixture
def journal(opened: Opened) -> Journal:
    return opened.journal


async def read_all(journal: Journal, lane: str = LANE) -> list[bytes]:
    return [entry.payload for entry in await journal.consumer("delivery").read(lane, limit_bytes=MIB)]


async def test_what_was_appended_is_read_in_order(journal: Journal) -> None:
    positions = [await journal.log.append([draft(bytes([n]))]) for n in range(5)]
    entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
    assert [entry.position for entry in entries] == positions
    assert len(set(positions)) == 5
    assert await read_all(journal) == [bytes([n]) for n in range(5)]


async def test_an_append_sets_the_event_that_consumers_wait_for(journal: Journal) -> None:
    appended = journal.consumer("delivery").appended
    assert not appended.is_set()
    await journal.log.append([draft()])
    assert appended.is_set()
    assert not journal.consumer("delivery").appended.is_set(), "the next look waits for the next append"


async def test_what_was_appended_survives_a_crash(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"one")])
    await opened.journal.log.append([draft(b"two", lane=OTHER)])
    after = await opened.crash()
    assert await read_all(after) == [b"one"]
    assert await read_all(after, OTHER) == [b"two"]


async def test_drafts_of_one_append_with_one_route_and_client_become_one_entry(journal: Journal) -> None:
    await journal.log.append([draft(b"a"), draft(b"b", trace_id=T2), draft(b"c", client="team")])
    entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
    assert [(entry.payload, entry.span_count) for entry in entries] == [(b"ab", 2), (b"c", 1)]
    assert entries[0].trace_ids == {T1, T2}


async def test_a_read_stops_at_its_limit_but_returns_at_least_one(journal: Journal) -> None:
    for _ in range(3):
        await journal.log.append([draft(b"x" * 100)])
    assert len(await journal.consumer("delivery").read(LANE, limit_bytes=250)) == 2
    assert len(await journal.consumer("delivery").read(LANE, limit_bytes=1)) == 1


async def test_a_consumer_may_read_on_without_moving_its_cursor(journal: Journal) -> None:
    for payload in (b"a", b"b", b"c"):
        await journal.log.append([draft(payload)])
    await journal.log.append([draft(b"theirs", lane=OTHER)])

    async def read(after: Position | None, limit_bytes: int = MIB) -> list[bytes]:
        entries = await journal.consumer("delivery").read_ahead(LANE, limit_bytes=limit_bytes, after=after)
        return [entry.payload for entry in entries]

    assert [await read(None), await read(at(1)), await read(at(3))] == [[b"a", b"b", b"c"], [b"b", b"c"], []]
    assert await read(at(1), limit_bytes=1) == [b"b"]
    await journal.consumer("delivery").commit(LANE, through=at(2))
    assert await read(None) == [b"c"]


async def test_lanes_with_work_are_listed_oldest_first(journal: Journal) -> None:
    await journal.log.append([draft(lane=OTHER)])
    await journal.log.append([draft()])
    assert [pending.lane for pending in await journal.consumer("delivery").pending()] == [OTHER, LANE]
    await journal.consumer("delivery").commit(OTHER, through=at(1))
    assert [pending.lane for pending in await journal.consumer("delivery").pending()] == [LANE]


async def test_a_commit_passes_its_lane_only(journal: Journal) -> None:
    await journal.log.append([draft(b"mine")])
    last = await journal.log.append([draft(b"theirs", lane=OTHER)])
    await journal.consumer("delivery").commit(LANE, through=last)
    assert await read_all(journal) == []
    assert await read_all(journal, OTHER) == [b"theirs"]


async def test_a_cursor_survives_crash_and_restart(opened: Opened) -> None:
    first = await opened.journal.log.append([draft(b"done")])
    await opened.journal.log.append([draft(b"todo")])
    await opened.journal.consumer("delivery").commit(LANE, through=first)
    assert await read_all(await opened.crash()) == [b"todo"]
    assert await read_all(await opened.restart()) == [b"todo"]


async def test_a_position_is_never_used_again(opened: Opened) -> None:
    newest = await opened.journal.log.append([draft(b"old")])
    await opened.journal.consumer("delivery").commit(LANE, through=newest)
    assert (await opened.journal.consumer("delivery").state()).pending_entries == 0
    after = await opened.restart()
    assert await after.log.append([draft(b"new")]) != newest
    assert await read_all(after) == [b"new"]


async def test_an_unfinished_entry_comes_again(journal: Journal) -> None:
    await journal.log.append([draft(b"again")])
    assert await read_all(journal) == [b"again"]
    assert await read_all(journal) == [b"again"]


async def test_the_first_claim_on_a_trace_holds(opened: Opened) -> None:
    await opened.journal.log.append([draft()])
    claims = {T1: "/1"}
    assert await opened.journal.traces.claim(claims) == {T1: "/1"}
    after = await opened.crash()
    second = await after.traces.claim({T1: "/2", T2: "/2"})
    assert second == {T1: "/1", T2: "/2"}


STRANGER, OWNER = {T1: "stranger"}, {T1: "owner"}


async def test_a_claim_gives_way_to_another_clients_until_something_is_delivered(opened: Opened) -> None:
    journal = opened.journal
    await journal.log.append([draft()])
    assert await journal.traces.claim({T1: "/1"}, clients=STRANGER) == {T1: "/1"}
    after = await opened.crash()
    assert await after.traces.claim({T1: "/2"}, clients=OWNER) == {T1: "/2"}
    await after.consumer("delivery").commit(LANE, through=at(1), delivered={T1: "/1"})
    again = await opened.restart()
    assert await again.traces.claim({T1: "/2"}, clients=OWNER) == {T1: "/1"}
    await again.consumer("delivery").commit(OTHER, through=at(1), delivered={T1: "/2"})
    assert await again.traces.claim({T1: "/2"}, clients=OWNER) == {T1: "/1"}


async def test_a_claim_holds_for_the_client_that_made_it(opened: Opened) -> None:
    await opened.journal.traces.claim({T1: "/1"}, clients=OWNER)
    after = await opened.restart()
    assert await after.traces.claim({T1: "/2"}, clients=OWNER) == {T1: "/1"}


async def test_a_retry_of_what_another_had_first_asks_whose_it_is_anew(opened: Opened) -> None:
    journal = opened.journal
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(OTHER, through=at(1), delivered={T1: "/2"})
    foreign = replace(parked(), reason="foreign_trace", trace_ids=frozenset([T1]))
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[foreign, parked()])
    claim = partial(journal.traces.claim, {T1: "/1"}, clients=OWNER)
    assert await claim() == {T1: "/2"}
    await journal.dead_letters("delivery").retry([2])
    assert await claim() == {T1: "/2"}, "the other letter has nothing to do with it"
    await journal.dead_letters("delivery").retry([1])
    assert await claim() == {T1: "/1"}


async def test_a_delivery_that_a_replay_has_overtaken_settles_nothing(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), first=at(2), delivered={T1: "/1"})
    assert await journal.traces.claim({T1: "/2"}, clients=OWNER) == {T1: "/2"}


async def test_a_note_is_recalled_by_the_consumer_that_left_it(opened: Opened) -> None:
    await opened.journal.log.append([draft(), draft(trace_id=T2)])
    await opened.journal.consumer("delivery").commit(LANE, through=at(1), remember={T1: b"one"})
    after = await opened.crash()
    assert await after.traces.recall("delivery", [T1, T2]) == {T1: b"one"}
    assert await after.traces.recall("other", [T1]) == {}


async def test_a_later_note_takes_the_place_of_an_earlier_one(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), remember={T1: b"one", T2: b"two"})
    await journal.consumer("delivery").commit(LANE, through=at(1), remember={T1: b"three"})
    assert await journal.traces.recall("delivery", [T1, T2]) == {T1: b"three", T2: b"two"}


async def test_crashes_in_processing_are_counted_and_the_suspect_comes_alone(opened: Opened) -> None:
    journal = opened.journal
    for payload in (b"a", b"b", b"c"):
        await journal.log.append([draft(payload)])
    for attempts in (1, 2):
        await journal.consumer("delivery").mark(LANE, through=at(2))
        journal = await opened.crash()
        entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
        assert entries[0].attempts == attempts
    assert [entry.payload for entry in entries] == [b"a"]
    await journal.consumer("delivery").commit(LANE, through=entries[0].position)
    assert await read_all(journal) == [b"b"]
    await journal.consumer("delivery").commit(LANE, through=at(2))
    assert await read_all(journal) == [b"c"]


async def test_a_crash_after_processing_counts_nothing(opened: Opened) -> None:
    await opened.journal.log.append([draft()])
    await opened.journal.consumer("delivery").mark(LANE, through=at(1))
    await opened.journal.consumer("delivery").processed(LANE)
    after = await opened.crash()
    assert (await after.consumer("delivery").read(LANE, limit_bytes=MIB))[0].attempts == 0


async def test_what_is_parked_is_a_dead_letter_with_everything_it_needs(journal: Journal) -> None:
    last = await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=last, parked=[parked()])
    (listed,) = await journal.dead_letters("delivery").list()
    assert (listed.reason, listed.message, listed.span_count) == ("poison", "MLflow answered 500", 2)
    assert (listed.client, listed.received_unix_ns, listed.payload) == ("team", 7, b"")
    shown = await journal.dead_letters("delivery").one(listed.id)
    assert shown is not None
    assert (shown.payload, shown.trace_ids) == (b"bad", {T2})
    assert await journal.dead_letters("delivery").one(999) is None


async def test_dead_letters_are_paged(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked(), parked(), parked()])
    first = await journal.dead_letters("delivery").list(limit=2)
    assert len(first) == 2
    assert len(await journal.dead_letters("delivery").list(limit=2, after=first[-1].id)) == 1


async def test_a_retried_dead_letter_is_an_entry_again(opened: Opened) -> None:
    await opened.journal.log.append([draft()])
    await opened.journal.consumer("delivery").commit(
        LANE, through=at(1), parked=[parked(), parked(b"bad too")]
    )
    (one, _) = await opened.journal.dead_letters("delivery").list()
    assert await opened.journal.dead_letters("delivery").retry([one.id, 999]) == 1
    assert await read_all(opened.journal) == [b"bad"]
    assert await opened.journal.dead_letters("delivery").retry(None) == 1
    after = await opened.crash()
    assert await read_all(after) == [b"bad", b"bad too"]
    assert await after.dead_letters("delivery").list() == []


async def test_a_dropped_dead_letter_is_gone(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    (letter,) = await journal.dead_letters("delivery").list()
    assert await journal.dead_letters("delivery").drop([letter.id]) == 1
    assert await journal.dead_letters("delivery").drop([letter.id]) == 0
    assert await journal.dead_letters("delivery").list() == []


async def test_the_state_counts_what_waits(journal: Journal) -> None:
    empty = await journal.consumer("delivery").state()
    assert (empty.pending_spans, empty.oldest_received_unix_ns, empty.dead_letters) == (0, None, 0)
    await journal.log.append([draft(b"a"), draft(b"b", lane=OTHER)])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    state = await journal.consumer("delivery").state()
    assert (state.pending_entries, state.pending_spans) == (1, 1)
    assert (state.dead_letters, state.dead_letter_spans) == (1, 2)
    assert state.oldest_received_unix_ns is not None


async def test_a_trace_is_found_in_entries_and_dead_letters(journal: Journal) -> None:
    await journal.log.append([draft(b"entry", trace_id=T2), draft(b"other", lane=OTHER)])
    await journal.consumer("delivery").commit(OTHER, through=at(2), parked=[parked(lane=OTHER)])
    assert await journal.pending_traces.payloads(T2) == [b"bad", b"entry"]
    assert await journal.pending_traces.routes(T2) == [Route.from_lane(OTHER), Route.from_lane(LANE)]
    assert await journal.pending_traces.payloads(b"9" * 16) == []
    assert await journal.pending_traces.routes(b"9" * 16) == []
    # ids stand side by side: the end of one and the beginning of the next are no third
    assert await journal.pending_traces.payloads(T1[8:] + T2[:8]) == []


class TestRetention:
    @pytest.fixture
    def settings(self) -> JournalSettings:
        return JournalSettings(min_free_disk_bytes=0, retention_seconds=600)

    async def test_retained_entries_are_replayed(self, journal: Journal) -> None:
        await journal.log.append([draft(b"kept")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert await read_all(journal) == []
        assert await journal.sweep() == 0
        assert await journal.consumer("delivery").replay(since_unix_ns=2**62) == 0
        assert await journal.consumer("delivery").replay(since_unix_ns=0) == 1
        assert await read_all(journal) == [b"kept"]

    async def test_a_replay_begins_with_the_first_entry_received_since_then(self, journal: Journal) -> None:
        await journal.log.append([draft(b"old")])
        since = time.time_ns()
        await journal.log.append([draft(b"new")])
        await journal.log.append([draft(b"theirs", lane=OTHER)])
        await journal.consumer("delivery").commit(LANE, through=at(2))
        appended = journal.consumer("delivery").appended
        assert await journal.consumer("delivery").replay(since_unix_ns=since) == 1
        assert appended.is_set(), "a consumer must wake up"
        assert await read_all(journal) == [b"new"]
        assert await read_all(journal, OTHER) == [b"theirs"], "what waits anyway is no replay"

    async def test_a_window_in_flight_does_not_swallow_a_replay(self, journal: Journal) -> None:
        await journal.log.append([draft(b"done")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        await journal.log.append([draft(b"in flight")])
        await journal.consumer("delivery").mark(LANE, through=at(2))
        await journal.consumer("delivery").replay(since_unix_ns=0)
        await journal.consumer("delivery").commit(LANE, first=at(2), through=at(2), parked=[parked()])
        assert await read_all(journal) == [b"done", b"in flight"]
        assert await journal.dead_letters("delivery").list() == [], "they come again, and are parked then"
        await journal.consumer("delivery").commit(LANE, first=at(1), through=at(2), parked=[parked()])
        assert await read_all(journal) == []
        assert len(await journal.dead_letters("delivery").list()) == 1

    async def test_a_commit_that_a_replay_has_overtaken_leaves_no_note(self, journal: Journal) -> None:
        await journal.log.append([draft()])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        await journal.log.append([draft()])
        await journal.consumer("delivery").replay(since_unix_ns=0)
        await journal.consumer("delivery").commit(LANE, through=at(2), first=at(2), remember={T1: b"early"})
        assert await journal.traces.recall("delivery", [T1]) == {}

    async def test_after_its_retention_a_delivered_entry_goes_and_a_waiting_one_stays(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await journal.log.append([draft(b"done")])
        await journal.log.append([draft(b"waits")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        later = time.time_ns() + 601 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: later)
        assert await journal.sweep() == 1
        assert await journal.sweep() == 0
        assert await journal.consumer("delivery").replay(since_unix_ns=0) == 0
        assert await read_all(journal) == [b"waits"]

    async def test_a_commit_never_moves_a_cursor_back(self, journal: Journal) -> None:
        for _ in range(3):
            await journal.log.append([draft()])
        await journal.consumer("delivery").commit(LANE, through=at(2))
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert [
            entry.position for entry in await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
        ] == [at(3)]

    async def test_a_suspect_doesnt_come_behind_others_either(self, opened: Opened) -> None:
        journal = opened.journal
        await journal.log.append([draft(b"before")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        await journal.log.append([draft(b"suspect")])
        for _ in range(2):
            await journal.consumer("delivery").mark(LANE, through=at(2))
            journal = await opened.crash()
        await journal.consumer("delivery").replay(since_unix_ns=0)
        assert await read_all(journal) == [b"before"]
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert await read_all(journal) == [b"suspect"]


class TestTwoConsumers:
    @pytest.fixture
    def consumers(self) -> tuple[str, ...]:
        return ("delivery", "index")

    async def test_each_has_its_own_cursor(self, journal: Journal) -> None:
        await journal.log.append([draft(b"a")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert await journal.consumer("delivery").pending() == []
        assert [pending.lane for pending in await journal.consumer("index").pending()] == [LANE]
        assert len(await journal.consumer("index").read(LANE, limit_bytes=1)) == 1
        assert (await journal.consumer("index").state()).pending_entries == 1

    async def test_an_entry_stays_until_the_last_has_passed_it(self, journal: Journal) -> None:
        await journal.log.append([draft(b"a")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert await journal.pending_traces.payloads(T1) == [b"a"]
        await journal.consumer("index").commit(LANE, through=at(1))
        assert await journal.pending_traces.payloads(T1) == []

    async def test_a_replay_for_one_leaves_the_other_alone(self, journal: Journal) -> None:
        await journal.log.append([draft(b"a")])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        assert await journal.consumer("delivery").replay(since_unix_ns=0) == 1
        assert await journal.consumer("index").replay(since_unix_ns=0) == 0

    async def test_one_that_reads_behind_another_sees_what_that_has_passed(self, opened: Opened) -> None:
        journal = opened.journal
        for payload in (b"a", b"b", b"c"):
            await journal.log.append([draft(payload)])
        await journal.log.append([draft(b"theirs", lane=OTHER)])

        async def seen(journal: Journal, lane: str = LANE) -> list[bytes]:
            entries = await journal.consumer("delivery").read(lane, limit_bytes=MIB, behind="index")
            return [entry.payload for entry in entries]

        assert await seen(journal) == []
        assert await journal.consumer("delivery").pending(behind="index") == []
        await journal.consumer("index").commit(LANE, through=at(2))
        assert await seen(journal) == [b"a", b"b"]
        assert [lane.lane for lane in await journal.consumer("delivery").pending(behind="index")] == [LANE]
        await journal.consumer("delivery").commit(LANE, through=at(2))
        after = await opened.crash()
        assert await seen(after) == []
        assert await after.consumer("delivery").pending(behind="index") == []
        await after.consumer("index").commit(OTHER, through=at(4))
        assert await seen(after, OTHER) == [b"theirs"]

    async def test_what_the_other_has_passed_first_is_read_once(self, journal: Journal) -> None:
        for payload in (b"a", b"b"):
            await journal.log.append([draft(payload)])
        await journal.consumer("delivery").commit(LANE, through=at(1))
        await journal.consumer("index").commit(LANE, through=at(2))
        entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB, behind="index")
        assert [entry.payload for entry in entries] == [b"b"]

    async def test_a_commit_wakes_those_that_read_behind(self, journal: Journal) -> None:
        await journal.log.append([draft()])
        appended = journal.consumer("delivery").appended
        await journal.consumer("index").commit(LANE, through=at(1))
        assert appended.is_set()

    async def test_a_crash_counts_for_the_consumer_that_was_at_work(self, opened: Opened) -> None:
        await opened.journal.log.append([draft(b"a"), draft(b"b", lane=OTHER)])
        await opened.journal.consumer("delivery").mark(LANE, through=at(2))
        await opened.journal.consumer("index").mark(OTHER, through=at(2))
        after = await opened.crash()

        async def attempts(consumer: str) -> list[int]:
            reads = [await after.consumer(consumer).read(lane, limit_bytes=MIB) for lane in (LANE, OTHER)]
            return [entry.attempts for entries in reads for entry in entries]

        assert [await attempts("delivery"), await attempts("index")] == [[1, 0], [0, 1]]

    async def test_crashes_of_one_never_isolate_anothers_copy(self, opened: Opened) -> None:
        journal = opened.journal
        for payload in (b"a", b"b"):
            await journal.log.append([draft(payload)])
        for _ in range(3):
            await journal.consumer("index").mark(LANE, through=at(2))
            journal = await opened.crash()
        assert len(await journal.consumer("index").read(LANE, limit_bytes=MIB)) == 1
        entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
        assert [(entry.payload, entry.attempts) for entry in entries] == [(b"a", 0), (b"b", 0)]

    async def test_a_dead_letter_is_shown_to_its_consumer_alone(self, journal: Journal) -> None:
        await journal.log.append([draft()])
        await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
        (letter,) = await journal.dead_letters("delivery").list()
        assert letter.consumer == "delivery"
        theirs = journal.dead_letters("index")
        assert [await theirs.list(), await theirs.one(letter.id)] == [[], None]
        assert [await theirs.retry(None), await theirs.retry([letter.id])] == [0, 0]
        assert await theirs.drop([letter.id]) == 0
        assert (await journal.consumer("index").state()).dead_letters == 0
        assert (await journal.consumer("delivery").state()).dead_letters == 1

    async def test_a_retry_goes_to_the_consumer_that_was_refused_and_to_no_other(
        self, opened: Opened
    ) -> None:
        journal = opened.journal
        await journal.log.append([draft(b"a")])
        for consumer in ("index", "delivery"):
            letters = [parked()] if consumer == "delivery" else []
            await journal.consumer(consumer).commit(LANE, through=at(1), parked=letters)
        await journal.dead_letters("delivery").retry(None)
        await journal.log.append([draft(b"b")])
        after = await opened.crash()
        index, delivery = after.consumer("index"), after.consumer("delivery")
        assert [entry.payload for entry in await index.read(LANE, limit_bytes=MIB)] == [b"b"]
        assert [lane.first for lane in await index.pending()] == [at(3)]
        assert (await index.state()).pending_entries == 1
        assert await read_all(after) == [b"bad", b"b"]
        assert [lane.first for lane in await delivery.pending()] == [at(2)]
        assert (await delivery.state()).pending_entries == 2

    async def test_a_retried_entry_waits_for_its_consumer_only(self, journal: Journal) -> None:
        await journal.log.append([draft(b"a")])
        await journal.consumer("index").commit(LANE, through=at(1))
        await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
        await journal.dead_letters("delivery").retry(None)
        assert await journal.sweep() == 0
        assert await journal.consumer("index").replay(since_unix_ns=0) == 0
        assert await read_all(journal) == [b"bad"]
        await journal.consumer("delivery").commit(LANE, through=at(2))
        assert await journal.pending_traces.payloads(T2) == []

    async def test_a_retried_entry_is_read_behind_another_that_never_sees_it(self, journal: Journal) -> None:
        await journal.log.append([draft(b"a")])
        await journal.consumer("index").commit(LANE, through=at(1))
        delivery = journal.consumer("delivery")
        await delivery.commit(LANE, through=at(1), parked=[parked()])
        await journal.dead_letters("delivery").retry(None)
        await journal.log.append([draft(b"later")])

        async def seen() -> list[bytes]:
            return [e.payload for e in await delivery.read(LANE, limit_bytes=MIB, behind="index")]

        assert await seen() == [b"bad"]
        assert [lane.first for lane in await delivery.pending(behind="index")] == [at(2)]
        await journal.consumer("index").commit(LANE, through=at(3))
        assert await seen() == [b"bad", b"later"]

    async def test_a_retried_entry_doesnt_overtake_what_the_other_hasnt_passed(
        self, journal: Journal
    ) -> None:
        await journal.log.append([draft(b"a", lane=OTHER)])
        delivery = journal.consumer("delivery")
        await delivery.commit(OTHER, through=at(1), parked=[parked()])
        await journal.log.append([draft(b"waits")])
        await journal.dead_letters("delivery").retry(None)
        assert await delivery.read(LANE, limit_bytes=MIB, behind="index") == []
        assert await delivery.pending(behind="index") == []
        await journal.consumer("index").commit(LANE, through=at(2))
        entries = await delivery.read(LANE, limit_bytes=MIB, behind="index")
        assert [entry.payload for entry in entries] == [b"waits", b"bad"]


class TestFollowers:
    @pytest.fixture
    def settings(self) -> JournalSettings:
        return JournalSettings(min_free_disk_bytes=0, max_bytes=4 * MIB)

    @pytest.fixture
    def followers(self) -> tuple[str, ...]:
        return ("index",)

    async def test_entries_wait_for_a_follower_only_while_the_journal_is_less_than_half_full(
        self, journal: Journal
    ) -> None:
        last = await journal.log.append([draft(b"first")])
        await journal.consumer("delivery").commit(LANE, through=last)
        assert await journal.sweep() == 0
        assert [lane.lane for lane in await journal.consumer("index").pending()] == [LANE]
        for _ in range(40):
            last = await journal.log.append([draft(os.urandom(60_000))])
        await journal.consumer("delivery").commit(LANE, through=last)
        await journal.sweep()
        assert await journal.consumer("index").pending() == []


async def test_beginning_moves_no_cursor(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"a")])
    await opened.journal.consumer("delivery").mark(LANE, through=at(1))
    assert await read_all(opened.journal) == [b"a"]
    assert await read_all(await opened.crash()) == [b"a"]


async def test_a_commit_takes_the_mark_off(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"a")])
    await opened.journal.log.append([draft(b"b")])
    await opened.journal.consumer("delivery").mark(LANE, through=at(2))
    await opened.journal.consumer("delivery").commit(LANE, through=at(1))
    after = await opened.crash()
    assert [entry.attempts for entry in await after.consumer("delivery").read(LANE, limit_bytes=MIB)] == [0]


async def test_a_large_draft_stays_an_entry_of_its_own(journal: Journal) -> None:
    large = b"x" * (MIB - 10)
    await journal.log.append([draft(b"a" * 20), draft(large), draft(b"b" * 20)])
    assert [len(payload) for payload in await read_all(journal)] == [20]
    entries = await journal.consumer("delivery").read(LANE, limit_bytes=2**30)
    assert [len(entry.payload) for entry in entries] == [20, MIB - 10, 20]


async def test_an_append_of_several_lanes_is_stored_together_and_survives_together(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"a"), draft(b"b", lane=OTHER), draft(b"c")])
    after = await opened.crash()
    assert (await read_all(after), await read_all(after, OTHER)) == ([b"ac"], [b"b"])


async def test_concurrent_appends_keep_the_order_of_each_sender(journal: Journal) -> None:
    async def send(client: str) -> None:
        for number in range(20):
            await journal.log.append([draft(bytes([number]), client=client)])

    await asyncio.gather(*(send(f"client {n}") for n in range(10)))
    seen: dict[str, bytes] = {}
    for entry in await journal.consumer("delivery").read(LANE, limit_bytes=2**30):
        seen[entry.client] = seen.get(entry.client, b"") + entry.payload
    assert seen == {f"client {n}": bytes(range(20)) for n in range(10)}


async def test_retrying_nothing_retries_nothing(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    assert await journal.dead_letters("delivery").retry([]) == 0
    assert await journal.dead_letters("delivery").drop([]) == 0
    (letter,) = await journal.dead_letters("delivery").list()
    assert await journal.dead_letters("delivery").retry([letter.id, letter.id]) == 1


async def test_a_retried_dead_letter_keeps_its_lane_client_and_time_and_starts_afresh(
    journal: Journal,
) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked(lane=OTHER)])
    await journal.dead_letters("delivery").retry(None)
    (entry,) = await journal.consumer("delivery").read(OTHER, limit_bytes=MIB)
    assert (entry.client, entry.received_unix_ns, entry.span_count) == ("team", 7, 2)
    assert (entry.trace_ids, entry.attempts) == ({T2}, 0)
    assert entry.position != at(1)


async def test_the_id_of_a_dead_letter_is_never_used_again(opened: Opened) -> None:
    await opened.journal.log.append([draft()])
    await opened.journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    (letter,) = await opened.journal.dead_letters("delivery").list()
    await opened.journal.dead_letters("delivery").drop([letter.id])
    after = await opened.restart()
    await after.log.append([draft()])
    await after.consumer("delivery").commit(LANE, through=at(2), parked=[parked()])
    assert (await after.dead_letters("delivery").list())[0].id > letter.id


async def test_a_lane_that_was_swept_away_comes_back(opened: Opened) -> None:
    await opened.journal.log.append([draft(b"first")])
    await opened.journal.consumer("delivery").commit(LANE, through=at(1))
    await opened.journal.sweep()
    after = await opened.restart()
    await after.log.append([draft(b"second")])
    assert await read_all(after) == [b"second"]


async def test_delivered_entries_are_deleted_without_retention(journal: Journal) -> None:
    await journal.log.append([draft()])
    await journal.consumer("delivery").commit(LANE, through=at(1))
    assert await journal.consumer("delivery").replay(since_unix_ns=0) == 0
    assert await journal.pending_traces.payloads(T1) == []


class TestSizeBound:
    @pytest.fixture
    def settings(self) -> JournalSettings:
        return JournalSettings(min_free_disk_bytes=0, max_bytes=MIB)

    async def test_at_its_bound_it_refuses_and_drops_nothing(self, journal: Journal) -> None:
        taken = 0
        with pytest.raises(Unavailable) as raised:
            for _ in range(50):
                await journal.log.append([draft(os.urandom(100_000))])
                taken += 1
        assert raised.value.reason == "journal_full"
        assert journal.log.refusing
        assert (await journal.consumer("delivery").state()).pending_entries == taken
        await journal.consumer("delivery").commit(LANE, through=at(taken))
        await journal.log.append([draft(b"again")])
        assert journal.log.refusing is None


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
