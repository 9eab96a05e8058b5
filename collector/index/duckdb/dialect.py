"""DuckDB's SQL, where it isn't standard. Pure.

Source: https://duckdb.org/docs/stable/sql/functions/list and .../sql/functions/aggregates
"""

from collections.abc import Mapping, Sequence

_SEPARATOR = "chr(31)"


class DuckdbDialect:
    """As in index/sql/dialect.py."""

    def quantile(self, value: str, shares: Sequence[float], number: int) -> str:
        """Equal expressions are worked out once, so all quantiles of a value cost one sort."""
        return f"quantile_cont({value}, {list(shares)})[{number + 1}]"

    def deviation(self, value: str) -> str:
        """As in the protocol."""
        return f"stddev_samp({value})"

    def whole_division(self, dividend: str, divisor: int) -> str:
        """Rounds down."""
        return f"{dividend} // {divisor}"

    def text(self, value: str) -> str:
        """Of a UUID with dashes."""
        return f"{value}::VARCHAR"

    def hex_id(self, value: str) -> str:
        """Of a UUID."""
        return f"replace({value}::VARCHAR, '-', '')"

    def is_one_of(self, value: str) -> str:
        """The list travels as one value."""
        return f"list_contains(?::VARCHAR[], {value})"

    def starts_with(self, value: str) -> str:
        """As in the protocol."""
        return f"starts_with({value}, ?)"

    def contains(self, value: str) -> str:
        """As in the protocol."""
        return f"contains({value}, ?)"

    def list_of(self, value: str) -> str:
        """As in the protocol."""
        return f"coalesce({self._split(value)}, [])"

    def sorted_list_of(self, value: str) -> str:
        """As in the protocol."""
        return f"list_sort(list_distinct({self.list_of(value)}))"

    def row_for_each_of(self, value: str) -> str:
        """As in the protocol."""
        return f"unnest(coalesce(nullif({self._split(value)}, []), [NULL]))"

    def joined(self, value: str) -> str:
        """As in the protocol."""
        return f"string_agg(DISTINCT {value}, {_SEPARATOR})"

    def values(self, value: str, most: int) -> str:
        """As in the protocol."""
        different = f"list(DISTINCT {value}) FILTER (WHERE {value} IS NOT NULL)"
        return f"coalesce(list_sort({different})[:{most}], [])"

    def records(self, columns: Mapping[str, str], order: Sequence[str], most: int) -> str:
        """A list of structs."""
        record = ", ".join(f"'{name}': {value}" for name, value in columns.items())
        return f"list({{{record}}} ORDER BY {', '.join(order)})[:{most}]"

    def list_or_empty(self, value: str) -> str:
        """As in the protocol."""
        return f"coalesce({value}, [])"

    def span_hex_id(self, value: str) -> str:
        """Of a whole number."""
        return f"lpad(lower(to_hex({value})), 16, '0')"

    def at_lowest(self, value: str, by: str) -> str:
        """Rows whose value is NULL are passed over."""
        return f"arg_min({value}, {by})"

    def at_highest(self, value: str, by: str) -> str:
        """Rows whose value is NULL are passed over."""
        return f"arg_max({value}, {by})"

    def highest(self, by: str, columns: Sequence[str], most: int, condition: str) -> str:
        """As in the protocol."""
        return f"max(row({', '.join((by, *columns))}), {most}) FILTER (WHERE {condition})"

    def _split(self, value: str) -> str:
        return f"list_filter(string_split({value}, {_SEPARATOR}), lambda each: each <> '')"


DUCKDB = DuckdbDialect()
