"""The settings as each part takes them, and small parts that need no file of their own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from collector.api.access import identity_headers
from collector.delivery.mlflow.forward import forwarder
from collector.delivery.mlflow.window import Target
from collector.files.private import mend
from collector.index.duckdb.client import FOLDER, IndexClient, open_index
from collector.index.feed import Indexer
from collector.journal.sqlite.opening import FILE_NAME
from collector.mlflow.client import Mlflow, authorization, tls
from collector.mlflow.experiments import Experiments
from collector.processors.redact import redactor
from collector.receivers.decoder.client import Decoder
from collector.receivers.decoder.place import placing
from collector.receivers.ingest import Prepare
from collector.receivers.prepare import Rules
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.sampling.consumer import Sampler
from collector.service.background import Run
from collector.settings import Settings, is_loopback
from collector.settings.keep import KeepSettings
from collector.telemetry.metrics import Metrics
from proxy import Observation, ProxySettings, Upstream

_log = logging.getLogger("sidespan")


def close_to_others(settings: Settings) -> None:
    """What an earlier start left open of the data folder is this user's alone again."""
    if left := mend(settings.data_dir, settings.auth.tokens_file):
        _log.warning(
            "the data folder is open to other users of this machine, and can't be closed",
            extra={"paths": len(left), "first": str(left[0].path), "mode": f"{left[0].mode:04o}"},
        )


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


def prepare_of(settings: Settings, decoder: Decoder) -> Prepare:
    """How exports are read: where each belongs, by the settings' rules."""
    rules = Rules(limits=settings.receiver, routing=settings.routing, redact=redactor(settings.processors))
    return placing(rules, decoder.prepare)


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


@asynccontextmanager
async def index_of(settings: Settings) -> AsyncIterator[IndexClient | None]:
    """The index, if it is switched on; it starts beside us."""
    if not settings.index.enabled:
        yield None
        return
    folder = settings.data_dir.resolve()
    given = {
        "folder": str(folder / FOLDER),
        "journal": str(folder / FILE_NAME),
        "memory_bytes": settings.index.memory_bytes,
        "processes": settings.index.processes,
        "preview_characters": settings.index.preview_characters,
        "max_age_seconds": settings.index.max_age_seconds,
        "max_bytes": settings.index.max_bytes,
        "log_level": settings.log.level,
        "log_format": settings.log.format,
    }
    async with open_index(given) as index:
        yield index


def consumers_beside(sampler: Sampler | None, indexer: Indexer | None) -> dict[str, Run]:
    """What follows the journal beside delivery, by name."""
    found = {"sampling": sampler, "index": indexer}
    return {name: each.run for name, each in found.items() if each is not None}


def with_cors(receiver: ASGIApp, settings: Settings) -> ASGIApp:
    """The receiver for pages of other origins too, where the settings name some."""
    if not settings.receiver.cors_allowed_origins:
        return receiver
    return CORSMiddleware(
        receiver,
        allow_origins=settings.receiver.cors_allowed_origins,
        allow_methods=["POST"],
        allow_headers=["*"],
        max_age=7200,
    )
