"""What a question waits for."""

import asyncio

import pytest

from collector.mirror import writes as writes_module
from collector.mirror.writes import Writes

TRACE = "tr-1"


def writes() -> Writes:
    return Writes(lambda _: True)


def test_a_write_on_its_way_is_waited_for() -> None:
    made = writes()
    write = made.begins()
    asked = made.number
    assert not made.is_settled(asked, ["1"])
    write.ended(())
    assert made.is_settled(asked, ["1"])


def test_what_was_written_is_waited_for_until_it_was_read() -> None:
    made = writes()
    made.begins().ended([TRACE])
    asked = made.number
    assert not made.is_settled(asked, ["1"])
    made.done(made.waiting(10))
    assert made.is_settled(asked, ["1"])


def test_a_trace_that_is_written_while_it_is_read_is_read_again() -> None:
    made = writes()
    made.begins().ended([TRACE])
    reading = made.waiting(10)
    made.begins().ended([TRACE])
    made.done(reading)
    assert made.waiting(10) == {TRACE: made.number}


def test_a_write_that_began_later_holds_nobody_up() -> None:
    made = writes()
    asked = made.number
    made.begins()
    assert made.is_settled(asked, ["1"])


def test_what_is_put_off_is_still_waited_for() -> None:
    made = writes()
    made.begins().ended([TRACE])
    made.begins().ended(["tr-2"])
    asked = made.number
    made.put_off([TRACE])
    assert list(made.waiting(10)) == ["tr-2", TRACE]
    made.done({"tr-2": made.waiting(10)["tr-2"]})
    assert not made.is_settled(asked, ["1"])


def test_traces_of_experiments_that_are_not_held_are_nobodys_business() -> None:
    made = Writes(lambda experiment_id: experiment_id == "1")
    made.begins().ended([TRACE], experiment_id="2")
    assert made.waiting(10) == {}


async def test_who_waits_goes_on_at_the_last_of_them() -> None:
    made = writes()
    write = made.begins()
    waiting = asyncio.create_task(made.settled(made.number, ["1"]))
    await asyncio.sleep(0)
    write.ended([TRACE])
    await asyncio.sleep(0)
    assert not waiting.done()
    made.done(made.waiting(10))
    await waiting


def test_a_write_of_which_nobody_knows_what_it_changed_is_noted() -> None:
    made = writes()
    made.begins().ended((), all_known=False)
    assert made.unknown_at == made.number


def test_a_write_to_another_experiment_holds_nobody_up() -> None:
    made = writes()
    made.begins("2")
    assert made.is_settled(made.number, ["1"])
    assert not made.is_settled(made.number, ["1", "2"])


async def test_a_write_whose_answer_was_lost_is_doubted_until_it_must_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes_module, "LOST_SECONDS", 0.01)
    made = writes()
    made.begins("1").ended([TRACE], answered=False, experiment_id="1")
    asked = made.number
    assert made.is_lost(["1"])
    assert not made.is_lost(["2"])
    async with asyncio.timeout(60):
        while made.is_lost(["1"]):
            await asyncio.sleep(0.01)
    assert list(made.waiting(10)) == [TRACE]
    assert not made.is_settled(asked, ["1"])


def test_an_experiment_is_quiet_until_it_is_written_to() -> None:
    made = writes()
    before = made.quiet("1")
    made.begins("2").ended((), experiment_id="2")
    assert made.quiet("1") == before
    write = made.begins()
    assert made.quiet("1") is None
    write.ended([TRACE])
    assert made.quiet("1") is None
    made.done(made.waiting(10))
    assert made.quiet("1") not in (None, before)
