"""From the index's answer to the values of an alert, and from a value to a verdict. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from collector.alerts.definition import SAMPLE
from collector.settings.alerts import AlertSettings

AlertGroup = tuple[str | None, ...]
"""The values of the dimensions in `by`; empty for an alert without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one window says of one group. `value` is that of the metric, `baseline` what it is compared with.

    `judged` is what the threshold bounds: the value, or its ratio or difference. None: there is none.
    """

    value: float | None = None
    baseline: float | None = None
    judged: float | None = None
    sample: int = 0
    baseline_sample: int | None = None


NOTHING_MEASURED = Measurement()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one window says: by group. `more_groups`: there are more groups than are watched."""

    groups: Mapping[AlertGroup, Measurement]
    more_groups: bool = False


class AlertVerdict(Enum):
    """What a measurement means for an alert."""

    CROSSED = "beyond the threshold"
    WITHIN = "within the threshold"
    UNJUDGED = "no value, or too small a sample"
    NO_DATA = "no data"

    @property
    def is_without_value(self) -> bool:
        """Whether nothing could be judged."""
        return self in (AlertVerdict.UNJUDGED, AlertVerdict.NO_DATA)


def read_measured(alert: AlertSettings, answer: Mapping[str, Any]) -> Measured:
    """The values in an answer to the alert's question (index/queries/models.py: Stats, Compared)."""
    read = _plain if alert.compare_with == "nothing" else _compared
    if not alert.by:
        return Measured(groups={(): read(alert, answer["total"])})
    names = answer["by"]
    groups = {
        tuple(group["key"][name] for name in names): read(alert, group["values"])
        for group in answer["groups"]
    }
    more = answer.get("more_groups", len(groups) >= alert.max_groups)
    return Measured(groups=groups, more_groups=bool(more))


def _plain(alert: AlertSettings, values: Mapping[str, Any]) -> Measurement:
    value = values[alert.metric]
    return Measurement(value=value, judged=value, sample=int(values[SAMPLE] or 0))


def _compared(alert: AlertSettings, values: Mapping[str, Any]) -> Measurement:
    both, sample = values[alert.metric], values[SAMPLE]
    return Measurement(
        value=both["b"],
        baseline=both["a"],
        judged=both[alert.compare_by],
        sample=int(sample["b"] or 0),
        baseline_sample=int(sample["a"] or 0),
    )


def judge(alert: AlertSettings, measurement: Measurement) -> AlertVerdict:
    """What the measurement means. Nothing on either side of a comparison is no data: it compares nothing."""
    samples = [measurement.sample]
    if measurement.baseline_sample is not None:
        samples.append(measurement.baseline_sample)
    if measurement.judged is not None and min(samples) >= alert.min_sample:
        return AlertVerdict.CROSSED if is_crossed(alert, measurement.judged) else AlertVerdict.WITHIN
    return AlertVerdict.NO_DATA if measurement.sample == 0 else AlertVerdict.UNJUDGED


def is_crossed(alert: AlertSettings, judged: float) -> bool:
    """Whether a value is beyond the threshold; on it is not beyond it."""
    if alert.above is not None:
        return judged > alert.above
    return alert.below is not None and judged < alert.below


def has_nothing(measured: Measured) -> bool:
    """Whether a window holds nothing of what an alert looks at."""
    return all(each.sample == 0 for each in measured.groups.values())


def largest(measured: Measured, count: int) -> Sequence[tuple[AlertGroup, Measurement]]:
    """The groups with the largest samples."""
    ordered = sorted(measured.groups.items(), key=lambda pair: -pair[1].sample)
    return ordered[:count]
