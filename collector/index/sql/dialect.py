"""What engines say differently in SQL. Pure.

Each function takes SQL and gives SQL; a `?` in what it gives is a place for one value. `{list}` stands for a
list of texts within a text, between SEPARATORs (index/sql/columns.py).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Dialect(Protocol):
    """One engine's SQL; `DuckdbDialect` in index/duckdb/dialect.py is one."""

    def quantile(self, value: str, shares: Sequence[float], number: int) -> str:
        """Of these exact quantiles of `value`, the one at `number`: between neighbours in proportion."""

    def deviation(self, value: str) -> str:
        """Aggregate: the standard deviation of a sample; NULL of fewer than two values."""

    def whole_division(self, dividend: str, divisor: int) -> str:
        """How often `divisor` goes into a whole number."""

    def text(self, value: str) -> str:
        """An id as text."""

    def hex_id(self, value: str) -> str:
        """A trace id as 32 hexadecimal digits."""

    def is_one_of(self, value: str) -> str:
        """Whether `value` is in a list of texts, given as one value."""

    def starts_with(self, value: str) -> str:
        """Whether a text begins with another one, given as a value."""

    def contains(self, value: str) -> str:
        """Whether a text contains another one, given as a value."""

    def list_of(self, value: str) -> str:
        """A `{list}` as a list; an empty one where there is none."""

    def sorted_list_of(self, value: str) -> str:
        """A `{list}` as a list in order, each text once."""

    def row_for_each_of(self, value: str) -> str:
        """A row for each text of a `{list}`; one with NULL where there is none."""

    def joined(self, value: str) -> str:
        """Aggregate: the different `{list}`s of a group as one."""

    def values(self, value: str, most: int) -> str:
        """Aggregate: the first `most` of the different values in order, as a list."""

    def records(self, columns: Mapping[str, str], order: Sequence[str], most: int) -> str:
        """Aggregate: the first `most` rows of a group by `order`, as a list of records; `columns` by name."""

    def list_or_empty(self, value: str) -> str:
        """A list, or an empty one where there is NULL."""

    def span_hex_id(self, value: str) -> str:
        """A span id as 16 hexadecimal digits; NULL stays NULL."""

    def at_lowest(self, value: str, by: str) -> str:
        """Aggregate: the value where `by`, columns in brackets, is lowest; NULLs are passed over."""

    def at_highest(self, value: str, by: str) -> str:
        """Aggregate: the value where `by` is highest; as `at_lowest`."""

    def highest(self, by: str, columns: Sequence[str], most: int, condition: str) -> str:
        """Aggregate: of rows that meet a condition, those where `by`, a number, is highest, in that order.

        A list of at most `most` rows of `by` and the columns.
        """
