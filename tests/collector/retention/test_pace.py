"""Others' requests to MLflow go first, and ours are short while there are others."""

import asyncio
from collections.abc import Callable

import pytest

from collector.mlflow import traffic as traffic_module
from collector.mlflow.traffic import Traffic
from collector.retention import pace as pace_module
from collector.retention.pace import MlflowPace


class Clock:
    """Time that passes when it is told to; what sleeps or waits takes none."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(traffic_module.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(pace_module.asyncio, "sleep", clock.sleep)
    return clock


def others(traffic: Traffic, clock: Clock, *, seconds: float, count: int = 20) -> None:
    """Requests of others, one after the other, that nothing of ours disturbs."""
    for _ in range(count):
        with traffic.request():
            clock.now += seconds


async def settled(pace: MlflowPace, clock: Clock, seconds_each: float, around: Callable[[], None]) -> int:
    """How many things are asked for at once in the end, where each takes MLflow so long."""
    for _ in range(60):
        around()
        count = pace.count("x", most=500)
        async with pace.request("x", count):
            clock.now += 0.01 + count * seconds_each
    around()
    return pace.count("x", most=500)


async def test_requests_are_long_while_nobody_else_asks_and_short_beside_others(clock: Clock) -> None:
    traffic = Traffic()
    pace = MlflowPace(traffic=traffic, share=0.5)
    alone = await settled(pace, clock, 0.004, lambda: None)
    beside = await settled(pace, clock, 0.004, lambda: others(traffic, clock, seconds=0.1, count=1))
    assert 100 <= alone <= 130  # half a second
    assert 10 <= beside <= 15  # well below the tenth of a second that others' requests take


async def test_one_slow_answer_does_not_make_requests_smaller(clock: Clock) -> None:
    pace = MlflowPace(traffic=Traffic(), share=1.0)
    many = await settled(pace, clock, 0.004, lambda: None)
    for took in (0.5, 20.0, 0.5):
        async with pace.request("x", many):
            clock.now += took
    assert pace.count("x", most=500) > 0.8 * many


async def test_a_request_of_ours_waits_for_those_of_others(clock: Clock) -> None:
    traffic = Traffic()
    pace = MlflowPace(traffic=traffic, share=1.0)
    async with pace.request("x", 1):
        clock.now += 1.0
    with traffic.request():
        asking = asyncio.create_task(_asks(pace))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not asking.done()
    await asking


async def _asks(pace: MlflowPace) -> None:
    async with pace.request("x", 1):
        pass


async def test_a_request_is_sent_in_the_end_though_others_never_cease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace_module, "LEAST_SHARE", 1e9)
    traffic = Traffic()
    with traffic.request():
        async with asyncio.timeout(30):
            await _asks(MlflowPace(traffic=traffic, share=1.0))


async def test_the_pause_leaves_mlflow_its_share_of_the_time(clock: Clock) -> None:
    pace = MlflowPace(traffic=Traffic(), share=0.2)
    async with pace.request("x", 1):
        clock.now += 0.5
    clock.now += 0.3  # what was read is archived
    async with pace.request("x", 1):
        pass
    assert clock.slept == [0.0, pytest.approx(1.7)]


async def test_the_pause_is_longer_beside_others(clock: Clock) -> None:
    traffic = Traffic()
    pace = MlflowPace(traffic=traffic, share=0.5)
    others(traffic, clock, seconds=0.1, count=1)
    for _ in range(2):
        async with pace.request("x", 1):
            clock.now += 0.5
    assert clock.slept == [0.0, pytest.approx(3.5)]


async def test_no_fewer_are_asked_for_than_make_a_difference(clock: Clock) -> None:
    pace = MlflowPace(traffic=Traffic(), share=1.0)
    for _ in range(9):
        async with pace.request("x", pace.count("x", most=500, least=20)):
            clock.now += 100.0
    assert pace.count("x", most=500, least=20) == 20


async def test_a_few_that_are_left_say_nothing_of_how_many_can_be_asked_for(clock: Clock) -> None:
    pace = MlflowPace(traffic=Traffic(), share=1.0)
    many = await settled(pace, clock, 0.01, lambda: None)
    async with pace.request("x", 1):
        clock.now += 0.02
    assert pace.count("x", most=500) == many


async def test_what_took_longer_because_of_us_is_not_taken_for_usual(clock: Clock) -> None:
    traffic = Traffic()
    others(traffic, clock, seconds=0.1)
    for _ in range(100):
        with traffic.request(), traffic.behind():
            clock.now += 5.0
    assert traffic.usual_seconds == pytest.approx(0.1)
