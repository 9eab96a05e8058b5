"""Retention as the service has it: at most one run at a time, asked for or on schedule, and the way back."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from collector.index.protocol import IndexAway, IndexFailure
from collector.model.parameters import BadParameter
from collector.retention.archive import Archive
from collector.retention.catalogue import ArchiveState, CataloguedTrace
from collector.retention.cleanup import Cleanup, RuleReport
from collector.retention.completing import Completion
from collector.retention.frames import DATA, ArchiveDamaged
from collector.retention.restore import CannotRestore, Restorer
from collector.retention.source import CleanupTrouble

_log = logging.getLogger("sidespan.retention")

# until MLflow is asked again what became of a deletion: late spans of its traces are refused meanwhile
RETRY_SECONDS = 30.0
# between looks at whether spans of restored traces have arrived, and at whether any were restored
ARRIVING_SECONDS = 0.2
COMPLETE_SECONDS = 10.0
# who has the trace besides the archive, unless somebody has deleted it there
IN_MLFLOW = (ArchiveState.WRITTEN, ArchiveState.RETURNED)


@dataclass(slots=True, kw_only=True)
class RunState:
    """The run that goes on, or the last one."""

    started_unix_ns: int | None = None
    ended_unix_ns: int | None = None
    rules: list[dict[str, Any]] = field(default_factory=list)
    trouble: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the API has it."""
        return {
            "running": self.started_unix_ns is not None and self.ended_unix_ns is None,
            "started_unix_ns": self.started_unix_ns,
            "ended_unix_ns": self.ended_unix_ns,
            "rules": self.rules,
            "trouble": self.trouble,
        }


@dataclass(slots=True, kw_only=True)
class Keeper:
    """See collector/answers/retention.py for what is asked of it."""

    cleanup: Cleanup
    restorer: Restorer
    completion: Completion
    archive: Archive
    every_seconds: float | None
    retry_seconds: float = RETRY_SECONDS
    _state: RunState = field(default_factory=RunState)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _restored: asyncio.Event = field(default_factory=asyncio.Event)

    async def plan(self, *, listed: int) -> dict[str, Any]:
        """As in the protocol."""
        self._need_rules()
        self.cleanup.forget()
        reports = await self.cleanup.plan(listed=listed)
        return {"rules": [report.to_json() for report in reports]}

    async def begin(self) -> dict[str, Any]:
        """As in the protocol."""
        self._need_rules()
        if not self._state.to_json()["running"]:
            self._state = RunState(started_unix_ns=time.time_ns())
            self._asked.set()
        return self._state.to_json()

    async def state(self) -> dict[str, Any]:
        """As in the protocol."""
        counts = await asyncio.to_thread(self.archive.catalogue.counts)
        last = await asyncio.to_thread(self.archive.catalogue.last_run)
        state = last if self._state.started_unix_ns is None and last else self._state.to_json()
        return {"run": state, "archive": {"url": self.archive.files.url, "experiments": counts}}

    async def restore_trace(self, trace_id: str) -> dict[str, Any]:
        """As in the protocol."""
        known = await asyncio.to_thread(self.archive.known, [trace_id])
        if not known and not self.archive.is_caught_up:
            raise CannotRestore("the archive was away at the start, and has not been read since")
        if not known:
            raise BadParameter("trace_id", trace_id, "the archive does not have this trace")
        if known[trace_id].state in IN_MLFLOW:
            await self._need_gone(trace_id)
        await self._need_experiment(known[trace_id].experiment_id)
        spans = await self.restorer.restore([trace_id])
        self._restored.set()
        return {"traces": 1, "spans": spans, "left": 0}

    async def restore_experiment(self, experiment_id: str) -> dict[str, Any]:
        """As in the protocol."""
        counts = await asyncio.to_thread(self.archive.catalogue.counts)
        if counts.get(experiment_id, {}).get(ArchiveState.ARCHIVED):
            await self._need_experiment(experiment_id)
        traces, left = await self.restorer.experiment(experiment_id)
        self._restored.set()
        return {"traces": traces, "left": left}

    async def where(self, trace_id: str) -> dict[str, Any] | None:
        """As in the protocol."""
        known = await asyncio.to_thread(self.archive.known, [trace_id])
        return self._place(known[trace_id]) if trace_id in known else None

    def _place(self, trace: CataloguedTrace) -> dict[str, Any] | None:
        if trace.state not in (ArchiveState.ARCHIVED, ArchiveState.DELETING):
            return None
        return {
            "archive": self.archive.files.url,
            "file": trace.places[-1].file + DATA,
            "spans": trace.spans,
            "archived_unix_ns": trace.archived_unix_ns,
        }

    async def run(self) -> None:
        """Settle what a crash or a run left, then run when asked and on schedule, until cancelled."""
        while True:
            await self._settle()
            try:
                async with asyncio.timeout(await self._due_seconds()):
                    await self._asked.wait()
            except TimeoutError:
                self._state = RunState(started_unix_ns=time.time_ns())
            self._asked.clear()
            await self._run()

    async def complete(self) -> None:
        """Bring back what MLflow said of restored traces, as their spans arrive there, until cancelled."""
        while True:
            self._restored.clear()
            try:
                left = await self.completion.complete()
            except (CleanupTrouble, OSError, ArchiveDamaged) as error:
                left = 0
                _log.warning("restored traces lack what MLflow said of them", extra={"reason": str(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(ARRIVING_SECONDS if left else COMPLETE_SECONDS):
                    await self._restored.wait()

    async def _due_seconds(self) -> float | None:
        """How long until the next run on schedule, counted from the last one's end across restarts."""
        if self.every_seconds is None:
            return None
        last = await asyncio.to_thread(self.archive.catalogue.last_run)
        ended_unix_ns = (last or {}).get("ended_unix_ns") or 0
        return max(0.0, self.every_seconds - (time.time_ns() - ended_unix_ns) / 1e9)

    async def _run(self) -> None:
        state = self._state
        self.cleanup.forget()
        try:
            reports = await self.cleanup.run(progress=self._progress)
            self._progress(reports)
        except (CleanupTrouble, IndexAway, IndexFailure) as error:
            state.trouble = str(error)
            _log.warning("a run of the retention rules has stopped", extra={"reason": str(error)})
        except BaseException as error:
            state.trouble = f"it was cut short: {type(error).__name__}"
            raise
        finally:
            state.ended_unix_ns = time.time_ns()
            with suppress(OSError):  # it runs out
                self.archive.leave()
        traces = sum(rule["traces"] for rule in state.rules)
        _log.info("the retention rules were applied", extra={"traces": traces})
        await asyncio.to_thread(self.archive.catalogue.note_run, state.to_json())

    async def _settle(self) -> None:
        """Until it is done, or a run is asked for, which settles first."""
        while not self._asked.is_set():
            try:
                await self.cleanup.cleaner.settle()
            except (CleanupTrouble, IndexAway, IndexFailure) as error:
                _log.warning("what a run left can't be settled yet", extra={"reason": str(error)})
            else:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self.retry_seconds):
                    await self._asked.wait()

    def _progress(self, reports: Sequence[RuleReport]) -> None:
        self._state.rules = [report.to_json() for report in reports]

    async def _need_gone(self, trace_id: str) -> None:
        """Raises CannotRestore: it would put what was archived over what people have changed since."""
        try:
            there = await self.cleanup.cleaner.store.infos([f"tr-{trace_id}"])
        except CleanupTrouble as error:
            raise CannotRestore(f"whether MLflow has the trace can't be asked: {error}") from error
        if there:
            raise CannotRestore(
                "MLflow has this trace: to have it as it was archived, delete it in MLflow first"
            )

    async def _need_experiment(self, experiment_id: str) -> None:
        """Raises CannotRestore: what is restored into a deleted experiment would end as dead letters."""
        try:
            there = await self.cleanup.cleaner.store.experiments()
        except CleanupTrouble:  # the journal keeps it until MLflow is back
            return
        if experiment_id not in {each.id for each in there}:
            raise CannotRestore(
                f"MLflow has no experiment {experiment_id}, or it is deleted there: restore that first"
            )

    def _need_rules(self) -> None:
        if not self.cleanup.rules:
            raise BadParameter("retention", None, "the settings have no [[retention]] rules")
