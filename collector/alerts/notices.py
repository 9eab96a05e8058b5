"""What is told of an event: the facts as they are kept, and the document that a channel gets. Pure.

A notice is kept as facts. The document is made when it is sent: what comes from inside traces is in it only
for channels that ask for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from collector.alerts.links import (
    CONTENT_DIMENSIONS,
    alerts_link,
    trace_link,
    trace_parameters,
    traces_link,
)
from collector.alerts.measurements import AlertGroup, AlertVerdict
from collector.alerts.states import AlertEvent
from collector.alerts.watch import Occurrence
from collector.settings.alerts import AlertSettings

VERSION = 1
TITLES = {AlertEvent.FIRED: "FIRING", AlertEvent.REPEATED: "STILL FIRING", AlertEvent.RECOVERED: "RECOVERED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification. `id` stays the same however often it is sent, `incident` from firing to recovery.

    `parameters` are the filters of the traces that it is about; none: it is about no traces.
    """

    id: str
    incident: str
    event: AlertEvent
    alert: str
    description: str
    labels: Mapping[str, str]
    group: Mapping[str, str | None]
    summary: str
    of: str
    metric: str
    value: float | None
    baseline: float | None
    judged: float | None
    sample: int
    threshold: Mapping[str, Any]
    window_seconds: float
    started_unix_ns: int
    at_unix_ns: int
    parameters: Mapping[str, Sequence[str]]
    trace_ids: Sequence[str] = ()

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Notice":
        """As it was stored."""
        document = json.loads(text)
        exact = {
            "event": AlertEvent(document["event"]),
            "parameters": {name: tuple(values) for name, values in document["parameters"].items()},
            "trace_ids": tuple(document["trace_ids"]),
        }
        return Notice(**document | exact)


def notice_of(
    alert: AlertSettings, occurrence: Occurrence, *, trace_ids: Sequence[str] = (), reason: str | None = None
) -> Notice:
    """What is told of an occurrence; `reason` stands in the place of figures where there are none."""
    state, measurement = occurrence.state, occurrence.measurement
    since = occurrence.at_unix_ns - round(alert.window_seconds * 1e9)
    started = state.fired_unix_ns or state.since_unix_ns
    incident = _id(alert.name, list(occurrence.group), state.since_unix_ns)
    return Notice(
        id=_id(incident, occurrence.event.value, state.repeats),
        incident=incident,
        event=occurrence.event,
        alert=alert.name,
        description=alert.description,
        labels=alert.labels,
        group=dict(zip(alert.by, occurrence.group, strict=False)),
        summary=reason or summary_of(alert, occurrence),
        of=alert.of,
        metric=alert.metric,
        value=measurement.value,
        baseline=measurement.baseline,
        judged=measurement.judged,
        sample=measurement.sample,
        threshold=threshold_of(alert),
        window_seconds=alert.window_seconds,
        started_unix_ns=started,
        at_unix_ns=occurrence.at_unix_ns,
        parameters={}
        if reason
        else trace_parameters(
            alert, occurrence.group, since_unix_ns=since, until_unix_ns=occurrence.at_unix_ns
        ),
        trace_ids=trace_ids,
    )


def ended_notice(last: Notice, *, summary: str, at_unix_ns: int) -> Notice:
    """The recovery from what was told last, where nothing is measured any more."""
    return replace(
        last,
        id=_id(last.incident, AlertEvent.RECOVERED.value),
        event=AlertEvent.RECOVERED,
        summary=summary,
        at_unix_ns=at_unix_ns,
        trace_ids=(),
    )


def threshold_of(alert: AlertSettings) -> dict[str, Any]:
    """The threshold as a document: above or below, and the comparison if there is one."""
    side = {"above": alert.above} if alert.above is not None else {"below": alert.below}
    if alert.compare_with == "nothing":
        return side
    return side | {
        "compare_with": alert.compare_with,
        "compare_by": alert.compare_by,
        "baseline_version": alert.baseline_version,
    }


def summary_of(alert: AlertSettings, occurrence: Occurrence) -> str:
    """One sentence with the figures."""
    measurement = occurrence.measurement
    what = f"{alert.metric} of {alert.of}"
    over = f"in {length(alert.window_seconds)}"
    if measurement.judged is None:
        return f"{what}: {occurrence.verdict.value} {over}"
    value = f"{what} is {figure(measurement.value)} {over}"
    if alert.compare_with != "nothing":
        other = (
            "in the window before"
            if alert.compare_with == "previous-window"
            else (f"of version {alert.baseline_version}")
        )
        shape = "{} times" if alert.compare_by == "ratio" else "a difference of {} from"
        told = shape.format(figure(measurement.judged))
        value += f", {told} the {figure(measurement.baseline)} {other}"
    return f"{value}; {_relation(alert, occurrence.verdict)} (sample: {measurement.sample})"


def _relation(alert: AlertSettings, verdict: AlertVerdict) -> str:
    side, bound = ("above", alert.above) if alert.above is not None else ("below", alert.below)
    return f"{'' if verdict is AlertVerdict.CROSSED else 'not '}{side} {figure(bound)}"


def figure(value: float | None) -> str:
    """A number as people read it: four significant digits, without an exponent where that is short."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def length(seconds: float) -> str:
    """A length of time, in the largest unit that fits."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def document_of(notice: Notice, *, base_url: str, include_content: bool) -> dict[str, Any]:
    """What a channel gets; docs/alerts.md describes it."""
    parameters = {
        name: values
        for name, values in notice.parameters.items()
        if include_content or name not in CONTENT_DIMENSIONS
    }
    group = (
        notice.group
        if include_content
        else {name: shown(name, value) for name, value in notice.group.items()}
    )
    return {
        "version": VERSION,
        "id": notice.id,
        "incident": notice.incident,
        "event": notice.event.value,
        "alert": notice.alert,
        "description": notice.description,
        "labels": dict(notice.labels),
        "group": dict(group),
        "title": title_of(notice, group),
        "summary": notice.summary,
        **{name: getattr(notice, name) for name in ("of", "metric", "value", "baseline", "judged", "sample")},
        "threshold": dict(notice.threshold),
        "window_seconds": notice.window_seconds,
        "started_unix_ns": notice.started_unix_ns,
        "at_unix_ns": notice.at_unix_ns,
        "link": traces_link(base_url, parameters) if notice.parameters else alerts_link(base_url),
        "traces": [
            {"trace_id": trace_id, "link": trace_link(base_url, trace_id)} for trace_id in notice.trace_ids
        ],
    }


def title_of(notice: Notice, group: Mapping[str, str | None]) -> str:
    """One line: what happened to which alert, and which group."""
    of = ", ".join(f"{name} {'(none)' if value is None else value}" for name, value in group.items())
    return f"{TITLES[notice.event]}: {notice.alert}{f' [{of}]' if of else ''}"


def shown(dimension: str, value: str | None) -> str | None:
    """The value of a dimension as it may leave: of content a name that is always the same for it."""
    if value is None or dimension not in CONTENT_DIMENSIONS:
        return value
    return f"{dimension}-{sha256(value.encode()).hexdigest()[:12]}"


def group_text(group: AlertGroup) -> str:
    """A group as a key of the store."""
    return json.dumps(list(group), ensure_ascii=False)


def _id(*parts: object) -> str:
    return sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]
