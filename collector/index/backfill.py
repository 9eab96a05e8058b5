"""What MLflow holds and the index doesn't: traces from before, or logged with MLflow's own SDK.

One step reads one page of an experiment, oldest first, and puts it into the index; whoever asks for steps
asks until there are no more, so progress can be shown, and stopping costs nothing. How far it is is noted in
the index's own folder, and in the answer: the next step goes on there, in another process too if it brings
the answer's `resume` along.

Source: traces/search, traces/batchGet and traces/metrics of MLflow's REST API 3.0,
https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from collector.files.private import make_folder, opener
from collector.index.delivered import delivered
from collector.index.differences import LabelComparison
from collector.index.protocol import (
    Index,
    IndexFailure,
    IndexQuery,
    JsonAnswer,
    QueryKind,
    UnreadableTraces,
)
from collector.journal import Consumer
from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow, MlflowAnswer, MlflowUnreachable
from collector.mlflow.rest import MAX_TRACES, MlflowApi
from collector.model.errors import SidespanError
from collector.model.experiment import ExperimentReference
from collector.model.parameters import BadParameter
from collector.spans.labels import ARCHIVED_TAG
from collector.spans.mlflow_trace import read_labelled

PAGE = 200
# MLflow reads every span of each into memory
AT_ONCE = 25
# traces of an experiment whose sessions, users and tags `verify` looks at
MAX_COMPARED = 5000
TIMEOUT_SECONDS = 60.0
RESUME = ("at_unix_ms", "token", "traces", "spans", "seen")
EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,18}")


class MlflowSays(SidespanError):
    """MLflow can't be asked, or has not answered as it should."""


class Backfill:
    """Reads MLflow into the index, step by step."""

    def __init__(
        self, mlflow: Mlflow, index: Index, folder: Path | None, *, deliver: Sequence[Consumer] = ()
    ) -> None:
        """`folder` None: nothing is noted but in the answers.

        `deliver`: what brings scores to MLflow, asked what it hasn't brought yet.
        """
        self._api = MlflowApi(connection=mlflow, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_CONTENT_BYTES)
        self._index = index
        self._deliver = deliver
        self._file = None if folder is None else folder / "backfill.json"
        self._alone = asyncio.Lock()

    async def step(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """One page of an experiment: {"experiment_id" or "experiment_name", "since_unix_ms", "restart"}.

        The answer: {"experiment_id", "done", "seen", "total", "traces", "spans", "resume"}: `seen` of `total`
        traces are looked at in this round; `traces` and `spans` came in, in all steps so far. `resume` may go
        into the next document. Raises BadParameter, MlflowSays, IndexAway.
        """
        async with self._alone:
            id, name = await self._experiment(document)
            since = document.get("since_unix_ms", 0)
            if not isinstance(since, int) or isinstance(since, bool) or since < 0:
                raise BadParameter("since_unix_ms", since, "must be a time in milliseconds since 1970")
            known = {} if document.get("restart") is True else self._known(document, f"{id} {since}")
            at = known.get("at_unix_ms", since)
            page = await self._page(id, at, known.get("token", ""))
            found = [str(each["trace_id"]) for each in page.get("traces", ())]
            counts = {"traces": 0, "spans": 0}
            for start in range(0, len(found), AT_ONCE):
                taken = await self._put(id, name, found[start : start + AT_ONCE])
                counts = {key: counts[key] + taken[key] for key in counts}
            last = page["traces"][-1].get("request_time") if found else None
            noted = {
                "at_unix_ms": at,
                "token": str(page.get("next_page_token") or ""),
                "traces": known.get("traces", 0) + counts["traces"],
                "spans": known.get("spans", 0) + counts["spans"],
                "seen": known.get("seen", 0) + len(found),
            }
            done = not noted["token"]
            if done:
                # traces of that millisecond may still come: it is read again
                noted |= {"at_unix_ms": max(at, _milliseconds(last)), "seen": 0}
            self._note(f"{id} {since}", noted)
            return {
                "experiment_id": id,
                "experiment_name": name,
                "done": done,
                "total": await self._count(id, at, "TRACES"),
                **{key: noted[key] for key in ("traces", "spans")},
                "seen": known.get("seen", 0) + len(found),
                "resume": noted,
            }

    async def put(self, experiment_id: str, trace_ids: Sequence[str]) -> int:
        """These traces (tr-…) of an experiment; how many came in. Raises as `step` does."""
        async with self._alone:
            id, name = await self._experiment({"experiment_id": experiment_id})
            return (await self._put(id, name, trace_ids))["traces"]

    async def verify(self, experiment_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Traces, spans and scores of experiments, in the index and in MLflow; and how the traces differ.

        What the index keeps of archived traces, which MLflow has no more, is no difference. Sessions, users
        and tags are compared for the newest MAX_COMPARED traces of each experiment. Raises MlflowSays,
        IndexAway, QueryTimedOut.
        """
        here = {counts.id: asdict(counts) for counts in (await self._index.state()).experiments}
        ids = list(experiment_ids) or [id for id in here if id is not None]
        rows = []
        for id in ids:
            if not EXPERIMENT_ID.fullmatch(id):
                raise BadParameter("experiment_id", id[:80], "must be digits, without leading zero or sign")
            mine = here.get(id, {"traces": 0, "spans": 0, "scores": 0, "name": None})
            theirs = {
                "traces": await self._count(id, 0, "TRACES"),
                "spans": await self._count(id, 0, "SPANS"),
                "scores": await self._count(id, 0, "ASSESSMENTS"),
            }
            gone = await self._archived(id)
            rows.append(
                {
                    "experiment_id": id,
                    "experiment_name": mine["name"],
                    **{
                        key: {
                            "index": mine[key],
                            "mlflow": theirs[key],
                            "archived": gone[key],
                            "difference": mine[key] - gone[key] - theirs[key],
                        }
                        for key in ("traces", "spans", "scores")
                    },
                    "labels": asdict(await self._compare(id)),
                }
            )
        return rows

    async def _archived(self, id: str) -> dict[str, int]:
        """Traces, spans and scores of an experiment that the index has of archived traces."""
        asked = {"experiment_id": [id], "tag": [f"{ARCHIVED_TAG}=*"]}
        traces = await self._total(asked | {"metric": ["count", "spans"]})
        scores = await self._total(asked | {"of": ["scores"], "metric": ["count"]})
        found = {"traces": traces["count"], "spans": traces["spans"], "scores": scores["count"]}
        return {key: int(value or 0) for key, value in found.items()}

    async def _total(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, float | None]:
        answer = await self._index.ask(IndexQuery(kind=QueryKind.STATS, parameters=parameters))
        assert isinstance(answer, JsonAnswer)
        total: dict[str, float | None] = json.loads(answer.body)["total"]
        return total

    async def _compare(self, id: str) -> LabelComparison:
        """The newest traces of an experiment in MLflow, beside what the index says of them."""
        comparison, token = LabelComparison(), ""
        for _ in range(MAX_COMPARED // MAX_TRACES):
            asking = self._api.search_traces(
                id, filter_string="", order_by=["timestamp_ms DESC"], limit=MAX_TRACES, page_token=token
            )
            answer = await self._answer(asking)
            token = str(_object(answer).get("next_page_token") or "")
            theirs = read_labelled(answer.body)
            ours = await self._index.labels(id, [trace.trace_id for trace in theirs])
            comparison.add(theirs, ours)
            if not token:
                break
        return comparison

    async def _experiment(self, document: Mapping[str, Any]) -> tuple[str, str]:
        id, name = document.get("experiment_id"), document.get("experiment_name")
        if isinstance(id, str) == isinstance(name, str):
            raise BadParameter("experiment_id", id, "give experiment_id or experiment_name, one of them")
        answer = await self._answer(
            self._api.experiment(id) if isinstance(id, str) else self._api.experiment_named(str(name))
        )
        if answer.status in (400, 404):
            raise BadParameter("experiment_id", id or name, answer.error)
        found = _object(answer).get("experiment") or {}
        return str(found["experiment_id"]), str(found["name"])

    async def _page(self, id: str, at_unix_ms: int, token: str) -> dict[str, Any]:
        page = self._api.search_traces(
            id,
            filter_string=f"attributes.timestamp_ms >= {at_unix_ms}",
            order_by=["timestamp_ms ASC"],
            limit=PAGE,
            page_token=token,
        )
        return _object(await self._answer(page))

    async def _put(self, id: str, name: str, trace_ids: Sequence[str]) -> dict[str, int]:
        before = await delivered(self._deliver, trace_ids)
        answer = await self._answer(self._api.traces(trace_ids))
        if answer.status == 200 and answer.is_cut and len(trace_ids) > 1:
            half = len(trace_ids) // 2
            parts = [await self._put(id, name, part) for part in (trace_ids[:half], trace_ids[half:])]
            return {key: sum(part[key] for part in parts) for key in ("traces", "spans")}
        _object(answer)
        try:
            experiment = ExperimentReference(id=id, name=name)
            stored = await self._index.put(answer.body, experiment, delivered=before)
        except (UnreadableTraces, IndexFailure) as error:
            raise MlflowSays(f"the index could not take a page: {error}") from error
        return asdict(stored)

    async def _count(self, id: str, since_unix_ms: int, of: str) -> int:
        tomorrow_ms = int(time.time() * 1000) + 86_400_000
        counting = self._api.count_traces(id, of=of, start_ms=since_unix_ms, end_ms=tomorrow_ms)
        points = _object(await self._answer(counting)).get("data_points") or []
        return int(points[0]["values"]["COUNT"]) if points else 0

    def _known(self, document: Mapping[str, Any], key: str) -> dict[str, Any]:
        """How far an earlier step came: as its answer says, or as it is noted here. Raises BadParameter."""
        resume = document.get("resume")
        if resume is None:
            return self._noted(key)
        kinds = {name: str if name == "token" else int for name in RESUME}
        if not isinstance(resume, dict) or any(type(resume.get(n)) is not k for n, k in kinds.items()):
            raise BadParameter("resume", str(resume)[:200], "must be what an earlier step has answered")
        return {name: resume[name] for name in RESUME}

    def _noted(self, key: str) -> dict[str, Any]:
        if self._file is None:
            return {}
        try:
            found: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8")).get(key, {})
        except (OSError, ValueError):
            return {}
        return found

    def _note(self, key: str, value: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        make_folder(self._file.parent)
        unfinished = self._file.with_suffix(".new")
        with open(unfinished, "w", encoding="utf-8", opener=opener) as out:
            out.write(json.dumps(known | {key: value}))
        unfinished.replace(self._file)

    async def _answer(self, asking: Awaitable[MlflowAnswer]) -> MlflowAnswer:
        try:
            return await asking
        except MlflowUnreachable as error:
            raise MlflowSays(f"MLflow can't be asked: {error}") from error


def _object(answer: MlflowAnswer) -> dict[str, Any]:
    if answer.status != 200:
        raise MlflowSays(f"MLflow answered with status {answer.status}: {answer.error}")
    if answer.is_cut:
        raise MlflowSays(f"MLflow's answer is larger than {MAX_CONTENT_BYTES} bytes")
    return answer.json()


def _milliseconds(time_text: Any) -> int:
    """Of protobuf's JSON form of a Timestamp, 2026-01-01T00:00:00.123Z."""
    try:
        return int(datetime.fromisoformat(str(time_text)).timestamp() * 1000)
    except ValueError:
        return 0
