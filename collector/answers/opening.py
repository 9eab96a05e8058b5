"""Everything that can be asked of one service, put together from its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from collector.answers.dead_letters import DeadLetterAnswers
from collector.answers.explain import explain
from collector.answers.exposition import Exposition
from collector.answers.health import ServiceHealth
from collector.answers.index_upkeep import IndexUpkeep
from collector.answers.indexed import IndexedTraces
from collector.answers.many_traces import ManyTraces
from collector.answers.runs.answers import RunAnswers
from collector.answers.runs.logs import LogsAnswers
from collector.answers.runs.source import RunSource
from collector.answers.trace_source import TraceSource
from collector.answers.traces import TraceAnswers
from collector.delivery.mlflow.forward import parts_of
from collector.index.backfill import Backfill
from collector.index.duckdb.client import FOLDER, IndexClient
from collector.journal import Journal
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


def answers_of(
    settings: Settings,
    *,
    journal: Journal,
    mlflow: Mlflow,
    index: IndexClient | None,
    health: ServiceHealth,
    metrics: Metrics,
) -> Answers:
    """The answers of the service that these are the parts of."""
    runs = RunSource(mlflow)
    return Answers(
        traces=_traces(settings, journal, mlflow, index),
        many_traces=ManyTraces(index=index),
        index=IndexUpkeep(
            index=index,
            journal=journal,
            backfiller=None
            if index is None
            else Backfill(mlflow, index, settings.data_dir.resolve() / FOLDER),
        ),
        runs=RunAnswers(source=runs),
        logs=LogsAnswers(
            source=runs, settings=settings.mlflow, allowed_uris=settings.runs.allowed_tracking_uris
        ),
        dead_letters=DeadLetterAnswers(journal=journal),
        exposition=Exposition(journal=journal, metrics=metrics),
        health=health,
    )


def _traces(settings: Settings, journal: Journal, mlflow: Mlflow, index: IndexClient | None) -> TraceAnswers:
    return TraceAnswers(
        everything=TraceSource(pending=journal.find, mlflow=mlflow, route_of=partial(_newest_route, journal)),
        delivered=TraceSource(pending=_nothing, mlflow=mlflow),
        explain=partial(explain, parts=parts_of(settings.harmonise), processors=settings.processors),
        index=None if index is None else IndexedTraces(index=index, journal=journal),
    )


async def pending_routes(journal: Journal, trace_id: bytes) -> Sequence[Route]:
    """Where what the journal holds of a trace (its 16 bytes) is bound for, oldest first."""
    return [Route.from_lane(lane) for lane in dict.fromkeys(await journal.lanes_of(trace_id))]


async def _newest_route(journal: Journal, trace_id: bytes) -> Route | None:
    return next(reversed(await pending_routes(journal, trace_id)), None)


async def _nothing(_: bytes) -> Sequence[bytes]:
    """A journal of which a client may see nothing."""
    return ()
