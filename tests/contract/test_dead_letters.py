"""What operators are promised of dead letters: listed, shown, sent again, dropped."""

from collector.journal import Journal
from tests.contract.entries import LANE, MIB, OTHER, T2, draft, parked, read_all
from tests.contract.forms import Opened, at


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
