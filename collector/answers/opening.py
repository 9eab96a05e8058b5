"""Everything that can be asked of one service, put together from its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from collector.answers.alerting import AlertAnswers
from collector.answers.dead_letters import DeadLetterAnswers
from collector.answers.explain import explain
from collector.answers.exposition import Exposition
from collector.answers.health import ServiceHealth
from collector.answers.index_upkeep import IndexUpkeep
from collector.answers.indexed import IndexedTraces
from collector.answers.live import LiveAnswers
from collector.answers.many_traces import ManyTraces
from collector.answers.runs.answers import RunAnswers
from collector.answers.runs.logs import LogsAnswers
from collector.answers.runs.source import RunSource
from collector.answers.trace_source import TraceSource
from collector.answers.traces import TraceAnswers
from collector.delivery.mlflow.forward import parts_of
from collector.index.backfill import Backfill
from collector.index.duckdb.client import FOLDER
from collector.index.protocol import Index
from collector.journal import CannotTell, Consumer, Journal, PendingTraces
from collector.mlflow.client import Mlflow
from collector.model.batch import Route
from collector.settings import Settings
from collector.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the API hands out, by what it is about."""

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


def answers_of(
    settings: Settings,
    *,
    journal: Journal,
    delivery: Consumer,
    records: Consumer,
    indexing: Consumer,
    mlflow: Mlflow,
    index: Index | None,
    health: ServiceHealth,
    metrics: Metrics,
    alerts: AlertAnswers,
    live: LiveAnswers,
) -> Answers:
    """The answers of the service that these are the parts of; three consumers of its journal are asked.

    `delivery` reads spans, `records` log records, `indexing` both.
    """
    runs = RunSource(mlflow)
    return Answers(
        traces=_traces(settings, journal.pending_traces, indexing, mlflow, index),
        many_traces=ManyTraces(index=index),
        index=IndexUpkeep(
            index=index,
            consumer=indexing,
            backfiller=None
            if index is None
            else Backfill(mlflow, index, settings.data_dir.resolve() / FOLDER, deliver=(delivery, records)),
        ),
        runs=RunAnswers(source=runs),
        logs=LogsAnswers(
            source=runs, settings=settings.mlflow, allowed_uris=settings.runs.allowed_tracking_uris
        ),
        dead_letters=DeadLetterAnswers(
            consumers=(delivery, records),
            letters=[journal.dead_letters(each.name) for each in (delivery, records)],
        ),
        exposition=Exposition(consumer=delivery, records=records, metrics=metrics, alerts=alerts),
        health=health,
        alerts=alerts,
        live=live,
    )


def _traces(
    settings: Settings, pending: PendingTraces, indexing: Consumer, mlflow: Mlflow, index: Index | None
) -> TraceAnswers:
    return TraceAnswers(
        everything=TraceSource(
            pending=pending.payloads, mlflow=mlflow, route_of=partial(_newest_route, pending)
        ),
        delivered=TraceSource(pending=_nothing, mlflow=mlflow),
        explain=partial(explain, parts=parts_of(settings.harmonise), processors=settings.processors),
        index=None if index is None else IndexedTraces(index=index, consumer=indexing, pending=pending),
    )


async def _newest_route(pending: PendingTraces, trace_id: bytes) -> Route | None:
    routes = await pending.routes(trace_id)
    return None if isinstance(routes, CannotTell) else next(reversed(routes), None)


async def _nothing(_: bytes) -> Sequence[bytes]:
    """A journal of which a client may see nothing."""
    return ()
