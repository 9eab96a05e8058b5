"""ClickHouse's SQL, where it isn't standard. Pure.

Sources: https://clickhouse.com/docs/sql-reference/aggregate-functions/reference/quantiles and
https://clickhouse.com/docs/sql-reference/functions/array-functions
"""

from collections.abc import Mapping, Sequence

_SEPARATOR = "char(31)"
# of the columns of records that are no text
_RECORD_TYPES = {"value": "Nullable(Float64)", "time_unix_ns": "Int64"}


class ClickhouseDialect:
    """As in index/sql/dialect.py. Trace ids are numbers (index/clickhouse/schema.py)."""

    def quantile(self, value: str, shares: Sequence[float], number: int) -> str:
        """Equal expressions are worked out once, so all quantiles of a value cost one sort."""
        listed = ", ".join(map(str, shares))
        found = f"quantilesExactInclusive({listed})({value})[{number + 1}]"
        # of no values it is no number, or the first of an empty list
        return f"if(count({value}) = 0 OR isNaN({found}), NULL, {found})"

    def deviation(self, value: str) -> str:
        """The stable one; of one value it is no number."""
        return f"CASE WHEN count({value}) > 1 THEN stddevSampStable({value}) END"

    def whole_division(self, dividend: str, divisor: int) -> str:
        """Rounds down, for times since 1970."""
        return f"intDiv({dividend}, {divisor})"

    def text(self, value: str) -> str:
        """In hexadecimal digits, which order as in other engines."""
        return self.hex_id(value)

    def hex_id(self, value: str) -> str:
        """Of a number; the function leaves leading zeros out."""
        return f"leftPad(lower(hex({value})), 32, '0')"

    def is_one_of(self, value: str) -> str:
        """The list travels as one value."""
        return f"has(?, {value})"

    def starts_with(self, value: str) -> str:
        """As in the protocol."""
        return f"startsWith({value}, ?)"

    def contains(self, value: str) -> str:
        """As in the protocol."""
        return f"position({value}, ?) > 0"

    def list_of(self, value: str) -> str:
        """As in the protocol."""
        return f"arrayFilter(each -> each <> '', splitByChar({_SEPARATOR}, ifNull({value}, '')))"

    def sorted_list_of(self, value: str) -> str:
        """As in the protocol."""
        return f"arraySort(arrayDistinct({self.list_of(value)}))"

    def row_for_each_of(self, value: str) -> str:
        """As in the protocol."""
        listed = self.list_of(value)
        return f"arrayJoin(if(empty({listed}), [NULL], {listed}))"

    def joined(self, value: str) -> str:
        """As in the protocol."""
        return f"arrayStringConcat(groupUniqArray({value}), {_SEPARATOR})"

    def values(self, value: str, most: int) -> str:
        """Rows whose value is NULL are passed over."""
        return f"arraySlice(arraySort(groupUniqArray({value})), 1, {most})"

    def records(self, columns: Mapping[str, str], order: Sequence[str], most: int) -> str:
        """A list of named tuples."""
        types = ", ".join(f"{name} {_RECORD_TYPES.get(name, 'Nullable(String)')}" for name in columns)
        record = f"CAST(tuple({', '.join(columns.values())}), 'Tuple({types})')"
        ordered = f"arraySort(groupArray(tuple(tuple({', '.join(order)}), {record})))"
        return f"arraySlice(arrayMap(each -> each.2, {ordered}), 1, {most})"

    def list_or_empty(self, value: str) -> str:
        """A list is never NULL."""
        return value

    def span_hex_id(self, value: str) -> str:
        """Of a number; the function leaves leading zeros out."""
        return f"leftPad(lower(hex({value})), 16, '0')"

    def at_lowest(self, value: str, by: str) -> str:
        """As in the protocol."""
        return f"argMin({value}, {by})"

    def at_highest(self, value: str, by: str) -> str:
        """As in the protocol."""
        return f"argMax({value}, {by})"

    def highest(self, by: str, columns: Sequence[str], most: int, condition: str) -> str:
        """What isn't among them isn't kept while they are looked for; the lowest come first there."""
        lowest = f"groupArraySortedIf({most})(tuple({', '.join((f'-{by}', *columns))}), {condition})"
        row = ", ".join(("-each.1", *(f"each.{number}" for number in range(2, len(columns) + 2))))
        return f"arrayMap(each -> ({row}), {lowest})"


CLICKHOUSE = ClickhouseDialect()
