"""Where the traces of a copy are listed, counted and read: in MLflow's own database, or over its API.

ApiSource        any MLflow; slow, because MLflow makes JSON of each span
DatabaseSource   MLflow's SQLite file, read into the store without a detour
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from collector.mirror.database import DatabaseAway
from collector.mirror.question import MetricQuestion, NotAnswered, PassOnReason
from collector.mirror.reading import read_document, read_traces
from collector.mirror.rows import Rows, add_trace, experiment_of, milliseconds_of
from collector.mirror.search import SearchQuestion
from collector.mirror.watched import TracePage, WatchedDatabase
from collector.mlflow.client import MlflowUnreachable
from collector.mlflow.rest import MAX_TRACES, MlflowApi

CHECK_AGAIN_SECONDS = 50.0
# of one request: MLflow reads every span of each into memory
PART = 50

ToldTraces = list[tuple[dict[str, Any], list[dict[str, Any]] | None]]


class MirrorAway(Exception):
    """The store, or the database that it reads, can't be asked now."""


class MirrorRows(Protocol):
    """Where the rows are; each verb raises MirrorAway. A store that was lost says so by another `life`."""

    @property
    def life(self) -> int:
        """Grows when the rows are lost."""

    async def hold(self, document: Mapping[str, Any]) -> None:
        """Take in {"gone": trace ids, and the rows that come, by table}."""

    async def pull(self, document: Mapping[str, Any]) -> Mapping[str, str]:
        """Take in {"trace_ids", those "gone", "experiments"} from MLflow's "file": their experiments."""

    async def clear(self, experiment_id: str) -> None:
        """Forget an experiment."""

    async def measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        """{"rows"}, or {"doubt"}."""

    async def find(self, question: SearchQuestion) -> Mapping[str, Any]:
        """{"rows"} of the traces on a page, and of one more if there is one, or {"doubt"}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTraces:
    """Traces to be read. Those of `experiments` are held; the rows of those `gone()` leave just before.

    `note` is told of rows before they are held, and again behind.
    """

    trace_ids: Sequence[str]
    experiments: Collection[str]
    gone: Callable[[], Sequence[str]]
    note: Callable[[Rows], None]


class MirrorSource(Protocol):
    """Where traces are read. Each verb raises MlflowUnreachable or MirrorAway, `count` NotAnswered.

    `at_once` traces are read in one go, with a rest after it of `rest` times as long. `is_watched`: a change
    that somebody else makes is seen, and then every trace is read again.
    """

    at_once: int
    rest: float
    is_watched: bool

    async def count(self, experiment_id: str, *, view: str) -> int:
        """How many TRACES, or ASSESSMENTS."""

    def doubt(self) -> None:
        """Something that was written is not to be seen: ask MLflow again whether this is its database."""

    async def page(self, experiment_id: str, after: str) -> tuple[TracePage, str]:
        """Traces, and what the next page comes after; "": it was the last."""

    async def fill(self, wanted: WantedTraces) -> Mapping[str, str]:
        """Have the store hold the traces as they are now: the experiments of those that are there."""


@dataclass(slots=True, kw_only=True)
class ApiSource:
    """MLflow's API."""

    api: MlflowApi
    store: MirrorRows
    at_once: int = 2 * PART
    # others need MLflow too
    rest: float = 1.0
    is_watched: bool = False

    async def count(self, experiment_id: str, *, view: str) -> int:
        """As in the protocol."""
        return await _told_count(self.api, experiment_id, view)

    def doubt(self) -> None:
        """As in the protocol: there is no other one."""

    async def page(self, experiment_id: str, after: str) -> tuple[TracePage, str]:
        """As in the protocol."""
        answer = await self.api.search_traces(
            experiment_id,
            filter_string="",
            order_by=["timestamp_ms ASC"],
            limit=MAX_TRACES,
            page_token=after,
        )
        page = read_document(answer)
        try:
            found = {
                str(each["trace_id"]): milliseconds_of(each["request_time"])
                for each in page.get("traces", ())
            }
        except (KeyError, TypeError, ValueError) as error:
            raise MlflowUnreachable(f"a page of traces is not in MLflow's JSON: {error!r}") from error
        return found, str(page.get("next_page_token") or "")

    async def fill(self, wanted: WantedTraces) -> Mapping[str, str]:
        """As in the protocol."""
        ids = wanted.trace_ids
        parts = [ids[first : first + PART] for first in range(0, len(ids), PART)]
        rows, held = Rows(), dict[str, str]()
        for traces in await asyncio.gather(*map(self._told, parts)):
            for info, spans in traces:
                experiment_id = experiment_of(info)
                if experiment_id is not None and experiment_id in wanted.experiments:
                    _add(rows, info, spans)
                    held[str(info["trace_id"])] = experiment_id
        # before, for who asks meanwhile; behind, because only what is held can be proven
        wanted.note(rows)
        await self.store.hold({"gone": list(wanted.gone()), **asdict(rows)})
        wanted.note(rows)
        return held

    async def _told(self, trace_ids: Sequence[str]) -> ToldTraces:
        traces = await read_traces(self.api, trace_ids)
        if traces is not None:
            return traces
        half = len(trace_ids) // 2
        return [*await self._told(trace_ids[:half]), *await self._told(trace_ids[half:])]


async def _told_count(api: MlflowApi, experiment_id: str, view: str) -> int:
    """How many MLflow itself counts. Raises NotAnswered."""
    metric = {"TRACES": "trace_count", "ASSESSMENTS": "assessment_count"}[view]
    document = {
        "experiment_ids": [experiment_id],
        "view_type": view,
        "metric_name": metric,
        "aggregations": [{"aggregation_type": "COUNT"}],
    }
    try:
        answer = read_document(await api.trace_metrics(document))
        return int(answer["data_points"][0]["values"]["COUNT"])
    except (MlflowUnreachable, LookupError, TypeError, ValueError):
        raise NotAnswered(PassOnReason.FAILED) from None


def _add(rows: Rows, info: Mapping[str, Any], spans: Sequence[Mapping[str, Any]] | None) -> None:
    try:
        add_trace(rows, info, spans)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise MlflowUnreachable(f"a trace is not in MLflow's JSON: {error!r}") from error


@dataclass(slots=True, kw_only=True)
class DatabaseSource:
    """MLflow's SQLite file. Nothing that it says is in doubt, so nothing is noted."""

    api: MlflowApi
    store: MirrorRows
    database: WatchedDatabase
    # a write that is to be read again waits for as many
    at_once: int = 2000
    rest: float = 0.2
    is_watched: bool = True
    # experiment id -> until when it needs no proof that this is the MLflow's that is asked
    _checked: dict[str, float] = field(default_factory=dict)

    async def count(self, experiment_id: str, *, view: str) -> int:
        """As in the protocol."""
        await self._check(experiment_id)
        count = self.database.count if view == "TRACES" else self.database.count_assessments
        try:
            return await count(experiment_id)
        except DatabaseAway:
            raise NotAnswered(PassOnReason.FAILED) from None

    def doubt(self) -> None:
        """As in the protocol."""
        self._checked.clear()

    async def _check(self, experiment_id: str) -> None:
        """Raises NotAnswered: this file isn't the database of the MLflow that is asked."""
        now = time.monotonic()
        if self._checked.get(experiment_id, 0.0) > now:
            return
        try:
            answer = read_document(await self.api.experiment(experiment_id))["experiment"]
            ours = await self.database.experiment(experiment_id)
            theirs = (int(answer["creation_time"]), str(answer["artifact_location"]))
            is_it = ours == theirs and await self._counts_agree(experiment_id)
        except (MlflowUnreachable, DatabaseAway, LookupError, TypeError, ValueError):
            raise NotAnswered(PassOnReason.FAILED) from None
        if not is_it:
            raise NotAnswered(PassOnReason.OTHER_DATABASE)
        self._checked[experiment_id] = now + CHECK_AGAIN_SECONDS

    async def _counts_agree(self, experiment_id: str) -> bool:
        """Whether MLflow has as many traces as the file: an old copy of it has the same experiments.

        True also where the file changes meanwhile: then nobody can tell, and the next check will.
        Raises DatabaseAway, NotAnswered.
        """
        before = await self.database.look()
        theirs = await _told_count(self.api, experiment_id, "TRACES")
        ours = await self.database.count(experiment_id)
        return ours == theirs or await self.database.look() != before

    async def page(self, experiment_id: str, after: str) -> tuple[TracePage, str]:
        """As in the protocol."""
        try:
            return await self.database.page(experiment_id, after)
        except DatabaseAway as error:
            raise MirrorAway(str(error)) from error

    async def fill(self, wanted: WantedTraces) -> Mapping[str, str]:
        """As in the protocol."""
        document = {
            "file": str(self.database.file),
            "trace_ids": list(wanted.trace_ids),
            "gone": list(wanted.gone()),
            "experiments": sorted(wanted.experiments),
        }
        return await self.store.pull(document) if wanted.trace_ids else {}
