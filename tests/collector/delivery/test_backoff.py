"""Pauses between tries: bounds for every input."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from collector.delivery import backoff
from collector.delivery.backoff import delay_seconds

attempts = st.integers(-5, 10_000)
jitters = st.floats(0, 1, exclude_max=True)
wishes = st.none() | st.floats(0, allow_nan=False)


def test_the_examples_in_its_docstring_are_true() -> None:
    results = doctest.testmod(backoff)
    assert results.attempted >= 3
    assert results.failed == 0


@given(attempts, st.floats(0.001, 10), st.floats(10, 600), jitters, wishes)
def test_a_pause_is_never_none_and_never_for_ever(
    attempt: int, initial: float, most: float, jitter: float, wish: float | None
) -> None:
    pause = delay_seconds(
        attempt, initial_seconds=initial, max_seconds=most, jitter=jitter, at_least_seconds=wish
    )
    assert initial / 2 <= pause <= 10 * most


@given(attempts, jitters)
def test_without_a_wish_it_is_our_bound(attempt: int, jitter: float) -> None:
    assert 0.25 <= delay_seconds(attempt, initial_seconds=0.5, max_seconds=30, jitter=jitter) <= 30


@given(attempts, jitters, st.floats(0, 300))
def test_a_reasonable_wish_is_granted(attempt: int, jitter: float, wish: float) -> None:
    pause = delay_seconds(attempt, initial_seconds=0.5, max_seconds=30, jitter=jitter, at_least_seconds=wish)
    assert pause >= wish


@given(st.integers(1, 100), jitters)
def test_it_grows_until_its_bound(attempt: int, jitter: float) -> None:
    def pause(attempt: int) -> float:
        return delay_seconds(attempt, initial_seconds=0.5, max_seconds=30, jitter=jitter)

    assert pause(attempt) <= pause(attempt + 1)
    assert delay_seconds(attempt, initial_seconds=50, max_seconds=30, jitter=0) == 30
