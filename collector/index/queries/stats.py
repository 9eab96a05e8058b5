"""One question for all numbers: metrics x breakdown x time bucket, as data. Pure.

    of        traces, spans, models (model calls), tools (tool calls), errors (spans), sessions, scores
    metric    what is counted, summed or measured (Entity.metrics)
    by        what sets groups apart (Entity.dimensions); a trace with two models is in the group of each
    bucket    how long a step of the time axis is; none: no axis

Percentiles are exact: the value at (n - 1) * p of the ordered values, between neighbours in proportion.
A metric names values and conditions; what they are in the tables is the engine's (index/sql/columns.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from collector.index.queries.asked import Asked, seconds
from collector.index.queries.filters import (
    SCORE_FILTERS,
    SPAN_FILTERS,
    TRACE_FILTERS,
    Selection,
    select_scores,
    select_spans,
    select_traces,
)
from collector.model.parameters import BadParameter
from collector.spans.conventions import TOKEN_KINDS

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# what the metrics of a value's spread end in
SPREAD = ("mean", "max", *PERCENTILES)
TOKENS = TOKEN_KINDS
MAX_GROUPS = 1000
MAX_BUCKETS = 2000
DEFAULT_BUCKETS = 60
STEPS_SECONDS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000)
NS_A_SECOND = 1_000_000_000
# of US dollars: below a millionth of a millionth is only how floats are written
COST_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are, where a condition is named: for which it holds."""

    where: str = ""


@dataclass(frozen=True, slots=True)
class CountDistinct:
    """How many different values there are."""

    value: str


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of a value, of the rows for which `where` holds, in a unit of which `per_unit` go into ours.

    Where `decimals` are given it is rounded: a sum of floats depends on their order.
    """

    value: str
    where: str = ""
    per_unit: int = 1
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a value."""

    value: str
    per_unit: int = 1


@dataclass(frozen=True, slots=True)
class Deviation:
    """The standard deviation of a value, of a sample; none of fewer than two values."""

    value: str
    per_unit: int = 1


@dataclass(frozen=True, slots=True)
class Maximum:
    """The largest value."""

    value: str
    per_unit: int = 1


@dataclass(frozen=True, slots=True)
class Percentile:
    """The value under which a share of all values lies."""

    value: str
    share: float
    per_unit: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """The share of rows for which a condition holds, among those for which `among` holds."""

    where: str
    among: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One sum by another; none where the other is 0."""

    dividend: str
    divisor: str
    divisor_per_unit: int = 1


@dataclass(frozen=True, slots=True)
class ShareWithin:
    """The rows for which `where` holds, as a share of those in all groups that differ in `dimension` only."""

    dimension: str
    where: str


StatsMetric = (
    Count | CountDistinct | Sum | Mean | Deviation | Maximum | Percentile | Share | Ratio | ShareWithin
)


def _spread(name: str, value: str, per_unit: int = 1) -> dict[str, StatsMetric]:
    """Mean, maximum and percentiles of a value."""
    return {
        f"{name}_mean": Mean(value, per_unit),
        f"{name}_max": Maximum(value, per_unit),
        **{f"{name}_{each}": Percentile(value, share, per_unit) for each, share in PERCENTILES.items()},
    }


def _sums(*names: str) -> dict[str, StatsMetric]:
    return {name: Sum(name) for name in names}


_DURATION = _spread("duration_seconds", "duration_ns", NS_A_SECOND)
_FIRST_TOKEN = _spread("time_to_first_token_seconds", "time_to_first_token_seconds")
_TOKEN_SUMS = _sums(*(f"{name}_tokens" for name in TOKENS))
_TOKENS_PER_SECOND: dict[str, StatsMetric] = {
    "output_tokens_per_second": Ratio("output_tokens", "duration_ns", NS_A_SECOND)
}
_VARYING = ("cost_usd", "total_tokens", "recovered_retries", "model_calls", "tool_calls")
_TRACES: Mapping[str, StatsMetric] = {
    "count": Count(),
    "errors": Count("error"),
    "error_rate": Share("error"),
    **_sums("error_spans", "recovered_retries"),
    "incomplete": Count("incomplete"),
    **_DURATION,
    **_FIRST_TOKEN,
    **_TOKEN_SUMS,
    **_TOKENS_PER_SECOND,
    "cost_usd": Sum("cost_usd", decimals=COST_DECIMALS),
    **_sums("unpriced_model_calls"),
    # of the traces that have one, for tests and intervals
    "traces_with_cost": Count("with_cost"),
    "traces_with_tokens": Count("with_tokens"),
    **{f"{name}_mean": Mean(name) for name in ("cost_usd", "total_tokens", "recovered_retries")},
    **{f"{name}_stddev": Deviation(name) for name in _VARYING},
    "duration_seconds_stddev": Deviation("duration_ns", NS_A_SECOND),
    "truncated_share": Ratio("truncated_calls", "model_calls"),
    "spans": Sum("span_count"),
    **_sums("model_calls", "tool_calls"),
    "model_calls_a_trace": Mean("model_calls"),
    "tool_calls_a_trace": Mean("tool_calls"),
    "sessions": CountDistinct("session"),
    "users": CountDistinct("user"),
}
_SPANS: Mapping[str, StatsMetric] = {
    "count": Count(),
    "errors": Count("error"),
    "error_rate": Share("error"),
    "recovered_retries": Count("recovered_retry"),
    **_DURATION,
    "self_seconds": Sum("self_ns", per_unit=NS_A_SECOND),
    "traces": CountDistinct("trace_id"),
}
_MODELS: Mapping[str, StatsMetric] = {
    "count": Count("model_call"),
    "errors": Count("failed_model_call"),
    "error_rate": Share("error", among="model_call"),
    **_DURATION,
    "self_seconds": Sum("self_ns", where="model_call", per_unit=NS_A_SECOND),
    "traces": CountDistinct("trace_id"),
    **_FIRST_TOKEN,
    **_TOKEN_SUMS,
    **_TOKENS_PER_SECOND,
    "cost_usd": Sum("cost_usd", where="counts_cost", decimals=COST_DECIMALS),
    "truncated_share": Share("truncated"),
}
_SESSIONS: Mapping[str, StatsMetric] = {
    "count": Count(),
    "turns": Sum("turns"),
    "turns_a_session": Mean("turns"),
    "errors": Count("error"),
    "error_rate": Share("error"),
    **_sums("recovered_retries"),
    **_DURATION,
    **_TOKEN_SUMS,
    "cost_usd": Sum("cost_usd", decimals=COST_DECIMALS),
    **_sums("model_calls", "tool_calls"),
    "users": CountDistinct("user"),
}
_SCORES: Mapping[str, StatsMetric] = {
    "count": Count(),
    "traces": CountDistinct("trace_id"),
    **_spread("score", "score_value"),
    "label_share": ShareWithin("label", "labelled"),
    "pass_rate": Share("passed", among="judged"),
    "errors": Count("error"),
    "error_rate": Share("error"),
}
_TRACE_DIMENSIONS = (
    *("experiment", "name", "service", "version", "environment", "agent", "model", "response_model"),
    *("provider", "tool", "prompt", "prompt_name", "session", "user", "run_id", "status", "error", "tag"),
    *("score", "label"),
)
_TRACE_LISTS = frozenset(
    {"agent", "model", "response_model", "provider", "tool", "prompt", "prompt_name", "tag"}
)
# of a trace those of all its scores, in pairs
SCORE_DIMENSIONS = ("score", "label")
_SPAN_DIMENSIONS = (
    *("experiment", "name", "span", "kind", "service", "version", "environment", "agent", "model"),
    *("response_model", "provider", "tool", "prompt", "prompt_name", "session", "user", "run_id"),
    *("status", "error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something that is counted. `lists` are the dimensions of which a row may have several values.

    `joined` are those that stand in another table, with several values too.
    """

    metrics: Mapping[str, StatsMetric]
    dimensions: Sequence[str]
    lists: frozenset[str] = frozenset()
    filters: Sequence[str] = SPAN_FILTERS
    joined: frozenset[str] = frozenset()


ENTITIES: Mapping[str, Entity] = {
    "traces": Entity(
        metrics=_TRACES,
        dimensions=_TRACE_DIMENSIONS,
        lists=_TRACE_LISTS,
        filters=TRACE_FILTERS,
        joined=frozenset(SCORE_DIMENSIONS),
    ),
    "spans": Entity(metrics=_SPANS, dimensions=_SPAN_DIMENSIONS),
    "models": Entity(metrics=_MODELS, dimensions=_SPAN_DIMENSIONS),
    "tools": Entity(metrics=_SPANS, dimensions=_SPAN_DIMENSIONS),
    "errors": Entity(
        metrics={name: _SPANS[name] for name in ("count", "traces")}, dimensions=_SPAN_DIMENSIONS
    ),
    "sessions": Entity(
        metrics=_SESSIONS,
        dimensions=("experiment", "service", "version", "environment", "session", "user"),
        filters=TRACE_FILTERS,
    ),
    "scores": Entity(
        metrics=_SCORES,
        dimensions=(*_TRACE_DIMENSIONS, "source", "judge"),
        lists=_TRACE_LISTS,
        filters=SCORE_FILTERS,
    ),
}
_SELECT: Mapping[Sequence[str], Callable[[Asked], Selection]] = {
    TRACE_FILTERS: select_traces,
    SPAN_FILTERS: select_spans,
    SCORE_FILTERS: select_scores,
}
DEFAULT_METRICS = ("count", "error_rate", "duration_seconds_p50", "duration_seconds_p95")
PARAMETERS = ("of", "metric", "by", "top", "order", "bucket")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsQuery:
    """What is asked, checked: names are keys of the tables above."""

    of: str
    metrics: Sequence[str]
    by: Sequence[str]
    top: int
    order: str
    descending: bool
    selection: Selection
    since_unix_ns: int | None
    until_unix_ns: int
    bucket: int | str | None

    @property
    def entity(self) -> Entity:
        """What is counted."""
        return ENTITIES[self.of]


def question(asked: Asked, *, also: Sequence[str] = ()) -> StatsQuery:
    """The question in the parameters. Raises BadParameter, which names what there is."""
    of = asked.choice("of", tuple(ENTITIES), "traces")
    entity = ENTITIES[of]
    asked.known((*PARAMETERS, *entity.filters, *also))
    metrics = list(dict.fromkeys(asked.all("metric"))) or [
        name for name in DEFAULT_METRICS if name in entity.metrics
    ]
    by = list(dict.fromkeys(asked.all("by")))
    for name, values, allowed in (("metric", metrics, entity.metrics), ("by", by, entity.dimensions)):
        for value in values:
            if value not in allowed:
                raise BadParameter(name, value[:80], f"of {of} there are {', '.join(allowed)}")
    order = asked.one("order") or f"-{metrics[0]}"
    if order.removeprefix("-") not in (*metrics, *by):
        allowed_orders = ", ".join([*metrics, *by])
        raise BadParameter(
            "order", order[:80], f"must be one of {allowed_orders}, with - for the largest first"
        )
    selection = _SELECT[entity.filters](asked)
    bucket = asked.one("bucket")
    return StatsQuery(
        of=of,
        metrics=metrics,
        by=by,
        top=asked.whole("top", default=20, low=1, high=MAX_GROUPS),
        order=order.removeprefix("-"),
        descending=order.startswith("-"),
        selection=selection,
        since_unix_ns=asked.time("since"),
        until_unix_ns=asked.time("until") or asked.now_unix_ns,
        bucket=bucket if bucket in (None, "auto") else seconds(bucket, "bucket"),
    )


def bucket_seconds(query: StatsQuery, first_unix_ns: int, last_unix_ns: int) -> int:
    """How long a step is: as asked, or so that there are about DEFAULT_BUCKETS. Raises BadParameter."""
    spread = max(1, last_unix_ns - first_unix_ns) / 1e9
    if isinstance(query.bucket, int):
        if spread / query.bucket > MAX_BUCKETS:
            raise BadParameter(
                "bucket", query.bucket, f"makes more than {MAX_BUCKETS} steps; take longer ones, or since"
            )
        return query.bucket
    return next((step for step in STEPS_SECONDS if spread / step <= DEFAULT_BUCKETS), STEPS_SECONDS[-1])
