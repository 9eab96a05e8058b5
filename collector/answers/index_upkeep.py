"""What those who run the service ask of the index itself: what it holds, and to read it in again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from collector.answers.errors import AnswerUnavailable
from collector.answers.many_traces import index_off
from collector.index.backfill import Backfill
from collector.index.protocol import Index, QueryTimedOut
from collector.journal import Consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUpkeep:
    """Without an index (None) each verb raises AnswerUnavailable."""

    index: Index | None
    consumer: Consumer
    backfiller: Backfill | None

    async def state(self) -> dict[str, Any]:
        """Traces, spans and size, in all and by experiment. Raises IndexAway."""
        if self.index is None:
            raise index_off()
        return asdict(await self.index.state()) | {"trouble": self.index.trouble}

    async def verify(self, experiment_ids: Sequence[str]) -> list[dict[str, Any]]:
        """As Backfill.verify. Raises BadParameter, AnswerUnavailable, MlflowSays, IndexAway."""
        if self.backfiller is None:
            raise index_off()
        try:
            return await self.backfiller.verify(experiment_ids)
        except QueryTimedOut as error:
            raise AnswerUnavailable(error.parameter, error.value, str(error)) from error

    async def backfill(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """As Backfill.step. Raises BadParameter, MlflowSays, IndexAway."""
        if self.backfiller is None:
            raise index_off()
        return await self.backfiller.step(document)

    async def rebuild(self) -> int:
        """Have everything that the journal holds come again; how many entries. Raises IndexAway."""
        if self.index is None:
            raise index_off()
        await self.index.forget()
        return await self.consumer.replay(since_unix_ns=0)
