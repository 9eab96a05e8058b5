"""How fast MLflow is asked: behind others' requests, for a share of the time, a short time at once.

others wait        their requests go first, and ours are as short as theirs usually are
nobody waits       longer requests, which take MLflow less time for each trace
after each one     a pause in proportion to the time that MLflow took, however fast it is
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from collector.mlflow.traffic import Traffic

MAX_PAUSE_SECONDS = 30.0
# what is to be done is done in the end, though there are others all the time: this share of the time is ours
LEAST_SHARE = 0.03
# how long a request may take MLflow: beside others in proportion to their usual time
QUIET_SECONDS = 0.5
BESIDE_OTHERS = 0.6
LEAST_SECONDS = 0.03
# how much the next request may differ from the last
MOST_GROWTH, MOST_CUT = 1.5, 0.4
FIRST_COUNT = 5.0


@dataclass(slots=True, kw_only=True)
class Pace:
    """One for all requests to an MLflow server for which nobody waits. `share` of the time is theirs."""

    traffic: Traffic
    share: float
    _counts: dict[tuple[str, bool], float] = field(default_factory=dict)
    _took_seconds: float = 0.0

    def count(self, of: str, *, most: int) -> int:
        """How many things of a kind to ask for at once, going by how long it took before."""
        return max(1, min(most, int(self._counts.get((of, self.traffic.is_busy), FIRST_COUNT))))

    @asynccontextmanager
    async def request(self, of: str = "", count: int = 1) -> AsyncIterator[None]:
        """MLflow is asked for so many things of a kind in the block."""
        await self.traffic.quiet(at_most_seconds=min(MAX_PAUSE_SECONDS, self._took_seconds / LEAST_SHARE))
        is_busy = self.traffic.is_busy
        began = time.monotonic()
        with self.traffic.behind():
            yield
        took = self._took_seconds = time.monotonic() - began
        self._counts[of, is_busy] = self._next_count(of, is_busy, count, took)
        await asyncio.sleep(min(MAX_PAUSE_SECONDS, took * (1 / self.share - 1)))

    def _next_count(self, of: str, is_busy: bool, count: int, took_seconds: float) -> float:
        before = self._counts.get((of, is_busy), FIRST_COUNT)
        wanted = self.target_seconds(is_busy) / max(took_seconds, 1e-6)
        if count < int(before) and wanted > 1:  # it was all that there was
            return before
        return max(1.0, count * min(MOST_GROWTH, max(MOST_CUT, wanted)))

    def target_seconds(self, is_busy: bool) -> float:
        """How long a request may take."""
        usual = self.traffic.usual_seconds
        if not is_busy or usual is None:
            return QUIET_SECONDS
        return min(QUIET_SECONDS, max(LEAST_SECONDS, BESIDE_OTHERS * usual))
