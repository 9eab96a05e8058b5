"""Answers in the form of the MLflow Logs API, from the MLflow server that the request names.

A request says where MLflow is, and nothing else makes us call an address: `tracking_uri` must be the MLflow
behind us or be listed in `runs.allowed_tracking_uris`. TLS is verified unless a request asks otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from collector.answers.runs.models import Metric, Run, RunsModel
from collector.answers.runs.source import RunSource, Wanted
from collector.mlflow.client import open_mlflow
from collector.model.parameters import BadParameter
from collector.settings import MlflowSettings

MAX_LIMIT = 1000
CONNECTIONS = 8


class LogsRequest(BaseModel):
    """Fields of every request."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tracking_uri: str | None = None
    """MLflow server; default: the one behind Sidespan. Others must be in `runs.allowed_tracking_uris`."""
    username: str | None = None
    """User name for that server. Default: for the MLflow behind Sidespan, Sidespan's own credentials."""
    password: str | None = Field(None, repr=False)
    """Password for `username`."""
    insecure_tls: bool = False
    """Accept any TLS certificate of that server."""
    http_timeout: float = Field(30.0, gt=0, le=300)
    """Timeout of one request to MLflow in seconds."""
    limit: int = Field(100, ge=1, le=MAX_LIMIT)
    """Maximum number of experiments or runs."""


class RunsRequest(LogsRequest):
    """Selects one run or the runs of an experiment."""

    experiment_name: str | None = None
    experiment_id: str | None = Field(None, pattern=r"^(0|[1-9][0-9]{0,18})$")
    run_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    include_metric_history: bool = False
    """Include every point of every metric."""

    @field_validator("experiment_id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class HistoryPoint(RunsModel):
    """One logged value; `timestamp` is milliseconds since 1970."""

    step: int
    value: float
    timestamp: int


class MetricHistory(RunsModel):
    """A metric; `history` is empty unless `include_metric_history` is set."""

    key: str
    history: list[HistoryPoint]
    total_points: int
    min_value: float | None
    max_value: float | None
    last_value: float


class LogsRun(RunsModel):
    """A run; times are milliseconds since 1970."""

    run_id: str
    run_name: str | None
    experiment_id: str
    status: str
    lifecycle_stage: str
    start_time: int | None
    end_time: int | None
    duration_seconds: float | None
    user_id: str | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    metrics_history: list[MetricHistory]


class RunsAnswer(RunsModel):
    """The selected runs."""

    tracking_uri: str
    count: int
    runs: list[LogsRun]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsAnswers:
    """`allowed_uris` are the servers beside the one behind us (`source`, `settings`) that a request may name.

    Each verb raises BadParameter, NoSuchRun, MlflowTrouble.
    """

    source: RunSource
    settings: MlflowSettings
    allowed_uris: Sequence[str] = ()

    async def health(self, request: LogsRequest) -> dict[str, Any]:
        """Whether the server answers."""
        async with self._server(request) as (uri, server):
            await server.experiments(1)
        return {"status": "ok", "tracking_uri": uri}

    async def experiments(self, request: LogsRequest) -> dict[str, Any]:
        """Experiments as MLflow says them, newest first."""
        async with self._server(request) as (uri, server):
            listed = await server.experiments(request.limit)
        return {"tracking_uri": uri, "count": len(listed), "experiments": listed}

    async def runs(self, request: RunsRequest) -> RunsAnswer:
        """One run, or those of an experiment."""
        names = ("experiment_name", "experiment_id", "run_id")
        given = [name for name in names if getattr(request, name)]
        if len(given) != 1:
            raise BadParameter("experiment_name", given, f"exactly one of {', '.join(names)} is required")
        async with self._server(request) as (uri, server):
            listed = await _runs(server, request)
        return RunsAnswer(tracking_uri=uri, count=len(listed), runs=listed)

    @asynccontextmanager
    async def _server(self, request: LogsRequest) -> AsyncIterator[tuple[str, RunSource]]:
        """The server that the request means, and its address."""
        uri = self._allowed_uri(request)
        if uri == self.settings.url and request.username is None and not request.insecure_tls:
            yield uri, RunSource(self.source.mlflow, timeout_seconds=request.http_timeout)
            return
        async with open_mlflow(self._requested(request, uri), max_connections=CONNECTIONS) as mlflow:
            yield uri, RunSource(mlflow, timeout_seconds=request.http_timeout)

    def _allowed_uri(self, request: LogsRequest) -> str:
        uri = (request.tracking_uri or self.settings.url).rstrip("/")
        if uri != self.settings.url and uri not in {other.rstrip("/") for other in self.allowed_uris}:
            allowed = (
                "must be the MLflow server behind this service or be listed in runs.allowed_tracking_uris"
            )
            raise BadParameter("tracking_uri", uri, allowed)
        if bool(request.username) != bool(request.password):
            raise BadParameter("username", request.username, "username and password must be given together")
        return uri

    def _requested(self, request: LogsRequest, uri: str) -> MlflowSettings:
        """A request that changes how the server is asked gets none of our credentials."""
        return MlflowSettings(
            url=uri,
            insecure_tls=request.insecure_tls,
            ca_file=self.settings.ca_file if uri == self.settings.url else None,
            username=request.username,
            password=request.password,
        )


async def _runs(source: RunSource, request: RunsRequest) -> list[LogsRun]:
    if request.run_id is not None:
        selected = [await source.plain(request.run_id)]
    else:
        experiment = request.experiment_id or await source.experiment_id(request.experiment_name or "")
        selected = (await source.runs([experiment], limit=request.limit)).runs
    wanted = Wanted(history=None if request.include_metric_history else 0)
    metrics = await asyncio.gather(*(source.histories(run, wanted) for run in selected))
    return [_logs_run(run, history) for run, history in zip(selected, metrics, strict=True)]


def _logs_run(run: Run, metrics: list[Metric]) -> LogsRun:
    start = None if run.start_unix_ns is None else run.start_unix_ns // 1_000_000
    ended = start is not None and run.duration_seconds is not None and run.status != "RUNNING"
    return LogsRun(
        run_id=run.run_id,
        run_name=run.name,
        experiment_id=run.experiment_id,
        status=run.status,
        lifecycle_stage=run.lifecycle_stage,
        start_time=start,
        end_time=round((start or 0) + (run.duration_seconds or 0) * 1000) if ended else None,
        duration_seconds=run.duration_seconds,
        user_id=run.user,
        params=run.params,
        metrics={metric.key: metric.last for metric in run.metrics},
        tags=run.tags,
        metrics_history=[_history(metric) for metric in metrics],
    )


def _history(metric: Metric) -> MetricHistory:
    return MetricHistory(
        key=metric.key,
        history=[
            HistoryPoint(step=point.step, value=point.value, timestamp=point.unix_ns // 1_000_000)
            for point in metric.history or ()
        ],
        total_points=metric.total_points or 0,
        min_value=metric.minimum,
        max_value=metric.maximum,
        last_value=metric.last,
    )
