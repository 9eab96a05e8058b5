"""Traces whose session, user, tags or scores a client has changed in MLflow, through the proxy.

    proxy: ids -> gathered for a moment -> MLflow: batchGetInfos -> index.label

MLflow is asked after it has answered the client, so that the index says what MLflow says. What is noted here
and lost when the service ends comes with `sidespan index backfill`.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from collector.index.delivered import delivered
from collector.index.protocol import Delivered, Index, IndexAway, IndexFailure, UnreadableTraces
from collector.journal import Consumer
from collector.mlflow.client import MAX_CONTENT_BYTES, MlflowAnswer, MlflowUnreachable
from collector.mlflow.rest import Connection, MlflowApi

_log = logging.getLogger("sidespan.index")

GATHER_SECONDS = 0.25
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0
AT_ONCE = 100
# the ids of a hundred thousand traces are 10 MB
MAX_WAITING = 100_000


@dataclass(frozen=True, slots=True)
class _Changed:
    """A trace, by MLflow's id, in a workspace."""

    trace_id: str
    workspace: str | None


@dataclass(slots=True)
class LabelFeed:
    """Tells the index until cancelled; `changed` may be called at any time."""

    index: Index
    mlflow: Connection
    # what brings scores to MLflow
    deliver: Sequence[Consumer] = ()
    _waiting: dict[_Changed, None] = field(default_factory=dict)
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self, trace_ids: Iterable[str], workspace: str | None) -> None:
        """MLflow says something else of these traces now."""
        for trace_id in trace_ids:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[_Changed(trace_id, workspace)] = None
        self._come.set()

    async def run(self) -> None:
        """Tell the index of each change."""
        while True:
            await self._come.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._come.clear()
            while self._waiting:
                changed = self._next()
                try:
                    await self._tell(changed)
                except (MlflowUnreachable, IndexAway) as error:
                    _log.debug("labels of traces can't be read now", extra={"reason": str(error)})
                    self._waiting.update(dict.fromkeys(changed))
                    await asyncio.sleep(RETRY_SECONDS)

    def _next(self) -> Sequence[_Changed]:
        """Take the first that wait, of one workspace: a change from here on is another one."""
        workspace = next(iter(self._waiting)).workspace
        found = [each for each in self._waiting if each.workspace == workspace][:AT_ONCE]
        for each in found:
            del self._waiting[each]
        return found

    async def _tell(self, changed: Sequence[_Changed]) -> None:
        """Raises MlflowUnreachable, IndexAway: they are to be told later."""
        await self.index.ready()
        trace_ids = [each.trace_id for each in changed]
        before = await delivered(self.deliver, trace_ids)
        answer = await self._api(changed[0].workspace).trace_infos(trace_ids)
        if answer.status >= 500 or answer.status == 429:
            raise MlflowUnreachable(f"it answers {answer.status}")
        await self._label(answer, before)

    async def _label(self, answer: MlflowAnswer, before: Delivered) -> None:
        if answer.status != 200 or answer.is_cut:
            _log.warning("MLflow does not tell the labels of traces", extra={"status": answer.status})
            return
        try:
            await self.index.label(answer.body, delivered=before)
        except (UnreadableTraces, IndexFailure) as error:
            _log.warning("labels of traces can't be indexed", extra={"reason": str(error)})

    def _api(self, workspace: str | None) -> MlflowApi:
        return MlflowApi(
            connection=self.mlflow,
            workspace=workspace,
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=MAX_CONTENT_BYTES,
        )
