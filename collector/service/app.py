"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from starlette.types import ASGIApp

from collector.alerts.opening import open_alerting
from collector.answers.health import ServiceHealth, takes_exports
from collector.answers.opening import answers_of
from collector.api.app import own_app
from collector.api.directory import OwnDirectory
from collector.api.guard import guarded
from collector.api.own_admission import OwnAdmission
from collector.api.receiver_admission import ReceiverAdmission
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import experiments_of, log_worker_of, target_of
from collector.delivery.worker import DeliveryWorker
from collector.files.private import close_to_others
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.index.label_feed import LabelFeed
from collector.index.opening import open_index_of
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.live.feed import open_live
from collector.mlflow.client import Mlflow, open_mlflow
from collector.receivers.grpc.opening import open_grpc
from collector.receivers.opening import bounds_of, http_receiver, open_reception
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.sampling.consumer import Sampler
from collector.service.background import Running, background
from collector.service.dispatch import dispatch
from collector.service.mlflow_proxy import open_mlflow_access, open_mlflow_proxy
from collector.service.rooted import under
from collector.settings import Settings
from collector.telemetry.metrics import Metrics

# look-ups must not wait behind deliveries
LOOK_UP_CONNECTIONS = 8


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Running]]:
    """Everything, opened downstream first and closed in reverse. Raises Misconfigured before it listens."""
    close_to_others(settings.data_dir, settings.auth.tokens_file)
    metrics, keep, bounds = Metrics(), settings.sampling, bounds_of(settings)
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        mlflow = await opened(_open_mlflow(settings))
        experiments = experiments_of(settings, mlflow)
        journal = await opened(_open_journal(settings, metrics))
        delivery, indexing = journal.consumer(DELIVERY), journal.consumer(INDEX)
        behind = None if keep is None else SAMPLING
        target = target_of(settings, mlflow, experiments, metrics, behind=behind)
        worker = DeliveryWorker(delivery, journal.traces, target, settings.delivery, behind=behind)
        log_worker = log_worker_of(
            *(settings, journal, mlflow, experiments, metrics),
            behind=behind,
            joins=target.joins,
            scores_to=INDEX if settings.index.enabled else None,
        )
        sampler = None if keep is None else Sampler(journal.consumer(SAMPLING), journal.traces, keep, metrics)
        index = await opened(open_index_of(settings))
        indexer = None if index is None else Indexer(indexing, index, mlflow, metrics)
        labels = None if index is None else LabelFeed(index, mlflow, (delivery, journal.consumer(LOGS)))
        running = await opened(  # ends before the journal closes
            background(worker, log_worker, journal, bounds, sampler=sampler, indexer=indexer, labels=labels)
        )
        alerting = await opened(open_alerting(settings, indexer, metrics))
        access = await opened(open_mlflow_access(settings))
        proxy = await opened(open_mlflow_proxy(settings, access, metrics, labels=labels))
        reception = await opened(
            open_reception(
                settings,
                bounds=bounds,
                admit=ReceiverAdmission(access).admit,
                exists=experiments.exists,
                append=journal.log.append,
                metrics=metrics,
            )
        )
        grpc = await opened(open_grpc(settings, reception, partial(takes_exports, bounds, journal.log)))
        live = await opened(open_live(index, settings.live))
        running = replace(running, grpc=grpc, live=live)
        health = replace(_health(settings, journal, mlflow, running, indexer), alerts=alerting)
        answers = answers_of(
            settings,
            journal=journal,
            delivery=delivery,
            records=journal.consumer(LOGS),
            indexing=indexing,
            mlflow=mlflow,
            index=index,
            health=health,
            metrics=metrics,
            alerts=alerting,
            live=live,
        )
        directory = OwnDirectory(access.lookup, journal.pending_traces.routes, experiments, index)
        own = guarded(own_app(answers), settings.server, OwnAdmission(access, directory), access.log)
        app = dispatch(http_receiver(settings, reception), own, proxy)
        yield under(settings.server.root_path, app), running


def _health(
    settings: Settings, journal: SqliteJournal, mlflow: Mlflow, running: Running, indexer: Indexer | None
) -> ServiceHealth:
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
    )


def _open_mlflow(settings: Settings) -> AbstractAsyncContextManager[Mlflow]:
    connections = 2 * settings.delivery.max_in_flight + LOOK_UP_CONNECTIONS
    return open_mlflow(settings.mlflow, max_connections=connections)


def _open_journal(settings: Settings, metrics: Metrics) -> AbstractAsyncContextManager[SqliteJournal]:
    """The journal with the consumers that the settings switch on. The index only follows."""
    return open_journal(
        settings.data_dir,
        settings=settings.journal,
        consumers=(DELIVERY,) if settings.sampling is None else (DELIVERY, SAMPLING),
        followers=(INDEX,) if settings.index.enabled else (),
        log_followers=(INDEX,) if settings.index.enabled else (),
        log_consumers=(LOGS, SAMPLING) if settings.sampling and settings.sampling.scores else (LOGS,),
        keep_claims=settings.delivery.trace_memory,
        observe_commit=metrics.commit.observe,
    )
