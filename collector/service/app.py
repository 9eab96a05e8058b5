"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from starlette.types import ASGIApp

from collector.alerts.opening import open_alerting
from collector.answers.opening import Working, answers_of, health_of
from collector.api.app import own_app
from collector.api.directory import OwnDirectory
from collector.api.guard import guarded
from collector.api.own_admission import OwnAdmission
from collector.api.own_routes import routes_of
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import carriers_of
from collector.delivery.otlp.opening import Backend, open_backends
from collector.files.private import close_to_others
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.index.label_feed import LabelFeed
from collector.index.opening import open_index_of
from collector.journal.opening import open_journal_of
from collector.live.feed import open_live
from collector.mlflow.opening import experiments_of, open_mlflow_of
from collector.receivers.opening import bounds_of
from collector.retention.opening import late_spans, open_archive, open_keeper
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.sampling.consumer import Sampler
from collector.service.background import Running, background
from collector.service.dispatch import dispatch
from collector.service.log_readers import readers_of
from collector.service.mirroring import answering_of, catching_up
from collector.service.mlflow_proxy import open_mlflow_access, open_mlflow_proxy
from collector.service.others_topics import router_of
from collector.service.receiving import open_receivers
from collector.service.rooted import under
from collector.settings import Role, Settings
from collector.telemetry.metrics import Metrics

# the roles that fill the index, ask it, or tell it of changes in MLflow
WITH_INDEX = {Role.INDEX, Role.QUERY, Role.PROXY}


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Running]]:
    """Everything that this process's roles need, opened downstream first and closed in reverse.

    Raises Misconfigured before it listens.
    """
    close_to_others(settings.data_dir, settings.auth.tokens_file)
    does, keep, metrics = frozenset(settings.roles), settings.sampling, Metrics()
    behind = None if keep is None else SAMPLING
    scores_to = INDEX if settings.index.enabled else None
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        mlflow = await opened(open_mlflow_of(settings))
        experiments = experiments_of(settings, mlflow)
        readers, bounds = readers_of(settings), bounds_of(settings)
        journal = await opened(open_journal_of(settings, readers, metrics, requests=bounds.count))
        carriers = sampler = index = indexer = labels = router = None
        backends: Sequence[Backend] = ()
        if Role.ROUTE in does:
            router = router_of(settings, journal, metrics)
        if does & WITH_INDEX:
            index = await opened(open_index_of(settings, journal.consumer(INDEX)))
        archive = await opened(open_archive(settings))
        if Role.DELIVER in does:
            clients = (settings, journal, mlflow, experiments, metrics)
            late = None if archive is None else late_spans(settings, archive, journal.log, index).refused
            carriers = carriers_of(*clients, behind=behind, scores_to=scores_to, archived=late)
            backends = await opened(open_backends(settings, journal, metrics, behind=behind))
        if Role.DELIVER in does and keep is not None:
            sampler = Sampler(journal.consumer(SAMPLING), journal.traces, keep, metrics)
        if Role.INDEX in does and index is not None:
            indexer = Indexer(journal.consumer(INDEX), index, mlflow, metrics)
        deliver = [journal.consumer(name) for name in (DELIVERY, LOGS)]
        if Role.PROXY in does and index is not None:
            labels = LabelFeed(index, mlflow, deliver)
        mirror = answering_of(settings, index, mlflow, metrics)
        others = {"sampling": sampler, "index": indexer, "labels": labels, "route": router, "mirror": mirror}
        beside = {**others, **catching_up(settings, index, mirror, mlflow, metrics, deliver=deliver)}
        # ends before the journal closes
        running = await opened(background(carriers, journal, bounds, backends=backends, others=beside))
        alerts = await opened(open_alerting(settings, indexer, metrics))
        access = await opened(open_mlflow_access(settings))
        proxied = open_mlflow_proxy(
            settings, access, metrics, labels=labels, answering=mirror, traffic=mlflow.traffic
        )
        proxy = await opened(proxied)
        receivers = open_receivers(settings, journal.log, bounds, access, experiments, metrics)
        receiver, grpc = await opened(receivers)
        live = await opened(open_live(index, settings.live))
        running = replace(running, grpc=grpc, live=live)
        keeping = open_keeper(settings, archive, journal, mlflow, index, carriers, access.log, metrics)
        working = Working(
            carriers=carriers, backends=backends, index=index, indexer=indexer, alerts=alerts, live=live
        )
        working = replace(working, retention=await opened(keeping), answering=mirror)
        health = health_of(settings, journal, mlflow, bounds, grpc.to_json(), working)
        answers = answers_of(settings, journal, mlflow, working, health, metrics)
        directory = OwnDirectory(access.lookup, journal.pending_traces.routes, experiments, index)
        app = own_app(answers, routes_of(settings.roles))
        own = guarded(app, settings.server, OwnAdmission(access, directory), access.log)
        yield under(settings.server.root_path, dispatch(receiver, own, proxy)), running
