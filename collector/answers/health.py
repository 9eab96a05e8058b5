"""The health of the service, with a reason for each part. `ready` means that data is accepted.

While MLflow is away the service stays ready: it accepts data for later delivery. That MLflow is away shows in
its own part, in the metrics and in `sidespan doctor`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from collector.answers.alerting import AlertAnswers
from collector.answers.rights import ReadRights
from collector.delivery.otlp.opening import Backend
from collector.delivery.worker import DeliveryWorker, StuckLane
from collector.index.feed import Indexer
from collector.index.protocol import Index
from collector.journal import Consumer, JournalState, Log
from collector.mirror.answering import MirrorAnswering
from collector.mlflow.client import Mlflow, MlflowUnreachable
from collector.mlflow.rest import MlflowApi
from collector.model.errors import Unavailable
from collector.receivers.bounds import InFlightBounds

PROBE_SECONDS = 1.0
PROBE_AGAIN_SECONDS = 2.0
# an index that lags by more than this is reported
LATE_SECONDS = 10.0
# how many lanes without progress are listed
MAX_STUCK = 20

Part = dict[str, Any]


def sidespan_version() -> str:
    """The installed version, `0+unknown` in a tree that was never installed."""
    try:
        return version("sidespan")
    except PackageNotFoundError:
        return "0+unknown"


@dataclass(slots=True, kw_only=True)
class ServiceHealth:
    """The health of one service, from its parts: those that this process runs.

    `receives`: it takes exports. `counts`: it says what the log holds, also for consumers elsewhere.
    """

    log: Log
    consumer: Consumer
    logs: Consumer
    bounds: InFlightBounds
    mlflow: Mlflow
    max_bytes: int
    grpc: Mapping[str, object]
    receives: bool = True
    counts: bool = True
    worker: DeliveryWorker | None = None
    log_worker: DeliveryWorker | None = None
    index: Index | None = None
    indexer: Indexer | None = None
    alerts: AlertAnswers | None = None
    backends: Sequence[Backend] = ()
    answering: MirrorAnswering | None = None
    _probed: tuple[float, Part] | None = None

    async def read(self, *, rights: ReadRights) -> Part:
        """{"ready", "version", "parts": {name: {"ok", "reason", numbers}}}; for a probe {"ready"} alone."""
        ready = takes_exports(self.bounds, self.log) if self.receives else not self.bounds.stopping
        if not rights.identified:
            return {"ready": ready}
        return {"ready": ready, "version": sidespan_version(), "parts": await self._parts()}

    async def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {"receiver": self._receiver()} if self.receives else {}
        parts["grpc"] = dict(self.grpc)
        mlflow = await self._mlflow()
        state = logs = unknown = None
        try:
            if self.counts:
                state, logs = await self.consumer.state(), await self.logs.state()
        except Unavailable as error:  # what it is to count is elsewhere
            unknown = str(error)
        parts["journal"] = self._journal(state, unknown)
        if self.worker is not None or state is not None:
            parts["delivery"] = self._delivery(state, mlflow_answers=mlflow["ok"])
        if self.log_worker is not None or logs is not None:
            parts["logs"] = self._logs(logs, mlflow_answers=mlflow["ok"])
        parts |= {"index": self._index(), "mlflow": mlflow}
        parts |= {each.consumer.name: await _backend(each) for each in self.backends}
        if self.answering is not None:
            parts["questions"] = _questions(self.answering)
        if self.alerts is not None and (alerts := self.alerts.health()) is not None:
            parts["alerts"] = alerts
        return parts

    def _receiver(self) -> Part:
        return {
            "ok": not self.bounds.stopping,
            "reason": "the service is stopping"
            if self.bounds.stopping
            else "accepts OTLP at /v1/traces and /v1/logs",
            "requests_in_flight": self.bounds.requests,
            "bytes_in_flight": self.bounds.bytes,
        }

    def _journal(self, state: JournalState | None, unknown: str | None) -> Part:
        trouble = self.log.refusing or unknown
        part = {"ok": trouble is None, "reason": trouble or "accepts entries"}
        if state is None:
            return part
        return part | {
            "size_bytes": state.size_bytes,
            "max_bytes": self.max_bytes,
            "dead_letters": state.dead_letters,
            "dead_letter_spans": state.dead_letter_spans,
        }

    def _delivery(self, state: JournalState | None, *, mlflow_answers: bool) -> Part:
        trouble, stuck = _trouble(self.worker, mlflow_answers=mlflow_answers)
        part = {"ok": trouble is None, "stuck_lanes": [_stuck(lane) for lane in stuck[:MAX_STUCK]]}
        if state is None:
            return part | {"reason": trouble or "delivering"}
        return part | {
            "reason": trouble or ("delivering" if state.pending_spans else "all spans are delivered"),
            "pending_spans": state.pending_spans,
            "oldest_pending_seconds": age_seconds(state),
        }

    def _logs(self, state: JournalState | None, *, mlflow_answers: bool) -> Part:
        trouble, _ = _trouble(self.log_worker, mlflow_answers=mlflow_answers)
        waiting = "processing, or waiting for traces"
        if state is None:
            return {"ok": trouble is None, "reason": trouble or waiting}
        return {
            "ok": trouble is None,
            "reason": trouble or (waiting if state.pending_spans else "all log records are processed"),
            "pending_records": state.pending_spans,
            "oldest_pending_seconds": age_seconds(state),
            "dead_letters": state.dead_letters,
            "dead_letter_records": state.dead_letter_spans,
        }

    def _index(self) -> Part:
        if self.index is None:
            return {"ok": True, "reason": "disabled"}
        if self.indexer is None:
            ok = self.index.trouble is None or self.index.starting
            return {"ok": ok, "reason": self.index.trouble or "filled by other processes"}
        trouble, lag = self.indexer.index.trouble or self.indexer.stuck, self.indexer.lag_seconds
        behind = f"{lag:.0f} s behind" if lag > LATE_SECONDS else None
        return {
            "ok": (trouble is None or self.indexer.index.starting) and behind is None,
            "reason": trouble or behind or "up to date",
            "lag_seconds": round(lag, 3),
        }

    async def _mlflow(self) -> Part:
        now = time.monotonic()
        if self._probed is None or now - self._probed[0] > PROBE_AGAIN_SECONDS:
            self._probed = (now, await probe(self.mlflow))
        return self._probed[1]


def _questions(answering: MirrorAnswering) -> Part:
    """What became of MLflow's questions that may be answered here; passing one on is no fault."""
    said = answering.to_json()
    answered, asked = said["questions"].get("index", 0), sum(said["questions"].values())
    reason = f"{answered} of {asked} questions to MLflow answered from the index"
    return {"ok": True, "reason": reason, **said}


async def _backend(backend: Backend) -> Part:
    """The part of another backend. It is not asked how it is: what it answers to requests is what counts."""
    state, trouble, stuck = await backend.consumer.state(), backend.worker.trouble, backend.worker.stuck()
    if stuck:
        why = stuck[0].reason
        trouble = f"{len(stuck)} routes make no progress although {backend.name} takes others: {why}"
    return {
        "ok": trouble is None,
        "reason": trouble or ("delivering" if state.pending_spans else "everything is delivered"),
        "url": backend.url,
        "pending": state.pending_spans,
        "oldest_pending_seconds": age_seconds(state),
        "dead_letters": state.dead_letters,
        "stuck_lanes": [_stuck(lane) for lane in stuck[:MAX_STUCK]],
    }


def _trouble(
    worker: DeliveryWorker | None, *, mlflow_answers: bool
) -> tuple[str | None, Sequence[StuckLane]]:
    """What is wrong with a worker of this process, and the lanes that it makes no progress in."""
    if worker is None:
        return None, ()
    stuck = worker.stuck(target_answers=mlflow_answers)
    if not stuck:
        return worker.trouble, ()
    return f"{len(stuck)} routes make no progress although MLflow responds: {stuck[0].reason}", stuck


def takes_exports(bounds: InFlightBounds, log: Log) -> bool:
    """Whether data is accepted at this moment."""
    return not bounds.stopping and log.refusing is None


async def probe(mlflow: Mlflow) -> Part:
    """Whether MLflow answers, and its version. Source: GET /version."""
    try:
        answer = await MlflowApi(connection=mlflow, timeout_seconds=PROBE_SECONDS).version()
    except MlflowUnreachable as error:
        return {"ok": False, "reason": str(error), "url": mlflow.url}
    if answer.status != 200:
        reason = f"MLflow at {mlflow.url} answered {answer.status} to /version: {answer.error}"
        return {"ok": False, "reason": reason, "url": mlflow.url}
    mlflow_version = answer.body.decode("utf-8", "replace").strip()[:40]
    return {"ok": True, "reason": "reachable", "url": mlflow.url, "version": mlflow_version}


def _stuck(lane: StuckLane) -> Part:
    """Which lane, why, and since when (ISO 8601)."""
    return {
        "experiment_id": lane.route.experiment_id,
        "experiment_name": lane.route.experiment_name,
        "run_id": lane.route.run_id,
        "workspace": lane.route.workspace,
        "reason": lane.reason,
        "since": datetime.fromtimestamp(lane.since_unix, UTC).isoformat(timespec="seconds"),
        "attempts": lane.attempts,
    }


def age_seconds(state: JournalState) -> float:
    """Age of the oldest entry that waits for delivery."""
    if state.oldest_received_unix_ns is None:
        return 0.0
    return round(max(0.0, (time.time_ns() - state.oldest_received_unix_ns) / 1e9), 3)
