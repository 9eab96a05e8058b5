"""MLflow as retention asks it: one request at a time, at the pace that others leave it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow, MlflowAnswer, MlflowUnreachable
from collector.mlflow.rest import MAX_TRACES, MlflowApi
from collector.model.errors import SidespanError
from collector.model.experiment import ExperimentReference
from collector.retention.pace import MlflowPace
from collector.retention.rules import (
    Protected,
    RetainedTrace,
    ids_filter,
    metric_filters,
    read_stored,
    search_filter,
)
from collector.retention.spans_file import SpansFile
from collector.settings import RetentionSettings

TIMEOUT_SECONDS = 60.0
MANY = 1000
RUNS_A_PAGE = 500
DAY_MS = 86_400_000
# traces with their spans in one request
MAX_READ = 100
# the least of what is asked for at once
LEAST: Mapping[str, int] = {"page": 100, "whole": 4, "infos": 10, "look_again": 50, "delete": 50}
# 500: one of them holds what OTLP can't, a number over 64 bits for example
WHOLE = (200, 500)
# what MLflow says of a description that it will never take
DESCRIBED = (200, 400, 404, 413, 422)


class CleanupTrouble(SidespanError):
    """It can't go on now; what was begun is taken up again by the next run. The message says why."""


class StoreTrouble(CleanupTrouble):
    """MLflow can't be asked, or has not answered as it should."""


class TraceRefused(StoreTrouble):
    """MLflow does not take what it is to say of a trace."""


@dataclass(slots=True, kw_only=True)
class TraceStore:
    """The traces of one MLflow server. Each verb raises StoreTrouble.

    `linked_seconds` is how long it took the last time to ask what is linked, pauses included. `file` is
    MLflow's database, if it is at hand.
    """

    mlflow: Mlflow
    share: float
    file: SpansFile | None = None
    linked_seconds: float = 0.0
    pace: MlflowPace = field(init=False)
    _datasets: dict[str, tuple[Any, frozenset[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pace = MlflowPace(traffic=self.mlflow.traffic, share=self.share)

    @property
    def is_proving(self) -> bool:
        """Whether the next deletion will say that spans can be read from the file, which saves most time."""
        return self.file is not None and self.file.is_untried

    def forget(self) -> None:
        """A run begins: whether the file is MLflow's has to be seen anew."""
        if self.file:
            self.file.doubt()

    async def experiments(self) -> list[ExperimentReference]:
        """Those that aren't deleted."""
        return [
            ExperimentReference(id=str(each["experiment_id"]), name=str(each["name"]))
            async for each in self._all(
                "experiments",
                lambda token: self._api.search_experiments(limit=MANY, page_token=token),
                id_of=lambda each: each["experiment_id"],
            )
        ]

    async def count(self, experiment_id: str, rule: RetentionSettings, *, now_unix_ms: int) -> int:
        """The traces that match the rule's states and tags."""
        total = 0
        for only in metric_filters(rule):
            counting = self._api.count_traces(
                experiment_id, of="TRACES", start_ms=0, end_ms=now_unix_ms + DAY_MS, only=only
            )
            points = (await self._ask(counting)).get("data_points") or []
            total += int(points[0]["values"]["COUNT"]) if points else 0
        return total

    async def oldest_first(
        self, experiment_id: str, rule: RetentionSettings, *, before_unix_ms: int
    ) -> AsyncIterator[list[RetainedTrace]]:
        """The rule's traces that started before, in pages. What the reader deletes changes none of it.

        Pages begin at the last one's newest time, for tokens of MLflow's are offsets. Traces of one time that
        fill more than a page come together.
        """
        start, token, seen = 0, "", set[str]()
        found: list[RetainedTrace] = []
        while True:
            wanted = search_filter(rule, from_unix_ms=start, before_unix_ms=before_unix_ms)
            limit = self._at_once("page", MAX_TRACES)
            page = await self._ask(
                self._api.search_traces(
                    experiment_id,
                    filter_string=wanted,
                    order_by=["timestamp_ms ASC"],
                    limit=limit,
                    page_token=token,
                ),
                of="page",
                count=limit,
            )
            traces = [_stored(info) for info in page.get("traces") or ()]
            found += [trace for trace in traces if trace.id not in seen]
            token = str(page.get("next_page_token") or "")
            is_last = not traces or not token
            is_later = bool(traces) and traces[-1].started_unix_ms > start
            if found and (is_last or is_later):
                yield found
                found = []
            if is_last:
                return
            if is_later:
                start, token, seen = traces[-1].started_unix_ms, "", set()
            seen |= {trace.id for trace in traces if trace.started_unix_ms == start}

    async def infos(self, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        """Those of these traces (tr-...) that MLflow has, in whatever experiment."""
        found: dict[str, RetainedTrace] = {}
        async for answer in self._pieces("infos", ids, self._api.trace_infos):
            for info in (await self._document(answer)).get("trace_infos") or ():
                trace = _stored(info)
                found[trace.id] = trace
        return found

    async def look_again(self, experiment_id: str, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        """Those of these traces (tr-...) that the experiment has. MLflow reads a list ten times as fast."""

        def search(some: Sequence[str]) -> Awaitable[MlflowAnswer]:
            wanted = ids_filter(some)
            return self._api.search_traces(experiment_id, filter_string=wanted, limit=len(some))

        found: dict[str, RetainedTrace] = {}
        async for answer in self._pieces("look_again", ids, search):
            for info in (await self._document(answer)).get("traces") or ():
                trace = _stored(info)
                found[trace.id] = trace
        return found

    async def whole(self, traces: Sequence[RetainedTrace]) -> AsyncIterator[list[Mapping[str, Any]]]:
        """These traces with their spans, as MLflow's JSON has them, some at a time.

        One that is missing is gone, or MLflow can't tell it. From the file, `trace_info` is what was given.
        """
        for first in range(0, len(traces), MAX_READ):
            some = traces[first : first + MAX_READ]
            found = await self.file.spans(some) if self.file else {}
            if found:
                yield [
                    {"trace_info": trace.info, "spans": found[trace.id]}
                    for trace in some
                    if trace.id in found
                ]
            async for each in self._whole([trace.id for trace in some if trace.id not in found]):
                yield each

    async def _whole(self, ids: Sequence[str]) -> AsyncIterator[list[Mapping[str, Any]]]:
        """From the API, but those that it can't tell, which spoil the answer for the others."""
        left = list(ids)
        while left:
            some = left[: self._at_once("whole", MAX_READ)]
            answer = await self._asked_whole(some)
            while (answer.is_cut or answer.status != 200) and len(some) > 1:
                some = some[: len(some) // 2]
                answer = await self._asked_whole(some)
            del left[: len(some)]
            if answer.status == 200 and not answer.is_cut:
                yield (await self._document(answer)).get("traces") or []

    async def _asked_whole(self, ids: Sequence[str]) -> MlflowAnswer:
        asking = self._api.traces(ids)
        return await self._answer(asking, of="whole", count=len(ids), statuses=WHOLE)

    async def _pieces(
        self, of: str, ids: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[MlflowAnswer]]
    ) -> AsyncIterator[MlflowAnswer]:
        """MLflow's answers about these ids, which are asked for in pieces that it answers quickly."""
        done = 0
        while done < len(ids):
            some = ids[done : done + self._at_once(of, MAX_TRACES)]
            yield await self._answer(ask(some), of=of, count=len(some))
            done += len(some)

    def deleted_at_once(self) -> int:
        """How many traces to delete in one request."""
        return self._at_once("delete", MAX_TRACES)

    async def delete(self, experiment_id: str, ids: Sequence[str]) -> int:
        """Delete traces (tr-...) of an experiment; how many MLflow had."""
        held = await self.file.held(ids) if self.file else frozenset[str]()
        answer = await self._ask(self._api.delete_traces(experiment_id, ids), of="delete", count=len(ids))
        if self.file:
            await self.file.deleted(ids, held)
        return int(answer.get("traces_deleted") or 0)

    async def describe(self, info: Mapping[str, Any]) -> None:
        """Have MLflow say this of a trace (its JSON, without spans). Raises TraceRefused."""
        answer = await self._answer(self._api.start_trace(info), statuses=DESCRIBED)
        if answer.status != 200:
            raise TraceRefused(f"MLflow answered with status {answer.status}: {answer.error}")

    async def protected(self, experiment_ids: Sequence[str], *, runs: bool, datasets: bool) -> Protected:
        """Traces of these experiments that runs are linked to, and those from which datasets were made.

        MLflow doesn't tell which traces are linked to a run but for one run at a time: a request for each.
        """
        return Protected(
            in_datasets=await self._in_datasets() if datasets else frozenset(),
            in_runs=await self._in_runs(experiment_ids) if runs and experiment_ids else frozenset(),
        )

    async def linked(
        self, experiment_id: str, ids: Sequence[str], *, runs: bool, datasets: bool
    ) -> Protected:
        """The same of these traces (tr-...) of an experiment alone, which is fast where there are many."""
        began = time.monotonic()
        found = Protected(
            in_datasets=await self._in_datasets() if datasets else frozenset(),
            in_runs=await self._in_runs([experiment_id], among=ids) if runs and ids else frozenset(),
        )
        self.linked_seconds = time.monotonic() - began
        return found

    async def _in_datasets(self) -> frozenset[str]:
        """Of datasets that have not changed since they were read, what was read then."""
        known: dict[str, tuple[Any, frozenset[str]]] = {}
        async for dataset in self._all(
            "datasets",
            lambda token: self._api.search_datasets(limit=MANY, page_token=token),
            id_of=lambda each: each["dataset_id"],
        ):
            id, changed = str(dataset["dataset_id"]), dataset.get("last_update_time")
            before = self._datasets.get(id)
            is_known = before is not None and changed is not None and before[0] == changed
            known[id] = before if before and is_known else (changed, await self._sources_of(id))
        self._datasets = known
        return frozenset().union(*[ids for _, ids in known.values()])

    async def _sources_of(self, dataset_id: str) -> frozenset[str]:
        found: set[str] = set()
        token, pages = "", 0
        while token or not pages:
            page = await self._ask(self._api.dataset_records(dataset_id, limit=MANY, page_token=token))
            found |= _sources(page.get("records"))
            token, pages = str(page.get("next_page_token") or ""), pages + 1
        return frozenset(found)

    async def _in_runs(
        self, experiment_ids: Sequence[str], *, among: Sequence[str] | None = None
    ) -> frozenset[str]:
        found: set[str] = set()
        wanted = None if among is None else ids_filter(among)
        for run_id in await self._runs():
            async for info in self._all(
                "traces",
                lambda token, id=run_id: self._api.traces_of_run(
                    experiment_ids, id, also=wanted, page_token=token
                ),
                id_of=lambda info: info["trace_id"],
            ):
                found.add(str(info["trace_id"]))
        return frozenset(found)

    async def _runs(self) -> list[str]:
        """The ids of all that aren't deleted, of experiments that aren't."""
        everywhere = [str(each.id) for each in await self.experiments()]
        if not everywhere:
            return []
        return [
            str(run["info"]["run_id"])
            async for run in self._all(
                "runs",
                lambda token: self._api.search_runs(
                    everywhere, filter_string="", order_by=[], limit=RUNS_A_PAGE, page_token=token
                ),
                id_of=lambda run: run["info"]["run_id"],
            )
        ]

    async def _all(
        self, key: str, ask: Any, *, id_of: Callable[[dict[str, Any]], str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Everything under `key`, page after page, each once.

        Several pages are read twice: tokens of MLflow's are offsets, so what is deleted between two requests
        moves something from the next page to the one before.
        """
        seen: set[str] = set()
        for _ in range(2):
            token, pages = "", 0
            while token or not pages:
                page = await self._ask(ask(token))
                for each in page.get(key) or ():
                    if id_of(each) not in seen:
                        seen.add(id_of(each))
                        yield each
                token, pages = str(page.get("next_page_token") or ""), pages + 1
            if pages == 1:
                return

    async def _ask(self, asking: Awaitable[MlflowAnswer], *, of: str = "", count: int = 1) -> dict[str, Any]:
        return await self._document(await self._answer(asking, of=of, count=count))

    async def _document(self, answer: MlflowAnswer) -> dict[str, Any]:
        if answer.is_cut:
            raise StoreTrouble(f"MLflow's answer is larger than {MAX_CONTENT_BYTES} bytes")
        document = await asyncio.to_thread(lambda: answer.document)
        if document is None:  # a page to log in, say: it doesn't mean that MLflow has nothing
            raise StoreTrouble(f"MLflow's answer is no JSON object: {answer.error[:100]!r}")
        return document

    async def _answer(
        self,
        asking: Awaitable[MlflowAnswer],
        *,
        of: str = "",
        count: int = 1,
        statuses: Collection[int] = (200,),
    ) -> MlflowAnswer:
        """One with such a status. `of` and `count` say what is asked for, and of how many."""
        try:
            async with self.pace.request(of, count):
                answer = await asking
        except MlflowUnreachable as error:
            raise StoreTrouble(f"MLflow can't be asked: {error}") from error
        if answer.status not in statuses:
            raise StoreTrouble(f"MLflow answered with status {answer.status}: {answer.error}")
        return answer

    def _at_once(self, of: str, most: int) -> int:
        return self.pace.count(of, most=most, least=LEAST[of])

    @property
    def _api(self) -> MlflowApi:
        behind = self.mlflow.behind_others()
        return MlflowApi(connection=behind, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_CONTENT_BYTES)


def _stored(info: Mapping[str, Any]) -> RetainedTrace:
    try:
        return read_stored(info)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreTrouble(f"a trace in MLflow's answer can't be read: {error!r}") from error


def _sources(records: Any) -> set[str]:
    """The traces from which records of a dataset were made, by MLflow's ids."""
    try:
        found = json.loads(records or "[]")
        sources = [each.get("source") or {} for each in found]
        sources = [json.loads(each) if isinstance(each, str) else each for each in sources]
        named = {(each.get("source_data") or {}).get("trace_id") for each in sources}
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreTrouble(f"the records of a dataset can't be read: {error!r}") from error
    return {str(id) for id in named if id}
