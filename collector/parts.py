"""The settings as each part takes them. Pure, but for reading secrets and certificates."""

import asyncio
from functools import lru_cache
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.routing import Route

from collector.access import identity_headers
from collector.delivery.forward import forwarder
from collector.delivery.window import Target
from collector.experiments import Experiments
from collector.metrics import Metrics
from collector.mlflow import Mlflow, authorization, tls
from collector.openapi import openapi_routes
from collector.process.keep_settings import KeepSettings
from collector.runs.api import run_routes
from collector.runs.logs_api import logs_routes
from collector.runs.source import RunSource
from collector.sampling import CONSUMER as SAMPLING
from collector.settings import Settings, is_loopback
from proxy import Observation, ProxySettings, Upstream


def target_of(settings: Settings, mlflow: Mlflow, experiments: Experiments, metrics: Metrics) -> Target:
    """MLflow as delivery sees it."""
    return Target(
        mlflow=mlflow,
        experiments=experiments,
        settings=settings.delivery,
        quarantine_after_crashes=settings.journal.quarantine_after_crashes,
        metrics=metrics,
        compress=_compress(settings),
        forward=forwarder(settings.harmonise, settings.processors),
        sampling=None if keep_of(settings) is None else SAMPLING,
        check_owners=settings.auth.mode == "clients",
        in_flight=asyncio.Semaphore(settings.delivery.max_in_flight),
    )


def keep_of(settings: Settings) -> KeepSettings | None:
    """The sampling among the processors, if there is one."""
    return next((part for part in settings.processors if isinstance(part, KeepSettings)), None)


def _compress(settings: Settings) -> bool:
    # on one machine gzip costs both sides more than the bytes it saves
    if settings.delivery.compression == "auto":
        return not is_loopback(urlsplit(settings.mlflow.url).hostname or "")
    return settings.delivery.compression == "gzip"


def upstream_of(settings: Settings) -> Upstream:
    """MLflow as the proxy sees it. Raises Misconfigured."""
    return Upstream(
        url=settings.mlflow.url,
        authorization=authorization(settings.mlflow),
        ssl=tls(settings.mlflow),
        connect_timeout_seconds=settings.mlflow.connect_timeout_seconds,
        read_timeout_seconds=settings.proxy.read_timeout_seconds,
        max_connections=settings.proxy.max_connections,
    )


def observe(metrics: Metrics, seen: Observation) -> None:
    """Count one proxied request."""
    _counter(metrics, seen.resource, seen.action, seen.decision).inc()
    if seen.upstream_seconds is not None:
        metrics.proxy_upstream.observe(seen.upstream_seconds)


@lru_cache(maxsize=4096)
def _counter(metrics: Metrics, resource: str, action: str, decision: str) -> Counter:
    return metrics.proxy_requests.labels(resource=resource, action=action, decision=decision)


def proxy_settings(settings: Settings) -> ProxySettings:
    """How the proxy stands towards its clients."""
    return ProxySettings(
        allowed_hosts=settings.server.allowed_hosts,
        public_origins=settings.server.public_origins,
        trusted_proxies=settings.server.trusted_proxies,
        root_path=settings.server.root_path,
        identity_headers=identity_headers(settings),
        max_inspected_bytes=settings.proxy.max_inspected_bytes,
    )


def run_parts(settings: Settings, mlflow: Mlflow) -> list[Route]:
    """The routes on runs, and the document about all routes."""
    source = RunSource(mlflow)
    logs = logs_routes(source, settings.mlflow, settings.runs.allowed_tracking_uris)
    return [*run_routes(source), *logs, *openapi_routes()]
