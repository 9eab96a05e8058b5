"""The composition root: settings in, an ASGI app out. The only module that knows every part; no logic."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from collector import page
from collector.background import background
from collector.batch import Receipt, Route
from collector.delivery.forward import forwarder, parts_of
from collector.delivery.window import CONSUMER, Target
from collector.delivery.worker import DeliveryWorker
from collector.experiments import Experiments
from collector.explain import explain
from collector.guard import guarded
from collector.health import Health
from collector.ingest import Encoded, ingest
from collector.journal import Journal
from collector.journal.writer import open_journal
from collector.metrics import Metrics
from collector.mlflow import Mlflow, authorization, open_mlflow, tls
from collector.operations import BadParameter, bad_parameter, operations_routes
from collector.process.keep_settings import KeepSettings
from collector.process.redact import redactor
from collector.receivers import http as otlp_http
from collector.receivers.bounds import Bounds
from collector.sampling import CONSUMER as SAMPLING
from collector.sampling import Sampler
from collector.settings import Settings, is_loopback
from collector.summaries.api import trace_routes
from collector.summaries.source import TraceSource
from proxy import Observation, Upstream, open_proxy

# tells the app that the process is about to stop: new exports are refused, windows in flight finish
Drain = Callable[[], None]


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[ASGIApp, Drain]]:
    """Everything, opened downstream first and closed in the reverse order.

    Raises Misconfigured before anything listens.
    """
    metrics = Metrics()
    keep = _keep(settings)
    async with AsyncExitStack() as stack:
        pool = settings.delivery.max_in_flight + 8  # look-ups must not wait behind deliveries
        mlflow = await stack.enter_async_context(open_mlflow(settings.mlflow, max_connections=pool))
        journal = await stack.enter_async_context(
            open_journal(
                settings.data_dir,
                settings=settings.journal,
                consumers=(CONSUMER,) if keep is None else (CONSUMER, SAMPLING),
                keep_claims=settings.delivery.trace_memory,
                observe_commit=metrics.commit.observe,
            )
        )
        experiments = Experiments(
            mlflow,
            create=settings.routing.create_experiments,
            lookup_timeout_seconds=settings.mlflow.lookup_timeout_seconds,
        )
        target = _target(settings, mlflow, experiments, metrics)
        behind = None if keep is None else SAMPLING
        worker = DeliveryWorker(journal, target, settings.delivery, behind=behind)
        sampler = None if keep is None else Sampler(journal, keep, metrics)
        bounds = Bounds(
            max_requests=settings.receiver.max_concurrent_requests,
            max_bytes=settings.receiver.max_in_flight_bytes,
        )
        # leaves before the journal closes: windows in flight end at a clean cursor, within the bound
        await stack.enter_async_context(
            background(worker, journal, stop_seconds=settings.server.shutdown_seconds / 2, sampler=sampler)
        )
        proxy = await stack.enter_async_context(
            open_proxy(
                upstream=_upstream(settings),
                allowed_hosts=settings.server.allowed_hosts,
                public_origins=settings.server.public_origins,
                trusted_proxies=settings.server.trusted_proxies,
                observe=partial(_observe, metrics),
            )
        )
        health = Health(
            journal=journal,
            worker=worker,
            bounds=bounds,
            mlflow=mlflow,
            max_bytes=settings.journal.max_bytes,
        )
        own = Starlette(
            routes=[
                *operations_routes(journal, metrics, health.read),
                *trace_routes(
                    TraceSource(pending=journal.find, mlflow=mlflow, route_of=partial(_route_of, journal)),
                    partial(explain, parts=parts_of(settings.harmonise), processors=settings.processors),
                ),
                *page.routes(),
            ],
            exception_handlers={BadParameter: bad_parameter},
        )
        own.router.redirect_slashes = False
        receiver = otlp_http.otlp_endpoint(
            _ingest(settings, experiments, journal),
            bounds=bounds,
            settings=settings.receiver,
            allowed_hosts=settings.server.allowed_hosts,
            metrics=metrics,
        )

        def drain() -> None:
            bounds.draining = True
            worker.stop()

        yield _dispatch(_with_cors(receiver, settings), guarded(own, settings.server), proxy), drain


def _dispatch(receiver: ASGIApp, own: ASGIApp, proxy: ASGIApp) -> ASGIApp:
    """OTLP paths to the receiver, `/-/` to our own routes, everything else to the proxy."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path in otlp_http.PATHS:
            await receiver(scope, receive, send)
        elif scope["type"] == "http" and path.startswith("/-/"):
            await own(scope, receive, send)
        else:
            await proxy(scope, receive, send)

    return app


def _with_cors(receiver: ASGIApp, settings: Settings) -> ASGIApp:
    if not settings.receiver.cors_allowed_origins:
        return receiver
    return CORSMiddleware(
        receiver,
        allow_origins=settings.receiver.cors_allowed_origins,
        allow_methods=["POST"],
        allow_headers=["*"],
        max_age=7200,
    )


def _ingest(settings: Settings, experiments: Experiments, journal: Journal) -> otlp_http.Ingest:
    redact = redactor(settings.processors)

    async def take(request: Encoded, reserve: Callable[[int], None]) -> Receipt:
        return await ingest(
            request,
            limits=settings.receiver,
            routing=settings.routing,
            reserve=reserve,
            exists=experiments.exists,
            append=journal.append,
            redact=redact,
        )

    return take


async def _route_of(journal: Journal, trace_id: bytes) -> Route | None:
    lane = await journal.lane_of(trace_id)
    return None if lane is None else Route.from_lane(lane)


def _target(settings: Settings, mlflow: Mlflow, experiments: Experiments, metrics: Metrics) -> Target:
    return Target(
        mlflow=mlflow,
        experiments=experiments,
        settings=settings.delivery,
        quarantine_after_crashes=settings.journal.quarantine_after_crashes,
        metrics=metrics,
        compress=_compress(settings),
        forward=forwarder(settings.harmonise, settings.processors),
        sampling=None if _keep(settings) is None else SAMPLING,
        in_flight=asyncio.Semaphore(settings.delivery.max_in_flight),
    )


def _keep(settings: Settings) -> KeepSettings | None:
    """The sampling among the processors, if there is one."""
    return next((part for part in settings.processors if isinstance(part, KeepSettings)), None)


def _compress(settings: Settings) -> bool:
    # on one machine gzip costs both sides more than the bytes it saves
    if settings.delivery.compression == "auto":
        return not is_loopback(urlsplit(settings.mlflow.url).hostname or "")
    return settings.delivery.compression == "gzip"


def _upstream(settings: Settings) -> Upstream:
    return Upstream(
        url=settings.mlflow.url,
        authorization=authorization(settings.mlflow),
        ssl=tls(settings.mlflow),
        connect_timeout_seconds=settings.mlflow.connect_timeout_seconds,
        read_timeout_seconds=settings.proxy.read_timeout_seconds,
        max_connections=settings.proxy.max_connections,
    )


def _observe(metrics: Metrics, seen: Observation) -> None:
    metrics.proxy_requests.labels(resource=seen.resource, action=seen.action, decision=seen.decision).inc()
    if seen.upstream_seconds is not None:
        metrics.proxy_upstream.observe(seen.upstream_seconds)
