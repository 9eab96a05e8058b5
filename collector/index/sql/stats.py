"""Numbers as SQL: metric x breakdown x time bucket. Pure."""

from collections.abc import Sequence
from typing import assert_never

from collector.index.queries.stats import (
    NS_A_SECOND,
    TOKENS,
    Count,
    CountDistinct,
    Maximum,
    Mean,
    Percentile,
    Ratio,
    Share,
    StatsMetric,
    StatsQuery,
    Sum,
)
from collector.index.sql.columns import COUNTED, LATEST, CountedTable
from collector.index.sql.dialect import Dialect
from collector.index.sql.selection import where_selected
from collector.index.sql.where import Query, Where

Groups = Sequence[Sequence[object]]
"""The dimensions of each of some groups, as the rows of an answer have them."""


def groups_sql(query: StatsQuery, dialect: Dialect, groups: Groups | None = None) -> Query:
    """A row a group: its dimensions, then its metrics, the first by order; of `groups` only, if given."""
    source, values = _source(query, dialect, Where() if groups is None else _among(query, groups))
    limit = query.top + 1 if groups is None else len(groups)
    columns = [*_dimensions(query), *_metrics(query, dialect)]
    names = [f"d{n}" for n in range(len(query.by))]
    by_dimension = query.order in query.by
    key = f"d{query.by.index(query.order)}" if by_dimension else f"m{query.metrics.index(query.order)}"
    direction = "DESC" if query.descending else "ASC"
    ties = "".join(f", {name}" for name in names)
    group = "GROUP BY " + ", ".join(names) if names else ""
    return (
        f"SELECT {', '.join(columns)} FROM {source} {group}"
        f" ORDER BY {key} {direction} NULLS LAST{ties} LIMIT {limit}",
        values,
    )


def total_sql(query: StatsQuery, dialect: Dialect) -> Query:
    """One row: the metrics over everything that is meant."""
    source, values = _source(query, dialect, Where(), rows_for_lists=False)
    return f"SELECT {', '.join(_metrics(query, dialect))} FROM {source}", values


def series_sql(query: StatsQuery, dialect: Dialect, step_seconds: int, groups: Groups) -> Query:
    """A row a step and group: the step's number since 1970, the dimensions, the metrics; of `groups` only."""
    source, values = _source(query, dialect, _among(query, groups) if query.by else Where())
    step = dialect.whole_division("start_unix_ns", step_seconds * NS_A_SECOND)
    columns = [f"{step} AS step", *_dimensions(query), *_metrics(query, dialect)]
    keys = ", ".join(["step", *(f"d{n}" for n in range(len(query.by)))])
    return f"SELECT {', '.join(columns)} FROM {source} GROUP BY {keys} ORDER BY {keys}", values


def range_sql(query: StatsQuery, dialect: Dialect) -> Query:
    """The first and the last start of what is meant."""
    source, values = _source(query, dialect, Where(), rows_for_lists=False)
    return f"SELECT min(start_unix_ns), max(start_unix_ns) FROM {source}", values


def metric_sql(metric: StatsMetric, table: CountedTable, dialect: Dialect, shares: Sequence[float]) -> str:
    """One metric. `shares` are all percentiles that are asked of its value: they are worked out at once."""
    match metric:
        case Count(where=where):
            return f"count(*){_among_rows(where, table)}"
        case CountDistinct(value=value):
            return f"count(DISTINCT {table.value(value)})"
        case Sum(value=value, where=where, per_unit=unit, decimals=decimals):
            total = f"sum({_if(where, table, table.value(value))}){_per(unit)}"
            return total if decimals is None else f"round({total}, {decimals})"
        case Mean(value=value, per_unit=unit):
            return f"avg({table.value(value)}){_per(unit)}"
        case Maximum(value=value, per_unit=unit):
            return f"max({table.value(value)}){_per(unit)}"
        case Percentile(value=value, share=share, per_unit=unit):
            return f"{dialect.quantile(table.value(value), shares, shares.index(share))}{_per(unit)}"
        case Share(where=where, among=among):
            return f"avg({_if(among, table, f'CAST(({table.conditions[where]}) AS INTEGER)')})"
        case Ratio(dividend=dividend, divisor=divisor, divisor_per_unit=unit):
            return f"sum({table.value(dividend)}) / nullif(sum({table.value(divisor)}{_per(unit)}), 0)"
        case _ as never:
            assert_never(never)


def _per(unit: int) -> str:
    return "" if unit == 1 else f" / {unit:.0e}"


def _if(condition: str, table: CountedTable, value: str) -> str:
    """The value of the rows for which a condition holds."""
    # an aggregate's FILTER would do, but between shards ClickHouse confuses the names of such sums
    return f"CASE WHEN {table.conditions[condition]} THEN {value} END" if condition else value


def _among_rows(condition: str, table: CountedTable) -> str:
    return f" FILTER (WHERE {table.conditions[condition]})" if condition else ""


def _metrics(query: StatsQuery, dialect: Dialect) -> list[str]:
    metrics = [query.entity.metrics[name] for name in query.metrics]
    shares: dict[str, list[float]] = {}
    for metric in metrics:
        if isinstance(metric, Percentile):
            shares.setdefault(metric.value, []).append(metric.share)
    return [
        f"{metric_sql(metric, COUNTED[query.of], dialect, shares.get(_value_of(metric), ()))} AS m{n}"
        for n, metric in enumerate(metrics)
    ]


def _value_of(metric: StatsMetric) -> str:
    return metric.value if isinstance(metric, Percentile) else ""


def _dimensions(query: StatsQuery) -> list[str]:
    return [f"{_dimension(query, name)} AS d{n}" for n, name in enumerate(query.by)]


def _dimension(query: StatsQuery, name: str) -> str:
    return f"each_{name}" if name in query.entity.lists else COUNTED[query.of].columns[name]


def _among(query: StatsQuery, groups: Groups) -> Where:
    """The rows of these groups."""
    same = " AND ".join(f"{_dimension(query, name)} IS NOT DISTINCT FROM ?" for name in query.by)
    among = Where()
    among.add(
        f"({' OR '.join([f'({same})'] * len(groups)) or 'false'})",
        *(value for group in groups for value in group),
    )
    return among


def _source(query: StatsQuery, dialect: Dialect, only: Where, *, rows_for_lists: bool = True) -> Query:
    """FROM and WHERE; lists that set groups apart get a row for each of their values."""
    table = COUNTED[query.of]
    where = where_selected(query.selection, table.columns, dialect)
    values = [*where.values, *only.values]
    if query.of == "sessions":
        return f"{_sessions_sql(where, dialect)} WHERE {only.sql}", values
    meant = f"{table.table} WHERE {table.condition} AND {where.sql}"
    lists = [name for name in query.by if name in query.entity.lists] if rows_for_lists else []
    if not lists:
        return f"{meant} AND {only.sql}", values
    columns = "".join(f", {dialect.row_for_each_of(table.columns[name])} AS each_{name}" for name in lists)
    return f"(SELECT *{columns} FROM {meant}) WHERE {only.sql}", values


def _sessions_sql(where: Where, dialect: Dialect) -> str:
    """A row a session of an experiment: its traces that are meant, put together."""
    sums = (*(f"{name}_tokens" for name in TOKENS), "cost_usd", "model_calls", "tool_calls")
    latest = ("service", "service_version", "environment")
    columns = [
        *("experiment", "session", "min(start_unix_ns) AS start_unix_ns"),
        "max(start_unix_ns + duration_ns) - min(start_unix_ns) AS duration_ns",
        *("count(*) AS turns", "count(*) FILTER (WHERE status = 'ERROR') AS errors"),
        "sum(recovered_retries) AS recovered_retries",
        *(f"{dialect.at_highest(name, LATEST)} AS {name}" for name in latest),
        f"min({_USER}) AS {_USER}",
        *(f"sum({name}) AS {name}" for name in sums),
    ]
    return (
        f"(SELECT {', '.join(columns)} FROM traces WHERE session IS NOT NULL AND {where.sql}"
        " GROUP BY experiment, session)"
    )


_USER = '"user"'
