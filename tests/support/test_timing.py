"""A test of time is forgiven twice for being late, and for nothing else."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.timing import TRIES, Late, patient, within


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
