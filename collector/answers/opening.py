"""Everything that can be asked of one service, put together from its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from collector.answers.alerting import AlertAnswers
from collector.answers.dead_letters import DeadLetterAnswers, Refusals
from collector.answers.explain import explain
from collector.answers.exposition import Exposition
from collector.answers.health import ServiceHealth
from collector.answers.index_upkeep import IndexUpkeep
from collector.answers.indexed import IndexedTraces
from collector.answers.live import LiveAnswers
from collector.answers.many_traces import ManyTraces
from collector.answers.retention import RetentionAnswers
from collector.answers.runs.answers import RunAnswers
from collector.answers.runs.logs import LogsAnswers
from collector.answers.runs.source import RunSource
from collector.answers.trace_source import TraceSource
from collector.answers.traces import TraceAnswers
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.forward import parts_of
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import Carriers
from collector.delivery.otlp.opening import Backend
from collector.index.backfill import Backfill
from collector.index.feed import CONSUMER as INDEX
from collector.index.feed import Indexer
from collector.index.protocol import Index
from collector.journal import ROUTE, CannotTell, Consumer, Journal, PendingTraces, SharedLog
from collector.mirror.answering import MirrorAnswering
from collector.mlflow.client import Mlflow
from collector.model.batch import Route
from collector.receivers.bounds import InFlightBounds
from collector.settings import MLFLOW, McpSettings, Role, Settings
from collector.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the API hands out, by what it is about; `mcp`: how much of it agents get at once."""

    traces: TraceAnswers
    many_traces: ManyTraces
    index: IndexUpkeep
    runs: RunAnswers
    logs: LogsAnswers
    dead_letters: DeadLetterAnswers
    exposition: Exposition
    health: ServiceHealth
    alerts: AlertAnswers
    live: LiveAnswers
    mcp: McpSettings
    retention: RetentionAnswers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """What works in this process, by its roles, and can be asked how it goes."""

    carriers: Carriers | None
    backends: Sequence[Backend]
    index: Index | None
    indexer: Indexer | None
    alerts: AlertAnswers
    live: LiveAnswers
    retention: RetentionAnswers | None = None
    answering: MirrorAnswering | None = None


def health_of(
    settings: Settings,
    journal: Journal,
    mlflow: Mlflow,
    bounds: InFlightBounds,
    grpc: Mapping[str, object],
    working: Working,
) -> ServiceHealth:
    """The health of this process."""
    carriers = working.carriers
    return ServiceHealth(
        log=journal.log,
        consumer=journal.consumer(DELIVERY),
        logs=journal.consumer(LOGS),
        bounds=bounds,
        mlflow=mlflow,
        max_bytes=_max_bytes(settings),
        grpc=grpc,
        receives=Role.RECEIVE in settings.roles,
        counts=settings.counts,
        worker=None if carriers is None else carriers.spans,
        log_worker=None if carriers is None else carriers.records,
        index=working.index,
        indexer=working.indexer,
        alerts=working.alerts,
        backends=working.backends,
        answering=working.answering,
    )


def _max_bytes(settings: Settings) -> int:
    """What the log may hold before it refuses."""
    is_embedded = settings.log_place.engine.is_embedded
    return settings.journal.max_bytes if is_embedded else settings.kafka.max_lag_bytes


def answers_of(
    settings: Settings,
    journal: Journal,
    mlflow: Mlflow,
    working: Working,
    health: ServiceHealth,
    metrics: Metrics,
) -> Answers:
    """The answers of this process."""
    delivery, records, indexing = (journal.consumer(name) for name in (DELIVERY, LOGS, INDEX))
    index, backends, alerts = working.index, working.backends, working.alerts
    runs = RunSource(mlflow)
    shared = journal if isinstance(journal, SharedLog) else None
    return Answers(
        traces=replace(
            _traces(settings, journal, indexing, mlflow, index),
            where=None if working.retention is None else working.retention.where,
        ),
        many_traces=ManyTraces(index=index),
        index=IndexUpkeep(
            index=index,
            consumer=indexing,
            backfiller=None
            if index is None
            else Backfill(mlflow, index, _notes_folder(settings), deliver=(delivery, records)),
        ),
        runs=RunAnswers(source=runs),
        logs=LogsAnswers(
            source=runs, settings=settings.mlflow, allowed_uris=settings.runs.allowed_tracking_uris
        ),
        dead_letters=_dead_letters(settings, journal, backends),
        exposition=Exposition(
            consumer=delivery,
            records=records,
            metrics=metrics,
            counts=settings.counts,
            shared=shared,
            alerts=alerts,
            backends=backends,
        ),
        health=health,
        alerts=alerts,
        mcp=settings.mcp,
        live=working.live,
        retention=working.retention,
    )


def _dead_letters(settings: Settings, journal: Journal, backends: Sequence[Backend]) -> DeadLetterAnswers:
    """Of both ways to MLflow, of other backends, and of others' topics where there are some."""
    names = [(MLFLOW, DELIVERY), (MLFLOW, LOGS), *((each.name, each.consumer.name) for each in backends)]
    names += [(ROUTE, ROUTE)] if settings.kafka.foreign_topics else []
    return DeadLetterAnswers(
        consumers=[
            Refusals(target=target, consumer=journal.consumer(name), letters=journal.dead_letters(name))
            for target, name in names
        ]
    )


def _notes_folder(settings: Settings) -> Path | None:
    """Where the index's own folder is; None: it has none, replicas keep nothing."""
    place = settings.index_place
    return None if place is None or place.folder is None else place.folder.resolve()


def _traces(
    settings: Settings, journal: Journal, indexing: Consumer, mlflow: Mlflow, index: Index | None
) -> TraceAnswers:
    pending = journal.pending_traces
    shared = journal if isinstance(journal, SharedLog) else None
    return TraceAnswers(
        everything=TraceSource(
            pending=pending.payloads, mlflow=mlflow, route_of=partial(_newest_route, pending)
        ),
        delivered=TraceSource(pending=_nothing, mlflow=mlflow),
        explain=partial(explain, parts=parts_of(settings.harmonise), processors=settings.processors),
        index=None
        if index is None
        else IndexedTraces(index=index, consumer=indexing, pending=pending, shared=shared),
    )


async def _newest_route(pending: PendingTraces, trace_id: bytes) -> Route | None:
    routes = await pending.routes(trace_id)
    return None if isinstance(routes, CannotTell) else next(reversed(routes), None)


async def _nothing(_: bytes) -> Sequence[bytes]:
    """A journal of which a client may see nothing."""
    return ()
