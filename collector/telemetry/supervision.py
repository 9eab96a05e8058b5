"""Tasks and child processes that run as long as the service does: started again when they end, and logged.

    run ── returns ──► over
     ├── ChildEnded, CannotStart ──► logged, a pause, run again
     └── any other exception: a bug ──► logged once a place with its traceback, a pause, run again

A run that lasted brings the pause back to its first length.
"""

import asyncio
import logging
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from collector.telemetry.fault_log import FaultLog

_log = logging.getLogger("sidespan")

# what ran for so long was sound when it started
SOUND_SECONDS = 60.0

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPause:
    """Seconds before the next start: doubled with each run that ends soon, up to the maximum."""

    first_seconds: float
    max_seconds: float

    def after(self, ran_seconds: float, last_seconds: float) -> float:
        """The pause after a run of this length, if the last one was `last_seconds`."""
        if ran_seconds > SOUND_SECONDS:
            return self.first_seconds
        return min(2 * last_seconds, self.max_seconds)


class ChildEnded(Exception):
    """A child process ended by itself."""

    def __init__(self, child: Process) -> None:
        super().__init__(f"it ended with {child.returncode}")
        self.child = child

    @property
    def exit_code(self) -> int | None:
        """Below zero: the number of the signal that ended it."""
        return self.child.returncode


class CannotStart(Exception):
    """The system starts no process at this moment; the message says why."""


async def supervise(name: str, run: Run, *, pause: RestartPause, **about: object) -> None:
    """Run, again and again, until `run` returns or this is cancelled. The log tells `about` with each end."""
    fault_log = FaultLog()
    seconds = pause.first_seconds
    while True:
        started = time.monotonic()
        try:
            await run()
            return
        except ChildEnded as end:
            _log.error(f"{name} ended and is started again", extra={"exit_code": end.exit_code, **about})
            seconds = pause.after(time.monotonic() - started, seconds)
        except CannotStart as error:
            _log.error(f"{name} can't be started", extra={"error": str(error), **about})
            seconds = pause.max_seconds
        except Exception as error:
            fault_log.tell_of(f"{name} failed and is started again", error, **about)
            seconds = pause.after(time.monotonic() - started, seconds)
        await asyncio.sleep(seconds)


async def run_child(
    start: Callable[[], Awaitable[Process]],
    stop: Callable[[Process], Awaitable[None]],
    *,
    until_ready: Callable[[Process], Awaitable[None]] | None = None,
) -> None:
    """One life of a child process; `stop` ends it when this is cancelled, or fails.

    Raises ChildEnded when it ends by itself, CannotStart.
    """
    try:
        child = await start()
    except OSError as error:
        raise CannotStart(str(error)) from error
    try:
        if until_ready is not None:
            await until_ready(child)
        await child.wait()
    except BaseException:
        await stop(child)
        raise
    raise ChildEnded(child)


@asynccontextmanager
async def supervised(
    name: str, run: Run, *, pause: RestartPause, **about: object
) -> AsyncIterator["asyncio.Task[None]"]:
    """`supervise` beside the block; its end cancels and waits."""
    task = asyncio.create_task(supervise(name, run, pause=pause, **about))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
