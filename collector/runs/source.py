"""Asks MLflow about runs: many small questions at once, within bounds.

MLflow's own API needs a request for each metric's history, a page of it at a time; here they run side by
side, at most `MAX_AT_ONCE`, and the answer says what could not be had.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from collector.errors import SidespanError
from collector.mlflow import MAX_CONTENT_BYTES, Mlflow, MlflowAnswer, MlflowUnreachable
from collector.runs.histories import summarise_history
from collector.runs.linked import sum_up
from collector.runs.models import Artifact, LinkedTraces, Metric, MetricPoint, Run, RunDetail, RunPage
from collector.runs.reading import read_artifacts, read_datasets, read_points, read_run

V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"
MAX_AT_ONCE = 8
HISTORY_PAGE = 25_000  # MLflow's own bound
MAX_POINTS_A_RUN = 1_000_000
MAX_METRICS_A_RUN = 500
MAX_ARTIFACTS = 1000
MAX_FOLDERS = 50
MAX_CHILDREN = 100
TRACES_PAGE = 500  # MLflow's own bound
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
        document = (await self._get(f"{V2}/runs/get", {"run_id": run_id})).get("run") or {}
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
        document = (await self._get(f"{V2}/runs/get", {"run_id": run_id})).get("run") or {}
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
        body: dict[str, Any] = {
            "experiment_ids": list(experiment_ids),
            "filter": filter_string,
            "order_by": list(order_by),
            "max_results": limit,
        }
        document = await self._post(
            f"{V2}/runs/search", body | ({"page_token": page_token} if page_token else {})
        )
        now = self.now_unix_ns()
        return RunPage(
            runs=[read_run(each, now_unix_ns=now) for each in document.get("runs") or ()],
            next_page_token=document.get("next_page_token") or None,
        )

    async def experiment_id(self, name: str) -> str:
        """The id of the experiment of this name. Raises NoSuchRun, MlflowTrouble."""
        document = await self._get(f"{V2}/experiments/get-by-name", {"experiment_name": name})
        return str((document.get("experiment") or {}).get("experiment_id", ""))

    async def experiments(self, limit: int) -> list[dict[str, Any]]:
        """Experiments as MLflow says them, newest first. Raises MlflowTrouble."""
        found: list[dict[str, Any]] = []
        token = ""
        while len(found) < limit:
            body = {"max_results": min(1000, limit - len(found))} | ({"page_token": token} if token else {})
            document = await self._post(f"{V2}/experiments/search", body)
            found += document.get("experiments") or ()
            token = str(document.get("next_page_token") or "")
            if not token:
                break
        return found

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
            query = {"run_id": run_id, "metric_key": metric.key, "max_results": str(HISTORY_PAGE)}
            document = await self._get(
                f"{V2}/metrics/get-history", query | ({"page_token": token} if token else {})
            )
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
        found: list[Artifact] = []
        folders = [""]
        for number, folder in enumerate(folders):
            if number >= MAX_FOLDERS or len(found) > MAX_ARTIFACTS:
                return found[:MAX_ARTIFACTS], True
            query = {"run_id": run_id} | ({"path": folder} if folder else {})
            listed = read_artifacts(await self._get(f"{V2}/artifacts/list", query))
            found += listed
            folders += [each.path for each in listed if each.is_folder]
        return found[:MAX_ARTIFACTS], len(found) > MAX_ARTIFACTS

    async def _children(self, run: Run) -> list[Run]:
        filter_string = f"tags.mlflow.parentRunId = '{run.run_id}'"
        page = await self.runs([run.experiment_id], filter_string=filter_string, limit=MAX_CHILDREN)
        return page.runs

    async def _traces(self, run: Run) -> LinkedTraces:
        infos: list[dict[str, Any]] = []
        token = ""
        while True:
            body = {
                "locations": [
                    {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": run.experiment_id}}
                ],
                "filter": f"attributes.run_id = '{run.run_id}'",
                "max_results": TRACES_PAGE,
            }
            document = await self._post(
                f"{V3}/traces/search", body | ({"page_token": token} if token else {})
            )
            infos += document.get("traces") or ()
            token = str(document.get("next_page_token") or "")
            if not token or len(infos) >= MAX_TRACES:
                return sum_up(infos, truncated=bool(token))

    async def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        return await self._ask(
            lambda: self.mlflow.get(
                path, params=query, timeout_seconds=self.timeout_seconds, max_bytes=MAX_CONTENT_BYTES
            )
        )

    async def _post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return await self._ask(
            lambda: self.mlflow.post_json(
                path, document, timeout_seconds=self.timeout_seconds, max_bytes=MAX_CONTENT_BYTES
            )
        )

    async def _ask(self, ask: Callable[[], Awaitable[MlflowAnswer]]) -> dict[str, Any]:
        async with self._places:
            try:
                answer = await ask()
            except MlflowUnreachable as error:
                late = isinstance(error.__cause__, TimeoutError)
                reason = f"no answer within {self.timeout_seconds:g} s" if late else "no connection"
                raise MlflowTrouble(f"MLflow can't be asked: {reason}") from error
        if answer.is_cut:
            raise MlflowTrouble(f"MLflow's answer is larger than {MAX_CONTENT_BYTES} bytes")
        if answer.status == 200:
            return answer.json()
        if answer.status in (400, 404) and "error_code" in answer.json():
            raise NoSuchRun(answer.error)
        raise MlflowTrouble(f"MLflow answered with status {answer.status}")


async def _nothing() -> None:
    return None


async def _or_none(asking: Awaitable[T], what: str, incomplete: list[str]) -> T | None:
    """A part that can't be had doesn't cost the rest."""
    try:
        return await asking
    except (NoSuchRun, MlflowTrouble) as error:
        incomplete.append(f"{what}: {error}")
        return None
