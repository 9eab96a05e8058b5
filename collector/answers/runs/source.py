"""Asks MLflow about runs: many small questions at once, within bounds.

MLflow's own API needs a request for each metric's history, a page of it at a time; here they run side by
side, at most `MAX_AT_ONCE`, and the answer says what could not be had.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from collector.answers.runs.histories import summarise_history
from collector.answers.runs.linked import sum_up
from collector.answers.runs.models import (
    Artifact,
    LinkedTraces,
    Metric,
    MetricPoint,
    Run,
    RunDetail,
    RunPage,
)
from collector.answers.runs.reading import read_artifacts, read_datasets, read_points, read_run
from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow, MlflowAnswer, MlflowTimeout, MlflowUnreachable
from collector.mlflow.rest import MlflowApi
from collector.model.errors import SidespanError

MAX_AT_ONCE = 8
MAX_POINTS_A_RUN = 1_000_000
MAX_METRICS_A_RUN = 500
MAX_ARTIFACTS = 1000
MAX_FOLDERS = 50
MAX_CHILDREN = 100
MAX_TRACES = 5000
TIMEOUT_SECONDS = 30.0

T = TypeVar("T")


class NoSuchRun(SidespanError):
    """MLflow has answered that it has no such run or experiment; the message is its own."""


class MlflowTrouble(SidespanError):
    """No answer that could be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How much of a run is asked for. `history` is how many points a metric may have; 0 none, None all."""

    history: int | None = 0
    metrics: Sequence[str] | None = None
    artifacts: bool = True
    traces: bool = True
    children: bool = True


@dataclass(slots=True)
class RunSource:
    """One MLflow server, asked for runs. Safe to use from many tasks at once."""

    mlflow: Mlflow
    now_unix_ns: Callable[[], int] = time.time_ns
    timeout_seconds: float = TIMEOUT_SECONDS
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_AT_ONCE))

    async def run(self, run_id: str, wanted: Wanted) -> RunDetail:
        """A run with everything about it. Raises NoSuchRun, MlflowTrouble."""
        document = (await self._answer(self._api.run(run_id))).get("run") or {}
        run = read_run(document, now_unix_ns=self.now_unix_ns())
        incomplete: list[str] = []
        metrics, artifacts, children, traces = await asyncio.gather(
            self.histories(run, wanted),
            _or_none(self._artifacts(run_id), "artifacts", incomplete) if wanted.artifacts else _nothing(),
            _or_none(self._children(run), "children", incomplete) if wanted.children else _nothing(),
            _or_none(self._traces(run), "traces", incomplete) if wanted.traces else _nothing(),
        )
        return RunDetail(
            **run.model_dump(exclude={"metrics"}),
            metrics=metrics,
            artifact_uri=(document.get("info") or {}).get("artifact_uri"),
            datasets=read_datasets(document),
            children=children or [],
            artifacts=None if artifacts is None else artifacts[0],
            artifacts_truncated=artifacts is not None and artifacts[1],
            traces=traces,
            incomplete=incomplete,
        )

    async def plain(self, run_id: str) -> Run:
        """A run with its latest metrics. Raises NoSuchRun, MlflowTrouble."""
        document = (await self._answer(self._api.run(run_id))).get("run") or {}
        return read_run(document, now_unix_ns=self.now_unix_ns())

    async def runs(
        self,
        experiment_ids: Sequence[str],
        *,
        filter_string: str = "",
        order_by: Sequence[str] = (),
        limit: int = 100,
        page_token: str | None = None,
    ) -> RunPage:
        """A page of runs with their latest metrics. Raises NoSuchRun, MlflowTrouble."""
        document = await self._answer(
            self._api.search_runs(
                experiment_ids,
                filter_string=filter_string,
                order_by=order_by,
                limit=limit,
                page_token=page_token or "",
            )
        )
        now = self.now_unix_ns()
        return RunPage(
            runs=[read_run(run, now_unix_ns=now) for run in document.get("runs") or ()],
            next_page_token=document.get("next_page_token") or None,
        )

    async def experiment_id(self, name: str) -> str:
        """The id of the experiment of this name. Raises NoSuchRun, MlflowTrouble."""
        document = await self._answer(self._api.experiment_named(name))
        return str((document.get("experiment") or {}).get("experiment_id", ""))

    async def experiments(self, limit: int) -> list[dict[str, Any]]:
        """Experiments as MLflow says them, newest first. Raises MlflowTrouble."""
        experiments: list[dict[str, Any]] = []
        token = ""
        while len(experiments) < limit:
            page = self._api.search_experiments(limit=min(1000, limit - len(experiments)), page_token=token)
            document = await self._answer(page)
            experiments += document.get("experiments") or ()
            token = str(document.get("next_page_token") or "")
            if not token:
                break
        return experiments

    async def histories(self, run: Run, wanted: Wanted) -> list[Metric]:
        """The run's metrics with their sums over the whole history, and as many points as are wanted."""
        budget = [MAX_POINTS_A_RUN]
        chosen = [metric for metric in run.metrics if wanted.metrics is None or metric.key in wanted.metrics]
        return list(
            await asyncio.gather(
                *(self._history(run.run_id, metric, wanted, budget) for metric in chosen[:MAX_METRICS_A_RUN])
            )
        )

    async def _history(self, run_id: str, metric: Metric, wanted: Wanted, budget: list[int]) -> Metric:
        """`budget` is what all metrics of the run may still read, in points."""
        points: list[MetricPoint] = []
        token, more = "", True
        while more and budget[0] > 0:
            document = await self._answer(self._api.metric_history(run_id, metric.key, page_token=token))
            page = await asyncio.to_thread(read_points, document)
            points += page
            budget[0] -= len(page)
            token = str(document.get("next_page_token") or "")
            more = bool(token)
        return await asyncio.to_thread(
            summarise_history, metric, points, limit=wanted.history, truncated=more
        )

    async def _artifacts(self, run_id: str) -> tuple[list[Artifact], bool]:
        """The run's files in all folders, and whether there are more."""
        artifacts: list[Artifact] = []
        folders = [""]
        for number, folder in enumerate(folders):
            if number >= MAX_FOLDERS or len(artifacts) > MAX_ARTIFACTS:
                return artifacts[:MAX_ARTIFACTS], True
            listed = read_artifacts(await self._answer(self._api.artifacts(run_id, folder)))
            artifacts += listed
            folders += [artifact.path for artifact in listed if artifact.is_folder]
        return artifacts[:MAX_ARTIFACTS], len(artifacts) > MAX_ARTIFACTS

    async def _children(self, run: Run) -> list[Run]:
        filter_string = f"tags.mlflow.parentRunId = '{run.run_id}'"
        page = await self.runs([run.experiment_id], filter_string=filter_string, limit=MAX_CHILDREN)
        return page.runs

    async def _traces(self, run: Run) -> LinkedTraces:
        infos: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._api.search_traces(
                run.experiment_id,
                filter_string=f"attributes.run_id = '{run.run_id}'",
                page_token=token,
            )
            document = await self._answer(page)
            infos += document.get("traces") or ()
            token = str(document.get("next_page_token") or "")
            if not token or len(infos) >= MAX_TRACES:
                return sum_up(infos, truncated=bool(token))

    @property
    def _api(self) -> MlflowApi:
        return MlflowApi(
            connection=self.mlflow, timeout_seconds=self.timeout_seconds, max_bytes=MAX_CONTENT_BYTES
        )

    async def _answer(self, asking: Coroutine[Any, Any, MlflowAnswer]) -> dict[str, Any]:
        """The answer's document; `asking` starts once there is room. Raises NoSuchRun, MlflowTrouble."""
        try:
            with closing(asking):  # it may never get a place
                async with self._places:
                    return _document(await asking)
        except MlflowTimeout as error:
            reason = f"no response within {self.timeout_seconds:g} s"
            raise MlflowTrouble(f"MLflow could not be queried: {reason}") from error
        except MlflowUnreachable as error:
            raise MlflowTrouble("MLflow could not be queried: no connection") from error


def _document(answer: MlflowAnswer) -> dict[str, Any]:
    if answer.status == 200:
        return answer.json()
    if answer.status in (400, 404) and "error_code" in answer.json():
        raise NoSuchRun(answer.error)
    raise MlflowTrouble(f"MLflow responded with status {answer.status}")


async def _nothing() -> None:
    return None


async def _or_none(asking: Awaitable[T], what: str, incomplete: list[str]) -> T | None:
    """A part that can't be had doesn't cost the rest."""
    try:
        return await asking
    except (NoSuchRun, MlflowTrouble) as error:
        incomplete.append(f"{what}: {error}")
        return None
