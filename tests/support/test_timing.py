"""A test of time is forgiven twice for being late, and for nothing else."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.timing import TRIES, Late, held_up_seconds, patient, within


def late_until(attempt: int, seen: list[int]) -> Callable[[], None]:
    @patient
    def test() -> None:
        seen.append(len(seen) + 1)
        with within(60 if len(seen) >= attempt else 0):
            pass

    return test


@pytest.mark.parametrize("attempt", range(1, TRIES + 1))
def test_one_that_is_in_time_once_passes(attempt: int) -> None:
    seen: list[int] = []
    late_until(attempt, seen)()
    assert len(seen) == attempt


def test_one_that_is_late_every_time_fails() -> None:
    seen: list[int] = []
    with pytest.raises(Late, match="may take 0 s"):
        late_until(TRIES + 1, seen)()
    assert len(seen) == TRIES


async def test_so_does_one_that_is_awaited() -> None:
    seen = []

    @patient
    async def test() -> None:
        seen.append(1)
        with within(0):
            await asyncio.sleep(0)

    with pytest.raises(Late):
        await test()
    assert len(seen) == TRIES


def test_another_failure_is_not_forgiven() -> None:
    seen = []

    @patient
    def test() -> None:
        seen.append(1)
        with within(60):
            raise AssertionError("wrong")

    with pytest.raises(AssertionError, match="wrong"):
        test()
    assert len(seen) == 1


def test_a_block_that_fails_is_not_late() -> None:
    with pytest.raises(ValueError), within(0):
        time.sleep(0)
        raise ValueError


def test_what_others_take_of_the_processors_is_known() -> None:
    """More busy processes than processors."""
    busy = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        before, deadline = held_up_seconds(), time.monotonic() + 20
        while held_up_seconds() - before < 0.05:
            assert time.monotonic() < deadline
        assert held_up_seconds(all_threads=True) >= 0.05
        with within(0.5, processes=[other.pid for other in others]):
            time.sleep(0.6)
    finally:
        for other in others:
            other.kill()
            other.wait()
