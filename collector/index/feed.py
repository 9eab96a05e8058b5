"""The index as a consumer of the journal: tells it to read on, and moves the cursors.

    journal appended -> which lanes -> index.take (rows and its own cursors, in one transaction) -> commit

The index reads the journal's file itself: what goes through here are names and numbers. A death of the
process costs nothing but time; an entry that kills it again and again is passed over, for traces are
delivered without the index.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from collector.index.protocol import (
    BatchRefused,
    Index,
    IndexAway,
    IndexedBatch,
    IndexFailure,
    IndexUnreachable,
    Lane,
)
from collector.journal import Consumer, PendingLane
from collector.mlflow.client import MlflowUnreachable
from collector.mlflow.rest import Connection, MlflowApi
from collector.model.batch import Position, Route
from collector.model.experiment import ExperimentReference
from collector.telemetry.metrics import Metrics

_log = logging.getLogger("sidespan.index")

CONSUMER = "index"
BATCH_SPANS = 24_000
MAX_LANES = 200
IDLE_SECONDS = 5.0
# a first entry waits for company: a commit to the index is worth a batch
GATHER_SECONDS = 0.25
RETRY_SECONDS = 1.0
# after so many deaths one entry is taken at a time, and after so many more it is passed over
ALONE_AFTER = 2
SKIP_AFTER = 5
# rows that can't be stored are looked for in smaller and smaller batches
SMALLER, LARGER = 16, 4
NAMES_SECONDS = 60.0
NAME_TIMEOUT_SECONDS = 3.0
MAX_NAMES = 1000


@dataclass(slots=True)
class Indexer:
    """Brings the journal into the index until cancelled; only one may run over a journal."""

    consumer: Consumer
    index: Index
    mlflow: Connection
    metrics: Metrics
    _deaths: int = 0
    # of one batch; smaller while it looks for rows that can't be stored
    _limit_spans: int = BATCH_SPANS
    _stuck: str | None = None
    _oldest_unix_ns: int | None = None
    _has_looked: bool = False
    _experiments: dict[ExperimentReference, tuple[ExperimentReference, float]] = field(default_factory=dict)
    _naming: "asyncio.Task[None] | None" = None

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest entry that the index lacks."""
        if self._oldest_unix_ns is None:
            return 0.0
        return max(0.0, (time.time_ns() - self._oldest_unix_ns) / 1e9)

    @property
    def known_lag_seconds(self) -> float | None:
        """`lag_seconds`; None until it has looked for the first time."""
        return self.lag_seconds if self._has_looked else None

    @property
    def stuck(self) -> str | None:
        """Why it makes no progress although the index answers, or None."""
        return self._stuck

    async def run(self) -> None:
        """Read on whenever there is something."""
        self.metrics.index_lag.set_function(lambda: self.lag_seconds)
        try:
            while True:
                appended = self.consumer.appended
                try:
                    while await self.look():
                        pass
                except IndexAway as error:
                    _log.debug("the index is away", extra={"reason": str(error)})
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(appended.wait(), IDLE_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            if self._naming is not None:
                self._naming.cancel()

    async def look(self) -> bool:
        """Take one batch; whether there may be more. Raises IndexAway."""
        pending = await self.consumer.pending()
        self._oldest_unix_ns = pending[0].first_received_unix_ns if pending else None
        self._has_looked = True
        if not pending:
            return False
        await self.index.ready()
        limit_spans = 1 if self._deaths >= ALONE_AFTER else self._limit_spans
        alone = limit_spans == 1
        if self._deaths >= SKIP_AFTER:
            await self._pass_over(pending[0], "the index died of it")
            return True
        batch = await self._take(pending[:1] if alone else pending[:MAX_LANES], limit_spans)
        if batch is None and alone:
            await self._pass_over(pending[0], "its rows can't be stored")
        if batch is None:
            self._limit_spans = max(1, limit_spans // SMALLER)
            return True
        self._deaths = 0
        self._limit_spans = min(BATCH_SPANS, self._limit_spans * LARGER)
        await self._commit(batch)
        self._name(batch.unnamed)
        return batch.more or alone or len(pending) > MAX_LANES

    async def _take(self, lanes: Sequence[PendingLane], limit_spans: int) -> IndexedBatch | None:
        """The next batch; None: its rows can't be stored, whenever it is tried. Raises IndexAway."""
        known = [Lane(lane=each.lane, experiment=self._experiment(each.lane)) for each in lanes]
        try:
            batch = await self.index.take(known, limit_spans=limit_spans)
        except BatchRefused:
            return None
        except IndexUnreachable:
            raise
        except IndexAway:
            self._deaths += 1
            raise
        except IndexFailure as error:
            if self._stuck is None:
                _log.error("the index takes nothing", extra={"reason": str(error)})
            self._stuck = f"it takes nothing: {error}"
            raise IndexAway(self._stuck) from error
        self._stuck = None
        return batch

    async def _commit(self, batch: IndexedBatch) -> None:
        for lane, token in batch.cursors.items():
            if token:
                await self.consumer.commit(lane, through=Position(token))
        self.metrics.indexed_spans.inc(batch.spans)
        if batch.unreadable:
            self.metrics.index_skipped.inc(batch.unreadable)
        self.metrics.index_failed.inc(batch.failed)

    async def _pass_over(self, lane: PendingLane, why: str) -> None:
        _log.error(
            "an entry is passed over by the index; its spans are delivered, not indexed",
            extra={"sequence": lane.first.token, "why": why},
        )
        await self.consumer.commit(lane.lane, through=lane.first)
        self.metrics.index_skipped.inc()
        self._deaths = 0

    def _experiment(self, lane: str) -> ExperimentReference:
        route = Route.from_lane(lane)
        asked = ExperimentReference(id=route.experiment_id, name=route.experiment_name)
        known = self._experiments.get(asked)
        return known[0] if known else asked

    def _name(self, unnamed: Sequence[ExperimentReference]) -> None:
        """Look up what is new or old, aside: MLflow may be away for hours."""
        if self._naming is None or self._naming.done():
            self._naming = asyncio.create_task(self._ask_names(unnamed))

    async def _ask_names(self, unnamed: Sequence[ExperimentReference]) -> None:
        old = time.monotonic() - NAMES_SECONDS
        stale = [asked for asked, (_, at) in self._experiments.items() if at < old]
        try:
            for asked in [*dict.fromkeys([*unnamed, *stale])][:MAX_NAMES]:
                found = await self._ask_name(asked)
                if found is None:
                    continue
                self._experiments[asked] = (found, time.monotonic())
                await self.index.name(found)
        except (MlflowUnreachable, IndexAway) as error:
            _log.debug("experiments can't be named now", extra={"reason": str(error)})

    async def _ask_name(self, asked: ExperimentReference) -> ExperimentReference | None:
        """Source: MLflow REST API, experiments/get and experiments/get-by-name. Raises MlflowUnreachable."""
        api = MlflowApi(connection=self.mlflow, timeout_seconds=NAME_TIMEOUT_SECONDS)
        answer = await (
            api.experiment_named(asked.name or "") if asked.id is None else api.experiment(asked.id)
        )
        experiment = answer.json().get("experiment") if answer.status == 200 else None
        if not isinstance(experiment, dict):
            return None
        return ExperimentReference(id=str(experiment.get("experiment_id")), name=str(experiment.get("name")))
