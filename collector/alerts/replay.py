"""What an alert would have told, had it been there: its windows over a time, one after the other.

The index is asked as it is asked while the service runs, for one window at a time, so that this slows nobody.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from collector.alerts.definition import NS_A_SECOND, question_of
from collector.alerts.measurements import AlertGroup, judge, read_measured
from collector.alerts.notices import notice_of
from collector.alerts.states import GroupState, GroupStatus, Moment
from collector.alerts.watch import Occurrence, watch
from collector.index.protocol import QueryKind
from collector.settings.alerts import AlertSettings

MAX_WINDOWS = 1000
MAX_EVENTS = 1000
# whom the events are for doesn't matter
_SOMEBODY = ("replay",)

AsksIndex = Callable[[QueryKind, Mapping[str, Sequence[str]]], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWindows:
    """The ends of the windows that are looked at; `step_seconds` is larger than the alert's own if there
    were too many of them."""

    ends: Sequence[int]
    step_seconds: float


def replay_windows(alert: AlertSettings, *, since_unix_ns: int, until_unix_ns: int) -> ReplayWindows:
    """The windows that end within the time."""
    own = round(alert.step_seconds * NS_A_SECOND)
    step = own * max(1, ceil((until_unix_ns - since_unix_ns) / own / MAX_WINDOWS))
    first = -(-since_unix_ns // step) * step
    return ReplayWindows(ends=range(first, until_unix_ns + 1, step)[:MAX_WINDOWS], step_seconds=step / 1e9)


async def replay(
    alert: AlertSettings, ask: AsksIndex, *, since_unix_ns: int, until_unix_ns: int
) -> dict[str, Any]:
    """What it would have told (docs/alerts.md). Raises what `ask` raises."""
    windows = replay_windows(alert, since_unix_ns=since_unix_ns, until_unix_ns=until_unix_ns)
    states: Mapping[AlertGroup, GroupState] = {}
    told: list[Occurrence] = []
    count = firing = unjudged = 0
    for end in windows.ends:
        asks = question_of(alert, until_unix_ns=end)
        measured = read_measured(alert, await ask(asks.kind, asks.with_metrics))
        unjudged += all(judge(alert, each).is_without_value for each in measured.groups.values())
        watched = watch(alert, states, measured, Moment(at_unix_ns=end, channels=_SOMEBODY))
        states = watched.states
        firing += any(state.status is GroupStatus.FIRING for state in states.values())
        count += len(watched.occurrences)
        told += watched.occurrences[: MAX_EVENTS - len(told)]
    return {
        "alert": alert.name,
        "since_unix_ns": since_unix_ns,
        "until_unix_ns": until_unix_ns,
        "step_seconds": windows.step_seconds,
        "windows": len(windows.ends),
        "windows_firing": firing,
        "windows_without_value": unjudged,
        "events": [_event(alert, each) for each in told],
        "events_omitted": count - len(told),
        "still_firing": sum(state.status is GroupStatus.FIRING for state in states.values()),
    }


def _event(alert: AlertSettings, occurrence: Occurrence) -> dict[str, Any]:
    notice = notice_of(alert, occurrence)
    return {
        "event": notice.event.value,
        "at_unix_ns": notice.at_unix_ns,
        "started_unix_ns": notice.started_unix_ns,
        "group": dict(notice.group),
        "value": notice.value,
        "baseline": notice.baseline,
        "judged": notice.judged,
        "sample": notice.sample,
        "summary": notice.summary,
    }
