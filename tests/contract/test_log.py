"""What receivers are promised: appending, and the bounds on what the log holds."""

import asyncio
import os
from dataclasses import replace

import pytest

from collector.journal import Journal
from collector.model.errors import Unavailable
from collector.settings import JournalSettings
from tests.contract.entries import LANE, MIB, OTHER, T1, T2, draft, read_all
from tests.contract.forms import Opened, at


async def test_what_was_appended_is_read_in_order(journal: Journal) -> None:
    positions = [await journal.log.append([draft(bytes([n]))]) for n in range(5)]
    entries = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
    assert [entry.position for entry in entries] == positions
    assert len(set(positions)) == 5
    assert await read_all(journal) == [bytes([n]) for n in range(5)]


async def test_a_view_of_a_receivers_buffer_is_read_as_bytes(journal: Journal) -> None:
    buffer = bytearray(b"..one..")
    await journal.log.append([replace(draft(), payload=memoryview(buffer)[2:5])])
    buffer[:] = b"reused!"
    (entry,) = await journal.consumer("delivery").read(LANE, limit_bytes=MIB)
    assert (type(entry.payload), entry.payload) == (bytes, b"one")


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


async def test_a_position_is_never_used_again(opened: Opened) -> None:
    newest = await opened.journal.log.append([draft(b"old")])
    await opened.journal.consumer("delivery").commit(LANE, through=newest)
    assert (await opened.journal.consumer("delivery").state()).pending_entries == 0
    after = await opened.restart()
    assert await after.log.append([draft(b"new")]) != newest
    assert await read_all(after) == [b"new"]


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
