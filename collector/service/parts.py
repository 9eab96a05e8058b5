"""Parts of the service that need several folders: who reads the log, MLflow, the health."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from collector.answers.health import ServiceHealth, takes_exports
from collector.api.receiver_admission import ReceiverAdmission
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import Carriers
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.index.protocol import Index
from collector.journal import Journal, Log
from collector.journal.opening import LogReaders
from collector.mlflow.client import Mlflow, open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import Receipt
from collector.receivers.bounds import InFlightBounds
from collector.receivers.foreign import foreign_drafts
from collector.receivers.grpc.opening import NOT_RECEIVING, GrpcDoor, open_grpc
from collector.receivers.http import no_receiver
from collector.receivers.opening import http_receiver, open_reception, rules_of
from collector.receivers.prepare import Prepared
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.service.background import Running
from collector.settings import Role, Settings
from collector.telemetry.metrics import Metrics
from proxy import Access

if TYPE_CHECKING:  # its client is an extra
    from collector.journal.kafka.foreign import ForeignTopics

# look-ups must not wait behind deliveries
LOOK_UP_CONNECTIONS = 8


def readers_of(settings: Settings) -> LogReaders:
    """The consumers that the settings switch on. The index only follows."""
    consumers = (DELIVERY,) if settings.sampling is None else (DELIVERY, SAMPLING)
    followers = (INDEX,) if settings.index.enabled else ()
    samples_scores = settings.sampling is not None and settings.sampling.scores
    delivering = {*consumers, LOGS} if Role.DELIVER in settings.roles else set()
    indexing = set(followers) if Role.INDEX in settings.roles else set()
    return LogReaders(
        consumers=consumers,
        followers=followers,
        log_consumers=(LOGS, SAMPLING) if samples_scores else (LOGS,),
        log_followers=followers,
        here=frozenset(delivering | indexing),
    )


def router_of(settings: Settings, journal: Journal, metrics: Metrics) -> "ForeignTopics | None":
    """What brings others' topics into the log, if the settings name some."""
    if not settings.kafka.foreign_topics:
        return None
    from collector.journal.kafka.client import KafkaConnection
    from collector.journal.kafka.foreign import ForeignTopics

    def count(prepared: Prepared) -> None:
        spans = sum(draft.span_count for _, draft in prepared.drafts)
        metrics.count_receipt(Receipt(accepted_spans=spans, rejections=tuple(prepared.rejections)))

    return ForeignTopics(
        KafkaConnection(settings.log_place, settings.kafka),
        prepare=foreign_drafts(rules_of(settings), count=count),
        refusing=lambda: journal.log.refusing,
    )


@asynccontextmanager
async def open_receivers(
    settings: Settings,
    log: Log,
    bounds: InFlightBounds,
    access: Access,
    experiments: Experiments,
    metrics: Metrics,
) -> AsyncIterator[tuple[ASGIApp, GrpcDoor]]:
    """OTLP over HTTP and gRPC, or what refuses it where there is no role for it. Raises Misconfigured."""
    if Role.RECEIVE not in settings.roles:
        yield no_receiver, NOT_RECEIVING
        return
    reception = open_reception(
        settings,
        bounds=bounds,
        admit=ReceiverAdmission(access).admit,
        exists=experiments.exists,
        append=log.append,
        metrics=metrics,
    )
    ready = partial(takes_exports, bounds, log)
    async with reception as opened, open_grpc(settings, opened, ready) as grpc:
        yield http_receiver(settings, opened), grpc


def _max_bytes(settings: Settings) -> int:
    """What the log may hold before it refuses."""
    is_embedded = settings.log_place.engine.is_embedded
    return settings.journal.max_bytes if is_embedded else settings.kafka.max_lag_bytes


def health_of(
    settings: Settings,
    journal: Journal,
    mlflow: Mlflow,
    running: Running,
    carriers: Carriers | None,
    index: Index | None,
    indexer: Indexer | None,
) -> ServiceHealth:
    return ServiceHealth(
        log=journal.log,
        consumer=journal.consumer(DELIVERY),
        logs=journal.consumer(LOGS),
        bounds=running.bounds,
        mlflow=mlflow,
        max_bytes=_max_bytes(settings),
        grpc=running.grpc.to_json(),
        receives=Role.RECEIVE in settings.roles,
        counts=settings.counts,
        worker=None if carriers is None else carriers.spans,
        log_worker=None if carriers is None else carriers.records,
        index=index,
        indexer=indexer,
    )


def open_mlflow_of(settings: Settings) -> AbstractAsyncContextManager[Mlflow]:
    connections = 2 * settings.delivery.max_in_flight + LOOK_UP_CONNECTIONS
    return open_mlflow(settings.mlflow, max_connections=connections)


def experiments_of(settings: Settings, mlflow: Mlflow) -> Experiments:
    return Experiments(
        mlflow,
        create=settings.routing.create_experiments,
        lookup_timeout_seconds=settings.mlflow.lookup_timeout_seconds,
    )
