"""Numbers as SQL: metric x breakdown x time bucket. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from collector.index.queries.stats import (
    COST_DECIMALS,
    NS_A_SECOND,
    TOKENS,
    Count,
    CountDistinct,
    Deviation,
    Maximum,
    Mean,
    Percentile,
    Ratio,
    Share,
    ShareWithin,
    StatsMetric,
    StatsQuery,
    Sum,
)
from collector.index.sql.columns import COUNTED, LATEST, SCORE_TABLE, SCORED, CountedTable
from collector.index.sql.dialect import Dialect
from collector.index.sql.selection import where_selected
from collector.index.sql.where import Query, Where

Groups = Sequence[Sequence[object]]
"""The dimensions of each of some groups, as the rows of an answer have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Rows of numbers: in total, of the first groups, or along the time axis, there only of `groups`."""

    asks: StatsQuery
    in_total: bool = False
    step_seconds: int | None = None
    groups: Groups = ()

    def sql(self, dialect: Dialect) -> Query:
        """The question for all rows at once."""
        if self.in_total:
            return total_sql(self.asks, dialect)
        if self.step_seconds is None:
            return groups_sql(self.asks, dialect)
        return series_sql(self.asks, dialect, self.step_seconds, self.groups)


def groups_sql(query: StatsQuery, dialect: Dialect, groups: Groups | None = None) -> Query:
    """A row a group: its dimensions, then its metrics, the first by order; of `groups` only, if given."""
    limit = query.top + 1 if groups is None else len(groups)
    columns = [*_dimensions(query), *_metrics(query, dialect)]
    names = [f"d{n}" for n in range(len(query.by))]
    sql, values = _grouped(query, dialect, columns, names, groups)
    return f"{sql} {order_sql(query)} LIMIT {limit}", values


def order_sql(query: StatsQuery) -> str:
    """The order of groups, among equals that of their dimensions."""
    by_dimension = query.order in query.by
    key = f"d{query.by.index(query.order)}" if by_dimension else f"m{query.metrics.index(query.order)}"
    direction = "DESC" if query.descending else "ASC"
    ties = "".join(f", d{n}" for n in range(len(query.by)))
    return f"ORDER BY {key} {direction} NULLS LAST{ties}"


def counts_sql(query: StatsQuery, dialect: Dialect) -> Query:
    """A row a value of one dimension: the value and how many rows have it, the most frequent first.

    As groups_sql, but that lists are counted as they are stored, and only their few different texts split.
    """
    (name,) = query.by
    source, values = source_sql(query, dialect, Where(), rows_for_lists=False)
    each = dialect.row_for_each_of("stored") if name in query.entity.lists else "stored"
    stored = (
        f"SELECT {COUNTED[query.of].columns[name]} AS stored, count(*) AS n FROM {source} GROUP BY stored"
    )
    sql = f"SELECT d0, sum(n) AS m0 FROM (SELECT {each} AS d0, n FROM ({stored})) GROUP BY d0"
    return f"{sql} ORDER BY m0 DESC, d0 LIMIT {query.top}", values


def total_sql(query: StatsQuery, dialect: Dialect) -> Query:
    """One row: the metrics over everything that is meant."""
    source, values = source_sql(query, dialect, Where(), rows_for_lists=False)
    return f"SELECT {', '.join(_metrics(query, dialect, of_groups=False))} FROM {source}", values


def series_sql(query: StatsQuery, dialect: Dialect, step_seconds: int, groups: Groups) -> Query:
    """A row a step and group: the step's number since 1970, the dimensions, the metrics; of `groups` only."""
    step = step_sql(dialect, step_seconds)
    columns = [f"{step} AS step", *_dimensions(query), *_metrics(query, dialect, step=step)]
    keys = ["step", *(f"d{n}" for n in range(len(query.by)))]
    sql, values = _grouped(query, dialect, columns, keys, groups if query.by else None)
    return f"{sql} ORDER BY {', '.join(keys)}", values


def step_sql(dialect: Dialect, step_seconds: int) -> str:
    """The number of a step since 1970."""
    return dialect.whole_division("start_unix_ns", step_seconds * NS_A_SECOND)


def _grouped(
    query: StatsQuery, dialect: Dialect, columns: Sequence[str], keys: Sequence[str], groups: Groups | None
) -> Query:
    """SELECT and GROUP BY; of `groups` only, if given."""
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    if groups is None or not _looks_at_others(query):
        only = Where() if groups is None else _among(query.by, groups, partial(dimension_sql, query))
        source, values = source_sql(query, dialect, only)
        return f"SELECT {', '.join(columns)} FROM {source}{group}", values
    source, values = source_sql(query, dialect, Where())
    chosen = _among(query.by, groups, lambda name: f"d{query.by.index(name)}")
    sql = f"SELECT * FROM (SELECT {', '.join(columns)} FROM {source}{group}) WHERE {chosen.sql}"
    return sql, [*values, *chosen.values]


def _looks_at_others(query: StatsQuery) -> bool:
    """Whether a metric of a group depends on other groups."""
    return any(isinstance(query.entity.metrics[name], ShareWithin) for name in query.metrics)


def range_sql(query: StatsQuery, dialect: Dialect) -> Query:
    """The first and the last start of what is meant."""
    source, values = source_sql(query, dialect, Where(), rows_for_lists=False)
    return f"SELECT min(start_unix_ns), max(start_unix_ns) FROM {source}", values


def metric_sql(metric: StatsMetric, table: CountedTable, dialect: Dialect, shares: Sequence[float]) -> str:
    """One metric. `shares` are all percentiles that are asked of its value: they are worked out at once."""
    match metric:
        case Count(where=where):
            return f"count(*){filter_sql(where, table)}"
        case CountDistinct(value=value):
            return f"count(DISTINCT {table.value(value)})"
        case Sum(value=value, where=where, per_unit=unit, decimals=decimals):
            total = f"sum({if_sql(where, table, table.value(value))}){per_unit_sql(unit)}"
            return total if decimals is None else f"round({total}, {decimals})"
        case Mean(value=value, per_unit=unit):
            return f"avg({table.value(value)}){per_unit_sql(unit)}"
        case Deviation(value=value, per_unit=unit):
            return f"round({dialect.deviation(table.value(value))}{per_unit_sql(unit)}, {COST_DECIMALS})"
        case Maximum(value=value, per_unit=unit):
            return f"max({table.value(value)}){per_unit_sql(unit)}"
        case Percentile(value=value, share=share, per_unit=unit):
            return f"{dialect.quantile(table.value(value), shares, shares.index(share))}{per_unit_sql(unit)}"
        case Share(where=where, among=among):
            return f"avg({if_sql(among, table, f'CAST(({table.conditions[where]}) AS INTEGER)')})"
        case Ratio(dividend=dividend, divisor=divisor, divisor_per_unit=unit):
            return (
                f"sum({table.value(dividend)}) / nullif(sum({table.value(divisor)}{per_unit_sql(unit)}), 0)"
            )
        case ShareWithin(where=where):
            return f"count(*){filter_sql(where, table)}"
        case _ as never:
            assert_never(never)


def per_unit_sql(unit: int) -> str:
    """Behind a number, in another unit."""
    return "" if unit == 1 else f" / {unit:.0e}"


def if_sql(condition: str, table: CountedTable, value: str) -> str:
    """The value of the rows for which a condition holds."""
    # an aggregate's FILTER would do, but between shards ClickHouse confuses the names of such sums
    return f"CASE WHEN {table.conditions[condition]} THEN {value} END" if condition else value


def filter_sql(condition: str, table: CountedTable) -> str:
    """Behind an aggregate: only the rows for which a condition holds."""
    return f" FILTER (WHERE {table.conditions[condition]})" if condition else ""


def _metrics(query: StatsQuery, dialect: Dialect, *, step: str = "", of_groups: bool = True) -> list[str]:
    """`step`: SQL of the step of the time axis, if there is one; `of_groups`: not of everything at once."""
    metrics = [query.entity.metrics[name] for name in query.metrics]
    shares: dict[str, list[float]] = {}
    for metric in metrics:
        if isinstance(metric, Percentile):
            shares.setdefault(metric.value, []).append(metric.share)
    table, found = COUNTED[query.of], []
    for metric in metrics:
        sql = metric_sql(metric, table, dialect, shares.get(_value_of(metric), ()))
        if isinstance(metric, ShareWithin):
            sql = _of_others(sql, _in_common(query, metric, step) if of_groups else ())
        found.append(sql)
    return [f"{sql} AS m{n}" for n, sql in enumerate(found)]


def _of_others(rows: str, same: Sequence[str]) -> str:
    """A group's rows as a share of those of all groups with which it has these columns in common."""
    partition = f"PARTITION BY {', '.join(same)}" if same else ""
    return f"1.0 * {rows} / nullif(sum({rows}) OVER ({partition}), 0)"


def _in_common(query: StatsQuery, metric: ShareWithin, step: str) -> list[str]:
    """What groups share that differ in the metric's dimension only."""
    dimensions = [dimension_sql(query, name) for name in query.by if name != metric.dimension]
    return [step, *dimensions] if step else dimensions


def _value_of(metric: StatsMetric) -> str:
    return metric.value if isinstance(metric, Percentile) else ""


def _dimensions(query: StatsQuery) -> list[str]:
    return [f"{dimension_sql(query, name)} AS d{n}" for n, name in enumerate(query.by)]


def dimension_sql(query: StatsQuery, name: str) -> str:
    """What sets groups apart, over the rows of `source_sql`."""
    is_each = name in query.entity.lists or name in query.entity.joined
    return f"each_{name}" if is_each else COUNTED[query.of].columns[name]


def _among(by: Sequence[str], groups: Groups, column: Callable[[str], str]) -> Where:
    """The rows of these groups; `column` is the SQL of a dimension."""
    same = " AND ".join(f"{column(name)} IS NOT DISTINCT FROM ?" for name in by)
    among = Where()
    among.add(
        f"({' OR '.join([f'({same})'] * len(groups)) or 'false'})",
        *(value for group in groups for value in group),
    )
    return among


def source_sql(
    query: StatsQuery, dialect: Dialect, only: Where, *, rows_for_lists: bool = True, also: str = ""
) -> Query:
    """FROM and WHERE; lists that set groups apart get a row for each of their values.

    `also` is one more condition of the table's rows, without values.
    """
    table = COUNTED[query.of]
    where = where_selected(query.selection, table.columns, dialect)
    if also:
        where.add(also)
    values = [*where.values, *only.values]
    if query.of == "sessions":
        return f"{_sessions_sql(where, dialect)} WHERE {only.sql}", values
    meant = f"{table.table} WHERE {table.condition} AND {where.sql}"
    lists = [name for name in query.by if name in query.entity.lists] if rows_for_lists else []
    joined = [name for name in query.by if name in query.entity.joined] if rows_for_lists else []
    if not lists and not joined:
        return f"{meant} AND {only.sql}", values
    columns = "".join(f", {dialect.row_for_each_of(table.columns[name])} AS each_{name}" for name in lists)
    rows = f"(SELECT *{columns} FROM {meant})"
    return f"{_with_scores(rows, joined) if joined else rows} WHERE {only.sql}", values


def _with_scores(rows: str, joined: Sequence[str]) -> str:
    """A row for each of a trace's different scores, as far as they are asked for; one where it has none."""
    columns = ", ".join(f"{SCORE_TABLE[name]} AS each_{name}" for name in joined)
    labelled = " WHERE label IS NOT NULL" if joined == ["label"] else ""
    scores = f"SELECT DISTINCT {SCORED}, {columns} FROM scores{labelled}"
    named = ", ".join(f"c.each_{name}" for name in joined)
    return (
        f"(SELECT r.*, {named} FROM {rows} r LEFT JOIN ({scores}) c"
        " ON c.scored_experiment = r.experiment AND c.scored_trace = r.trace_id)"
    )


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
