"""The index's word on archived traces: a tag that says where the content is."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.protocol import Index, IndexAway, IndexFailure, UnreadableTraces
from collector.retention.frames import DATA
from collector.retention.rules import read_stored
from collector.spans.labels import ARCHIVED_TAG

_log = logging.getLogger("sidespan.retention")

READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Tags traces in the index; without one (None) nothing is said. Each verb raises IndexAway."""

    index: Index | None

    async def ready(self) -> None:
        """Wait until the index can be told, for a while."""
        if self.index is not None:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await self.index.ready()
            except TimeoutError as error:
                raise IndexAway(f"the index is not ready: {self.index.trouble}") from error

    async def archived(self, experiment_id: str, infos: Sequence[Mapping[str, Any]]) -> None:
        """Only the archive has these traces (MLflow's JSON, without spans)."""
        await self._label([_tagged(info, f"{experiment_id}/{read_stored(info).day}{DATA}") for info in infos])

    async def restored(self, infos: Sequence[Mapping[str, Any]]) -> None:
        """They are on their way back to MLflow."""
        await self._label(infos)

    async def _label(self, infos: Sequence[Mapping[str, Any]]) -> None:
        if self.index is not None and infos:
            try:
                await self.index.label(json.dumps({"trace_infos": list(infos)}).encode())
            except (UnreadableTraces, IndexFailure) as error:  # the catalogue says it too
                _log.warning("traces can't be marked in the index", extra={"reason": str(error)})


def _tagged(info: Mapping[str, Any], file: str) -> dict[str, Any]:
    return {**info, "tags": {**(info.get("tags") or {}), ARCHIVED_TAG: file}}
