"""What is remembered of traces: claims, notes, and what of a trace is still pending."""

from dataclasses import replace
from functools import partial

from collector.journal import Journal
from collector.model.batch import Route
from tests.contract.entries import LANE, OTHER, T1, T2, draft, parked
from tests.contract.forms import Opened, at


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


async def test_a_trace_is_found_in_entries_and_dead_letters(journal: Journal) -> None:
    await journal.log.append([draft(b"entry", trace_id=T2), draft(b"other", lane=OTHER)])
    await journal.consumer("delivery").commit(OTHER, through=at(2), parked=[parked(lane=OTHER)])
    assert await journal.pending_traces.payloads(T2) == [b"bad", b"entry"]
    assert await journal.pending_traces.routes(T2) == [Route.from_lane(OTHER), Route.from_lane(LANE)]
    assert await journal.pending_traces.payloads(b"9" * 16) == []
    assert await journal.pending_traces.routes(b"9" * 16) == []
    # ids stand side by side: the end of one and the beginning of the next are no third
    assert await journal.pending_traces.payloads(T1[8:] + T2[:8]) == []
