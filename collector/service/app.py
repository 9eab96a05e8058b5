"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.answers.health import ServiceHealth
from collector.answers.opening import answers_of, pending_routes
from collector.api.access import access_settings
from collector.api.app import own_app
from collector.api.directory import OwnDirectory
from collector.api.guard import guarded
from collector.api.own_admission import OwnAdmission
from collector.api.own_routes import is_own
from collector.api.receiver_admission import ReceiverAdmission
from collector.delivery.mlflow.window import CONSUMER
from collector.delivery.worker import DeliveryWorker
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.journal import Journal
from collector.journal.sqlite.writer import open_journal
from collector.mlflow.client import open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import Receipt
from collector.model.errors import Misconfigured
from collector.receivers import http as otlp_http
from collector.receivers.bounds import Bounds
from collector.receivers.decoder.client import Decoder, open_decoder
from collector.receivers.ingest import Encoded, ingest
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.sampling.consumer import Sampler
from collector.service.background import Running, background
from collector.service.parts import (
    close_to_others,
    consumers_beside,
    index_of,
    keep_of,
    observe,
    prepare_of,
    proxy_settings,
    target_of,
    upstream_of,
    with_cors,
)
from collector.service.rooted import under
from collector.settings import Settings
from collector.telemetry.metrics import Metrics
from proxy import Access, Upstream, open_access, open_proxy
from proxy.tokens import BadTokens


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Running]]:
    """Everything, opened downstream first and closed in the reverse order.

    Raises Misconfigured before anything listens.
    """
    close_to_others(settings)
    metrics = Metrics()
    keep = keep_of(settings)
    async with AsyncExitStack() as stack:
        pool = settings.delivery.max_in_flight + 8  # look-ups must not wait behind deliveries
        mlflow = await stack.enter_async_context(open_mlflow(settings.mlflow, max_connections=pool))
        journal = await stack.enter_async_context(
            open_journal(
                settings.data_dir,
                settings=settings.journal,
                consumers=(CONSUMER,) if keep is None else (CONSUMER, SAMPLING),
                followers=(INDEX,) if settings.index.enabled else (),
                keep_claims=settings.delivery.trace_memory,
                observe_commit=metrics.commit.observe,
            )
        )
        experiments = Experiments(
            mlflow,
            create=settings.routing.create_experiments,
            lookup_timeout_seconds=settings.mlflow.lookup_timeout_seconds,
        )
        target = target_of(settings, mlflow, experiments, metrics)
        behind = None if keep is None else SAMPLING
        worker = DeliveryWorker(journal, target, settings.delivery, behind=behind)
        sampler = None if keep is None else Sampler(journal, keep, metrics)
        index = await stack.enter_async_context(index_of(settings))
        indexer = None if index is None else Indexer(journal, index, mlflow, metrics)
        decoder = await stack.enter_async_context(open_decoder(settings))
        bounds = Bounds(
            max_requests=settings.receiver.max_concurrent_requests,
            max_bytes=settings.receiver.max_in_flight_bytes,
        )
        # leaves before the journal closes
        running = await stack.enter_async_context(
            background(worker, journal, bounds, others=consumers_beside(sampler, indexer))
        )
        upstream = upstream_of(settings)
        access = await stack.enter_async_context(_open_access(settings, upstream))
        directory = OwnDirectory(access.lookup, partial(pending_routes, journal), experiments, index)
        proxy = await stack.enter_async_context(
            open_proxy(
                upstream=upstream,
                settings=proxy_settings(settings),
                access=access,
                observe=partial(observe, metrics),
            )
        )
        health = ServiceHealth(
            journal=journal,
            worker=worker,
            bounds=bounds,
            mlflow=mlflow,
            max_bytes=settings.journal.max_bytes,
            indexer=indexer,
        )
        answers = answers_of(
            settings, journal=journal, mlflow=mlflow, index=index, health=health, metrics=metrics
        )
        own = guarded(own_app(answers), settings.server, OwnAdmission(access, directory), access.log)
        receiver = otlp_http.otlp_endpoint(
            _ingest(settings, decoder, experiments, journal),
            admit=ReceiverAdmission(access).admit,
            bounds=bounds,
            settings=settings.receiver,
            allowed_hosts=settings.server.allowed_hosts,
            metrics=metrics,
        )

        app = _dispatch(with_cors(receiver, settings), own, proxy)
        yield under(settings.server.root_path, app), running


def _dispatch(receiver: ASGIApp, own: ASGIApp, proxy: ASGIApp) -> ASGIApp:
    """OTLP paths to the receiver, our own routes to `own`, everything else to the proxy."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path in otlp_http.PATHS:
            await receiver(scope, receive, send)
        elif scope["type"] == "http" and is_own(scope["method"], path):
            await own(scope, receive, send)
        elif scope["type"] == "http" and otlp_http.is_astray(scope):
            await receiver(scope, receive, send)
        else:
            await proxy(scope, receive, send)

    return app


@asynccontextmanager
async def _open_access(settings: Settings, upstream: Upstream) -> AsyncIterator[Access]:
    """As `open_access`. Raises Misconfigured."""
    try:
        async with open_access(access_settings(settings), upstream) as access:
            yield access
    except BadTokens as error:
        raise Misconfigured(str(error)) from error


def _ingest(
    settings: Settings, decoder: Decoder, experiments: Experiments, journal: Journal
) -> otlp_http.Ingest:
    prepare = prepare_of(settings, decoder)

    async def take(request: Encoded, reserve: Callable[[int], None]) -> Receipt:
        return await ingest(
            request,
            prepare=prepare,
            reserve=reserve,
            exists=experiments.exists,
            append=journal.append,
        )

    return take
