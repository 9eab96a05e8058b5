"""What MLflow said of a trace beside its spans, brought back to it once a restore has delivered the spans.

Tags and assessments that were set in MLflow, metadata, previews, the state: MLflow takes all of it in one
request, over whatever it has made of the spans. It is sent only where something is missing, for MLflow then
takes the trace's state and duration as final. Links to runs and records of datasets name the trace by its id,
and attachments lie under it: MLflow keeps them when it deletes a trace.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.journal import Consumer
from collector.retention.archive import Archive
from collector.retention.catalogue import ArchiveState
from collector.retention.source import TraceRefused, TraceStore

_log = logging.getLogger("sidespan.retention")

AT_ONCE = 100
# MLflow's own, which clients can't set (_HANDLER_BLOCKED_TRACE_TAGS in mlflow/server/handlers.py)
MLFLOWS_TAGS = frozenset(
    {
        "mlflow.artifactLocation",
        "mlflow.trace.spansLocation",
        "mlflow.trace.archiveLocation",
        "mlflow.trace.archivalFailure",
    }
)
PLAIN_PARTS = (
    "state",
    "request_time",
    "execution_duration",
    "client_request_id",
    "request_preview",
    "response_preview",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Restored traces, until MLflow says of them what it said before. `waiting`: what brings spans to it."""

    archive: Archive
    store: TraceStore
    waiting: Sequence[Consumer]

    async def complete(self) -> int:
        """Bring back what can be by now; how many traces are left. Safe to repeat.

        Raises CleanupTrouble; OSError, ArchiveDamaged: the archive can't be read.
        """
        left, after = 0, ""
        while page := await self._page(after):
            after = page[-1]
            busy = frozenset().union(*[await each.awaiting(_bytes(page)) for each in self.waiting])
            ready = [id for id in page if bytes.fromhex(id) not in busy]
            await self._complete(ready)
            left += len(page) - len(ready)
        return left

    async def _page(self, after: str) -> list[str]:
        ids = partial(self.archive.catalogue.ids, ArchiveState.RESTORED, after=after, limit=AT_ONCE)
        return [trace_id for trace_id, _ in await asyncio.to_thread(ids)]

    async def _complete(self, trace_ids: Sequence[str]) -> None:
        if not trace_ids:
            return
        now = await self.store.infos([f"tr-{id}" for id in trace_ids])
        known = await asyncio.to_thread(self.archive.known, trace_ids)
        before = await asyncio.to_thread(self.archive.infos, list(known.values()))
        for id in trace_ids:
            found = now.get(f"tr-{id}")  # None: it was deleted meanwhile, or its spans are dead letters
            if found is not None and lacks(found.info, before[id]):
                await self._bring(before[id])
        move = partial(self.archive.catalogue.move, out_of=ArchiveState.RESTORED)
        await asyncio.to_thread(move, trace_ids, ArchiveState.RETURNED)

    async def _bring(self, info: Mapping[str, Any]) -> None:
        try:
            await self.store.describe(settable(info))
        except TraceRefused as error:
            extra = {"trace_id": info["trace_id"], "reason": str(error)}
            _log.warning("MLflow does not take what it said of a restored trace", extra=extra)


def settable(info: Mapping[str, Any]) -> dict[str, Any]:
    """What MLflow said of a trace without what it sets itself."""
    tags = {name: value for name, value in (info.get("tags") or {}).items() if name not in MLFLOWS_TAGS}
    return {**info, "tags": tags}


def lacks(info: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether MLflow says less of a trace than before, or something else. What is new doesn't count."""
    if any(info.get(part) != before.get(part) for part in PLAIN_PARTS if before.get(part) is not None):
        return True
    for kind in ("tags", "trace_metadata"):
        now = info.get(kind) or {}
        if any(now.get(name) != value for name, value in (settable(before).get(kind) or {}).items()):
            return True
    held = {each.get("assessment_id") for each in info.get("assessments") or ()}
    return any(each.get("assessment_id") not in held for each in before.get("assessments") or ())


def _bytes(trace_ids: Sequence[str]) -> frozenset[bytes]:
    return frozenset(map(bytes.fromhex, trace_ids))
