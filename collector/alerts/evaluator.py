"""Evaluates alerts as long as the service runs: asks the index, judges, writes states and notifications.

    due windows -> one query for all who ask the same -> watch -> examples -> one transaction -> channels

An alert that can't be evaluated keeps its state, and says so in the log, in the metrics and in its state. If
that lasts, the channels are told, by an alert that Sidespan brings itself.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from collector.alerts.definition import NS_A_SECOND, TROUBLE
from collector.alerts.links import trace_parameters
from collector.alerts.measurements import AlertGroup, Measured, read_measured
from collector.alerts.notices import Notice, ended_notice, notice_of
from collector.alerts.questions import SharedQuestion, due, next_due, shared_questions
from collector.alerts.states import AlertEvent, GroupState, Moment
from collector.alerts.store import AlertStore, GroupKey, StateChanges, StoredState
from collector.alerts.trouble import measured_trouble, trouble_alert, trouble_text
from collector.alerts.watch import Occurrence, watch
from collector.answers.encoding import EncodedJson
from collector.answers.errors import AnswerError
from collector.answers.rights import EVERYTHING, ReadRights
from collector.index.protocol import FileAnswer, IndexAway, QueryKind
from collector.model.parameters import BadParameter
from collector.settings.alerts import AlertingSettings, AlertSettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

_log = logging.getLogger("sidespan.alerts")

# after a window could not be evaluated
AGAIN_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 15.0
SHORTEST_PAUSE_SECONDS = 0.2
# an index that lags by more than this, and by more than the alert waits anyway, lacks a part of the window
LATE_SECONDS = 10.0
# beyond when an alert was due
OVERDUE_SECONDS = 300.0
# of one look: examples of more groups that fire at once would help nobody
MAX_EXAMPLE_QUERIES = 20
# of one look: an index that is so slow isn't asked still more
MAX_TIMEOUTS = 3
REMOVED = "the alert was removed from the settings"

Troubles = Mapping[str, str | None]


class AsksManyTraces(Protocol):
    """Questions about many traces; `ManyTraces` answers them."""

    async def ask(
        self, kind: QueryKind, parameters: Mapping[str, Sequence[str]], *, rights: ReadRights
    ) -> EncodedJson | FileAnswer:
        """The answer. Raises BadParameter, AnswerError, IndexAway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotEvaluate:
    """Why there is no answer for an alert."""

    reason: str


@dataclass(slots=True, kw_only=True)
class AlertView:
    """What is known of one alert at this moment, beside the states of its groups."""

    evaluated_unix_ns: int | None = None
    measured: Measured | None = None
    trouble: str | None = None
    trouble_since_unix_ns: int | None = None
    again_unix_ns: int = 0


@dataclass(slots=True, kw_only=True)
class _Look:
    """What one look brings, before it is written."""

    now: int
    timeouts: int = 0
    states: dict[GroupKey, GroupState | None] = field(default_factory=dict)
    occurrences: list[tuple[AlertSettings, Occurrence]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """The alerts of one service; `tell` is called when the outbox has something new."""

    alerts: Mapping[str, AlertSettings]
    settings: AlertingSettings
    many_traces: AsksManyTraces
    lag_seconds: Callable[[], float | None]
    store: AlertStore
    metrics: Metrics
    clock: Callable[[], int]
    tell: Callable[[], None]
    fault_log: FaultLog = field(default_factory=FaultLog)
    began_unix_ns: int = 0
    states: dict[GroupKey, StoredState] = field(default_factory=dict)
    snoozes: dict[str, int] = field(default_factory=dict)
    views: dict[str, AlertView] = field(default_factory=dict)

    def recall(self) -> None:
        """Take up what the store holds."""
        self.began_unix_ns = self.began_unix_ns or self.clock()
        self.states, self.snoozes = self.store.states(), self.store.snoozes()
        self.views = {name: self.views.get(name, AlertView()) for name in self.alerts}

    async def run(self) -> None:
        """Evaluate what is due, again and again, until cancelled."""
        self.recall()
        await self._forget_removed()
        while True:
            await self.look()
            await asyncio.sleep(self._pause_seconds())

    async def look(self) -> None:
        """Evaluate what is due at this moment."""
        look = _Look(now=self.clock())
        last = {name: view.evaluated_unix_ns for name, view in self.views.items()}
        evaluated = {name: end or 0 for name, end in last.items()}
        for asks in shared_questions(due(self._ready(look.now), evaluated, look.now)):
            answer = await self._answer(asks, look)
            for name, end in asks.alerts.items():
                self._take(look, self.alerts[name], end, self._read(self.alerts[name], answer))
        trouble = trouble_alert(
            for_seconds=self.settings.unevaluated_seconds, channels=tuple(self.settings.channels)
        )
        self._watch(look, trouble, measured_trouble(self.troubles), look.now)
        try:
            await self._write(look)
        except BaseException:
            for name, before in last.items():
                self.views[name].evaluated_unix_ns = before
            raise
        self._show()

    def _ready(self, now: int) -> Sequence[AlertSettings]:
        """Those that may be asked: after a failure there is a pause, unless the clock was set back during it.

        None until it is known how far the index has read: just after the start it may lack hours.
        """
        if self.lag_seconds() is None:
            return ()
        pauses = {name: view.again_unix_ns - now for name, view in self.views.items()}
        longest = round(AGAIN_SECONDS * NS_A_SECOND)
        return [alert for name, alert in self.alerts.items() if not 0 < pauses[name] <= longest]

    @property
    def troubles(self) -> Troubles:
        """Why alerts can't be evaluated, by name; None: they can."""
        return {name: view.trouble or self._lateness(name, view) for name, view in self.views.items()}

    def _lateness(self, name: str, view: AlertView) -> str | None:
        """That an alert should have been evaluated long ago: whatever evaluates it has stopped."""
        last = max(view.evaluated_unix_ns or 0, self.began_unix_ns)
        overdue = (self.clock() - next_due(self.alerts[name], last)) / NS_A_SECOND
        return f"it is overdue by {overdue:.0f} s" if overdue > OVERDUE_SECONDS else None

    def states_of(self, alert: str) -> dict[AlertGroup, GroupState]:
        """The groups of an alert that are beyond its threshold."""
        return {group: each.state for (name, group), each in self.states.items() if name == alert}

    async def snooze(self, name: str, seconds: float) -> int | None:
        """Tell nothing of an alert for so long; until when. 0 wakes it."""
        until = self.clock() + round(seconds * NS_A_SECOND) if seconds else None
        await asyncio.to_thread(self.store.snooze, name, until)
        self.snoozes = {**self.snoozes, name: until or 0}
        return until

    def asleep_until(self, name: str) -> int | None:
        """Until when an alert sleeps; None: it is awake."""
        until = self.snoozes.get(name, 0)
        return until if until > self.clock() else None

    def firing_notices(self, channel: str) -> list[Notice]:
        """What a channel was told of all that fires at this moment."""
        return [
            stored.notice
            for stored in self.states.values()
            if stored.notice is not None and channel in stored.state.told
        ]

    async def _answer(self, asks: SharedQuestion, look: _Look) -> Mapping[str, Any] | CannotEvaluate:
        if (behind := self._lag(asks)) is not None:
            return behind
        if look.timeouts >= MAX_TIMEOUTS:
            return CannotEvaluate(reason="the index is too slow for other alerts already")
        try:
            with self.metrics.alert_query.time():
                answer = await self._ask(asks.question.kind, asks.question.with_metrics)
            # it may have fallen behind meanwhile
            return self._lag(asks) or answer
        except TimeoutError:
            look.timeouts += 1
            seconds = self.settings.query_timeout_seconds
            return CannotEvaluate(reason=f"the index has not answered within {seconds:g} s")
        except (BadParameter, AnswerError, IndexAway) as error:
            return CannotEvaluate(reason=str(error))
        except Exception as error:  # one alert's bug must not silence the others
            return self._bug(error)

    def _lag(self, asks: SharedQuestion) -> CannotEvaluate | None:
        """That the index lacks a part of the window; None: it has all of it."""
        lag = self.lag_seconds() or 0.0
        waits = min(self.alerts[name].delay_seconds for name in asks.alerts)
        if lag > max(LATE_SECONDS, waits):
            return CannotEvaluate(reason=f"the index is {lag:.0f} s behind")
        return None

    def _bug(self, error: Exception) -> CannotEvaluate:
        self.fault_log.tell_of("the evaluation of an alert failed", error)
        return CannotEvaluate(reason=f"a bug ({type(error).__name__}); the log has its traceback")

    def _read(
        self, alert: AlertSettings, answer: Mapping[str, Any] | CannotEvaluate
    ) -> Measured | CannotEvaluate:
        if isinstance(answer, CannotEvaluate):
            return answer
        try:
            return read_measured(alert, answer)
        except Exception as error:  # as above
            return self._bug(error)

    async def _ask(self, kind: QueryKind, parameters: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        async with asyncio.timeout(self.settings.query_timeout_seconds):
            answer = await self.many_traces.ask(kind, parameters, rights=EVERYTHING)
        assert not isinstance(answer, FileAnswer)  # `format` is no filter
        document: Mapping[str, Any] = json.loads(answer)
        return document

    def _take(self, look: _Look, alert: AlertSettings, end: int, measured: Measured | CannotEvaluate) -> None:
        """What was measured for one alert, or that nothing was."""
        view = self.views[alert.name]
        if isinstance(measured, CannotEvaluate):
            self.metrics.alert_evaluations.labels(outcome="failed").inc()
            if view.trouble is None:
                about = {"alert": alert.name, "reason": measured.reason}
                _log.error("an alert can't be evaluated", extra=about)
                view.trouble_since_unix_ns = look.now
            view.trouble = measured.reason
            view.again_unix_ns = look.now + round(AGAIN_SECONDS * NS_A_SECOND)
            return
        self.metrics.alert_evaluations.labels(outcome="evaluated").inc()
        if view.trouble is not None:
            _log.info("an alert is evaluated again", extra={"alert": alert.name})
        view.trouble = view.trouble_since_unix_ns = None
        view.evaluated_unix_ns, view.measured = end, measured
        self._watch(look, alert, measured, end)

    def _watch(self, look: _Look, alert: AlertSettings, measured: Measured, end: int) -> None:
        """Advance the groups of an alert."""
        moment = Moment(
            at_unix_ns=end,
            channels=channels_of(alert, self.settings),
            is_asleep=self.asleep_until(alert.name) is not None,
        )
        before = self.states_of(alert.name)
        watched = watch(alert, before, measured, moment)
        for group in before.keys() | watched.states.keys():
            state = watched.states.get(group)
            if state != before.get(group):
                look.states[alert.name, group] = state
        look.occurrences += [(alert, each) for each in watched.occurrences]

    async def _write(self, look: _Look) -> None:
        """Store what a look has brought, then remember it: a look whose writing fails has not been."""
        told: dict[GroupKey, Notice] = {}
        outbox: list[tuple[str, Notice]] = []
        for number, (alert, occurrence) in enumerate(look.occurrences):
            examples = await self._examples(look, alert, occurrence) if number < MAX_EXAMPLE_QUERIES else ()
            reason = trouble_text(self.troubles) if alert.name == TROUBLE else None
            notice = notice_of(alert, occurrence, trace_ids=examples, reason=reason)
            told[alert.name, occurrence.group] = notice
            outbox += [(channel, notice) for channel in self._known(occurrence.state.told)]
            _log.warning(
                f"alert {occurrence.event.value}", extra={"alert": alert.name, "incident": notice.incident}
            )
        states = {key: self._stored(key, state, told) for key, state in look.states.items()}
        await self._change(StateChanges(states=states, notices=outbox), look.now)

    async def _change(self, changes: StateChanges, now: int) -> None:
        if not changes.states and not changes.notices:
            return
        lost = await asyncio.to_thread(self.store.change, changes, now_unix_ns=now)
        if lost:
            _log.error("the outbox of alerts is full", extra={"dead_letters": lost})
        for key, stored in changes.states.items():
            if stored is None:
                self.states.pop(key, None)
            else:
                self.states[key] = stored
        self.tell()

    def _stored(
        self, key: GroupKey, state: GroupState | None, told: Mapping[GroupKey, Notice]
    ) -> StoredState | None:
        if state is None:
            return None
        before = self.states.get(key)
        return StoredState(state=state, notice=told.get(key, None if before is None else before.notice))

    async def _examples(self, look: _Look, alert: AlertSettings, occurrence: Occurrence) -> Sequence[str]:
        """Ids of traces that an occurrence is about; none is no reason not to tell it."""
        count = self.settings.max_examples if look.timeouts < MAX_TIMEOUTS else 0
        if occurrence.event is AlertEvent.RECOVERED or alert.name == TROUBLE or not count:
            return ()
        until = occurrence.at_unix_ns
        since = until - round(alert.window_seconds * NS_A_SECOND)
        parameters = trace_parameters(alert, occurrence.group, since_unix_ns=since, until_unix_ns=until)
        try:
            answer = await self._ask(QueryKind.TRACES, parameters | {"limit": (str(count),)})
        except (TimeoutError, BadParameter, AnswerError, IndexAway) as error:
            look.timeouts += isinstance(error, TimeoutError)
            _log.info("no example traces for an alert", extra={"alert": alert.name, "reason": str(error)})
            return ()
        except Exception as error:  # a bug; what is to be told is known
            self.fault_log.tell_of("the search for example traces failed", error)
            return ()
        return tuple(row["trace_id"] for row in answer["traces"])

    async def _forget_removed(self) -> None:
        """Close what alerts have opened that the settings have no more."""
        now = self.clock()
        states: dict[GroupKey, StoredState | None] = {}
        outbox: list[tuple[str, Notice]] = []
        for key, stored in self.states.items():
            if key[0] in self.alerts or key[0] == TROUBLE:
                continue
            states[key] = None
            if stored.notice is not None:
                notice = ended_notice(stored.notice, summary=REMOVED, at_unix_ns=now)
                outbox += [(channel, notice) for channel in self._known(stored.state.told)]
        await self._change(StateChanges(states=states, notices=outbox), now)

    def _known(self, channels: Sequence[str]) -> Sequence[str]:
        return [channel for channel in channels if channel in self.settings.channels]

    def _pause_seconds(self) -> float:
        now = self.clock()
        views = [(alert, self.views[alert.name]) for alert in self.alerts.values()]
        times = [
            max(next_due(alert, view.evaluated_unix_ns or 0), view.again_unix_ns) for alert, view in views
        ]
        pause = (min(times, default=now) - now) / NS_A_SECOND
        return min(max(pause, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def _show(self) -> None:
        """In the metrics."""
        self.metrics.alerts_failing.set(sum(each is not None for each in self.troubles.values()))
        for name in self.alerts:
            statuses = [state.status.value for state in self.states_of(name).values()]
            for status in ("pending", "firing"):
                self.metrics.alert_groups.labels(alert=name, state=status).set(statuses.count(status))


def channels_of(alert: AlertSettings, settings: AlertingSettings) -> tuple[str, ...]:
    """The channels that an alert tells."""
    return tuple(settings.channels) if alert.channels is None else alert.channels
