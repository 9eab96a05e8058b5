"""The mirror's store, as the process of the index has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.index.duckdb.client import IndexClient
from collector.index.protocol import IndexAway, IndexFailure
from collector.mirror.question import MetricQuestion
from collector.mirror.search import SearchQuestion
from collector.mirror.sources import MirrorAway


@dataclass(frozen=True, slots=True)
class IndexMirror:
    """A collector.mirror.sources.MirrorRows; its rows are lost when that process ends."""

    client: IndexClient

    @property
    def life(self) -> int:
        """How often the process has started."""
        return self.client.life

    async def hold(self, document: Mapping[str, Any]) -> None:
        """As in the protocol."""
        try:
            await self.client.mirror_hold(document)
        except (IndexAway, IndexFailure) as error:
            raise MirrorAway(str(error)) from error

    async def pull(self, document: Mapping[str, Any]) -> Mapping[str, str]:
        """As in the protocol."""
        try:
            pulled = await self.client.mirror_pull(document)
        except (IndexAway, IndexFailure) as error:
            raise MirrorAway(str(error)) from error
        if "away" in pulled:
            raise MirrorAway(f"MLflow's database can't be read: {pulled['away']}")
        held: Mapping[str, str] = pulled["held"]
        return held

    async def clear(self, experiment_id: str) -> None:
        """As in the protocol."""
        try:
            await self.client.mirror_clear(int(experiment_id))
        except (IndexAway, IndexFailure) as error:
            raise MirrorAway(str(error)) from error

    async def measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        try:
            return await self.client.mirror_measure(question)
        except (IndexAway, IndexFailure) as error:
            raise MirrorAway(str(error)) from error

    async def find(self, question: SearchQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        try:
            return await self.client.mirror_find(question)
        except (IndexAway, IndexFailure) as error:
            raise MirrorAway(str(error)) from error
