"""Which lane is next, and how long a lane waits: read -> deliver -> commit | park | wait.

What a target is, and what its answers mean, is behind `WindowTarget`: MLflow's spans (mlflow/), its log
records (logs/), or another backend (otlp/).

Lanes are served in turn, one window at a time, a bounded number at once. A lane whose window is deferred
waits by itself: another's poison, flood or missing experiment never holds it up. There is no age at which
a waiting entry is given up.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.delivery.backoff import delay_seconds
from collector.delivery.settle import Deferred, Settled, TargetHealth
from collector.journal import Consumer, PendingLane, TraceMemory
from collector.model.batch import Entry, Parked, Route, is_waiting, signal_of
from collector.otlp.shapes import SHAPES
from collector.telemetry.fault_log import FaultLog

_log = logging.getLogger("sidespan.delivery")

MIN_REQUEST_BYTES = 64 * 1024
IDLE_SECONDS = 5.0
# a lane that waits so long while the target takes what others send is stuck
STUCK_SECONDS = 60.0
# under load each append would wake the loop; nothing is lost by looking a little later
LOOK_EVERY_SECONDS = 0.02


# between two looks at a lane of entries that wait for something else: a part of their age, within these
LEAST_WAIT_SECONDS, MOST_WAIT_SECONDS, SHARE_OF_AGE = 0.5, 30.0, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where a worker takes the time from, in seconds: one that is never set back, and one since 1970."""

    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time


class Pace(Protocol):
    """How much a worker brings to its target at a time, and how long it waits (see DeliverySettings)."""

    @property
    def request_bytes(self) -> int:
        """Size up to which entries are grouped into one request."""

    @property
    def max_lanes(self) -> int:
        """Lanes that are served at the same time."""

    @property
    def linger_seconds(self) -> float:
        """How long the first entry waits for others."""

    @property
    def backoff_initial_seconds(self) -> float:
        """First pause after a failure."""

    @property
    def backoff_max_seconds(self) -> float:
        """Longest pause."""


class WindowTarget(Protocol):
    """What a worker brings windows to."""

    # set by a worker that is to end: requests in flight are the last
    stopping: bool

    @property
    def requests_a_window(self) -> int:
        """How many requests' worth of entries are read at once. If one waits, all come again."""

    @property
    def health(self) -> TargetHealth:
        """What the target took lately."""

    @property
    def fault_log(self) -> FaultLog:
        """Where bugs are told."""

    async def deliver(
        self,
        entries: Sequence[Entry],
        *,
        lane: str,
        consumer: Consumer,
        traces: TraceMemory,
        request_bytes: int,
    ) -> Settled | Deferred | None:
        """Bring one window to its end, or say why not now. None: all of it goes on waiting."""

    def committed(self, outcome: Settled) -> None:
        """Count what has become of a window, once it is written."""


REAL_TIME = Clock()


@dataclass(slots=True)
class _Waiting:
    """A lane whose last window was deferred."""

    attempt: int
    not_before: float
    message: str
    since_unix: float
    successes_before: int
    is_bug: bool
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckLane:
    """A lane that makes no progress while the target takes what others send."""

    route: Route
    reason: str
    since_unix: float
    attempts: int


class DeliveryWorker:
    """Carries the journal's lanes to a target until `run` is cancelled."""

    def __init__(
        self,
        consumer: Consumer,
        traces: TraceMemory,
        target: WindowTarget,
        settings: Pace,
        *,
        behind: str | None = None,
        clock: Clock = REAL_TIME,
    ) -> None:
        """`behind`: a consumer that each entry must have passed before it is delivered."""
        self._consumer = consumer
        self._traces = traces
        self._behind = behind
        self._target = target
        self._settings = settings
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._active: set[str] = set()
        self._served: dict[str, float] = {}
        self._finished = asyncio.Event()
        self._stopping = False
        self._request_bytes = settings.request_bytes
        self._jitter = random.Random()

    @property
    def _name(self) -> str:
        return self._target.health.target

    @property
    def trouble(self) -> str | None:
        """Why something waits longer than it should, or None."""
        if not self._waiting:
            return None
        worst = max(self._waiting.values(), key=lambda waiting: waiting.attempt)
        return f"{len(self._waiting)} routes wait: {worst.message}"

    def stuck(self, *, target_answers: bool = False) -> list[StuckLane]:
        """The lanes that make no progress though the target is well, the longest first.

        A bug is never the target's fault. Else a lane must have waited for STUCK_SECONDS, while the target
        took something else or, as the caller knows, answers.
        """
        found = [
            StuckLane(
                route=Route.from_lane(lane),
                reason=waiting.message,
                since_unix=waiting.since_unix,
                attempts=waiting.attempt,
            )
            for lane, waiting in self._waiting.items()
            if self._is_stuck(waiting, target_answers)
        ]
        return sorted(found, key=lambda each: each.since_unix)

    def _is_stuck(self, waiting: _Waiting, target_answers: bool) -> bool:
        is_well = target_answers or self._target.health.successes > waiting.successes_before
        return waiting.is_bug or (is_well and self._clock.unix() - waiting.since_unix >= STUCK_SECONDS)

    async def run(self) -> None:
        """Deliver until stopped. Any exception is a bug; what was not committed comes again."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                appended = self._consumer.appended
                self._finished.clear()
                pending = await self._consumer.pending(behind=self._behind)
                self._forget_served(pending)
                for lane in self._next(pending):
                    self._active.add(lane)
                    group.create_task(self._serve(lane))
                await self._wait(pending, appended)
                await asyncio.sleep(LOOK_EVERY_SECONDS)

    def stop(self) -> None:
        """End `run` once the requests in flight are answered; a window that is cut short comes again."""
        self._stopping = self._target.stopping = True
        self._finished.set()

    def _next(self, pending: Sequence[PendingLane]) -> list[str]:
        """The lanes to serve now: those that waited longest since their last turn."""
        now = self._clock.monotonic()
        free = self._settings.max_lanes - len(self._active)
        ready = [lane.lane for lane in pending if self._ready_in(lane, now) <= 0]
        ready.sort(key=lambda lane: self._served.get(lane, 0.0))
        return ready[:free]

    def _ready_in(self, lane: PendingLane, now: float) -> float:
        """Seconds until the lane may be served; infinite while it is being served."""
        if lane.lane in self._active:
            return float("inf")
        if waiting := self._waiting.get(lane.lane):
            return waiting.not_before - now
        age_seconds = self._clock.unix() - lane.first_received_unix_ns / 1e9
        if is_waiting(lane.lane):
            pause = min(MOST_WAIT_SECONDS, max(LEAST_WAIT_SECONDS, age_seconds * SHARE_OF_AGE))
            return self._served.get(lane.lane, -pause) + pause - now
        # an age below zero means that the clock was set back: don't wait for it
        return self._settings.linger_seconds - age_seconds if age_seconds >= 0 else 0.0

    async def _wait(self, pending: Sequence[PendingLane], appended: asyncio.Event) -> None:
        """Until something was appended, a window ended, or a lane's pause is over."""
        if len(self._active) >= self._settings.max_lanes:
            await self._finished.wait()
            return
        now = self._clock.monotonic()
        pause = min((max(0.0, self._ready_in(lane, now)) for lane in pending), default=IDLE_SECONDS)
        waiters = [asyncio.ensure_future(event.wait()) for event in (appended, self._finished)]
        try:
            await asyncio.wait(waiters, timeout=min(pause, IDLE_SECONDS), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _serve(self, lane: str) -> None:
        """One window of one lane. Whatever goes wrong, the cursor stays and the lane waits."""
        try:
            outcome = await self._window(lane)
        except Exception as error:
            self._target.fault_log.tell_of(
                "a window could not be processed; it comes again", error, lane=lane
            )
            # the error's own text may hold what a span holds
            message = f"internal error: {type(error).__name__}; the log has its traceback"
            outcome = Deferred(message=message, is_bug=True)
        finally:
            self._served[lane] = self._clock.monotonic()
            self._active.discard(lane)
            self._finished.set()
        self._note(lane, outcome)

    async def _window(self, lane: str) -> Settled | Deferred | None:
        window_bytes = self._request_bytes * self._target.requests_a_window
        entries = await self._consumer.read(lane, limit_bytes=window_bytes, behind=self._behind)
        if not entries:
            return None
        outcome = await self._target.deliver(
            entries,
            lane=lane,
            consumer=self._consumer,
            traces=self._traces,
            request_bytes=self._request_bytes,
        )
        if isinstance(outcome, Settled):
            await self._commit(lane, entries, outcome)
        return outcome

    async def _commit(self, lane: str, entries: Sequence[Entry], outcome: Settled) -> None:
        parked = [
            Parked(
                lane=lane,
                payload=refusal.request.payload,
                span_count=refusal.request.span_count,
                trace_ids=refusal.request.trace_ids,
                reason=refusal.reason,
                message=refusal.message,
                received_unix_ns=refusal.request.received_unix_ns,
                client=refusal.request.client,
            )
            for refusal in outcome.refusals
        ]
        await self._consumer.commit(
            lane,
            first=entries[0].position,
            through=entries[-1].position,
            parked=parked,
            remember=outcome.notes,
            delivered=outcome.delivered,
            follow_ups=outcome.follow_ups,
        )
        self._target.committed(outcome)
        what = f"{SHAPES[signal_of(lane)].word}s"
        for part in parked:
            told = {"reason": part.reason, "why": part.message, "lane": lane, "target": self._name}
            _log.warning(f"{what} went to the dead letters", extra={"spans": part.span_count, **told})

    def _note(self, lane: str, outcome: Settled | Deferred | None) -> None:
        """Remember a lane that has to wait; say once when trouble starts and when it ends."""
        if not isinstance(outcome, Deferred):
            if self._waiting.pop(lane, None):
                _log.info("delivery goes on", extra={"lane": lane, "target": self._name})
            if isinstance(outcome, Settled):
                self._request_bytes = min(self._settings.request_bytes, self._request_bytes * 2)
            return
        if self._stopping:  # no trouble: it was cut short
            return
        if outcome.timed_out:  # a smaller request may be done before the time is over
            self._request_bytes = max(MIN_REQUEST_BYTES, self._request_bytes // 2)
        before = self._waiting.get(lane)
        attempt = before.attempt + 1 if before else 1
        pause = delay_seconds(
            attempt,
            initial_seconds=self._settings.backoff_initial_seconds,
            max_seconds=self._settings.backoff_max_seconds,
            jitter=self._jitter.random(),
            at_least_seconds=outcome.retry_after_seconds,
        )
        if attempt == 1:
            told = {"lane": lane, "target": self._name, "why": outcome.message}
            _log.warning("delivery waits", extra=told)
        waiting = _Waiting(
            attempt=attempt,
            not_before=self._clock.monotonic() + pause,
            message=outcome.message,
            since_unix=before.since_unix if before else self._clock.unix(),
            successes_before=before.successes_before if before else self._target.health.successes,
            is_bug=outcome.is_bug,
            is_told=before is not None and before.is_told,
        )
        if self._is_stuck(waiting, target_answers=False) and not waiting.is_told:
            waiting.is_told = True
            _log.error(
                f"a lane makes no progress although {self._name} is well; what it holds is kept",
                extra={"lane": lane, "why": waiting.message, "attempts": attempt},
            )
        self._waiting[lane] = waiting

    def _forget_served(self, pending: Sequence[PendingLane]) -> None:
        alive = {lane.lane for lane in pending} | self._active
        self._served = {lane: at for lane, at in self._served.items() if lane in alive}
        self._waiting = {lane: waiting for lane, waiting in self._waiting.items() if lane in alive}
