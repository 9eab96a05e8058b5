"""All groups of one alert, a window further. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.alerts.measurements import (
    NOTHING_MEASURED,
    AlertGroup,
    AlertVerdict,
    Measured,
    Measurement,
    has_nothing,
    judge,
)
from collector.alerts.states import AlertEvent, GroupState, Moment, advance, is_beyond
from collector.settings.alerts import AlertSettings

# of one alert: groups that `no_data = "keep"` holds could become more and more
MAX_STATES = 1000

GroupStates = Mapping[AlertGroup, GroupState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that is told of one group; `state` is that of the firing, which a recovery ends."""

    event: AlertEvent
    group: AlertGroup
    state: GroupState
    measurement: Measurement
    verdict: AlertVerdict
    at_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An alert after a window: the states of its groups, and what is told."""

    states: GroupStates
    occurrences: Sequence[Occurrence]


def watch(alert: AlertSettings, states: GroupStates, measured: Measured, moment: Moment) -> Watched:
    """Advance every group that the window has or that has a state."""
    after: dict[AlertGroup, GroupState] = {}
    occurrences = []
    for group in dict.fromkeys((*states, *measured.groups, *_whole(alert))):
        measurement = measured.groups.get(group, NOTHING_MEASURED)
        verdict = judge(alert, measurement)
        before = states.get(group)
        state, event = advance(
            alert, before, beyond=_is_beyond(alert, group, measured, verdict), moment=moment
        )
        if state is not None and (before is not None or len(after) < MAX_STATES):
            after[group] = state
        told = before if event is AlertEvent.RECOVERED else after.get(group)
        if event is not None and told is not None:
            occurrences.append(
                Occurrence(
                    event=event,
                    group=group,
                    state=told,
                    measurement=measurement,
                    verdict=verdict,
                    at_unix_ns=moment.at_unix_ns,
                )
            )
    return Watched(states=after, occurrences=occurrences)


def _whole(alert: AlertSettings) -> Sequence[AlertGroup]:
    """The alert as a whole, which has no data if none of its groups has."""
    return [()] if alert.by and alert.no_data == "alert" else []


def _is_beyond(
    alert: AlertSettings, group: AlertGroup, measured: Measured, verdict: AlertVerdict
) -> bool | None:
    if len(group) != len(alert.by):  # the whole, or a group by other dimensions, from before a change
        return alert.no_data == "alert" and group == () and has_nothing(measured)
    if group in measured.groups:
        return is_beyond(alert, verdict) if verdict is not AlertVerdict.NO_DATA else _without_data(alert)
    if measured.more_groups:  # it may only be among those that aren't watched
        return None
    return _without_data(alert)


def _without_data(alert: AlertSettings) -> bool | None:
    """One group of several without data: that is told of the whole alert, if at all."""
    if alert.by and alert.no_data == "alert":
        return False
    return is_beyond(alert, AlertVerdict.NO_DATA)
