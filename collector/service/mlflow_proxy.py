"""The proxy package as this service runs it: its settings from ours, its errors and metrics as ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache, partial

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api.access import access_settings, identity_headers
from collector.index.label_feed import LabelFeed
from collector.mlflow.client import authorization, tls
from collector.mlflow.traffic import Traffic
from collector.model.errors import Misconfigured
from collector.settings import Role, Settings
from collector.telemetry.metrics import Metrics
from proxy import (
    Access,
    Answering,
    ChangedTraces,
    Observation,
    ProxyOptions,
    Upstream,
    open_access,
    open_proxy,
)
from proxy.errors import not_found
from proxy.tokens import BadTokens


@asynccontextmanager
async def open_mlflow_access(settings: Settings) -> AsyncIterator[Access]:
    """Who clients are and what they may do, until the block ends. Raises Misconfigured."""
    try:
        async with open_access(access_settings(settings), upstream_of(settings)) as access:
            yield access
    except BadTokens as error:
        raise Misconfigured(str(error)) from error


@asynccontextmanager
async def open_mlflow_proxy(
    settings: Settings,
    access: Access,
    metrics: Metrics,
    *,
    labels: LabelFeed | None,
    answering: Answering | None = None,
    traffic: Traffic,
) -> AsyncIterator[ASGIApp]:
    """The proxy in front of MLflow, or what refuses where there is no role for it. Raises Misconfigured.

    `labels` hears of the traces that clients change in MLflow; `answering` may answer in MLflow's place.
    `traffic` counts the requests that are passed on.
    """
    if Role.PROXY not in settings.roles:
        yield no_proxy
        return
    async with open_proxy(
        upstream=replace(upstream_of(settings), counted=traffic.request),
        settings=_proxy_settings(settings),
        access=access,
        observe=partial(_observe, metrics),
        tell_changed=None if labels is None else partial(_tell, labels),
        answering=answering,
    ) as proxy:
        yield proxy


async def no_proxy(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app where a process passes nothing on to MLflow. No 5xx: MLflow's client repeats those."""
    refusal = not_found("this process does not pass requests on to MLflow: it runs without the role proxy")
    await Response(refusal.body, refusal.status, media_type="application/json")(scope, receive, send)


def _tell(labels: LabelFeed, changed: ChangedTraces) -> None:
    labels.changed(changed.trace_ids, changed.workspace)


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


def _proxy_settings(settings: Settings) -> ProxyOptions:
    return ProxyOptions(
        allowed_hosts=settings.server.allowed_hosts,
        public_origins=settings.server.public_origins,
        trusted_proxies=settings.server.trusted_proxies,
        root_path=settings.server.root_path,
        identity_headers=identity_headers(settings),
        max_inspected_bytes=settings.proxy.max_inspected_bytes,
    )


def _observe(metrics: Metrics, seen: Observation) -> None:
    """Count one proxied request."""
    _counter(metrics, seen.resource, seen.action, seen.decision).inc()
    if seen.upstream_seconds is not None:
        metrics.proxy_upstream.observe(seen.upstream_seconds)


@lru_cache(maxsize=4096)
def _counter(metrics: Metrics, resource: str, action: str, decision: str) -> Counter:
    return metrics.proxy_requests.labels(resource=resource, action=action, decision=decision)
