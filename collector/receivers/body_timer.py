"""How long a body may take to arrive. One timer of the event loop serves all bodies that are being read."""

import asyncio
from collections.abc import Callable

from collector.model.errors import Reason, Unavailable


class BodyTimers:
    """The times of the bodies that are being read, on one event loop."""

    def __init__(self) -> None:
        self._alarms: dict[float, _Alarm] = {}

    def within(self, seconds: float, late: tuple[float, Callable[[], None]] | None = None) -> "BodyTimer":
        """A block in which a body has to arrive; see BodyTimer."""
        return BodyTimer(self, seconds, late)

    def after(self, seconds: float) -> "_Alarm":
        """The alarm of all that wait so long."""
        alarm = self._alarms.get(seconds)
        if alarm is None:
            alarm = self._alarms[seconds] = _Alarm(seconds)
        return alarm


class BodyTimer:
    """Within its block a body has to arrive in time; else the task is cut short with Unavailable (slow_body).

    `late`: after so many seconds, if that is sooner, this is called; what it raises cuts the task short too.
    asyncio.timeout does the same and costs several times as much, on each request.
    """

    __slots__ = ("_alarm", "_error", "_late", "_seconds", "_task", "_timers")

    def __init__(
        self, timers: BodyTimers, seconds: float, late: tuple[float, Callable[[], None]] | None
    ) -> None:
        self._timers = timers
        self._seconds = seconds
        self._late = late if late and late[0] < seconds else None
        self._error: Unavailable | None = None

    def __enter__(self) -> "BodyTimer":
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._alarm = self._timers.after(self._late[0] if self._late else self._seconds)
        self._alarm.add(self)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._alarm.remove(self)
        cut = self._error
        if cut is not None and isinstance(error, asyncio.CancelledError) and self._task.uncancel() == 0:
            raise cut from None

    def ring(self) -> None:
        """The time of its alarm is over."""
        if self._late is None:
            self._cut(
                Unavailable(Reason.SLOW_BODY, f"the body did not arrive within {self._seconds:g} seconds")
            )
            return
        (after, call), self._late = self._late, None
        self._alarm = self._timers.after(self._seconds - after)
        self._alarm.add(self)
        try:
            call()
        except Unavailable as error:
            self._cut(error)

    def _cut(self, error: Unavailable) -> None:
        """End the block now, with `error`."""
        self._error = error
        self._task.cancel()


class _Alarm:
    """Rings for each that is still there so many seconds after it was added.

    Nearly all are gone by then. So the loop's timer isn't set for each, but for the first of them; when it
    goes off too early for those that are there, it is set again.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[BodyTimer, float] = {}
        self._is_set = False

    def add(self, timer: BodyTimer) -> None:
        loop = asyncio.get_running_loop()
        self._due[timer] = loop.time() + self._seconds
        if not self._is_set:
            self._is_set = True
            loop.call_later(self._seconds, self._go_off)

    def remove(self, timer: BodyTimer) -> None:
        self._due.pop(timer, None)

    def _go_off(self) -> None:
        loop = asyncio.get_running_loop()
        self._is_set = False
        while self._due:
            timer, at = next(iter(self._due.items()))
            if at > loop.time():
                self._is_set = True
                loop.call_at(at, self._go_off)
                return
            del self._due[timer]
            timer.ring()
