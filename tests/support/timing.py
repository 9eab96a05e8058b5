"""Bounds on wall-clock time that a busy machine can't break: what is slow by itself is slow every time."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

TRIES = 3
Test = TypeVar("Test", bound=Callable[..., Any])


class Late(AssertionError):
    """A block took longer than it may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Late if the block takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if took >= seconds:
        raise Late(f"took {took:.2f} s, may take {seconds} s")


def patient(test: Test) -> Test:
    """Run a test again, up to twice, if it was late and only then: other work may have held the machine.

    The test must leave its fixtures so that it can be run over them again.
    """
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def awaited(*args: Any, **named: Any) -> None:
            for _ in range(TRIES - 1):
                try:
                    return await test(*args, **named)
                except Late:
                    continue
            return await test(*args, **named)

        return cast(Test, awaited)

    @functools.wraps(test)
    def called(*args: Any, **named: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return test(*args, **named)
            except Late:
                continue
        return test(*args, **named)

    return cast(Test, called)
