"""The journal, MLflow and the health of one service, as its settings want them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from collector.answers.alerting import AlertAnswers
from collector.answers.health import ServiceHealth
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.otlp.opening import Backend, followers, holders
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.mlflow.client import Mlflow, open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import Signal
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.service.background import Running
from collector.settings import Settings
from collector.telemetry.metrics import Metrics

# look-ups must not wait behind deliveries
LOOK_UP_CONNECTIONS = 8


def health_of(
    settings: Settings,
    journal: SqliteJournal,
    mlflow: Mlflow,
    running: Running,
    indexer: Indexer | None,
    backends: Sequence[Backend],
    alerts: AlertAnswers,
) -> ServiceHealth:
    """The health of the service that these are the parts of."""
    return ServiceHealth(
        log=journal.log,
        consumer=journal.consumer(DELIVERY),
        worker=running.worker,
        logs=journal.consumer(LOGS),
        log_worker=running.log_worker,
        bounds=running.bounds,
        mlflow=mlflow,
        max_bytes=settings.journal.max_bytes,
        grpc=running.grpc.to_json(),
        indexer=indexer,
        backends=backends,
        alerts=alerts,
    )


def open_mlflow_of(settings: Settings) -> AbstractAsyncContextManager[Mlflow]:
    """The connections to MLflow."""
    connections = 2 * settings.delivery.max_in_flight + LOOK_UP_CONNECTIONS
    return open_mlflow(settings.mlflow, max_connections=connections)


def open_journal_of(settings: Settings, metrics: Metrics) -> AbstractAsyncContextManager[SqliteJournal]:
    """The journal with the consumers that the settings switch on. The index only follows."""
    spans = (DELIVERY,) if settings.sampling is None else (DELIVERY, SAMPLING)
    records = (LOGS, SAMPLING) if settings.sampling and settings.sampling.scores else (LOGS,)
    following = (INDEX,) if settings.index.enabled else ()
    return open_journal(
        settings.data_dir,
        settings=settings.journal,
        consumers=(*spans, *holders(settings, Signal.TRACES)),
        followers=(*following, *followers(settings, Signal.TRACES)),
        log_consumers=(*records, *holders(settings, Signal.LOGS)),
        log_followers=(*following, *followers(settings, Signal.LOGS)),
        keep_claims=settings.delivery.trace_memory,
        observe_commit=metrics.commit.observe,
        observe_skipped=metrics.count_skipped,
    )


def experiments_of(settings: Settings, mlflow: Mlflow) -> Experiments:
    """What is known of MLflow's experiments."""
    return Experiments(
        mlflow,
        create=settings.routing.create_experiments,
        lookup_timeout_seconds=settings.mlflow.lookup_timeout_seconds,
    )
