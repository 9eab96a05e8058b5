"""One trace from the index: in milliseconds, if the index is sure to have all of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from collector.index.protocol import Index, IndexAway, IndexFailure, QueryTimedOut, TraceQuery
from collector.journal import CannotTell, Consumer, PendingTraces, SharedLog
from collector.model.errors import Unavailable
from collector.spans.summary_models import RowsOfSpans, ScoreRow


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedTraces:
    """The index, as far as single traces are asked of it. Answers are summaries as JSON.

    `shared`: the log, where other processes may be those that index it.
    """

    index: Index
    consumer: Consumer
    pending: PendingTraces
    shared: SharedLog | None = None

    async def whole(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None
    ) -> bytes | None:
        """The trace, if it is in there with its root, without gaps or cut texts, and nothing of it waits."""
        if await self._may_wait(bytes.fromhex(trace_id)):
            return None
        return await self._ask(trace_id, rows, experiments, whole=True, incomplete=None)

    async def anything(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None, why: str
    ) -> bytes | None:
        """What the index has of it, where nobody else has more; `why` says so in the answer."""
        return await self._ask(trace_id, rows, experiments, whole=False, incomplete=why)

    async def scores(self, trace_id: str, *, experiments: Sequence[str] | None) -> Sequence[ScoreRow]:
        """The scores of a trace that the index has; none if it can't be asked."""
        allowed = None if experiments is None else frozenset(experiments)
        try:
            found = await self.index.scores(trace_id, experiment_ids=allowed)
        except (IndexAway, IndexFailure, QueryTimedOut):
            return ()
        return [ScoreRow(**each) for each in json.loads(found)]

    async def _may_wait(self, trace_id: bytes) -> bool:
        """Whether the index may lack something of the trace that the journal holds."""
        if self.shared is not None:
            return await self._is_behind(self.shared, trace_id)
        waiting = {lane.lane for lane in await self.consumer.pending()}
        if not waiting:
            return False
        routes = await self.pending.routes(trace_id)
        return isinstance(routes, CannotTell) or not waiting.isdisjoint(route.lane for route in routes)

    async def _is_behind(self, log: SharedLog, trace_id: bytes) -> bool:
        """Whether anything of the trace's partition waits: other processes may be those that index it."""
        partition = log.partition_of(trace_id)
        try:
            lags = await log.lag()
        except Unavailable:
            return True
        return any(
            each.entries for each in lags if (each.group, each.partition) == (self.consumer.name, partition)
        )

    async def _ask(
        self,
        trace_id: str,
        rows: RowsOfSpans,
        experiments: Sequence[str] | None,
        *,
        whole: bool,
        incomplete: str | None,
    ) -> bytes | None:
        query = TraceQuery(
            trace_id=trace_id,
            max_spans=rows.most,
            omit_empty=rows.omit_empty,
            experiment_ids=None if experiments is None else frozenset(experiments),
            whole=whole,
            incomplete=incomplete,
        )
        try:
            return await self.index.trace(query)
        except (IndexAway, IndexFailure, QueryTimedOut):
            return None
