"""What runs beside the requests: delivery, sampling and the journal's housekeeping."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from collector.delivery.opening import Carriers
from collector.delivery.otlp.opening import Backend
from collector.delivery.worker import DeliveryWorker
from collector.index.catch_up import CatchUp
from collector.index.feed import Indexer
from collector.index.label_feed import LabelFeed
from collector.journal import Journal
from collector.live.feed import LiveFeed
from collector.mirror.answering import MirrorAnswering
from collector.receivers.bounds import InFlightBounds
from collector.receivers.grpc.opening import NO_GRPC, GrpcDoor
from collector.sampling.consumer import Sampler
from collector.telemetry.supervision import RestartPause, Run, supervise

if TYPE_CHECKING:  # its client is an extra
    from collector.journal.kafka.foreign import ForeignTopics

SWEEP_SECONDS = 10.0

RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs, and the steps of its end."""

    workers: "tuple[DeliveryWorker, ...]"
    bounds: InFlightBounds
    delivering: "tuple[asyncio.Task[None], ...]"
    beside: "tuple[asyncio.Task[None], ...]"
    grpc: GrpcDoor = NO_GRPC
    live: LiveFeed | None = None

    def begin_to_stop(self) -> None:
        """Nothing new is begun behind the journal, and nobody follows it; exports are still taken."""
        if self.live is not None:
            self.live.stop()
        self.bounds.stopping = True
        for worker in self.workers:
            worker.stop()
        for task in self.beside:
            task.cancel()

    async def delivered(self, *, seconds: float) -> None:
        """Wait until the requests in flight have their answers and the cursors are written."""
        if self.delivering:
            await asyncio.wait(self.delivering, timeout=seconds)

    async def leave_grpc(self, *, seconds: float) -> None:
        """Take no new calls over gRPC, and answer those that are there."""
        if self.grpc.server is not None:
            await self.grpc.server.leave(seconds)

    def refuse(self) -> None:
        """The time is over: exports get 503, those in flight as soon as they are cancelled."""
        self.bounds.draining = True
        if self.grpc.server is not None:
            self.grpc.server.cut()


@asynccontextmanager
async def background(
    carriers: Carriers | None,
    journal: Journal,
    bounds: InFlightBounds,
    *,
    backends: Sequence[Backend],
    others: "Mapping[str, Sampler | Indexer | LabelFeed | ForeignTopics | MirrorAnswering | CatchUp | None]",
) -> AsyncIterator[Running]:
    """What this process does of delivery, the other consumers and the journal's housekeeping.

    Each is started again if a bug ends it. The block's end cancels what `Running.delivered` has not waited
    for: it comes again at the next start.
    """
    workers = {} if carriers is None else {"delivery": carriers.spans, "logs": carriers.records}
    workers |= {each.consumer.name: each.worker for each in backends}
    delivering = tuple(_start(name, worker.run) for name, worker in workers.items())
    beside = [_start("sweep", partial(_sweep, journal))]
    beside += [_start(name, consumer.run) for name, consumer in others.items() if consumer is not None]
    running = Running(
        workers=tuple(workers.values()), bounds=bounds, delivering=delivering, beside=tuple(beside)
    )
    try:
        yield running
    finally:
        running.begin_to_stop()
        for task in (*delivering, *beside):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _start(name: str, run: Run) -> "asyncio.Task[None]":
    return asyncio.create_task(supervise("a background task", run, pause=RESTART_PAUSE, task=name))


async def _sweep(journal: Journal) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await journal.sweep()
