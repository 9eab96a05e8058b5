"""Metrics in Prometheus's text format."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from collector.answers.alerting import AlertAnswers
from collector.answers.health import age_seconds
from collector.delivery.otlp.opening import Backend
from collector.journal import Consumer, SharedLog
from collector.model.errors import Unavailable
from collector.telemetry.metrics import Metrics

MEDIA_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """The metrics of one service, those of the journal as it is at this moment.

    `consumer` delivers spans, `records` log records. `counts`: this process says what the log holds,
    `shared` how far each group of its consumers is behind.
    """

    consumer: Consumer
    records: Consumer
    metrics: Metrics
    counts: bool = True
    shared: SharedLog | None = None
    alerts: AlertAnswers | None = None
    backends: Sequence[Backend] = ()

    async def read(self) -> bytes:
        """All of them, of media type MEDIA_TYPE."""
        if self.counts:
            with suppress(Unavailable):  # the last numbers stay; the part `journal` says why
                await self._count()
        if self.alerts is not None:
            await self.alerts.count()
        await self._count_backends()
        return generate_latest(self.metrics.registry)

    async def _count(self) -> None:
        state, records = await self.consumer.state(), await self.records.state()
        self.metrics.journal_bytes.set(state.size_bytes)
        self.metrics.pending_spans.set(state.pending_spans)
        self.metrics.oldest_pending.set(age_seconds(state))
        self.metrics.dead_letters.set(state.dead_letters + records.dead_letters)
        self.metrics.pending_logs.set(records.pending_spans)
        for each in await self.shared.lag() if self.shared is not None else ():
            self.metrics.log_lag.labels(group=each.group, partition=each.partition).set(each.entries)

    async def _count_backends(self) -> None:
        for backend in self.backends:
            waiting = await backend.consumer.state()
            self.metrics.forward_pending.labels(target=backend.name).set(waiting.pending_spans)
            self.metrics.forward_oldest_pending.labels(target=backend.name).set(age_seconds(waiting))
            self.metrics.forward_dead_letters.labels(target=backend.name).set(waiting.dead_letters)
