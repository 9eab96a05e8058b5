"""Bounds on wall-clock time that a busy machine can't break: what is slow by itself is slow every time."""

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

TRIES = 5
Test = TypeVar("Test", bound=Callable[..., Any])


class Late(AssertionError):
    """A block took longer than it may."""


@contextmanager
def within(seconds: float, *, processes: Sequence[int] = ()) -> Iterator[None]:
    """Raise Late if the block takes longer, less what this thread and these processes were held up."""
    threads = [thread for each in processes for thread in Path(f"/proc/{each}/task").glob("*")]
    took_seconds = stopwatch(*threads)
    yield
    took = took_seconds()
    if took >= seconds:
        raise Late(f"took {took:.2f} s, may take {seconds} s")


def stopwatch(*threads: Path) -> Callable[[], float]:
    """Tells how long it is since this call, less what this thread and these (/proc/1/task/1) were held up."""
    began, before = time.monotonic(), held_up_seconds() + _waited(threads)

    def seconds() -> float:
        held_up = held_up_seconds() + _waited(threads) - before
        return max(0.0, time.monotonic() - began - held_up)

    return seconds


def held_up_seconds(*, all_threads: bool = False) -> float:
    """How long this thread, or each of this process, was ready to run while others had the processors.

    Zero where the system doesn't count it: https://docs.kernel.org/scheduler/sched-stats.html
    """
    return _waited(Path("/proc/self/task").glob("*") if all_threads else [Path("/proc/thread-self")])


def _waited(threads: Iterable[Path]) -> float:
    found = 0
    for thread in threads:
        with suppress(OSError):  # a thread that has ended meanwhile
            found += int((thread / "schedstat").read_text().split()[1])
    return found / 1e9


def patient(test: Test) -> Test:
    """Run a test again, up to four times, if it was late and only then: other work may have held the machine.

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
