"""One question for all numbers: metrics x breakdown x time bucket. Pure.

    of        traces, spans, models (model calls), tools (tool calls), errors (spans), sessions
    metric    what is counted, summed or measured (METRICS)
    by        what sets groups apart (DIMENSIONS); a trace with two models is in the group of each
    bucket    how long a step of the time axis is; none: no axis

Percentiles are exact: the value at (n - 1) * p of the ordered values, between neighbours in proportion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.index.queries.asked import Asked, seconds
from collector.index.queries.filters import SPAN_FILTERS, TRACE_FILTERS, Values, Where, of_spans, of_traces
from collector.model.parameters import BadParameter

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
DURATION = "duration_ns / 1e9"
FIRST_TOKEN = "time_to_first_token_seconds"  # noqa: S105 (no password)
TOKENS = ("input", "output", "total", "cache_read", "cache_write", "reasoning")
MAX_GROUPS = 1000
MAX_BUCKETS = 2000
DEFAULT_BUCKETS = 60
STEPS_SECONDS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000)


Groups = Sequence[Sequence[object]]
"""The dimensions of each of some groups, as the rows of an answer have them."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """The value under which a share of all values lies, in a unit of which `per_unit` go into ours."""

    value: str
    share: float
    per_unit: str


def _spread(name: str, value: str, per_unit: str = "1e9") -> "dict[str, str | Percentile]":
    """Mean, maximum and percentiles of a value."""
    return {
        f"{name}_mean": f"avg({value}) / {per_unit}",
        f"{name}_max": f"max({value}) / {per_unit}",
        **{f"{name}_{each}": Percentile(value, share, per_unit) for each, share in PERCENTILES.items()},
    }


def _span_tokens(name: str) -> str:
    return f"CASE counts_tokens WHEN 'own' THEN {name}_tokens WHEN 'run' THEN aggregated_{name}_tokens END"


_TRACES: Mapping[str, str | Percentile] = {
    "count": "count(*)",
    "errors": "count(*) FILTER (status = 'ERROR')",
    "error_rate": "avg((status = 'ERROR')::INTEGER)",
    "error_spans": "sum(error_spans)",
    "recovered_retries": "sum(recovered_retries)",
    "incomplete": "count(*) FILTER (NOT complete)",
    **_spread("duration_seconds", "duration_ns"),
    **_spread(FIRST_TOKEN, FIRST_TOKEN, "1"),
    **{f"{name}_tokens": f"sum({name}_tokens)" for name in TOKENS},
    "output_tokens_per_second": f"sum(output_tokens) / nullif(sum({DURATION}), 0)",
    "cost_usd": "sum(cost_usd)",
    "unpriced_model_calls": "sum(unpriced_model_calls)",
    "truncated_share": "sum(truncated_calls) / nullif(sum(model_calls), 0)",
    "spans": "sum(span_count)",
    "model_calls": "sum(model_calls)",
    "tool_calls": "sum(tool_calls)",
    "model_calls_a_trace": "avg(model_calls)",
    "tool_calls_a_trace": "avg(tool_calls)",
    "sessions": "count(DISTINCT session)",
    "users": 'count(DISTINCT "user")',
}
_SPANS: Mapping[str, str | Percentile] = {
    "count": "count(*)",
    "errors": "count(*) FILTER (is_error AND NOT recovered_retry)",
    "error_rate": "avg((is_error AND NOT recovered_retry)::INTEGER)",
    "recovered_retries": "count(*) FILTER (recovered_retry)",
    **_spread("duration_seconds", "duration_ns"),
    "self_seconds": "sum(self_ns) / 1e9",
    "traces": "count(DISTINCT trace_id)",
}
_CALL = f"CASE WHEN model_call THEN {DURATION} END"
_MODELS: Mapping[str, str | Percentile] = {
    "count": "count(*) FILTER (model_call)",
    "errors": "count(*) FILTER (model_call AND is_error AND NOT recovered_retry)",
    "error_rate": "avg((is_error AND NOT recovered_retry)::INTEGER) FILTER (model_call)",
    **_spread("duration_seconds", "CASE WHEN model_call THEN duration_ns END"),
    "self_seconds": "sum(self_ns) FILTER (model_call) / 1e9",
    "traces": "count(DISTINCT trace_id)",
    **_spread(FIRST_TOKEN, FIRST_TOKEN, "1"),
    **{f"{name}_tokens": f"sum({_span_tokens(name)})" for name in TOKENS},
    "output_tokens_per_second": f"sum({_span_tokens('output')}) / nullif(sum({_CALL}), 0)",
    "cost_usd": "sum(cost_usd) FILTER (counts_cost)",
    "truncated_share": "avg((finish_reason IN ('length', 'max_tokens', 'max_output_tokens'))::INTEGER)",
}
_SESSIONS: Mapping[str, str | Percentile] = {
    "count": "count(*)",
    "turns": "sum(turns)",
    "turns_a_session": "avg(turns)",
    "errors": "count(*) FILTER (errors > 0)",
    "error_rate": "avg((errors > 0)::INTEGER)",
    "recovered_retries": "sum(recovered_retries)",
    **_spread("duration_seconds", "duration_ns"),
    **{f"{name}_tokens": f"sum({name}_tokens)" for name in TOKENS},
    "cost_usd": "sum(cost_usd)",
    "model_calls": "sum(model_calls)",
    "tool_calls": "sum(tool_calls)",
    "users": 'count(DISTINCT "user")',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something that is counted. `lists` are the dimensions whose column is a list in a text."""

    source: str
    metrics: "Mapping[str, str | Percentile]"
    dimensions: Mapping[str, str]
    lists: frozenset[str] = frozenset()
    condition: str = "true"
    filters: Sequence[str] = TRACE_FILTERS


_TRACE_DIMENSIONS = {
    "experiment": "experiment",
    "name": "name",
    "service": "service",
    "version": "service_version",
    "environment": "environment",
    "agent": "agents",
    "model": "models",
    "provider": "providers",
    "tool": "tools",
    "prompt": "prompts",
    "session": "session",
    "user": '"user"',
    "run_id": "run_id",
    "status": "status",
    "error": "error_group",
    "tag": "tags",
}
_SPAN_DIMENSIONS = {
    "experiment": "experiment",
    "name": "of_trace",
    "span": "name",
    "kind": "kind",
    "service": "service",
    "version": "service_version",
    "environment": "environment",
    "agent": "owning_agent",
    "model": "model",
    "provider": "provider",
    "tool": "tool",
    "prompt": "prompt_version",
    "session": "of_session",
    "user": "of_user",
    "run_id": "of_run",
    "status": "CASE WHEN is_error AND NOT recovered_retry THEN 'ERROR' ELSE 'OK' END",
    "error": "error_group",
}
_SESSION_DIMENSIONS = {
    name: column
    for name, column in _TRACE_DIMENSIONS.items()
    if name in ("experiment", "service", "version", "environment", "session", "user")
}
SESSIONS = (
    "(SELECT experiment, session, min(start_unix_ns) AS start_unix_ns, max(start_unix_ns + duration_ns)"
    " - min(start_unix_ns) AS duration_ns,"
    " count(*) AS turns, count(*) FILTER (status = 'ERROR') AS errors,"
    " sum(recovered_retries) AS recovered_retries, arg_max(service, start_unix_ns) AS service,"
    " arg_max(service_version, start_unix_ns) AS service_version,"
    ' arg_max(environment, start_unix_ns) AS environment, any_value("user") AS "user",'
    f" {', '.join(f'sum({name}_tokens) AS {name}_tokens' for name in TOKENS)}, sum(cost_usd) AS cost_usd,"
    " sum(model_calls) AS model_calls, sum(tool_calls) AS tool_calls"
    " FROM traces WHERE session IS NOT NULL AND {where} GROUP BY experiment, session)"
)
_LISTS = frozenset({"agent", "model", "provider", "tool", "prompt", "tag"})

ENTITIES: Mapping[str, Entity] = {
    "traces": Entity(source="traces", metrics=_TRACES, dimensions=_TRACE_DIMENSIONS, lists=_LISTS),
    "spans": Entity(source="spans", metrics=_SPANS, dimensions=_SPAN_DIMENSIONS, filters=SPAN_FILTERS),
    "models": Entity(
        source="spans",
        metrics=_MODELS,
        dimensions=_SPAN_DIMENSIONS,
        # and what stands for model calls that say nothing themselves
        condition="(model_call OR counts_tokens IS NOT NULL OR counts_cost)",
        filters=SPAN_FILTERS,
    ),
    "tools": Entity(
        source="spans",
        metrics=_SPANS,
        dimensions=_SPAN_DIMENSIONS,
        condition="tool_call",
        filters=SPAN_FILTERS,
    ),
    "errors": Entity(
        source="spans",
        metrics={name: _SPANS[name] for name in ("count", "traces")},
        dimensions=_SPAN_DIMENSIONS,
        condition="(is_error AND NOT recovered_retry)",
        filters=SPAN_FILTERS,
    ),
    "sessions": Entity(source=SESSIONS, metrics=_SESSIONS, dimensions=_SESSION_DIMENSIONS),
}
DEFAULT_METRICS = ("count", "error_rate", "duration_seconds_p50", "duration_seconds_p95")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, checked: names are keys of the tables above."""

    of: str
    metrics: Sequence[str]
    by: Sequence[str]
    top: int
    order: str
    descending: bool
    where: Where
    since_unix_ns: int | None
    until_unix_ns: int
    bucket: int | str | None

    @property
    def entity(self) -> Entity:
        """What is counted."""
        return ENTITIES[self.of]


PARAMETERS = ("of", "metric", "by", "top", "order", "bucket")


def question(asked: Asked, *, also: Sequence[str] = ()) -> Question:
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
    where = of_spans(asked) if entity.filters is SPAN_FILTERS else of_traces(asked)
    bucket = asked.one("bucket")
    return Question(
        of=of,
        metrics=metrics,
        by=by,
        top=asked.whole("top", default=20, low=1, high=MAX_GROUPS),
        order=order.removeprefix("-"),
        descending=order.startswith("-"),
        where=where,
        since_unix_ns=asked.time("since"),
        until_unix_ns=asked.time("until") or asked.now_unix_ns,
        bucket=bucket if bucket in (None, "auto") else seconds(bucket, "bucket"),
    )


def groups_sql(asks: Question, groups: Groups | None = None) -> tuple[str, Values]:
    """A row a group: its dimensions, then its metrics, the first by order; of `groups` only, if given."""
    source, values = _source(asks, Where() if groups is None else _among(asks, groups))
    limit = asks.top + 1 if groups is None else len(groups)
    columns = [*(f"{_dimension(asks, name)} AS d{n}" for n, name in enumerate(asks.by)), *_metrics(asks)]
    place = asks.by.index(asks.order) if asks.order in asks.by else None
    key = f"m{asks.metrics.index(asks.order)}" if place is None else f"d{place}"
    direction = "DESC" if asks.descending else "ASC"
    ties = "".join(f", d{n}" for n in range(len(asks.by)))
    group = "GROUP BY " + ", ".join(f"d{n}" for n in range(len(asks.by))) if asks.by else ""
    return (
        f"SELECT {', '.join(columns)} FROM {source} {group}"
        f" ORDER BY {key} {direction} NULLS LAST{ties} LIMIT {limit}",
        values,
    )


def total_sql(asks: Question) -> tuple[str, Values]:
    """One row: the metrics over everything that is meant."""
    source, values = _source(asks, Where(), unnested=False)
    return f"SELECT {', '.join(_metrics(asks))} FROM {source}", values


def series_sql(asks: Question, bucket_seconds: int, groups: Groups) -> tuple[str, Values]:
    """A row a step and group: the step's number since 1970, the dimensions, the metrics; of `groups` only."""
    source, values = _source(asks, _among(asks, groups) if asks.by else Where())
    columns = [
        f"start_unix_ns // {bucket_seconds * 1_000_000_000} AS step",
        *(f"{_dimension(asks, name)} AS d{n}" for n, name in enumerate(asks.by)),
        *_metrics(asks),
    ]
    keys = ", ".join(["step", *(f"d{n}" for n in range(len(asks.by)))])
    return (
        f"SELECT {', '.join(columns)} FROM {source} GROUP BY {keys} ORDER BY {keys}",
        values,
    )


def _among(asks: Question, groups: Groups) -> Where:
    """The rows of these groups."""
    same = " AND ".join(f"{_dimension(asks, name)} IS NOT DISTINCT FROM ?" for name in asks.by)
    among = Where()
    among.add(
        f"({' OR '.join([f'({same})'] * len(groups)) or 'false'})",
        *(value for group in groups for value in group),
    )
    return among


def range_sql(asks: Question) -> tuple[str, Values]:
    """The first and the last start of what is meant."""
    source, values = _source(asks, Where(), unnested=False)
    return f"SELECT min(start_unix_ns), max(start_unix_ns) FROM {source}", values


def bucket_seconds(asks: Question, first_unix_ns: int, last_unix_ns: int) -> int:
    """How long a step is: as asked, or so that there are about DEFAULT_BUCKETS. Raises BadParameter."""
    spread = max(1, last_unix_ns - first_unix_ns) / 1e9
    if isinstance(asks.bucket, int):
        if spread / asks.bucket > MAX_BUCKETS:
            raise BadParameter(
                "bucket", asks.bucket, f"makes more than {MAX_BUCKETS} steps; take longer ones, or since"
            )
        return asks.bucket
    return next((step for step in STEPS_SECONDS if spread / step <= DEFAULT_BUCKETS), STEPS_SECONDS[-1])


def _metrics(asks: Question) -> list[str]:
    asked = [asks.entity.metrics[name] for name in asks.metrics]
    shares: dict[str, list[float]] = {}
    for each in asked:
        if isinstance(each, Percentile):
            shares.setdefault(each.value, []).append(each.share)
    return [f"{_metric(each, shares)} AS m{n}" for n, each in enumerate(asked)]


def _metric(metric: "str | Percentile", shares: Mapping[str, Sequence[float]]) -> str:
    """Percentiles of one value are asked for at once: equal expressions are worked out once."""
    if isinstance(metric, str):
        return metric
    listed = shares[metric.value]
    place = listed.index(metric.share) + 1
    return f"quantile_cont({metric.value}, {list(listed)})[{place}] / {metric.per_unit}"


def _dimension(asks: Question, name: str) -> str:
    return f"each_{name}" if name in asks.entity.lists else asks.entity.dimensions[name]


def _source(asks: Question, only: Where, *, unnested: bool = True) -> tuple[str, Values]:
    """FROM and WHERE; lists that set groups apart are taken apart."""
    entity = asks.entity
    if entity.source is SESSIONS:
        return f"{SESSIONS.format(where=asks.where.sql)} WHERE {only.sql}", [*asks.where.values, *only.values]
    lists = [name for name in asks.by if name in entity.lists] if unnested else []
    columns = "".join(
        f", unnest(coalesce(nullif(list_filter(string_split({entity.dimensions[name]}, chr(31)),"
        f" lambda each: each <> ''), []), [NULL])) AS each_{name}"
        for name in lists
    )
    table = (
        f"(SELECT *{columns} FROM {entity.source} WHERE {entity.condition} AND {asks.where.sql})"
        if lists
        else f"{entity.source} WHERE {entity.condition} AND {asks.where.sql}"
    )
    if lists:
        return f"{table} WHERE {only.sql}", [*asks.where.values, *only.values]
    return f"{table} AND {only.sql}", [*asks.where.values, *only.values]
