"""Whether the types of spans that MLflow's API tells are those that it counts by.

The API fills in a type from other conventions where the column has none, or UNKNOWN. So a count of ours by
type is never smaller than MLflow's for a type that was filled in, and larger if one was: where all counts
are equal, all types are. MLflow is asked for its counts of the traces that were read since the last proof.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.mirror.answer import metrics_answer
from collector.mirror.question import MAX_RESULTS, Aggregation, MetricQuestion

AGAIN_SECONDS = 5.0

Ask = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Measure = Callable[[MetricQuestion], Awaitable[Mapping[str, Any]]]
# another number after each write to the experiment; None: one is on its way, or isn't read yet
Quiet = Callable[[], int | None]


@dataclass(slots=True)
class TypeProof:
    """Of one experiment. `noted` counts what was read with doubts, `proven` how much of it was proven."""

    noted: int = 0
    proven: int = 0
    since_ms: int | None = None
    failed_at: float = float("-inf")
    proving: asyncio.Task[None] | None = None

    def note(self, timestamp_ms: int) -> None:
        """A trace of that time has types that may have been filled in."""
        self.noted += 1
        self.since_ms = timestamp_ms if self.since_ms is None else min(self.since_ms, timestamp_ms)

    @property
    def holds(self) -> bool:
        """Whether all types are certain."""
        return self.noted == self.proven

    async def attempt(self, experiment_id: int, ask: Ask, measure: Measure, quiet: Quiet) -> bool:
        """Whether they are, after asking MLflow once; it goes on where the caller is cancelled."""
        if self.holds or time.monotonic() - self.failed_at < AGAIN_SECONDS:
            return self.holds
        if self.proving is None or self.proving.done():
            self.proving = asyncio.create_task(self._prove(experiment_id, ask, measure, quiet))
        await asyncio.shield(self.proving)
        return self.holds

    async def _prove(self, experiment_id: int, ask: Ask, measure: Measure, quiet: Quiet) -> None:
        noted, before = self.noted, quiet()
        if before is None:
            return
        question = _counts(experiment_id, since_ms=self.since_ms)
        try:
            theirs = await ask(_document(question))
            ours = json.loads(metrics_answer(question, (await measure(question))["rows"]))
        except Exception:  # whatever it was: nothing is proven
            self.failed_at = time.monotonic()
            return
        # what MLflow counts already and we don't might make up for a type that was filled in
        if (self.noted, quiet()) != (noted, before):
            return
        if _by_type(ours) == _by_type(theirs):
            self.proven, self.since_ms = noted, None
        else:
            self.failed_at = time.monotonic()


def _counts(experiment_id: int, *, since_ms: int | None) -> MetricQuestion:
    return MetricQuestion(
        experiment_ids=[experiment_id],
        view="SPANS",
        metric="span_count",
        aggregations=[Aggregation(type="COUNT")],
        dimensions=["span_type"],
        start_ms=since_ms,
        max_results=MAX_RESULTS,
        types_are_certain=True,
    )


def _document(question: MetricQuestion) -> dict[str, Any]:
    """As MLflow is asked."""
    document = {
        "experiment_ids": [str(id) for id in question.experiment_ids],
        "view_type": question.view,
        "metric_name": question.metric,
        "aggregations": [{"aggregation_type": "COUNT"}],
        "dimensions": list(question.dimensions),
        "max_results": question.max_results,
    }
    return document | ({} if question.start_ms is None else {"start_time_ms": question.start_ms})


def _by_type(answer: Mapping[str, Any]) -> dict[str, float]:
    points = answer.get("data_points", ())
    return {each["dimensions"]["span_type"]: each["values"]["COUNT"] for each in points}
