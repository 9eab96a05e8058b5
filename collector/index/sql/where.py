"""Conditions of SQL, with their values beside them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Values = list[Any]
Query = tuple[str, Values]
"""SQL, and the values of its question marks, in order."""


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
