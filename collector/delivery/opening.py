"""Delivery with what it needs, from the settings."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector.delivery.logs.window import LogDelivery
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.forward import forwarder
from collector.delivery.mlflow.joined import Joins
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.mlflow.window import Archived, Target
from collector.delivery.worker import DeliveryWorker
from collector.journal import Journal
from collector.mlflow.client import Mlflow
from collector.mlflow.experiments import Experiments
from collector.settings import Settings, is_loopback
from collector.settings.processors import LimitSettings
from collector.spans.scores import MAX_EXPLANATION_CHARACTERS
from collector.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriers:
    """The workers that bring the log to MLflow: spans, and log records."""

    spans: DeliveryWorker
    records: DeliveryWorker
    joins: Joins


def carriers_of(
    settings: Settings,
    journal: Journal,
    mlflow: Mlflow,
    experiments: Experiments,
    metrics: Metrics,
    *,
    behind: str | None,
    scores_to: str | None,
    archived: Archived | None = None,
) -> Carriers:
    """Both workers. `behind`: the consumer that decides which traces are forwarded; `scores_to` as below.

    `archived`: those of some traces whose spans are not to be delivered, for they are in the archive.
    """
    target = target_of(settings, mlflow, experiments, metrics, behind=behind)
    target.archived = archived
    spans = journal.consumer(DELIVERY)
    return Carriers(
        spans=DeliveryWorker(spans, journal.traces, target, settings.delivery, behind=behind),
        records=log_worker_of(
            *(settings, journal, mlflow, experiments, metrics),
            behind=behind,
            joins=target.joins,
            scores_to=scores_to,
        ),
        joins=target.joins,
    )


def target_of(
    settings: Settings, mlflow: Mlflow, experiments: Experiments, metrics: Metrics, *, behind: str | None
) -> Target:
    """MLflow as delivery sees it. `behind`: the consumer that decides which traces are forwarded."""
    return Target(
        mlflow=mlflow,
        experiments=experiments,
        settings=settings.delivery,
        quarantine_after_crashes=settings.journal.quarantine_after_crashes,
        metrics=metrics,
        compress=_compress(settings),
        forward=forwarder(settings.harmonise, settings.processors),
        sampling=behind,
        scores_to=LOGS,
        check_owners=settings.auth.mode == "clients",
        in_flight=asyncio.Semaphore(settings.delivery.max_in_flight),
    )


def log_worker_of(
    settings: Settings,
    journal: Journal,
    mlflow: Mlflow,
    experiments: Experiments,
    metrics: Metrics,
    *,
    behind: str | None,
    joins: Joins,
    scores_to: str | None,
) -> DeliveryWorker:
    """What brings log records to MLflow. `behind`: the consumer that decides which traces are forwarded.

    `joins` are those of delivery's target. `scores_to`: the consumer that is told where MLflow has put scores
    of sessions and responses.
    """
    target = LogDelivery(
        mlflow=mlflow,
        experiments=experiments,
        settings=settings.delivery,
        quarantine_after_crashes=settings.journal.quarantine_after_crashes,
        metrics=metrics,
        spans=journal.consumer(DELIVERY),
        compress=_compress(settings),
        forward=forwarder(settings.harmonise, settings.processors),
        sampling=behind,
        scores_to=scores_to,
        check_owners=settings.auth.mode == "clients",
        joins=joins,
        max_characters=min([MAX_EXPLANATION_CHARACTERS, *_bounds_on_values(settings)]),
        in_flight=asyncio.Semaphore(settings.delivery.max_in_flight),
    )
    return DeliveryWorker(journal.consumer(LOGS), journal.traces, target, settings.delivery)


def _bounds_on_values(settings: Settings) -> list[int]:
    """The lengths that `limit` processors leave to a text."""
    limits = (each for each in settings.processors if isinstance(each, LimitSettings))
    return [each.value_characters for each in limits if each.value_characters is not None]


def _compress(settings: Settings) -> bool:
    # on one machine gzip costs both sides more than the bytes it saves
    if settings.delivery.compression == "auto":
        return not is_loopback(urlsplit(settings.mlflow.url).hostname or "")
    return settings.delivery.compression == "gzip"
