"""How fast MLflow is asked: behind others' requests, for a share of the time, a short time at once.

others wait        their requests go first, and ours are as short as theirs usually are
nobody waits       longer requests, which take MLflow less time for each trace
after each one     a pause in proportion to the time that MLflow took, however fast it is
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from collector.mlflow.traffic import Traffic

MAX_PAUSE_SECONDS = 30.0
# what is to be done is done in the end, though there are others all the time: this share of the time is ours
LEAST_SHARE = 0.03
# of the share that is set, what is taken while there are others
SHARE_BESIDE_OTHERS = 0.25
# how long a request may take MLflow: beside others in proportion to their usual time
QUIET_SECONDS = 0.5
BESIDE_OTHERS = 0.6
LEAST_SECONDS = 0.03
# how many requests are looked at before the next ones are larger or smaller, and by how much at most
SAMPLES = 3
MOST_GROWTH, MOST_CUT = 2.0, 0.4
FIRST_COUNT = 5.0


@dataclass(slots=True)
class RequestSize:
    """How many things to ask for at once, so that MLflow takes a certain time. One slow answer is nothing."""

    count: float = FIRST_COUNT
    _took_seconds: list[float] = field(default_factory=list)

    def learn(self, took_seconds: float, *, target_seconds: float) -> None:
        """A request for so many took so long."""
        self._took_seconds.append(took_seconds)
        if len(self._took_seconds) == SAMPLES:
            wanted = target_seconds / max(1e-6, statistics.median(self._took_seconds))
            self.count = max(1.0, self.count * min(MOST_GROWTH, max(MOST_CUT, wanted)))
            self._took_seconds.clear()


@dataclass(slots=True, kw_only=True)
class MlflowPace:
    """One for all requests to an MLflow server for which nobody waits. `share` of the time is theirs."""

    traffic: Traffic
    share: float
    _sizes: dict[tuple[str, bool], RequestSize] = field(default_factory=dict)
    _took_seconds: float = 0.0
    _not_before: float = 0.0

    def count(self, of: str, *, most: int, least: int = 1) -> int:
        """How many things of a kind to ask for at once, going by how long it took before.

        `least` of them take MLflow hardly longer than one, whatever else goes on.
        """
        return min(most, max(least, int(self._size(of).count)))

    @asynccontextmanager
    async def request(self, of: str = "", count: int = 1) -> AsyncIterator[None]:
        """MLflow is asked for so many things of a kind in the block."""
        await self._wait()
        size, target_seconds, share = self._size(of), self.target_seconds, self._share
        began = time.monotonic()
        with self.traffic.behind() as others:
            yield
        ended = time.monotonic()
        took = self._took_seconds = ended - began
        # fewer than that were all that there was; beside others' requests every one of ours takes long
        if count >= int(size.count) and not others.came:
            size.learn(took, target_seconds=target_seconds)
        self._not_before = ended + min(MAX_PAUSE_SECONDS, took * (1 / share - 1))

    async def _wait(self) -> None:
        """For the pause since the last request, in which our own work is done too, and for others."""
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        await self.traffic.quiet(at_most_seconds=min(MAX_PAUSE_SECONDS, self._took_seconds / LEAST_SHARE))

    def _size(self, of: str) -> RequestSize:
        return self._sizes.setdefault((of, self.traffic.is_busy), RequestSize())

    @property
    def _share(self) -> float:
        return self.share * (SHARE_BESIDE_OTHERS if self.traffic.is_busy else 1.0)

    @property
    def target_seconds(self) -> float:
        """How long a request may take now."""
        usual = self.traffic.usual_seconds
        if not self.traffic.is_busy or usual is None:
            return QUIET_SECONDS
        return min(QUIET_SECONDS, max(LEAST_SECONDS, BESIDE_OTHERS * usual))
