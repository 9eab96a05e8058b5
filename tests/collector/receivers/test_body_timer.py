"""The time that a body has to arrive."""

import asyncio
from typing import Any

import pytest

from collector.model.errors import Reason, Unavailable
from collector.receivers.body_timer import BodyTimers


async def never() -> None:
    await asyncio.Event().wait()


async def read(timers: BodyTimers, seconds: float, *late: Any) -> str:
    try:
        with timers.within(seconds, *late):
            await never()
    except Unavailable as error:
        return error.reason.value
    raise AssertionError


async def test_bodies_that_arrive_share_one_timer_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    set_for: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def counted(delay: float, *rest: Any) -> asyncio.TimerHandle:
        set_for.append(delay)
        return call_later(delay, *rest)

    monkeypatch.setattr(loop, "call_later", counted)
    timers = BodyTimers()
    for _ in range(100):
        with timers.within(60.0):
            pass
    assert set_for == [60.0]


async def test_a_body_has_its_whole_time_though_the_timer_was_set_for_one_before_it() -> None:
    timers, loop = BodyTimers(), asyncio.get_running_loop()
    with timers.within(0.2):
        await asyncio.sleep(0.1)
    started = loop.time()
    assert await read(timers, 0.2) == Reason.SLOW_BODY.value
    assert loop.time() - started >= 0.19


async def test_each_of_many_bodies_is_cut_at_its_time() -> None:
    timers = BodyTimers()
    ended = [asyncio.ensure_future(read(timers, 0.1)) for _ in range(5)]
    await asyncio.sleep(0.05)
    later = asyncio.ensure_future(read(timers, 0.1))
    assert {await each for each in ended} == {"slow_body"}
    assert await later == "slow_body"


@pytest.mark.parametrize(
    ("refuses", "expected"), [(False, "slow_body"), (True, "memory_full")], ids=["held", "no_room"]
)
async def test_a_late_body_is_told_of_and_then_cut_unless_that_ends_it(refuses: bool, expected: str) -> None:
    told = []

    def late() -> None:
        told.append(True)
        if refuses:
            raise Unavailable(Reason.MEMORY_FULL, "no room")

    assert await read(BodyTimers(), 0.1, (0.05, late)) == expected
    assert told == [True]


async def test_a_task_that_is_cancelled_from_outside_stays_cancelled() -> None:
    task = asyncio.ensure_future(read(BodyTimers(), 60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
