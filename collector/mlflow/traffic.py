"""What MLflow is asked by somebody who waits, so that work for which nobody waits can keep out of the way.

MLflow is one Python process, or a few: a request that takes it half a second slows down whatever comes
meanwhile by as much.
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

REMEMBERED = 200
# for so long after a request others may follow
BUSY_SECONDS = 10.0


@dataclass(slots=True)
class Others:
    """Whether somebody waited for MLflow at the same time."""

    came: bool


class Traffic:
    """The requests to one MLflow server that this process sees: the proxy's, delivery's and look-ups.

    Those in `behind` are none of them.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ended_at = float("-inf")
        self._begun = self._behind = self._behind_begun = 0
        self._undisturbed: deque[float] = deque(maxlen=REMEMBERED)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Somebody waits for MLflow in the block."""
        began, is_alone, behind_begun = time.monotonic(), not self._behind, self._behind_begun
        self.in_flight += 1
        self._begun += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._quiet.set()
            self._ended_at = time.monotonic()
            if is_alone and behind_begun == self._behind_begun:
                self._undisturbed.append(self._ended_at - began)

    @contextmanager
    def behind(self) -> Iterator["Others"]:
        """MLflow works in the block for nobody who waits; yields whether somebody came meanwhile."""
        self._behind += 1
        self._behind_begun += 1
        others, begun = Others(came=bool(self.in_flight)), self._begun
        try:
            yield others
        finally:
            others.came |= self._begun > begun
            self._behind -= 1

    async def quiet(self, *, at_most_seconds: float) -> None:
        """Wait until nobody waits for MLflow, or for so long."""
        try:
            async with asyncio.timeout(at_most_seconds):
                await self._quiet.wait()
        except TimeoutError:
            return

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for MLflow, or did a short time ago."""
        return bool(self.in_flight) or time.monotonic() - self._ended_at < BUSY_SECONDS

    @property
    def usual_seconds(self) -> float | None:
        """The median of the latest requests that nothing in `behind` disturbed; None: there were none."""
        return statistics.median(self._undisturbed) if self._undisturbed else None
