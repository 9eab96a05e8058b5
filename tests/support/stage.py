"""Delivery's parts put together as the service does it, over a fake MLflow on a real socket."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.logs.window import LogDelivery
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.forward import Forward
from collector.delivery.mlflow.window import CONSUMER, Target
from collector.delivery.worker import DeliveryWorker
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.mlflow.client import open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import DeadLetter, Draft, Route, Signal
from collector.settings import DeliverySettings, JournalSettings, MlflowSettings
from collector.telemetry.metrics import Metrics
from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.logs import logs
from tests.support.otlp import all_spans, export, new_trace_id, trace_ids_of
from tests.support.ports import free_port
from tests.support.timing import patient, within

ONE, TWO = Route(experiment_id="1"), Route(experiment_id="2")
FAST: dict[str, Any] = {
    "linger_seconds": 0.0,
    "backoff_initial_seconds": 0.02,
    "backoff_max_seconds": 0.1,
    "suspect_resends": 1,
}


@dataclass
class Stage:
    """Everything that delivery needs; `start` runs a worker, `restart` another one over the same journal."""

    directory: Path
    mlflow: FakeMlflow = field(default_factory=FakeMlflow)
    port: int = field(default_factory=free_port)
    metrics: Metrics = field(default_factory=Metrics)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    server: AsyncExitStack = field(default_factory=AsyncExitStack)
    settings: DeliverySettings = field(default_factory=lambda: DeliverySettings(**FAST))
    upstream: dict[str, Any] = field(default_factory=dict)
    compress: bool = True
    retention_seconds: float = 0.0
    behind: str | None = None
    forward: Forward | None = None
    check_owners: bool = False
    # consumers beside MLflow's own
    span_readers: tuple[str, ...] = ()
    log_readers: tuple[str, ...] = ()

    async def open(self) -> None:
        self.journal: SqliteJournal = await self.stack.enter_async_context(
            open_journal(
                self.directory,
                settings=JournalSettings(min_free_disk_bytes=0, retention_seconds=self.retention_seconds),
                consumers=(CONSUMER, *([self.behind] if self.behind else []), *self.span_readers),
                log_consumers=(LOGS, *self.log_readers),
                keep_claims=1000,
            )
        )
        self.consumer = self.journal.consumer(CONSUMER)
        await self.mlflow_comes()

    async def mlflow_comes(self) -> None:
        await self.server.enter_async_context(running(self.mlflow, self.port))

    async def mlflow_goes(self) -> None:
        await self.server.aclose()

    async def start(self, **changes: Any) -> DeliveryWorker:
        settings = DeliverySettings(**FAST | changes)
        client = await self.stack.enter_async_context(
            open_mlflow(
                MlflowSettings(url=f"http://127.0.0.1:{self.port}", **self.upstream), max_connections=10
            )
        )
        self.target = Target(
            mlflow=client,
            experiments=Experiments(client, create=True, lookup_timeout_seconds=1),
            settings=settings,
            quarantine_after_crashes=3,
            compress=self.compress,
            metrics=self.metrics,
            in_flight=asyncio.Semaphore(settings.max_in_flight),
            forward=self.forward,
            sampling=self.behind,
            check_owners=self.check_owners,
        )
        worker = DeliveryWorker(self.consumer, self.journal.traces, self.target, settings, behind=self.behind)
        self.task = asyncio.create_task(worker.run())
        self.worker = worker
        return worker

    async def start_logs(self, **changes: Any) -> DeliveryWorker:
        """The worker of log records, after `start`."""
        settings = DeliverySettings(**FAST | changes)
        self.logs = self.journal.consumer(LOGS)
        self.log_target = LogDelivery(
            mlflow=self.target.mlflow,
            experiments=self.target.experiments,
            settings=settings,
            quarantine_after_crashes=3,
            metrics=self.metrics,
            spans=self.consumer,
            sampling=self.behind,
            check_owners=self.check_owners,
        )
        self.log_worker = DeliveryWorker(self.logs, self.journal.traces, self.log_target, settings)
        self.log_task = asyncio.create_task(self.log_worker.run())
        return self.log_worker

    async def append_logs(self, *records: LogRecord, route: Route = ONE) -> None:
        draft = Draft(
            lane=route.lane_of(Signal.LOGS),
            payload=logs(*records).SerializeToString(),
            span_count=len(records),
            trace_ids=frozenset(each.trace_id for each in records if each.trace_id),
        )
        await self.journal.log.append([draft])

    async def logs_are_done(self) -> bool:
        return (await self.logs.state()).pending_spans == 0 and not serves(self.log_worker)

    async def log_letters(self) -> Sequence[DeadLetter]:
        return await self.journal.dead_letters(LOGS).list()

    async def stop(self) -> None:
        self.worker.stop()
        await asyncio.wait_for(self.task, 60)

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def append(
        self, request: ExportTraceServiceRequest, route: Route = ONE, *, client: str = ""
    ) -> None:
        draft = Draft(
            lane=route.lane,
            payload=request.SerializeToString(),
            span_count=len(all_spans(request)),
            trace_ids=frozenset(trace_ids_of(request)),
            client=client,
        )
        await self.journal.log.append([draft])

    async def pending(self) -> int:
        return (await self.consumer.state()).pending_spans

    async def drained(self) -> None:
        await until(lambda: self._is_drained())

    async def _is_drained(self) -> bool:
        """Nothing is pending, and what became of the last window is counted as well."""
        return await self.pending() == 0 and not serves(getattr(self, "worker", None))

    async def waits(self) -> bool:
        return self.worker.trouble is not None

    async def has_requests(self, count: int) -> bool:
        return len(self.mlflow.requests) >= count

    async def has_letters(self, count: int) -> bool:
        return len(await self.letters()) == count

    def counted(self, metric: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(metric, labels) or 0.0

    async def until_requests(self, count: int) -> None:
        await until(lambda: self.has_requests(count))

    async def restart(self, **changes: Any) -> None:
        """As after a kill: nothing ends in order but the journal's file."""
        await self.cancel()
        await self.stack.aclose()
        await self.server.aclose()
        await self.open()
        await self.start(**changes)

    async def close(self) -> None:
        if hasattr(self, "log_task"):
            self.log_task.cancel()
            await asyncio.gather(self.log_task, return_exceptions=True)
        if hasattr(self, "task"):
            await self.cancel()
        await self.stack.aclose()
        await self.server.aclose()

    async def letters(self) -> list[DeadLetter]:
        return list(await self.journal.dead_letters(CONSUMER).list())


def serves(worker: DeliveryWorker | None) -> bool:
    return worker is not None and bool(worker._active)


@patient
async def delivers_soon(stage: Stage, route: Route, *, seconds: float = 2.0) -> None:
    """A new span of this route is in MLflow within the time, whatever else waits."""
    name = new_trace_id().hex()

    async def is_there() -> bool:
        return f"{name}-0" in stage.mlflow.names

    with within(seconds):
        await stage.append(named(name), route)
        await until(is_there)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def named(name: str, spans: int = 1) -> ExportTraceServiceRequest:
    request = export(spans=spans)
    for number, span in enumerate(all_spans(request)):
        span.name = f"{name}-{number}"
    return request


def poison(answer: Callable[[], web.Response], name: str = "poison-0") -> Any:
    """The whole request fails if the span with this name is in it."""

    def fault(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        return answer() if any(span.name == name for span in spans) else None

    return fault
