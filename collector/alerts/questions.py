"""Which windows are due, and which questions answer them: one for all alerts that ask the same. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from collector.alerts.definition import NS_A_SECOND, AlertQuestion, question_of
from collector.settings.alerts import AlertSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedQuestion:
    """A question with the metrics of all who ask it, and who they are, by name, with their windows' ends."""

    question: AlertQuestion
    alerts: Mapping[str, int]


def window_end(alert: AlertSettings, now_unix_ns: int) -> int:
    """The end of the newest window that is due: windows end at multiples of the step, in Unix time.

    So they are the same after a restart, and alerts with the same step ask the same.
    """
    step = round(alert.step_seconds * NS_A_SECOND)
    return (now_unix_ns - round(alert.delay_seconds * NS_A_SECOND)) // step * step


def next_due(alert: AlertSettings, last_unix_ns: int) -> int:
    """When the window after the one that ended at `last_unix_ns` is due."""
    return last_unix_ns + round((alert.step_seconds + alert.delay_seconds) * NS_A_SECOND)


def due(
    alerts: Sequence[AlertSettings], evaluated: Mapping[str, int], now_unix_ns: int
) -> Sequence[tuple[AlertSettings, int]]:
    """The alerts with a window that `evaluated` (by name: the end of the last one) lacks, and its end."""
    ends = [(alert, window_end(alert, now_unix_ns)) for alert in alerts]
    return [(alert, end) for alert, end in ends if _is_due(alert, end, evaluated.get(alert.name, 0))]


def _is_due(alert: AlertSettings, end: int, last: int) -> bool:
    """Whether a window follows the last one, or the clock was set back by more than a step."""
    return end > last or last - end > round(alert.step_seconds * NS_A_SECOND)


def shared_questions(windows: Sequence[tuple[AlertSettings, int]]) -> Sequence[SharedQuestion]:
    """The questions of these alerts and windows, each once."""
    shared: dict[tuple[object, ...], SharedQuestion] = {}
    for alert, end in windows:
        own = question_of(alert, until_unix_ns=end)
        there = shared.get(own.key)
        metrics = own.metrics if there is None else (*there.question.metrics, *own.metrics)
        shared[own.key] = SharedQuestion(
            question=replace(own, metrics=tuple(dict.fromkeys(metrics))),
            alerts={**({} if there is None else there.alerts), alert.name: end},
        )
    return list(shared.values())
