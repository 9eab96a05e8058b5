"""The alerts of one service, as its API, its health and its background tasks know them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from collector.alerts.channels.courier import Courier
from collector.alerts.definition import TROUBLE, check_alert
from collector.alerts.evaluator import AlertView, AsksManyTraces, Evaluator, channels_of
from collector.alerts.links import trace_parameters, traces_link
from collector.alerts.measurements import AlertGroup, Measurement, largest
from collector.alerts.notices import document_of, threshold_of
from collector.alerts.replay import replay
from collector.alerts.states import GroupState, GroupStatus
from collector.alerts.store import AlertStore
from collector.answers.rights import ReadRights
from collector.index.protocol import FileAnswer, QueryKind
from collector.index.queries.asked import moment
from collector.index.queries.stats import NS_A_SECOND
from collector.model.errors import WrongSetting
from collector.model.parameters import BadParameter
from collector.settings.alerts import AlertSettings

SHOWN_GROUPS = 50
SHOWN_DEAD_LETTERS = 20
# one replay at a time, and not for ever
REPLAY_SECONDS = 300.0
STOPPED = "it would take longer than {:g} s: choose a later start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """What the API asks (answers/alerting.py), over the evaluator and the couriers."""

    evaluator: Evaluator
    couriers: Mapping[str, Courier]
    store: AlertStore
    many_traces: AsksManyTraces
    replaying: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def page(self) -> dict[str, Any]:
        """As in the protocol."""
        pending, dead, letters = await asyncio.to_thread(self._stored)
        return {
            "alerts": [self._alert(alert) for alert in self.evaluator.alerts.values()],
            "channels": [
                {
                    "name": name,
                    "type": self.evaluator.settings.channels[name].type,
                    "pending": pending.get(name, 0),
                    "dead_letters": dead.get(name, 0),
                    "last_error": courier.last_error,
                }
                for name, courier in self.couriers.items()
            ],
            "dead_letters": letters,
        }

    def _stored(self) -> tuple[Mapping[str, int], Mapping[str, int], Sequence[dict[str, Any]]]:
        letters = [
            {
                "channel": letter.channel,
                "reason": letter.reason,
                "parked_unix_ns": letter.parked_unix_ns,
                "notification": document_of(letter.notice, base_url="", include_content=True),
            }
            for letter in self.store.dead_letters(SHOWN_DEAD_LETTERS)
        ]
        return self.store.pending(), self.store.dead(), letters

    def _alert(self, alert: AlertSettings) -> dict[str, Any]:
        view = self.evaluator.views.get(alert.name, AlertView())
        states = self.evaluator.states_of(alert.name)
        asleep = self.evaluator.asleep_until(alert.name)
        return {
            "name": alert.name,
            "status": _status(view, states),
            "summary": summary_of_definition(alert),
            "definition": alert.model_dump(mode="json", exclude_unset=True),
            "threshold": threshold_of(alert),
            "channels": list(channels_of(alert, self.evaluator.settings)),
            "asleep_until_unix_ns": asleep,
            "evaluated_unix_ns": view.evaluated_unix_ns,
            "trouble": self.evaluator.troubles.get(alert.name),
            "trouble_since_unix_ns": view.trouble_since_unix_ns,
            "more_groups": view.measured is not None and view.measured.more_groups,
            "groups": [
                group | self._traces(alert, view, shown) for shown, group in _groups(alert, view, states)
            ],
        }

    def _traces(self, alert: AlertSettings, view: AlertView, group: AlertGroup) -> dict[str, Any]:
        """Of a group beyond the threshold: the filters of its traces in the last window, and examples."""
        stored = self.evaluator.states.get((alert.name, group))
        if stored is None or view.evaluated_unix_ns is None:
            return {"filters": None, "link": None, "example_trace_ids": []}
        until = view.evaluated_unix_ns
        since = until - round(alert.window_seconds * NS_A_SECOND)
        filters = trace_parameters(alert, group, since_unix_ns=since, until_unix_ns=until)
        return {
            "filters": {name: each[0] if len(each) == 1 else each for name, each in filters.items()},
            "link": traces_link(self.evaluator.settings.public_url or "", filters),
            "example_trace_ids": [] if stored.notice is None else list(stored.notice.trace_ids),
        }

    async def snooze(self, name: str, *, seconds: float) -> dict[str, Any]:
        """As in the protocol."""
        if name not in self.evaluator.alerts and name != TROUBLE:
            known = ", ".join(self.evaluator.alerts) or "none"
            raise BadParameter("name", name[:100], f"no such alert; there are: {known}")
        until = await self.evaluator.snooze(name, seconds)
        return {"name": name, "asleep_until_unix_ns": until}

    async def test(
        self, alert: AlertSettings, *, since: str, until: str, rights: ReadRights
    ) -> Mapping[str, Any]:
        """As in the protocol."""
        now = self.evaluator.clock()
        begin, end = moment(since, "since", now), moment(until, "until", now)
        if begin >= end:
            raise BadParameter("since", since, "must be before until")
        try:
            check_alert(alert, "alert")
        except WrongSetting as error:
            raise BadParameter(error.key, None, str(error)) from error

        async def ask(kind: QueryKind, parameters: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
            answer = await self.many_traces.ask(kind, parameters, rights=rights)
            assert not isinstance(answer, FileAnswer)  # `format` is no filter
            document: Mapping[str, Any] = json.loads(answer)
            return document

        try:
            async with asyncio.timeout(REPLAY_SECONDS), self.replaying:
                return await replay(alert, ask, since_unix_ns=begin, until_unix_ns=end)
        except TimeoutError as error:
            raise BadParameter("since", since, STOPPED.format(REPLAY_SECONDS)) from error

    async def count(self) -> None:
        """As in the protocol."""
        pending, dead, _ = await asyncio.to_thread(self._stored)
        metrics = self.evaluator.metrics
        metrics.alerts_failing.set(sum(each is not None for each in self.evaluator.troubles.values()))
        for name in self.couriers:
            metrics.alert_pending.labels(channel=name).set(pending.get(name, 0))
            metrics.alert_dead_letters.labels(channel=name).set(dead.get(name, 0))

    def health(self) -> dict[str, Any] | None:
        """As in the protocol."""
        if not self.evaluator.alerts:
            return None
        troubles = {name: each for name, each in self.evaluator.troubles.items() if each is not None}
        errors = {name: each.last_error for name, each in self.couriers.items() if each.last_error}
        # for every client, so without what alerts, the index and channels say of their own
        wrong = [f"alerts that can't be evaluated: {len(troubles)}"] if troubles else []
        wrong += [f"channels with errors: {len(errors)}"] if errors else []
        firing = [each for each in self.evaluator.states.values() if each.state.status is GroupStatus.FIRING]
        return {
            "ok": not wrong,
            "reason": f"{', '.join(wrong)} (see /-/alerts)" if wrong else "evaluating",
            "alerts": len(self.evaluator.alerts),
            "firing_groups": len(firing),
            "cannot_be_evaluated": len(troubles),
            "channels_with_errors": len(errors),
        }


def _status(view: AlertView, states: Mapping[AlertGroup, GroupState]) -> str:
    """The worst of its groups; `unknown` until it was evaluated, and while it can't be."""
    if any(state.status is GroupStatus.FIRING for state in states.values()):
        return GroupStatus.FIRING.value
    if view.trouble is not None or view.evaluated_unix_ns is None:
        return "unknown"
    return GroupStatus.PENDING.value if states else "ok"


def _groups(
    alert: AlertSettings, view: AlertView, states: Mapping[AlertGroup, GroupState]
) -> list[tuple[AlertGroup, dict[str, Any]]]:
    """Those beyond the threshold, then those with the largest samples."""
    measured = {} if view.measured is None else view.measured.groups
    others = [] if view.measured is None else [group for group, _ in largest(view.measured, SHOWN_GROUPS)]
    shown = list(dict.fromkeys((*states, *others)))[:SHOWN_GROUPS]
    return [(group, _group(alert, group, measured.get(group), states.get(group))) for group in shown]


def _group(
    alert: AlertSettings, group: AlertGroup, measured: Measurement | None, state: GroupState | None
) -> dict[str, Any]:
    return {
        "group": dict(zip(alert.by, group, strict=False)),
        "status": "ok" if state is None else state.status.value,
        "since_unix_ns": None if state is None else state.since_unix_ns,
        "told": [] if state is None else list(state.told),
        **{
            name: None if measured is None else getattr(measured, name)
            for name in ("value", "baseline", "judged", "sample")
        },
    }


def summary_of_definition(alert: AlertSettings) -> str:
    """One line: what is watched, and from which value on."""
    side, bound = ("above", alert.above) if alert.above is not None else ("below", alert.below)
    by = f" by {', '.join(alert.by)}" if alert.by else ""
    text = f"{alert.metric} of {alert.of}{by} {side} {bound:g}"
    if alert.compare_with == "previous-window":
        text += f" ({alert.compare_by} to the window before)"
    if alert.compare_with == "version":
        text += f" ({alert.compare_by} to version {alert.baseline_version})"
    return text


async def run_all(alerting: Alerting) -> None:
    """Evaluate and send until cancelled; a bug in one ends all of them, to be started again."""
    runs = [alerting.evaluator.run(), *(courier.run() for courier in alerting.couriers.values())]
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
