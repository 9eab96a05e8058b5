"""What runs beside the requests: delivery, sampling and the journal's housekeeping."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from collector.delivery.worker import DeliveryWorker
from collector.journal import Journal
from collector.receivers.bounds import InFlightBounds
from collector.telemetry.supervision import RestartPause, Run, supervise

SWEEP_SECONDS = 10.0

RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs, and the steps of its end."""

    worker: DeliveryWorker
    bounds: InFlightBounds
    delivering: "asyncio.Task[None]"
    beside: "tuple[asyncio.Task[None], ...]"

    def begin_to_stop(self) -> None:
        """Nothing new is begun behind the journal; exports are still taken."""
        self.bounds.stopping = True
        self.worker.stop()
        for task in self.beside:
            task.cancel()

    async def delivered(self, *, seconds: float) -> None:
        """Wait until the requests to MLflow in flight have their answers and the cursors are written."""
        await asyncio.wait([self.delivering], timeout=seconds)

    def refuse(self) -> None:
        """The time is over: exports get 503, those in flight as soon as they are cancelled."""
        self.bounds.draining = True


@asynccontextmanager
async def background(
    worker: DeliveryWorker, journal: Journal, bounds: InFlightBounds, *, others: Mapping[str, Run]
) -> AsyncIterator[Running]:
    """Delivery, the other consumers and the journal's housekeeping, started again if a bug ends them.

    The block's end cancels what `Running.delivered` has not waited for: it comes again at the next start.
    """
    delivering = _start("delivery", worker.run)
    beside = [_start("sweep", partial(_sweep, journal)), *(_start(name, run) for name, run in others.items())]
    running = Running(worker=worker, bounds=bounds, delivering=delivering, beside=tuple(beside))
    try:
        yield running
    finally:
        running.begin_to_stop()
        for task in (delivering, *beside):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _start(name: str, run: Run) -> "asyncio.Task[None]":
    return asyncio.create_task(supervise("a background task", run, pause=RESTART_PAUSE, task=name))


async def _sweep(journal: Journal) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await journal.sweep()
