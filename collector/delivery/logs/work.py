"""What a window of log records works with: MLflow as its target, and what has become of each record."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from collector.delivery.logs.lookup import Place
from collector.delivery.logs.sorting import SortedRecord
from collector.delivery.mlflow.forward import Forward
from collector.delivery.mlflow.turns import Turns
from collector.delivery.settle import Settled, TargetHealth
from collector.journal import Consumer
from collector.mlflow.client import Mlflow
from collector.mlflow.experiments import CannotAsk, Experiments
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Route
from collector.settings import DeliverySettings
from collector.spans.scores import MAX_EXPLANATION_CHARACTERS, Score
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

CONSUMER = "logs"
# so often a window comes back with a record that MLflow fails at, before it is the record's fault
MAX_SUSPECT_WINDOWS = 3


@dataclass(slots=True, kw_only=True)
class LogTarget:
    """MLflow as windows of log records see it. `spans`: the consumer that brings it the spans."""

    mlflow: Mlflow
    experiments: Experiments
    settings: DeliverySettings
    quarantine_after_crashes: int
    metrics: Metrics
    spans: Consumer
    compress: bool = False
    forward: Forward | None = None
    sampling: str | None = None
    # the consumer that is told of judgements which don't say themselves where they belong
    scores_to: str | None = None
    # clients are told apart, so a record may speak of traces of its own experiment only
    check_owners: bool = False
    # of an explanation
    max_characters: int = MAX_EXPLANATION_CHARACTERS
    stopping: bool = False
    health: TargetHealth = field(default_factory=TargetHealth)
    fault_log: FaultLog = field(default_factory=FaultLog)
    turns: Turns = field(default_factory=Turns)
    started_unix_ns: int = field(default_factory=time.time_ns)
    suspects: Counter[str] = field(default_factory=Counter)
    in_flight: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    def committed(self, outcome: Settled) -> None:
        """Count what has become of a window."""
        for refusal in outcome.refusals:
            self.metrics.logs_dead_lettered.labels(reason=refusal.reason).inc(refusal.request.span_count)
        for name, count in outcome.counts.items():
            self.metrics.logs_delivered.labels(outcome=name).inc(count)


class MlflowSilent(Exception):
    """MLflow can't be asked now: the window comes again."""

    def __init__(self, cannot: CannotAsk) -> None:
        super().__init__(cannot.message)
        self.cannot = cannot


class NoAnswer(Exception):
    """A write has no answer: MLflow may still be at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedScore:
    """A judgement, and where it is in MLflow."""

    item: SortedRecord
    score: Score
    place: Place
    experiment_id: str


@dataclass(slots=True, kw_only=True)
class LogWindow:
    """One window on its way. Each of its records ends in `counts`, `waiting` or `refused`.

    `placed` are judgements in MLflow whose records name no trace, or come from another experiment.
    """

    target: LogTarget
    api: MlflowApi
    lane: str
    route: Route
    experiment_id: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    waiting: list[tuple[SortedRecord, str]] = field(default_factory=list)
    refused: list[tuple[SortedRecord, str, str]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    placed: list[PlacedScore] = field(default_factory=list)

    def refuse(self, items: Sequence[SortedRecord], reason: str, message: str) -> None:
        self.refused += [(item, reason, message) for item in items]

    def wait(self, items: Sequence[SortedRecord], message: str) -> None:
        self.waiting += [(item, message) for item in items]


def is_guilty(target: LogTarget, key: str) -> bool:
    """MLflow answers look-ups, and fails at this record in window after window."""
    target.suspects[key] += 1
    if target.suspects[key] < MAX_SUSPECT_WINDOWS:
        return False
    del target.suspects[key]
    return True
