"""The alerts of one service, from the settings."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial

import aiohttp

from collector.alerts.alerting import Alerting, run_all
from collector.alerts.channels.courier import Courier
from collector.alerts.channels.opening import channels_from
from collector.alerts.definition import check_alerts
from collector.alerts.evaluator import Evaluator
from collector.alerts.notices import document_of
from collector.alerts.store import AlertStore, open_store
from collector.answers.many_traces import ManyTraces
from collector.index.feed import Indexer
from collector.settings import ServerSettings, Settings, environment
from collector.telemetry.metrics import Metrics
from collector.telemetry.supervision import RestartPause, supervised

RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=30.0)
NO_CHANNEL = "the settings name this channel no more"


@asynccontextmanager
async def open_alerting(
    settings: Settings, indexer: Indexer | None, metrics: Metrics
) -> AsyncIterator[Alerting]:
    """The alerts, evaluated until the block ends. Raises Misconfigured: an alert, a secret, or the store."""
    check_alerts(settings)
    many_traces = ManyTraces(index=None if indexer is None else indexer.index)
    bounds = settings.alerting
    store = open_store(
        settings.data_dir,
        needed=bool(settings.alerts),
        max_pending=bounds.max_pending,
        max_dead_letters=bounds.max_dead_letters,
    )
    with closing(store):
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            alerting = _alerting(settings, many_traces, indexer, store, session, metrics)
            _park_orphans(store, settings)
            async with supervised("alerts", partial(run_all, alerting), pause=RESTART_PAUSE):
                yield alerting


def _alerting(
    settings: Settings,
    many_traces: ManyTraces,
    indexer: Indexer | None,
    store: AlertStore,
    session: aiohttp.ClientSession,
    metrics: Metrics,
) -> Alerting:
    couriers: dict[str, Courier] = {}

    def tell() -> None:
        for courier in couriers.values():
            courier.news.set()

    evaluator = Evaluator(
        alerts={alert.name: alert for alert in settings.alerts},
        settings=settings.alerting,
        many_traces=many_traces,
        lag_seconds=lambda: 0.0 if indexer is None else indexer.known_lag_seconds,
        store=store,
        metrics=metrics,
        clock=time.time_ns,
        tell=tell,
    )
    evaluator.recall()
    base_url = settings.alerting.public_url or own_url(settings.server)
    for name, channel in channels_from(settings.alerting, session, environment()).items():
        include = settings.alerting.channels[name].include_content
        couriers[name] = Courier(
            name=name,
            channel=channel,
            document=partial(document_of, base_url=base_url, include_content=include),
            firing=partial(evaluator.firing_notices, name),
            store=store,
            settings=settings.alerting,
            metrics=metrics,
            clock=time.time_ns,
        )
    return Alerting(evaluator=evaluator, couriers=couriers, store=store, many_traces=many_traces)


def _park_orphans(store: AlertStore, settings: Settings) -> None:
    """What waits for channels that are no more."""
    for channel in store.channels():
        if channel not in settings.alerting.channels:
            store.park_all(channel, NO_CHANNEL, now_unix_ns=time.time_ns())


def own_url(server: ServerSettings) -> str:
    """The address that the service listens on, for links."""
    scheme = "http" if server.tls_certificate_file is None else "https"
    host = f"[{server.host}]" if ":" in server.host.strip("[]") and server.host[0] != "[" else server.host
    return f"{scheme}://{host}:{server.port}{server.root_path}"
