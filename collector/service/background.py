"""What runs beside the requests: delivery, sampling and the journal's housekeeping."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from collector.delivery.worker import DeliveryWorker
from collector.journal import Journal
from collector.receivers.bounds import Bounds

_log = logging.getLogger("sidespan")

SWEEP_SECONDS = 10.0

Run = Callable[[], Awaitable[None]]
RESTART_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs, and the steps of its end."""

    worker: DeliveryWorker
    bounds: Bounds
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
    worker: DeliveryWorker, journal: Journal, bounds: Bounds, *, others: Mapping[str, Run]
) -> AsyncIterator[Running]:
    """Delivery, the other consumers and the journal's housekeeping, started again if a bug ends them.

    The block's end cancels what `Running.delivered` has not waited for: it comes again at the next start.
    """
    delivering = asyncio.create_task(_supervise("delivery", worker.run))
    beside = [asyncio.create_task(_supervise("sweep", partial(_sweep, journal)))]
    beside += [asyncio.create_task(_supervise(name, run)) for name, run in others.items()]
    running = Running(worker=worker, bounds=bounds, delivering=delivering, beside=tuple(beside))
    try:
        yield running
    finally:
        running.begin_to_stop()
        for task in (delivering, *beside):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _supervise(name: str, run: Run) -> None:
    while True:
        try:
            await run()
        except Exception:
            _log.exception("a background task failed and is started again", extra={"task": name})
        else:
            return
        await asyncio.sleep(RESTART_PAUSE_SECONDS)


async def _sweep(journal: Journal) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await journal.sweep()
