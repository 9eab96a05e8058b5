"""Numbers day by day: what the rows of each day come to, and how that is put together. Pure.

    rows of a day -> sums, values, different values -> the numbers of all days

A sum of sums is the sum, and percentiles of all days' values are those of all rows. So the numbers are the
same as those that are asked of all rows at once, and what the rows of a day come to can be kept (kept.py).
A day is a partition of `traces` or `spans`: that on which a trace was first seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from collector.index.clickhouse.dialect import CLICKHOUSE
from collector.index.clickhouse.schema import DAILY, DAY
from collector.index.queries.stats import (
    COST_DECIMALS,
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
from collector.index.sql.columns import COUNTED
from collector.index.sql.stats import (
    Numbers,
    dimension_sql,
    filter_sql,
    if_sql,
    order_sql,
    per_unit_sql,
    source_sql,
    step_sql,
)
from collector.index.sql.where import Query, Where

# values that aren't whole numbers
_DECIMALS = frozenset({"cost_usd", "time_to_first_token_seconds"})
# dimensions with nearly as many groups as there are traces
_MANY = frozenset({"session", "user", "run_id", "tag"})
# what can't be put together from the sums of days
_OF_ALL_ROWS = (Deviation, ShareWithin)


@dataclass(frozen=True, slots=True)
class _Columns:
    """SQL of what the rows of a day come to, by the column of DAILY that holds it."""

    whole: list[str] = field(default_factory=list)
    decimal: list[str] = field(default_factory=list)
    wholes: list[str] = field(default_factory=list)
    decimals: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def add(self, column: str, sql: str) -> str:
        """Where its value stands; the same SQL is there once."""
        listed: list[str] = getattr(self, column)
        if sql not in listed:
            listed.append(sql)
        return f"{column}[{listed.index(sql) + 1}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyNumbers:
    """A question day by day."""

    numbers: Numbers
    columns: _Columns
    metrics: Sequence[str]

    @property
    def table(self) -> str:
        """What it is asked of."""
        return COUNTED[self.numbers.asks.of].table

    def of_days(self, days: Sequence[str], *, whole: bool) -> Query:
        """Rows of DAILY of these days; `whole`: whatever the bounds of time are."""
        asks = self.numbers.asks
        if whole:
            free = replace(asks.selection, since_unix_ns=None, until_unix_ns=None)
            asks = replace(asks, selection=free)
        source, values = source_sql(
            asks, CLICKHOUSE, Where(), rows_for_lists=not self.numbers.in_total, also=among_days(days)
        )
        columns, keys = self._selected(asks)
        return f"SELECT {columns} FROM {source} GROUP BY {', '.join(keys)}", values

    def _selected(self, asks: StatsQuery) -> tuple[str, Sequence[str]]:
        seconds = self.numbers.step_seconds
        steps = [] if seconds is None else [step_sql(CLICKHOUSE, seconds)]
        dimensions = [dimension_sql(asks, name) for name in self._by]
        texts = [f"CAST({each} AS Nullable(String))" for each in dimensions]
        found = {"day": DAY, "step": steps[0] if steps else "0", "dimensions": f"[{', '.join(texts)}]"}
        for name in DAILY:
            if name not in found:
                found[name] = f"[{', '.join(getattr(self.columns, name))}]"
        columns = ", ".join(f"CAST({found[name]} AS {type}) AS {name}" for name, type in DAILY.items())
        return columns, [DAY, *steps, *dimensions]

    @property
    def _by(self) -> Sequence[str]:
        return () if self.numbers.in_total else self.numbers.asks.by

    def together(self, rows: str, also: str) -> str:
        """The numbers, of rows of DAILY, as `Numbers.sql` has them, and `also` one more column."""
        asks = self.numbers.asks
        dimensions = [_typed(name, f"dimensions[{n + 1}]") for n, name in enumerate(self._by)]
        steps = [] if self.numbers.step_seconds is None else ["step"]
        columns = [
            *steps,
            *(f"{sql} AS d{n}" for n, sql in enumerate(dimensions)),
            *(f"{sql} AS m{n}" for n, sql in enumerate(self.metrics)),
            also,
        ]
        keys = [*steps, *(f"d{n}" for n in range(len(dimensions)))]
        sql = f"SELECT {', '.join(columns)} FROM ({rows})"
        if keys:
            sql = f"{sql} GROUP BY {', '.join(keys)}"
        if steps:
            return f"{sql} ORDER BY {', '.join(keys)}"
        return f"{sql} {order_sql(asks)} LIMIT {asks.top + 1}" if dimensions else sql


def among_days(days: Sequence[str]) -> str:
    """The rows of these days."""
    listed = ", ".join(f"'{day}'" for day in days)
    return f"{DAY} IN ({listed})" if days else "false"


def daily(numbers: Numbers) -> DailyNumbers | None:
    """The question day by day; None: it is about more than the rows of a day by themselves."""
    asks = numbers.asks
    metrics = [asks.entity.metrics[name] for name in asks.metrics]
    selection, is_series = asks.selection, numbers.step_seconds is not None
    about_others = (
        asks.of not in _TABLES
        or selection.of_their_trace
        or selection.trace_scores
        or selection.own_scores
        or not asks.entity.joined.isdisjoint(asks.by)
        or any(isinstance(metric, _OF_ALL_ROWS) for metric in metrics)
    )
    if about_others or not _MANY.isdisjoint(asks.by) or (is_series and asks.by):
        return None
    columns = _Columns()
    found = [_metric(metric, asks, columns) for metric in metrics]
    return DailyNumbers(numbers=numbers, columns=columns, metrics=found)


_TABLES = frozenset({"traces", "spans", "models", "tools", "errors"})


def _typed(name: str, text: str) -> str:
    return f"CAST({text} AS Nullable(Int64))" if name == "experiment" else text


def _metric(metric: StatsMetric, asks: StatsQuery, columns: _Columns) -> str:
    """A metric of the sums of days."""
    table = COUNTED[asks.of]
    match metric:
        case Count(where=where):
            return f"coalesce(sum({columns.add('whole', f'count(*){filter_sql(where, table)}')}), 0)"
        case CountDistinct(value=value):
            return _different(table.value(value), columns)
        case Sum(value=value, where=where, per_unit=unit, decimals=decimals):
            total = f"{_sum(value, if_sql(where, table, table.value(value)), columns)}{per_unit_sql(unit)}"
            return total if decimals is None else f"round({total}, {COST_DECIMALS})"
        case Mean(value=value, per_unit=unit):
            return f"{_mean(value, table.value(value), columns)}{per_unit_sql(unit)}"
        case Maximum(value=value, per_unit=unit):
            return f"max({columns.add(_one(value), f'max({table.value(value)})')}){per_unit_sql(unit)}"
        case Percentile():
            return _percentile(metric, asks, columns)
        case Share(where=where, among=among):
            is_one = if_sql(among, table, f"CAST(({table.conditions[where]}) AS INTEGER)")
            return _mean("", is_one, columns)
        case Ratio(dividend=dividend, divisor=divisor, divisor_per_unit=unit):
            other = f"{table.value(divisor)}{per_unit_sql(unit)}"
            below = _sum(divisor, other, columns) if unit == 1 else _sum("cost_usd", other, columns)
            return f"{_sum(dividend, table.value(dividend), columns)} / nullif({below}, 0)"
    raise AssertionError(f"{metric} can't be put together")


def _one(value: str) -> str:
    return "decimal" if value in _DECIMALS else "whole"


def _sum(value: str, sql: str, columns: _Columns) -> str:
    return f"sum({columns.add(_one(value), f'sum({sql})')})"


def _mean(value: str, sql: str, columns: _Columns) -> str:
    counted = columns.add("whole", f"count({sql})")
    return f"{_sum(value, sql, columns)} / nullif(sum({counted}), 0)"


def _different(sql: str, columns: _Columns) -> str:
    # the engine itself counts different texts by this hash
    hashed = f"reinterpretAsUInt128(sipHash128(assumeNotNull({sql})))"
    there = columns.add("different", f"groupUniqArrayIf({hashed}, isNotNull({sql}))")
    return f"coalesce(uniqExactArray({there}), 0)"


def _percentile(metric: Percentile, asks: StatsQuery, columns: _Columns) -> str:
    """All percentiles of a value are worked out at once."""
    asked = [asks.entity.metrics[name] for name in asks.metrics]
    shares = [each.share for each in asked if isinstance(each, Percentile) and each.value == metric.value]
    values = columns.add(f"{_one(metric.value)}s", f"groupArray({COUNTED[asks.of].value(metric.value)})")
    found = f"quantilesExactInclusiveArray({', '.join(map(str, shares))})({values})"
    one = f"{found}[{shares.index(metric.share) + 1}]"
    empty = f"coalesce(sum(length({values})), 0) = 0"
    return f"if({empty}, NULL, {one}){per_unit_sql(metric.per_unit)}"
