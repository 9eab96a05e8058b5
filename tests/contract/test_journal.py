"""The journal's promises, one suite over both forms."""

import asyncio
import inspect
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from collector.journal import Journal
from collector.journal.memory import MemoryJournal
from collector.journal.sqlite.writer import SqliteJournal, open_journal
from collector.model.batch import Draft, Parked, Route
from collector.model.errors import JournalClosed, Unavailable
from collector.settings import Journal as JournalSettings

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


@dataclass
class Opened:
    """A journal, and what a crash or a proper restart makes of it."""

    journal: Journal
    crash: Callable[[], Awaitable[Journal]]
    restart: Callable[[], Awaitable[Journal]]


@dataclass
class SqliteHome:
    """Journals of one test; a crash goes on with a copy of the files as they were at that moment."""

    base: Path
    settings: JournalSettings
    consumers: tuple[str, ...]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    count: int = 0

    async def open(self) -> SqliteJournal:
        return await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.count),
                settings=self.settings,
                consumers=self.consumers,
                keep_claims=1000,
            )
        )

    async def crash(self) -> SqliteJournal:
        old = self.base / str(self.count)
        self.count += 1
        shutil.copytree(old, self.base / str(self.count))
        return await self.open()

    async def restart(self) -> SqliteJournal:
        await self.stack.aclose()
        return await self.open()


@pytest.fixture
def settings() -> JournalSettings:
    """A test that needs others overrides this fixture."""
    return JournalSettings(min_free_disk_bytes=0)


@pytest.fixture
def consumers() -> tuple[str, ...]:
    """A test that needs others overrides this fixture."""
    return ("delivery",)


@pytest.fixture(params=["sqlite", "memory"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, settings: JournalSettings, consumers: tuple[str, ...]
) -> AsyncIterator[Opened]:
    if request.param == "sqlite":
        home = SqliteHome(base=tmp_path, settings=settings, consumers=consumers)
        yield Opened(await home.open(), home.crash, home.restart)
        await home.stack.aclose()
        return
    journal = MemoryJournal(
        consumers=consumers, max_bytes=settings.max_bytes, retention_seconds=settings.retention_seconds
    )

    async def crash() -> Journal:
        journal.crash()
        return journal

    async def restart() -> Journal:
        return journal

    yield Opened(journal, crash, restart)


@pytest.fixture
def journal(opened: Opened) -> Journal:
    return opened.journal


async def read_all(journal: Journal, lane: str = LANE) -> list[bytes]:
    return [entry.payload for entry in await journal.read("delivery", lane, limit_bytes=MIB)]


async def test_what_was_appended_is_read_in_order(journal: Journal) -> None:
    sequences = [await journal.append([draft(bytes([n]))]) for n in range(5)]
    assert sequences == sorted(set(sequences))
    assert await read_all(journal) == [bytes([n]) for n in range(5)]


async def test_an_append_sets_the_event_that_consumers_wait_for(journal: Journal) -> None:
    appended = journal.appended
    assert not appended.is_set()
    await journal.append([draft()])
    assert appended.is_set()
    assert not journal.appended.is_set(), "the next look waits for the next append"


async def test_what_was_appended_survives_a_crash(opened: Opened) -> None:
    await opened.journal.append([draft(b"one")])
    await opened.journal.append([draft(b"two", lane=OTHER)])
    after = await opened.crash()
    assert await read_all(after) == [b"one"]
    assert await read_all(after, OTHER) == [b"two"]


async def test_drafts_of_one_append_with_one_route_and_client_become_one_entry(journal: Journal) -> None:
    await journal.append([draft(b"a"), draft(b"b", trace_id=T2), draft(b"c", client="team")])
    entries = await journal.read("delivery", LANE, limit_bytes=MIB)
    assert [(entry.payload, entry.span_count) for entry in entries] == [(b"ab", 2), (b"c", 1)]
    assert entries[0].trace_ids == {T1, T2}


async def test_a_read_stops_at_its_limit_but_returns_at_least_one(journal: Journal) -> None:
    for _ in range(3):
        await journal.append([draft(b"x" * 100)])
    assert len(await journal.read("delivery", LANE, limit_bytes=250)) == 2
    assert len(await journal.read("delivery", LANE, limit_bytes=1)) == 1


async def test_a_consumer_may_read_on_without_moving_its_cursor(journal: Journal) -> None:
    for payload in (b"a", b"b", b"c"):
        await journal.append([draft(payload)])
    await journal.append([draft(b"theirs", lane=OTHER)])

    async def read(after: int | None, limit_bytes: int = MIB) -> list[bytes]:
        entries = await journal.read("delivery", LANE, limit_bytes=limit_bytes, after=after)
        return [entry.payload for entry in entries]

    assert [await read(None), await read(1), await read(3)] == [[b"a", b"b", b"c"], [b"b", b"c"], []]
    assert await read(1, limit_bytes=1) == [b"b"]
    await journal.commit("delivery", LANE, through=2)
    assert await read(None) == [b"c"]


async def test_lanes_with_work_are_listed_oldest_first(journal: Journal) -> None:
    await journal.append([draft(lane=OTHER)])
    await journal.append([draft()])
    assert [pending.lane for pending in await journal.pending("delivery")] == [OTHER, LANE]
    await journal.commit("delivery", OTHER, through=1)
    assert [pending.lane for pending in await journal.pending("delivery")] == [LANE]


async def test_a_commit_passes_its_lane_only(journal: Journal) -> None:
    await journal.append([draft(b"mine")])
    last = await journal.append([draft(b"theirs", lane=OTHER)])
    await journal.commit("delivery", LANE, through=last)
    assert await read_all(journal) == []
    assert await read_all(journal, OTHER) == [b"theirs"]


async def test_a_cursor_survives_crash_and_restart(opened: Opened) -> None:
    first = await opened.journal.append([draft(b"done")])
    await opened.journal.append([draft(b"todo")])
    await opened.journal.commit("delivery", LANE, through=first)
    assert await read_all(await opened.crash()) == [b"todo"]
    assert await read_all(await opened.restart()) == [b"todo"]


async def test_a_sequence_is_never_used_again(opened: Opened) -> None:
    newest = await opened.journal.append([draft(b"old")])
    await opened.journal.commit("delivery", LANE, through=newest)
    assert (await opened.journal.state("delivery")).pending_entries == 0
    after = await opened.restart()
    assert await after.append([draft(b"new")]) > newest
    assert await read_all(after) == [b"new"]


async def test_an_unfinished_entry_comes_again(journal: Journal) -> None:
    await journal.append([draft(b"again")])
    assert await read_all(journal) == [b"again"]
    assert await read_all(journal) == [b"again"]


async def test_the_first_claim_on_a_trace_holds(opened: Opened) -> None:
    await opened.journal.append([draft()])
    claims = {T1: "/1"}
    assert await opened.journal.begin("delivery", LANE, through=1, claims=claims) == {T1: "/1"}
    after = await opened.crash()
    second = await after.begin("delivery", OTHER, through=1, claims={T1: "/2", T2: "/2"})
    assert second == {T1: "/1", T2: "/2"}


STRANGER, OWNER = {T1: "stranger"}, {T1: "owner"}


async def test_a_claim_gives_way_to_another_clients_until_something_is_delivered(opened: Opened) -> None:
    journal = opened.journal
    await journal.append([draft()])
    assert await journal.begin("delivery", LANE, through=1, claims={T1: "/1"}, clients=STRANGER) == {T1: "/1"}
    after = await opened.crash()
    assert await after.begin("delivery", OTHER, through=1, claims={T1: "/2"}, clients=OWNER) == {T1: "/2"}
    await after.commit("delivery", LANE, through=1, delivered={T1: "/1"})
    again = await opened.restart()
    assert await again.begin("delivery", OTHER, through=1, claims={T1: "/2"}, clients=OWNER) == {T1: "/1"}
    await again.commit("delivery", OTHER, through=1, delivered={T1: "/2"})
    assert await again.begin("delivery", OTHER, through=1, claims={T1: "/2"}, clients=OWNER) == {T1: "/1"}


async def test_a_claim_holds_for_the_client_that_made_it(opened: Opened) -> None:
    await opened.journal.begin("delivery", LANE, through=1, claims={T1: "/1"}, clients=OWNER)
    after = await opened.restart()
    assert await after.begin("delivery", OTHER, through=1, claims={T1: "/2"}, clients=OWNER) == {T1: "/1"}


async def test_a_retry_of_what_another_had_first_asks_whose_it_is_anew(opened: Opened) -> None:
    journal = opened.journal
    await journal.append([draft()])
    await journal.commit("delivery", OTHER, through=1, delivered={T1: "/2"})
    foreign = replace(parked(), reason="foreign_trace", trace_ids=frozenset([T1]))
    await journal.commit("delivery", LANE, through=1, parked=[foreign, parked()])
    begin = partial(journal.begin, "delivery", LANE, through=2, claims={T1: "/1"}, clients=OWNER)
    assert await begin() == {T1: "/2"}
    await journal.retry([2])
    assert await begin() == {T1: "/2"}, "the other letter has nothing to do with it"
    await journal.retry([1])
    assert await begin() == {T1: "/1"}


async def test_a_delivery_that_a_replay_has_overtaken_settles_nothing(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, first=2, delivered={T1: "/1"})
    assert await journal.begin("delivery", OTHER, through=1, claims={T1: "/2"}, clients=OWNER) == {T1: "/2"}


async def test_a_note_is_recalled_by_the_consumer_that_left_it(opened: Opened) -> None:
    await opened.journal.append([draft(), draft(trace_id=T2)])
    await opened.journal.commit("delivery", LANE, through=1, remember={T1: b"one"})
    after = await opened.crash()
    assert await after.recall("delivery", [T1, T2]) == {T1: b"one"}
    assert await after.recall("other", [T1]) == {}


async def test_a_later_note_takes_the_place_of_an_earlier_one(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, remember={T1: b"one", T2: b"two"})
    await journal.commit("delivery", LANE, through=1, remember={T1: b"three"})
    assert await journal.recall("delivery", [T1, T2]) == {T1: b"three", T2: b"two"}


async def test_crashes_in_processing_are_counted_and_the_suspect_comes_alone(opened: Opened) -> None:
    journal = opened.journal
    for payload in (b"a", b"b", b"c"):
        await journal.append([draft(payload)])
    for attempts in (1, 2):
        await journal.begin("delivery", LANE, through=2, claims={})
        journal = await opened.crash()
        entries = await journal.read("delivery", LANE, limit_bytes=MIB)
        assert entries[0].attempts == attempts
    assert [entry.payload for entry in entries] == [b"a"]
    await journal.commit("delivery", LANE, through=entries[0].sequence)
    assert await read_all(journal) == [b"b"]
    await journal.commit("delivery", LANE, through=2)
    assert await read_all(journal) == [b"c"]


async def test_a_crash_after_processing_counts_nothing(opened: Opened) -> None:
    await opened.journal.append([draft()])
    await opened.journal.begin("delivery", LANE, through=1, claims={})
    await opened.journal.processed("delivery", LANE)
    after = await opened.crash()
    assert (await after.read("delivery", LANE, limit_bytes=MIB))[0].attempts == 0


async def test_what_is_parked_is_a_dead_letter_with_everything_it_needs(journal: Journal) -> None:
    last = await journal.append([draft()])
    await journal.commit("delivery", LANE, through=last, parked=[parked()])
    (listed,) = await journal.dead_letters()
    assert (listed.reason, listed.message, listed.span_count) == ("poison", "MLflow answered 500", 2)
    assert (listed.client, listed.received_unix_ns, listed.payload) == ("team", 7, b"")
    shown = await journal.dead_letter(listed.id)
    assert shown is not None
    assert (shown.payload, shown.trace_ids) == (b"bad", {T2})
    assert await journal.dead_letter(999) is None


async def test_dead_letters_are_paged(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, parked=[parked(), parked(), parked()])
    first = await journal.dead_letters(limit=2)
    assert len(first) == 2
    assert len(await journal.dead_letters(limit=2, after=first[-1].id)) == 1


async def test_a_retried_dead_letter_is_an_entry_again(opened: Opened) -> None:
    await opened.journal.append([draft()])
    await opened.journal.commit("delivery", LANE, through=1, parked=[parked(), parked(b"bad too")])
    (one, _) = await opened.journal.dead_letters()
    assert await opened.journal.retry([one.id, 999]) == 1
    assert await read_all(opened.journal) == [b"bad"]
    assert await opened.journal.retry(None) == 1
    after = await opened.crash()
    assert await read_all(after) == [b"bad", b"bad too"]
    assert await after.dead_letters() == []


async def test_a_dropped_dead_letter_is_gone(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, parked=[parked()])
    (letter,) = await journal.dead_letters()
    assert await journal.drop([letter.id]) == 1
    assert await journal.drop([letter.id]) == 0
    assert await journal.dead_letters() == []


async def test_the_state_counts_what_waits(journal: Journal) -> None:
    empty = await journal.state("delivery")
    assert (empty.pending_spans, empty.oldest_received_unix_ns, empty.dead_letters) == (0, None, 0)
    await journal.append([draft(b"a"), draft(b"b", lane=OTHER)])
    await journal.commit("delivery", LANE, through=1, parked=[parked()])
    state = await journal.state("delivery")
    assert (state.pending_entries, state.pending_spans) == (1, 1)
    assert (state.dead_letters, state.dead_letter_spans) == (1, 2)
    assert state.oldest_received_unix_ns is not None


async def test_a_trace_is_found_in_entries_and_dead_letters(journal: Journal) -> None:
    await journal.append([draft(b"entry", trace_id=T2), draft(b"other", lane=OTHER)])
    await journal.commit("delivery", OTHER, through=2, parked=[parked(lane=OTHER)])
    assert await journal.find(T2) == [b"bad", b"entry"]
    assert (await journal.lanes_of(T2))[-1] == LANE
    assert await journal.find(b"9" * 16) == []
    assert await journal.lanes_of(b"9" * 16) == []
    # ids stand side by side: the end of one and the beginning of the next are no third
    assert await journal.find(T1[8:] + T2[:8]) == []


class TestRetention:
    @pytest.fixture
    def settings(self) -> JournalSettings:
        return JournalSettings(min_free_disk_bytes=0, retention_seconds=600)

    async def test_retained_entries_are_replayed(self, journal: Journal) -> None:
        await journal.append([draft(b"kept")])
        await journal.commit("delivery", LANE, through=1)
        assert await read_all(journal) == []
        assert await journal.sweep() == 0
        assert await journal.replay("delivery", since_unix_ns=2**62) == 0
        assert await journal.replay("delivery", since_unix_ns=0) == 1
        assert await read_all(journal) == [b"kept"]

    async def test_a_replay_begins_with_the_first_entry_received_since_then(self, journal: Journal) -> None:
        await journal.append([draft(b"old")])
        since = time.time_ns()
        await journal.append([draft(b"new")])
        await journal.append([draft(b"theirs", lane=OTHER)])
        await journal.commit("delivery", LANE, through=2)
        appended = journal.appended
        assert await journal.replay("delivery", since_unix_ns=since) == 1
        assert appended.is_set(), "a consumer must wake up"
        assert await read_all(journal) == [b"new"]
        assert await read_all(journal, OTHER) == [b"theirs"], "what waits anyway is no replay"

    async def test_a_window_in_flight_does_not_swallow_a_replay(self, journal: Journal) -> None:
        await journal.append([draft(b"done")])
        await journal.commit("delivery", LANE, through=1)
        await journal.append([draft(b"in flight")])
        await journal.begin("delivery", LANE, through=2, claims={})
        await journal.replay("delivery", since_unix_ns=0)
        await journal.commit("delivery", LANE, first=2, through=2, parked=[parked()])
        assert await read_all(journal) == [b"done", b"in flight"]
        assert await journal.dead_letters() == [], "they come again, and are parked then"
        await journal.commit("delivery", LANE, first=1, through=2, parked=[parked()])
        assert await read_all(journal) == []
        assert len(await journal.dead_letters()) == 1

    async def test_a_commit_that_a_replay_has_overtaken_leaves_no_note(self, journal: Journal) -> None:
        await journal.append([draft()])
        await journal.commit("delivery", LANE, through=1)
        await journal.append([draft()])
        await journal.replay("delivery", since_unix_ns=0)
        await journal.commit("delivery", LANE, through=2, first=2, remember={T1: b"early"})
        assert await journal.recall("delivery", [T1]) == {}

    async def test_after_its_retention_a_delivered_entry_goes_and_a_waiting_one_stays(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await journal.append([draft(b"done")])
        await journal.append([draft(b"waits")])
        await journal.commit("delivery", LANE, through=1)
        later = time.time_ns() + 601 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: later)
        assert await journal.sweep() == 1
        assert await journal.sweep() == 0
        assert await journal.replay("delivery", since_unix_ns=0) == 0
        assert await read_all(journal) == [b"waits"]

    async def test_a_commit_never_moves_a_cursor_back(self, journal: Journal) -> None:
        for _ in range(3):
            await journal.append([draft()])
        await journal.commit("delivery", LANE, through=2)
        await journal.commit("delivery", LANE, through=1)
        assert [entry.sequence for entry in await journal.read("delivery", LANE, limit_bytes=MIB)] == [3]

    async def test_a_suspect_doesnt_come_behind_others_either(self, opened: Opened) -> None:
        journal = opened.journal
        await journal.append([draft(b"before")])
        await journal.commit("delivery", LANE, through=1)
        await journal.append([draft(b"suspect")])
        for _ in range(2):
            await journal.begin("delivery", LANE, through=2, claims={})
            journal = await opened.crash()
        await journal.replay("delivery", since_unix_ns=0)
        assert await read_all(journal) == [b"before"]
        await journal.commit("delivery", LANE, through=1)
        assert await read_all(journal) == [b"suspect"]


class TestTwoConsumers:
    @pytest.fixture
    def consumers(self) -> tuple[str, ...]:
        return ("delivery", "index")

    async def test_each_has_its_own_cursor(self, journal: Journal) -> None:
        await journal.append([draft(b"a")])
        await journal.commit("delivery", LANE, through=1)
        assert await journal.pending("delivery") == []
        assert [pending.lane for pending in await journal.pending("index")] == [LANE]
        assert len(await journal.read("index", LANE, limit_bytes=1)) == 1
        assert (await journal.state("index")).pending_entries == 1

    async def test_an_entry_stays_until_the_last_has_passed_it(self, journal: Journal) -> None:
        await journal.append([draft(b"a")])
        await journal.commit("delivery", LANE, through=1)
        assert await journal.find(T1) == [b"a"]
        await journal.commit("index", LANE, through=1)
        assert await journal.find(T1) == []

    async def test_a_replay_for_one_leaves_the_other_alone(self, journal: Journal) -> None:
        await journal.append([draft(b"a")])
        await journal.commit("delivery", LANE, through=1)
        assert await journal.replay("delivery", since_unix_ns=0) == 1
        assert await journal.replay("index", since_unix_ns=0) == 0

    async def test_one_that_reads_behind_another_sees_what_that_has_passed(self, opened: Opened) -> None:
        journal = opened.journal
        for payload in (b"a", b"b", b"c"):
            await journal.append([draft(payload)])
        await journal.append([draft(b"theirs", lane=OTHER)])

        async def seen(journal: Journal, lane: str = LANE) -> list[bytes]:
            entries = await journal.read("delivery", lane, limit_bytes=MIB, behind="index")
            return [entry.payload for entry in entries]

        assert await seen(journal) == []
        assert await journal.pending("delivery", behind="index") == []
        await journal.commit("index", LANE, through=2)
        assert await seen(journal) == [b"a", b"b"]
        assert [lane.lane for lane in await journal.pending("delivery", behind="index")] == [LANE]
        await journal.commit("delivery", LANE, through=2)
        after = await opened.crash()
        assert await seen(after) == []
        assert await after.pending("delivery", behind="index") == []
        await after.commit("index", OTHER, through=4)
        assert await seen(after, OTHER) == [b"theirs"]

    async def test_what_the_other_has_passed_first_is_read_once(self, journal: Journal) -> None:
        for payload in (b"a", b"b"):
            await journal.append([draft(payload)])
        await journal.commit("delivery", LANE, through=1)
        await journal.commit("index", LANE, through=2)
        entries = await journal.read("delivery", LANE, limit_bytes=MIB, behind="index")
        assert [entry.payload for entry in entries] == [b"b"]

    async def test_a_commit_wakes_those_that_read_behind(self, journal: Journal) -> None:
        await journal.append([draft()])
        appended = journal.appended
        await journal.commit("index", LANE, through=1)
        assert appended.is_set()

    async def test_a_crash_counts_the_marks_of_each(self, opened: Opened) -> None:
        await opened.journal.append([draft(b"a"), draft(b"b", lane=OTHER)])
        await opened.journal.begin("delivery", LANE, through=2, claims={})
        await opened.journal.begin("index", OTHER, through=2, claims={})
        after = await opened.crash()
        for lane in (LANE, OTHER):
            assert [e.attempts for e in await after.read("delivery", lane, limit_bytes=MIB)] == [1]


async def test_beginning_moves_no_cursor(opened: Opened) -> None:
    await opened.journal.append([draft(b"a")])
    await opened.journal.begin("delivery", LANE, through=1, claims={})
    assert await read_all(opened.journal) == [b"a"]
    assert await read_all(await opened.crash()) == [b"a"]


async def test_a_commit_takes_the_mark_off(opened: Opened) -> None:
    await opened.journal.append([draft(b"a")])
    await opened.journal.append([draft(b"b")])
    await opened.journal.begin("delivery", LANE, through=2, claims={})
    await opened.journal.commit("delivery", LANE, through=1)
    after = await opened.crash()
    assert [entry.attempts for entry in await after.read("delivery", LANE, limit_bytes=MIB)] == [0]


async def test_a_large_draft_stays_an_entry_of_its_own(journal: Journal) -> None:
    large = b"x" * (MIB - 10)
    await journal.append([draft(b"a" * 20), draft(large), draft(b"b" * 20)])
    assert [len(payload) for payload in await read_all(journal)] == [20]
    entries = await journal.read("delivery", LANE, limit_bytes=2**30)
    assert [len(entry.payload) for entry in entries] == [20, MIB - 10, 20]


async def test_an_append_of_several_lanes_is_stored_together_and_survives_together(opened: Opened) -> None:
    await opened.journal.append([draft(b"a"), draft(b"b", lane=OTHER), draft(b"c")])
    after = await opened.crash()
    assert (await read_all(after), await read_all(after, OTHER)) == ([b"ac"], [b"b"])


async def test_concurrent_appends_keep_the_order_of_each_sender(journal: Journal) -> None:
    async def send(client: str) -> None:
        for number in range(20):
            await journal.append([draft(bytes([number]), client=client)])

    await asyncio.gather(*(send(f"client {n}") for n in range(10)))
    seen: dict[str, bytes] = {}
    for entry in await journal.read("delivery", LANE, limit_bytes=2**30):
        seen[entry.client] = seen.get(entry.client, b"") + entry.payload
    assert seen == {f"client {n}": bytes(range(20)) for n in range(10)}


async def test_retrying_nothing_retries_nothing(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, parked=[parked()])
    assert await journal.retry([]) == 0
    assert await journal.drop([]) == 0
    (letter,) = await journal.dead_letters()
    assert await journal.retry([letter.id, letter.id]) == 1


async def test_a_retried_dead_letter_keeps_its_lane_client_and_time_and_starts_afresh(
    journal: Journal,
) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1, parked=[parked(lane=OTHER)])
    await journal.retry(None)
    (entry,) = await journal.read("delivery", OTHER, limit_bytes=MIB)
    assert (entry.client, entry.received_unix_ns, entry.span_count) == ("team", 7, 2)
    assert (entry.trace_ids, entry.attempts) == ({T2}, 0)
    assert entry.sequence > 1


async def test_the_id_of_a_dead_letter_is_never_used_again(opened: Opened) -> None:
    await opened.journal.append([draft()])
    await opened.journal.commit("delivery", LANE, through=1, parked=[parked()])
    (letter,) = await opened.journal.dead_letters()
    await opened.journal.drop([letter.id])
    after = await opened.restart()
    await after.append([draft()])
    await after.commit("delivery", LANE, through=2, parked=[parked()])
    assert (await after.dead_letters())[0].id > letter.id


async def test_a_lane_that_was_swept_away_comes_back(opened: Opened) -> None:
    await opened.journal.append([draft(b"first")])
    await opened.journal.commit("delivery", LANE, through=1)
    await opened.journal.sweep()
    after = await opened.restart()
    await after.append([draft(b"second")])
    assert await read_all(after) == [b"second"]


async def test_delivered_entries_are_deleted_without_retention(journal: Journal) -> None:
    await journal.append([draft()])
    await journal.commit("delivery", LANE, through=1)
    assert await journal.replay("delivery", since_unix_ns=0) == 0
    assert await journal.find(T1) == []


class TestSizeBound:
    @pytest.fixture
    def settings(self) -> JournalSettings:
        return JournalSettings(min_free_disk_bytes=0, max_bytes=MIB)

    async def test_at_its_bound_it_refuses_and_drops_nothing(self, journal: Journal) -> None:
        taken = 0
        with pytest.raises(Unavailable) as raised:
            for _ in range(50):
                await journal.append([draft(os.urandom(100_000))])
                taken += 1
        assert raised.value.reason == "journal_full"
        assert journal.refusing
        assert (await journal.state("delivery")).pending_entries == taken
        await journal.commit("delivery", LANE, through=taken)
        await journal.append([draft(b"again")])
        assert journal.refusing is None


VERBS: dict[str, Callable[[Journal], Awaitable[object]]] = {
    "append": lambda journal: journal.append([draft()]),
    "pending": lambda journal: journal.pending("delivery"),
    "read": lambda journal: journal.read("delivery", LANE, limit_bytes=1),
    "begin": lambda journal: journal.begin("delivery", LANE, through=1, claims={}),
    "processed": lambda journal: journal.processed("delivery", LANE),
    "commit": lambda journal: journal.commit("delivery", LANE, through=1),
    "recall": lambda journal: journal.recall("delivery", [T1]),
    "state": lambda journal: journal.state("delivery"),
    "find": lambda journal: journal.find(T1),
    "lanes_of": lambda journal: journal.lanes_of(T1),
    "replay": lambda journal: journal.replay("delivery", since_unix_ns=0),
    "sweep": lambda journal: journal.sweep(),
    "dead_letters": lambda journal: journal.dead_letters(),
    "dead_letter": lambda journal: journal.dead_letter(1),
    "retry": lambda journal: journal.retry(None),
    "drop": lambda journal: journal.drop([1]),
}


def test_the_table_of_verbs_is_whole() -> None:
    declared = {name for name, member in vars(Journal).items() if inspect.iscoroutinefunction(member)}
    assert set(VERBS) == declared


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_use_after_close_is_one_named_error(
    journal: Journal, verb: Callable[[Journal], Awaitable[object]]
) -> None:
    assert isinstance(journal, (SqliteJournal, MemoryJournal))
    await journal.close()
    await journal.close()
    with pytest.raises(JournalClosed):
        await verb(journal)
