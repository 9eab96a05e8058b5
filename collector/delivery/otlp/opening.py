"""The other backends of one service, from the settings: each with a consumer, a worker and an endpoint."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from collector.delivery.otlp.copy import copier
from collector.delivery.otlp.endpoint import OtlpEndpoint, open_endpoint
from collector.delivery.otlp.selection import selection
from collector.delivery.otlp.window import OtlpTarget
from collector.delivery.settle import TargetHealth
from collector.delivery.worker import DeliveryWorker
from collector.journal import Consumer, Journal, Subscriptions
from collector.model.batch import Signal
from collector.processors.redact import REDACTION_FAILED
from collector.settings import ForwardSettings, Settings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

_log = logging.getLogger("sidespan.delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Another backend, as the service runs and asks it."""

    name: str
    url: str
    consumer: Consumer
    worker: DeliveryWorker


def holders(settings: Settings, signal: Signal) -> tuple[str, ...]:
    """The consumers of this signal for which the journal keeps entries until it is full."""
    return _readers(settings, signal, "refuse")


def followers(settings: Settings, signal: Signal) -> tuple[str, ...]:
    """The consumers of this signal for which it keeps them while it is less than half full."""
    return _readers(settings, signal, "skip")


def _readers(settings: Settings, signal: Signal, when_full: str) -> tuple[str, ...]:
    found = (each for each in settings.forward if each.when_full == when_full and signal in each.signals)
    return tuple(each.consumer for each in found)


@asynccontextmanager
async def open_backends(
    settings: Settings, journal: Journal, metrics: Metrics, *, behind: str | None
) -> AsyncIterator[Sequence[Backend]]:
    """All of them, until the block ends. `behind`: the consumer that decides which traces are forwarded.

    To be opened before anything new is appended: a backend that is new gets what comes from now on. Raises
    Misconfigured.
    """
    async with AsyncExitStack() as stack:
        endpoints = [
            await stack.enter_async_context(open_endpoint(each, metrics)) for each in settings.forward
        ]
        _tell(await journal.subscribe([each.consumer for each in settings.forward]))
        yield [
            _backend(each, endpoint, settings, journal, metrics, behind=behind)
            for each, endpoint in zip(settings.forward, endpoints, strict=True)
        ]


def _backend(
    forward: ForwardSettings,
    endpoint: OtlpEndpoint,
    settings: Settings,
    journal: Journal,
    metrics: Metrics,
    *,
    behind: str | None,
) -> Backend:
    sampling = behind if forward.sampled else None
    target = target_of(forward, endpoint, settings, metrics, sampling=sampling)
    consumer = journal.consumer(forward.consumer)
    worker = DeliveryWorker(consumer, journal.traces, target, forward, behind=sampling)
    return Backend(name=forward.name, url=forward.url, consumer=consumer, worker=worker)


def target_of(
    forward: ForwardSettings,
    endpoint: OtlpEndpoint,
    settings: Settings,
    metrics: Metrics,
    *,
    sampling: str | None,
) -> OtlpTarget:
    """What a worker brings windows to."""
    selected, fault_log = selection(forward), FaultLog()
    copy = copier(
        forward,
        selected,
        harmonise=settings.harmonise,
        processors=settings.processors,
        is_sampled=sampling is not None,
        on_bug=partial(fault_log.tell_of, REDACTION_FAILED),
    )
    return OtlpTarget(
        endpoint=endpoint,
        selection=selected,
        copy=copy,
        metrics=metrics,
        quarantine_after_crashes=settings.journal.quarantine_after_crashes,
        health=TargetHealth(target=forward.name, may_repeat=False),
        sampling=sampling,
        fault_log=fault_log,
    )


def _tell(changes: Subscriptions) -> None:
    for name in sorted(changes.begun):
        _log.info("a new target gets what arrives from now on", extra={"target": name})
    for name, letters in sorted(changes.ended.items()):
        told = {"target": name, "dead_letters": letters}
        _log.warning("a target is gone from the settings; what waited for it is deleted", extra=told)
