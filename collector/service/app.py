"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.answers.explain import explain
from collector.answers.health import Health
from collector.answers.indexed import IndexedTraces
from collector.answers.runs.source import MlflowTrouble, NoSuchRun
from collector.answers.trace_source import TraceSource
from collector.api import logs_api, page
from collector.api.access import Entrance, access_settings
from collector.api.guard import guarded
from collector.api.index import index_trouble
from collector.api.operations import operations_routes
from collector.api.runs import run_trouble
from collector.api.traces import trace_routes
from collector.delivery.mlflow.forward import parts_of
from collector.delivery.mlflow.window import CONSUMER
from collector.delivery.worker import DeliveryWorker
from collector.index.backfill import MlflowSays
from collector.index.duckdb.client import IndexAway
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.journal import Journal
from collector.journal.sqlite.writer import open_journal
from collector.mlflow.client import open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import Receipt
from collector.model.errors import Misconfigured
from collector.model.parameters import BadParameter, bad_parameter
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
    index_parts,
    keep_of,
    nothing,
    observe,
    prepare_of,
    proxy_settings,
    route_of,
    routes_of,
    run_parts,
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
        entrance = Entrance(access, partial(routes_of, journal), experiments, index)
        proxy = await stack.enter_async_context(
            open_proxy(
                upstream=upstream,
                settings=proxy_settings(settings),
                access=access,
                observe=partial(observe, metrics),
            )
        )
        health = Health(
            journal=journal,
            worker=worker,
            bounds=bounds,
            mlflow=mlflow,
            max_bytes=settings.journal.max_bytes,
            indexer=indexer,
        )
        own = Starlette(
            routes=[
                *operations_routes(journal, metrics, health.read),
                *index_parts(settings, index, journal, mlflow),
                *trace_routes(
                    TraceSource(pending=journal.find, mlflow=mlflow, route_of=partial(route_of, journal)),
                    TraceSource(pending=nothing, mlflow=mlflow),
                    partial(explain, parts=parts_of(settings.harmonise), processors=settings.processors),
                    None if index is None else IndexedTraces(index=index, journal=journal),
                ),
                *run_parts(settings, mlflow),
                *page.routes(),
            ],
            exception_handlers={
                BadParameter: bad_parameter,
                NoSuchRun: run_trouble,
                MlflowTrouble: run_trouble,
                IndexAway: index_trouble,
                MlflowSays: index_trouble,
            },
        )
        own.router.redirect_slashes = False
        receiver = otlp_http.otlp_endpoint(
            _ingest(settings, decoder, experiments, journal),
            admit=entrance.to_receiver,
            bounds=bounds,
            settings=settings.receiver,
            allowed_hosts=settings.server.allowed_hosts,
            metrics=metrics,
        )

        guarded_own = guarded(own, settings.server, entrance)
        app = _dispatch(with_cors(receiver, settings), guarded_own, proxy)
        yield under(settings.server.root_path, app), running


def _dispatch(receiver: ASGIApp, own: ASGIApp, proxy: ASGIApp) -> ASGIApp:
    """OTLP paths to the receiver, `/-/` to our own routes, everything else to the proxy."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path in otlp_http.PATHS:
            await receiver(scope, receive, send)
        elif scope["type"] == "http" and (
            path.startswith("/-/") or (path in logs_api.PATHS and scope["method"] == "POST")
        ):
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
