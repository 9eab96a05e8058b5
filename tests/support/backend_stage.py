"""Another backend beside MLflow: its parts put together as the service does it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from collector.delivery.otlp.endpoint import open_endpoint
from collector.delivery.otlp.opening import target_of
from collector.delivery.worker import REAL_TIME, Clock, DeliveryWorker
from collector.model.batch import DeadLetter
from collector.settings import ForwardSettings, Settings
from tests.support.fake_backend import FakeBackend, backend_at
from tests.support.ports import free_port
from tests.support.stage import Stage, serves

TEE = "forward:tee"
FAST_FORWARD: dict[str, Any] = {
    "linger_seconds": 0.0,
    "backoff_initial_seconds": 0.02,
    "backoff_max_seconds": 0.1,
}


@dataclass(kw_only=True)
class BackendStage(Stage):
    """A stage whose journal another backend reads too; `start_backend` runs its worker."""

    span_readers: tuple[str, ...] = (TEE,)
    log_readers: tuple[str, ...] = (TEE,)
    backend: FakeBackend = field(default_factory=FakeBackend)
    backend_port: int = field(default_factory=free_port)
    backend_server: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def backend_comes(self) -> None:
        await self.backend_server.enter_async_context(backend_at(self.backend, self.backend_port))

    async def backend_goes(self) -> None:
        await self.backend_server.aclose()

    async def start_backend(
        self,
        *,
        service: Settings | None = None,
        clock: Clock = REAL_TIME,
        is_there: bool = True,
        **changes: Any,
    ) -> DeliveryWorker:
        settings = ForwardSettings(
            name="tee",
            **{"url": f"http://127.0.0.1:{self.backend_port}", "signals": ("traces", "logs")}
            | FAST_FORWARD
            | changes,
        )
        if is_there:
            await self.backend_comes()
        endpoint = await self.stack.enter_async_context(open_endpoint(settings, self.metrics))
        sampling = self.behind if settings.sampled else None
        target = target_of(settings, endpoint, service or Settings(), self.metrics, sampling=sampling)
        self.tee = self.journal.consumer(TEE)
        self.tee_worker = DeliveryWorker(
            self.tee, self.journal.traces, target, settings, behind=sampling, clock=clock
        )
        self.tee_task = asyncio.create_task(self.tee_worker.run())
        return self.tee_worker

    async def has_it_all(self) -> bool:
        is_taken = (await self.tee.state()).pending_spans == 0
        return is_taken and not serves(getattr(self, "tee_worker", None))

    async def tee_letters(self) -> list[DeadLetter]:
        return list(await self.journal.dead_letters(TEE).list())

    async def stop_backend(self) -> None:
        """As a kill does: nothing ends in order."""
        if hasattr(self, "tee_task"):
            self.tee_task.cancel()
            await asyncio.gather(self.tee_task, return_exceptions=True)

    async def close(self) -> None:
        await self.stop_backend()
        await super().close()
        await self.backend_server.aclose()
