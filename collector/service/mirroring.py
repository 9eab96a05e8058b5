"""MLflow's questions answered from a copy, where the settings ask for it and this process can."""

from collections.abc import Mapping, Sequence
from functools import partial

from collector.index.backfill import Backfill
from collector.index.catch_up import CatchUp
from collector.index.duckdb.client import IndexClient
from collector.index.mirrored import IndexMirror
from collector.index.protocol import Index
from collector.journal import Consumer
from collector.mirror.answering import MirrorAnswering
from collector.mirror.copies import Copies
from collector.mirror.own_writes import noticed
from collector.mirror.watched import WatchedDatabase
from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow
from collector.mlflow.rest import MlflowApi
from collector.model.errors import Misconfigured
from collector.service.embedded import embedded_database
from collector.settings import ALL_ROLES, Engine, Settings
from collector.telemetry.metrics import Metrics

TIMEOUT_SECONDS = 60.0


def answering_of(
    settings: Settings, index: Index | None, mlflow: Mlflow, metrics: Metrics
) -> MirrorAnswering | None:
    """What answers in MLflow's place, or None. Raises Misconfigured: it could not see all that is written."""
    proxy = settings.proxy
    if proxy.answer_from_index == "off":
        return None
    _check(settings)
    if not isinstance(index, IndexClient):
        raise Misconfigured(
            'proxy.answer_from_index = "auto" needs the index in DuckDB: set index.enabled = true, and no'
            " index.url that names ClickHouse"
        )
    api = MlflowApi(connection=mlflow, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_CONTENT_BYTES)
    store = IndexMirror(index)
    file = settings.mlflow.database_file
    database = None if file is None else WatchedDatabase(file)
    copies = Copies(api, store, max_traces=proxy.answer_max_traces, database=database)
    mlflow.notice = partial(noticed, copies.writes)

    def count(answer: str) -> None:
        metrics.proxy_questions.labels(answer=answer).inc()

    return MirrorAnswering(api=api, copies=copies, store=store, count=count)


def catching_up(
    settings: Settings,
    index: Index | None,
    answering: MirrorAnswering | None,
    mlflow: Mlflow,
    metrics: Metrics,
    *,
    deliver: Sequence[Consumer],
) -> Mapping[str, CatchUp]:
    """What brings the index what the copies find, if any; `deliver`: what brings scores to MLflow."""
    if index is None or answering is None:
        return {}
    catch_up = CatchUp(
        index=index,
        backfill=Backfill(mlflow, index, None, deliver=deliver),
        max_traces=settings.index.catch_up_max_traces,
        max_age_seconds=settings.index.max_age_seconds,
        tell=metrics.index_lacking.set,
    )
    answering.copies.listed, answering.lacking = catch_up.listed, catch_up.states
    return {"catch_up": catch_up}


def with_answers(settings: Settings) -> Settings:
    """Settings of a service with an MLflow of its own: it answers, unless that was set or it can't."""
    theirs = {"database": "sqlite", "database_file": embedded_database(settings.data_dir)}
    mlflow = settings.mlflow.model_copy(update=theirs)
    settings = settings.model_copy(update={"mlflow": mlflow})
    index = settings.index_place
    fits = index is not None and index.engine is Engine.DUCKDB and _hindrance(settings) is None
    if "answer_from_index" in settings.proxy.model_fields_set or not fits:
        return settings
    proxy = settings.proxy.model_copy(update={"answer_from_index": "auto"})
    return settings.model_copy(update={"proxy": proxy})


def _check(settings: Settings) -> None:
    """Raises Misconfigured: this process can't know what MLflow would answer."""
    hindrance = _hindrance(settings)
    if hindrance is not None:
        raise Misconfigured(f'proxy.answer_from_index = "auto" {hindrance}')


def _hindrance(settings: Settings) -> str | None:
    if not settings.log_place.engine.is_embedded:
        product = settings.log_place.engine.product
        return f"needs the embedded journal, and journal.url names {product}: no replica sees all writes"
    if frozenset(settings.roles) != frozenset(ALL_ROLES):
        return "needs one process with all roles, which sees all that is written"
    if settings.server.takeover:
        return "and server.takeover exclude each other: the old process still writes"
    if settings.mlflow.database != "sqlite" and settings.mlflow.database_file is None:
        return 'needs mlflow.database = "sqlite": others compare texts and cut times in another way'
    return None
