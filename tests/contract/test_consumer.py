"""What a consumer is promised: windows, cursors, attempts, and what is kept for a replay."""

import time

import pytest

from collector.journal import Journal
from collector.model.batch import Position
from collector.settings import JournalSettings
from tests.contract.entries import LANE, MIB, OTHER, T1, T2, draft, parked, read_all
from tests.contract.forms import Opened, at


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


async def test_an_unfinished_entry_comes_again(journal: Journal) -> None:
    await journal.log.append([draft(b"again")])
    assert await read_all(journal) == [b"again"]
    assert await read_all(journal) == [b"again"]


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


async def test_the_state_counts_what_waits(journal: Journal) -> None:
    empty = await journal.consumer("delivery").state()
    assert (empty.pending_spans, empty.oldest_received_unix_ns, empty.dead_letters) == (0, None, 0)
    await journal.log.append([draft(b"a"), draft(b"b", lane=OTHER)])
    await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
    state = await journal.consumer("delivery").state()
    assert (state.pending_entries, state.pending_spans) == (1, 1)
    assert (state.dead_letters, state.dead_letter_spans) == (1, 2)
    assert state.oldest_received_unix_ns is not None


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

    async def test_a_retried_entry_waits_for_its_consumer_only(self, opened: Opened) -> None:
        journal = opened.journal
        await journal.log.append([draft(b"a")])
        await journal.consumer("index").commit(LANE, through=at(1))
        await journal.consumer("delivery").commit(LANE, through=at(1), parked=[parked()])
        await journal.dead_letters("delivery").retry(None)
        assert await journal.sweep() == (0 if opened.deletes_at_commit else 1)
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


async def test_traces_are_awaited_until_the_cursor_has_passed_their_last_entry(journal: Journal) -> None:
    consumer = journal.consumer("delivery")
    await journal.log.append([draft(b"a")])
    await journal.log.append([draft(b"b", trace_id=T2, lane=OTHER)])
    await journal.log.append([draft(b"c")])
    both = frozenset({T1, T2})
    assert await consumer.awaiting(both) == both
    await consumer.commit(LANE, through=at(1))
    assert await consumer.awaiting(both) == both
    await consumer.commit(OTHER, through=at(2))
    assert await consumer.awaiting(both) == {T1}
    await consumer.commit(LANE, through=at(3))
    assert await consumer.awaiting(both) == set()
