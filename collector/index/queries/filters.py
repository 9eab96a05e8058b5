"""Which rows a question is about: its filters as SQL with values beside it. Pure.

Several values of one filter: any of them. Several filters: all of them. A value that ends in * stands for
whatever begins so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.index.duckdb.columns import SEPARATOR
from collector.index.queries.asked import Asked

Values = list[Any]


@dataclass(slots=True)
class Where:
    """Conditions that all hold, and the values of their question marks, in order."""

    conditions: list[str] = field(default_factory=list)
    values: Values = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        """One more."""
        self.conditions.append(condition)
        self.values += values

    def any_of(self, parts: Sequence[tuple[str, Any]]) -> None:
        """One more, that holds if any of these does."""
        if parts:
            self.add(f"({' OR '.join(sql for sql, _ in parts)})", *(value for _, value in parts))

    @property
    def sql(self) -> str:
        """After WHERE; true where there is no condition."""
        return " AND ".join(self.conditions) or "true"


def equals(column: str) -> Callable[[str], tuple[str, Any]]:
    """The column is this, or begins so."""

    def part(value: str) -> tuple[str, Any]:
        if value.endswith("*"):
            return f"starts_with({column}, ?)", value[:-1]
        return f"{column} = ?", value

    return part


def lists(column: str) -> Callable[[str], tuple[str, Any]]:
    """The column's list has this, or something that begins so."""

    def part(value: str) -> tuple[str, Any]:
        if value.endswith("*"):
            return f"contains({column}, ?)", f"{SEPARATOR}{value[:-1]}"
        return f"contains({column}, ?)", f"{SEPARATOR}{value}{SEPARATOR}"

    return part


def tagged(column: str) -> Callable[[str], tuple[str, Any]]:
    """The trace has this tag: name=value, or a name with any value."""

    def part(value: str) -> tuple[str, Any]:
        if "=" in value or value.endswith("*"):
            return lists(column)(value)
        return f"(contains({column}, ?))", f"{SEPARATOR}{value}="

    return part


Part = Callable[[str], tuple[str, Any]]
TRACES: Mapping[str, Part] = {
    "status": equals("status"),
    "name": equals("name"),
    "service": equals("service"),
    "version": equals("service_version"),
    "environment": equals("environment"),
    "agent": lists("agents"),
    "model": lists("models"),
    "provider": lists("providers"),
    "tool": lists("tools"),
    "prompt": lists("prompts"),
    "session": equals("session"),
    "user": equals('"user"'),
    "run_id": equals("run_id"),
    "tag": tagged("tags"),
    "error": equals("error_group"),
}
SPANS: Mapping[str, Part] = {
    "status": equals("CASE WHEN is_error AND NOT recovered_retry THEN 'ERROR' ELSE 'OK' END"),
    "name": equals("of_trace"),
    "span": equals("name"),
    "kind": equals("kind"),
    "service": equals("service"),
    "version": equals("service_version"),
    "environment": equals("environment"),
    "agent": equals("owning_agent"),
    "model": equals("model"),
    "provider": equals("provider"),
    "tool": equals("tool"),
    "prompt": equals("prompt_version"),
    "session": equals("of_session"),
    "user": equals("of_user"),
    "run_id": equals("of_run"),
    "error": equals("error_group"),
}
# those that speak of a trace as a whole, asked of spans
OF_THEIR_TRACE = ("tag", "trace_status")
NAMES = (
    *("experiment_id", "experiment_name", "since", "until"),
    *("min_duration_seconds", "max_duration_seconds", "min_cost_usd"),
)
TRACE_FILTERS = (*NAMES, *TRACES)
SPAN_FILTERS = (*NAMES, *SPANS, *OF_THEIR_TRACE)


def of_traces(asked: Asked) -> Where:
    """The traces that are meant. Raises BadParameter."""
    where = _common(asked)
    for name, part in TRACES.items():
        where.any_of([part(value) for value in asked.all(name)])
    return where


def of_spans(asked: Asked) -> Where:
    """The spans that are meant. Raises BadParameter."""
    where = _common(asked)
    for name, part in SPANS.items():
        where.any_of([part(value) for value in asked.all(name)])
    their = Where()
    their.any_of([tagged("tags")(value) for value in asked.all("tag")])
    their.any_of([equals("status")(value) for value in asked.all("trace_status")])
    if their.conditions:
        where.add(
            f"(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM traces WHERE {their.sql})",
            *their.values,
        )
    return where


def of_experiments(asked: Asked) -> Where:
    """The experiments that are meant and may be seen."""
    where = Where()
    if asked.experiments is not None:
        where.add(
            "experiment IN (SELECT number FROM experiments WHERE list_contains(?::VARCHAR[], id))",
            sorted(asked.experiments),
        )
    for column in ("id", "name"):
        values = asked.all(f"experiment_{column}")
        if values:
            where.add(
                f"experiment IN (SELECT number FROM experiments WHERE list_contains(?::VARCHAR[], {column}))",
                list(values),
            )
    return where


def _common(asked: Asked) -> Where:
    where = of_experiments(asked)
    if (since := asked.time("since")) is not None:
        where.add("start_unix_ns >= ?", since)
    if (until := asked.time("until")) is not None:
        where.add("start_unix_ns < ?", until)
    if (least := asked.number("min_duration_seconds")) is not None:
        where.add("duration_ns >= ?", int(least * 1e9))
    if (most := asked.number("max_duration_seconds")) is not None:
        where.add("duration_ns <= ?", int(most * 1e9))
    if (cost := asked.number("min_cost_usd")) is not None:
        where.add("cost_usd >= ?", cost)
    return where
