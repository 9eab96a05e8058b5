"""What runs beside the requests: delivery, sampling and the journal's housekeeping."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

from collector.delivery.worker import DeliveryWorker
from collector.journal import Journal

_log = logging.getLogger("sidespan")

SWEEP_SECONDS = 10.0

Run = Callable[[], Awaitable[None]]
RESTART_PAUSE_SECONDS = 1.0


@asynccontextmanager
async def background(
    worker: DeliveryWorker, journal: Journal, *, stop_seconds: float, others: Mapping[str, Run]
) -> AsyncIterator[None]:
    """Delivery, the other consumers and the journal's housekeeping, started again if a bug ends them."""
    delivering = asyncio.create_task(_supervise("delivery", worker.run))
    beside = [asyncio.create_task(_supervise("sweep", partial(_sweep, journal)))]
    beside += [asyncio.create_task(_supervise(name, run)) for name, run in others.items()]
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait([delivering], timeout=stop_seconds)
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
