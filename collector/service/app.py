"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from starlette.types import ASGIApp

from collector.alerts.opening import open_alerting
from collector.answers.health import takes_exports
from collector.answers.opening import answers_of
from collector.api.app import own_app
from collector.api.directory import OwnDirectory
from collector.api.guard import guarded
from collector.api.own_admission import OwnAdmission
from collector.api.receiver_admission import ReceiverAdmission
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import log_worker_of, target_of
from collector.delivery.otlp.opening import open_backends
from collector.delivery.worker import DeliveryWorker
from collector.files.private import close_to_others
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.index.label_feed import LabelFeed
from collector.index.opening import open_index_of
from collector.receivers.grpc.opening import open_grpc
from collector.receivers.opening import bounds_of, http_receiver, open_reception
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.sampling.consumer import Sampler
from collector.service.background import Running, background
from collector.service.dispatch import dispatch
from collector.service.mlflow_proxy import open_mlflow_access, open_mlflow_proxy
from collector.service.parts import experiments_of, health_of, open_journal_of, open_mlflow_of
from collector.service.rooted import under
from collector.settings import Settings
from collector.telemetry.metrics import Metrics


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Running]]:
    """Everything, opened downstream first and closed in reverse. Raises Misconfigured before it listens."""
    close_to_others(settings.data_dir, settings.auth.tokens_file)
    metrics, keep = Metrics(), settings.sampling
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        mlflow = await opened(open_mlflow_of(settings))
        experiments = experiments_of(settings, mlflow)
        journal = await opened(open_journal_of(settings, metrics))
        delivery, indexing = journal.consumer(DELIVERY), journal.consumer(INDEX)
        behind = None if keep is None else SAMPLING
        target = target_of(settings, mlflow, experiments, metrics, behind=behind)
        worker = DeliveryWorker(delivery, journal.traces, target, settings.delivery, behind=behind)
        clients = (settings, journal, mlflow, experiments, metrics)
        scores_to = INDEX if settings.index.enabled else None
        log_worker = log_worker_of(*clients, behind=behind, joins=target.joins, scores_to=scores_to)
        sampler = None if keep is None else Sampler(journal.consumer(SAMPLING), journal.traces, keep, metrics)
        backends = await opened(open_backends(settings, journal, metrics, behind=behind))
        index = await opened(open_index_of(settings))
        indexer = None if index is None else Indexer(indexing, index, mlflow, metrics)
        labels = None if index is None else LabelFeed(index, mlflow, (delivery, journal.consumer(LOGS)))
        bounds = bounds_of(settings)
        beside = {"sampling": sampler, "index": indexer, "labels": labels}
        # ends before the journal closes
        working = background(worker, log_worker, journal, bounds, backends=backends, others=beside)
        running = await opened(working)
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
        ready = partial(takes_exports, bounds, journal.log)
        grpc = await opened(open_grpc(settings, reception, ready))
        running = replace(running, grpc=grpc)
        health = health_of(settings, journal, mlflow, running, indexer, backends, alerting)
        answers = answers_of(
            settings,
            journal=journal,
            delivery=delivery,
            records=journal.consumer(LOGS),
            indexing=indexing,
            backends=backends,
            mlflow=mlflow,
            index=index,
            health=health,
            metrics=metrics,
            alerts=alerting,
        )
        directory = OwnDirectory(access.lookup, journal.pending_traces.routes, experiments, index)
        own = guarded(own_app(answers), settings.server, OwnAdmission(access, directory), access.log)
        parts = dispatch(http_receiver(settings, reception), own, proxy)
        yield under(settings.server.root_path, parts), running
