"""One group of an alert over time: (state, verdict, time) -> (state, event). Pure.

    nothing ── crossed ──► PENDING ── still, for `for_seconds` ──► FIRING ── within ──► nothing
                             │ within                               │
                             └──► nothing                           └ fired, repeated; recovered at the end

An event is what somebody is told. Firing is told once; if the alert sleeps at that time, when it wakes up. A
recovery is told if and only if the firing was, to the same channels, also while the alert sleeps: whatever
was opened somewhere is closed there.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from collector.alerts.measurements import AlertVerdict
from collector.settings.alerts import AlertSettings


class GroupStatus(StrEnum):
    """Where a group is; one that is within the threshold has no state."""

    PENDING = "pending"
    FIRING = "firing"


class AlertEvent(StrEnum):
    """What somebody is told."""

    FIRED = "fired"
    REPEATED = "repeated"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """A group that is beyond the threshold.

    `since_unix_ns` is the end of the first window that was. `told` are the channels that know that it fires,
    `told_unix_ns` when they were told last, `repeats` how often again.
    """

    status: GroupStatus
    since_unix_ns: int
    fired_unix_ns: int | None = None
    told: tuple[str, ...] = ()
    told_unix_ns: int | None = None
    repeats: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a verdict is about (the window's end), and who is to be told: nobody while the alert sleeps."""

    at_unix_ns: int
    channels: tuple[str, ...]
    is_asleep: bool = False


Step = tuple[GroupState | None, AlertEvent | None]


def is_beyond(alert: AlertSettings, verdict: AlertVerdict) -> bool | None:
    """Whether the group counts as beyond the threshold; None: as before."""
    match verdict:
        case AlertVerdict.CROSSED:
            return True
        case AlertVerdict.WITHIN:
            return False
        case AlertVerdict.NO_DATA:
            return {"ok": False, "keep": None, "alert": True}[alert.no_data]
        case AlertVerdict.UNJUDGED:
            return False if alert.no_data == "ok" else None


def advance(alert: AlertSettings, state: GroupState | None, *, beyond: bool | None, moment: Moment) -> Step:
    """The state after a window, and what is told of it."""
    if state is not None:
        state = _not_later(state, moment.at_unix_ns)
    if beyond is None:
        return state, None
    if not beyond:
        return None, AlertEvent.RECOVERED if state is not None and state.told else None
    if state is None:
        state = GroupState(status=GroupStatus.PENDING, since_unix_ns=moment.at_unix_ns)
    if state.status is GroupStatus.PENDING:
        if moment.at_unix_ns - state.since_unix_ns < alert.for_seconds * 1e9:
            return state, None
        state = replace(state, status=GroupStatus.FIRING, fired_unix_ns=moment.at_unix_ns)
    return _tell(alert, state, moment)


def _not_later(state: GroupState, at_unix_ns: int) -> GroupState:
    """The state after the clock was set back: nothing in it is to wait for a time that was taken back.

    `since_unix_ns` of what fires stays: the incident is named by it.
    """
    if state.told_unix_ns is not None and state.told_unix_ns > at_unix_ns:
        state = replace(state, told_unix_ns=at_unix_ns)
    if state.status is GroupStatus.PENDING and state.since_unix_ns > at_unix_ns:
        state = replace(state, since_unix_ns=at_unix_ns)
    return state


def _tell(alert: AlertSettings, state: GroupState, moment: Moment) -> Step:
    if moment.is_asleep or not moment.channels:
        return state, None
    if state.told_unix_ns is None:
        return replace(state, told=moment.channels, told_unix_ns=moment.at_unix_ns), AlertEvent.FIRED
    since_told = moment.at_unix_ns - state.told_unix_ns
    if alert.repeat_seconds and since_told >= alert.repeat_seconds * 1e9:
        again = replace(state, told_unix_ns=moment.at_unix_ns, repeats=state.repeats + 1)
        return again, AlertEvent.REPEATED
    return state, None
