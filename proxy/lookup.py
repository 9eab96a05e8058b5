"""Which experiment an object of MLflow belongs to, asked of MLflow and remembered within bounds.

What never moves (runs, logged models) is remembered for long; names of experiments, traces and datasets for
seconds. "There is none" is not remembered: what isn't there now may be somebody else's in a moment.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from cachetools import FIFOCache, TLRUCache, TTLCache
from yarl import URL

from proxy.errors import Refusal, timed_out, unreachable
from proxy.locations import ObjectKind
from proxy.policy import PolicyExperiment

V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"
MAX_REMEMBERED = 100_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# aiohttp inflates and buffers up to twice what one read asks for
READ_BYTES = 64 * 1024
PAGE = 1000
EXPERIMENT_SECONDS = 5.0
MOVING_SECONDS = 10.0
FIXED_SECONDS = 3600.0
# a caller who asks for what isn't there must not make us list all experiments each time
LISTING_PAUSE_SECONDS = 1.0
TRACES_PER_QUESTION = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedExperiment:
    """An experiment and where its files are, as a path under `mlflow-artifacts:/`; None: elsewhere."""

    experiment: PolicyExperiment
    artifacts: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    path: str  # with {id} in it
    answer: tuple[str, ...]
    seconds: float = FIXED_SECONDS


# (kind -> how to ask for one, and where its experiment is in the answer)
QUESTIONS: Mapping[ObjectKind, _Question] = {
    ObjectKind.RUN: _Question(path=f"{V2}/runs/get?run_id={{id}}", answer=("run", "info", "experiment_id")),
    ObjectKind.MODEL: _Question(path=f"{V2}/logged-models/{{id}}", answer=("model", "info", "experiment_id")),
    ObjectKind.ISSUE: _Question(path=f"{V3}/issues/{{id}}", answer=("issue", "experiment_id")),
    ObjectKind.SCHEMA: _Question(
        path=f"{V3}/label-schemas/get?schema_id={{id}}", answer=("label_schema", "experiment_id")
    ),
    ObjectKind.QUEUE: _Question(
        path=f"{V3}/review-queues/get?queue_id={{id}}", answer=("review_queue", "experiment_id")
    ),
    ObjectKind.JOB: _Question(path=f"{V3}/prompt-optimization/jobs/{{id}}", answer=("job", "experiment_id")),
    ObjectKind.DATASET: _Question(
        path=f"{V3}/datasets/{{id}}/experiment-ids", answer=("experiment_ids",), seconds=MOVING_SECONDS
    ),
}


class Lookup:
    """The directory of one MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, authorization: str | None) -> None:
        self._session = session
        self._url = url
        self._headers = {} if authorization is None else {"authorization": authorization}
        self._owners: TLRUCache[tuple[ObjectKind, str], frozenset[str]] = TLRUCache(
            MAX_REMEMBERED, _forget_at, timer=time.monotonic
        )
        self._experiments: TTLCache[str, LocatedExperiment] = TTLCache(
            MAX_REMEMBERED, EXPERIMENT_SECONDS, timer=time.monotonic
        )
        # the last listing whole, and what was asked for since
        self._listed: FIFOCache[str, LocatedExperiment] = FIFOCache(MAX_REMEMBERED)
        self._listed_at = -1e9
        self._listing = asyncio.Lock()

    async def experiment(self, id: str) -> LocatedExperiment | None:
        """The experiment of this id, active or deleted; None: there is none. Raises Refusal (502, 504)."""
        known = self.remembered(id)
        if known is not None:
            return known
        answer = await self._get(f"{V2}/experiments/get", {"experiment_id": id})
        return self._keep(answer.get("experiment"))

    def remembered(self, id: str) -> LocatedExperiment | None:
        """As `experiment`, from memory only; None: it isn't there, or was too long ago."""
        return self._experiments.get(id)

    async def named(self, name: str) -> LocatedExperiment | None:
        """The experiment of this name."""
        answer = await self._get(f"{V2}/experiments/get-by-name", {"experiment_name": name})
        return self._keep(answer.get("experiment"))

    async def everything(self, *, fresh: bool = False) -> Sequence[LocatedExperiment]:
        """All experiments, active and deleted; at most seconds old."""
        async with self._listing:
            age = time.monotonic() - self._listed_at
            if age > EXPERIMENT_SECONDS or (fresh and age > LISTING_PAUSE_SECONDS):
                await self._list()
        return list(self._listed.values())

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """The experiment ids that each object belongs to; objects that MLflow doesn't have are missing."""
        found: dict[str, frozenset[str]] = {}
        open_: list[str] = []
        for id in dict.fromkeys(ids):
            known = self._owners.get((kind, id))
            if known is None:
                open_.append(id)
            else:
                found[id] = known
        if kind is ObjectKind.TRACE:
            for start in range(0, len(open_), TRACES_PER_QUESTION):
                found |= await self._traces(open_[start : start + TRACES_PER_QUESTION])
        else:
            answers = await asyncio.gather(*(self._one(kind, id) for id in open_))
            found |= {id: owner for id, owner in zip(open_, answers, strict=True) if owner}
        return found

    async def source_of(self, name: str, version: str) -> str | None:
        """The address of a model version's files. Raises Refusal (502, 504)."""
        answer = await self._get(f"{V2}/model-versions/get", {"name": name, "version": version})
        source = (answer.get("model_version") or {}).get("source")
        return source if isinstance(source, str) else None

    def forget(self) -> None:
        """Something about experiments, traces or datasets was just changed through us."""
        self._experiments.clear()
        self._listed_at = -1e9
        for key in [key for key in self._owners if key[0] in (ObjectKind.TRACE, ObjectKind.DATASET)]:
            self._owners.pop(key, None)

    async def _one(self, kind: ObjectKind, id: str) -> frozenset[str]:
        question = QUESTIONS[kind]
        answer: Any = await self._ask("GET", question.path.format(id=quote(id, safe="")), None)
        for key in question.answer:
            answer = answer.get(key) if isinstance(answer, dict) else None
        owners = frozenset(map(str, answer)) if isinstance(answer, list) else frozenset({str(answer)})
        if answer is None:
            return frozenset()
        self._owners[kind, id] = owners
        return owners

    async def _traces(self, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        document = await self._post(f"{V3}/traces/batchGetInfos", {"trace_ids": list(ids)})
        found = {}
        for info in document.get("trace_infos") or ():
            location = info.get("trace_location") or {}
            experiment = (location.get("mlflow_experiment") or {}).get("experiment_id")
            # a trace that isn't in an experiment is nobody's here
            found[str(info.get("trace_id"))] = frozenset(
                {str(experiment)} if experiment is not None else {""}
            )
        for id, owners in found.items():
            self._owners[ObjectKind.TRACE, id] = owners
        return found

    def _keep(self, document: Any) -> LocatedExperiment | None:
        if not isinstance(document, dict) or "experiment_id" not in document:
            return None
        experiment = PolicyExperiment(id=str(document["experiment_id"]), name=str(document.get("name", "")))
        place = LocatedExperiment(
            experiment=experiment, artifacts=artifact_path(document.get("artifact_location"))
        )
        self._experiments[experiment.id] = self._listed[experiment.id] = place
        return place

    async def _list(self) -> None:
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            query = {"max_results": PAGE, "view_type": "ALL"} | ({"page_token": token} if token else {})
            answer = await self._post(f"{V2}/experiments/search", query)
            found += answer.get("experiments") or ()
            token = str(answer.get("next_page_token") or "")
            if not token or len(found) >= MAX_REMEMBERED:
                break
        self._experiments.clear()
        self._listed.clear()
        for document in found:
            self._keep(document)
        self._listed_at = time.monotonic()

    async def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        target = f"{path}?{urlencode(query)}"
        return await self._ask("GET", target, None)

    async def _post(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", path, json.dumps(document).encode())

    async def _ask(self, method: str, target: str, body: bytes | None) -> dict[str, Any]:
        """MLflow's answer; empty if it says there is none (400, 404). Raises Refusal (502, 504)."""
        headers = self._headers | ({"content-type": "application/json"} if body else {})
        try:
            async with self._session.request(
                method,
                URL(self._url + target, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                content = bytearray()
                while len(content) < MAX_ANSWER_BYTES and (part := await answer.content.read(READ_BYTES)):
                    content += part
        except TimeoutError as error:
            raise timed_out(f"MLflow at {self._url} did not answer a look-up in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(
                f"MLflow at {self._url} can't be reached for a look-up: {type(error).__name__}"
            ) from error
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if answer.status == 200 and isinstance(document, dict):
            return document
        if answer.status in (400, 404) and isinstance(document, dict) and "error_code" in document:
            return {}
        raise _no_verdict(self._url, answer.status)


def _forget_at(key: tuple[ObjectKind, str], owners: frozenset[str], now: float) -> float:
    question = QUESTIONS.get(key[0])
    return now + (MOVING_SECONDS if question is None else question.seconds)


def _no_verdict(url: str, status: int) -> Refusal:
    return unreachable(f"MLflow at {url} answered {status} to a look-up, so the request can't be decided")


def artifact_path(location: object) -> str | None:
    """The path under `mlflow-artifacts:` that a location names, without outer slashes; None: elsewhere."""
    if not isinstance(location, str):
        return None
    parts = urlsplit(location)
    return parts.path.strip("/") if parts.scheme == "mlflow-artifacts" else None
