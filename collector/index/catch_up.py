"""What came to MLflow without Sidespan, brought to the index as soon as it is noticed.

    a copy of MLflow's traces was listed (collector/mirror/) -> the index is asked for each -> what it lacks
    -> the backfill, some traces at a time, MLflow resting in between

Traces on their way through the journal come by themselves, so they get some time first. No trace is tried
twice: the index may have let it go because of its size.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from collector.index.backfill import AT_ONCE, Backfill, MlflowSays
from collector.index.protocol import Index, IndexAway, IndexFailure
from collector.model.parameters import BadParameter

_log = logging.getLogger("sidespan.index")

SETTLE_SECONDS = 10.0
RETRY_SECONDS = 30.0
ASKED_AT_ONCE = 2000
# of the time that MLflow works for it
REST = 1.0
HEX_CHARACTERS = 32


@dataclass(slots=True, kw_only=True)
class CatchUp:
    """Reads at most `max_traces` of an experiment after a listing; `tell` hears how many are lacking."""

    index: Index
    backfill: Backfill
    max_traces: int
    max_age_seconds: float
    tell: Callable[[int], None]
    # experiment -> traces that the index lacks
    lacking: dict[str, int] = field(default_factory=dict)
    _listed: dict[str, Mapping[str, int]] = field(default_factory=dict)
    _tried: set[str] = field(default_factory=set)
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    def listed(self, experiment_id: str, traces: Mapping[str, int]) -> None:
        """MLflow has these traces of an experiment: ids (tr-…), and their milliseconds since 1970."""
        self._listed[experiment_id] = traces
        self._come.set()

    def states(self) -> list[dict[str, object]]:
        """For people: what the index lacks."""
        return [{"experiment_id": id, "traces": count} for id, count in self.lacking.items() if count]

    async def run(self) -> None:
        """Catch up after each listing."""
        while True:
            await self._come.wait()
            self._come.clear()
            await asyncio.sleep(SETTLE_SECONDS)
            for experiment_id in list(self._listed):
                try:
                    await self._catch_up(experiment_id, self._listed[experiment_id])
                except (MlflowSays, IndexAway, IndexFailure, BadParameter) as error:
                    _log.debug("the index waits for MLflow's traces", extra={"reason": str(error)})
                    await asyncio.sleep(RETRY_SECONDS)
                    self._come.set()

    async def _catch_up(self, experiment_id: str, traces: Mapping[str, int]) -> None:
        missing = await self._missing(experiment_id, traces)
        self._note(experiment_id, len(missing))
        wanted = [id for id in missing if id not in self._tried][: self.max_traces]
        for first in range(0, len(wanted), AT_ONCE):
            started, some = time.monotonic(), wanted[first : first + AT_ONCE]
            await self.backfill.put(experiment_id, some)
            self._tried.update(some)
            self._note(experiment_id, self.lacking[experiment_id] - len(some))
            await asyncio.sleep((time.monotonic() - started) * REST)
        if self._listed.get(experiment_id) is traces:
            del self._listed[experiment_id]

    async def _missing(self, experiment_id: str, traces: Mapping[str, int]) -> list[str]:
        """Those that the index lacks and would keep, the newest first."""
        oldest_ms = (time.time() - self.max_age_seconds) * 1000
        young = [
            id
            for id, at_ms in sorted(traces.items(), key=lambda each: -each[1])
            if at_ms > oldest_ms and _is_held(id)
        ]
        missing: list[str] = []
        for first in range(0, len(young), ASKED_AT_ONCE):
            asked = young[first : first + ASKED_AT_ONCE]
            missing += await self._lacked(experiment_id, asked)
        return missing

    async def _lacked(self, experiment_id: str, asked: Sequence[str]) -> list[str]:
        held = await self.index.labels(experiment_id, [id.removeprefix("tr-") for id in asked])
        return [id for id in asked if id.removeprefix("tr-") not in held]

    def _note(self, experiment_id: str, lacking: int) -> None:
        self.lacking[experiment_id] = lacking
        self.tell(sum(self.lacking.values()))


def _is_held(trace_id: str) -> bool:
    """Whether it is an id of OpenTelemetry's; MLflow's older SDKs made others."""
    text = trace_id.removeprefix("tr-")
    return len(text) == HEX_CHARACTERS and all(each in "0123456789abcdef" for each in text)
