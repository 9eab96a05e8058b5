"""Which scores a question or a policy is about: conditions as text, read and checked. Pure.

helpful            a score of this name
helpful=pass       with this label; 0.5 is this number or this label
helpful>=0.5       with a number that is at least 0.5; also >, <, <=
helpful*           of a name that begins so; a label may end in * too
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
ALLOWED = "must be a score's name, NAME=label, or NAME with >, >=, < or <= and a number"
_CONDITION = re.compile(r"([^<>=].*?)(?:(>=|<=|>|<|=)(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TextPattern:
    """A text, or whatever begins with it."""

    text: str
    is_prefix: bool = False

    def fits(self, text: str) -> bool:
        """Whether a text is as this says."""
        return text.startswith(self.text) if self.is_prefix else text == self.text


def text_pattern(text: str) -> TextPattern:
    """A text that ends in * stands for whatever begins so."""
    return TextPattern(text[:-1], is_prefix=True) if text.endswith("*") else TextPattern(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCondition:
    """Scores of a name, with any value, with a label or exactly this number, or with a number compared."""

    name: TextPattern
    comparison: str | None = None
    number: float | None = None
    label: TextPattern | None = None

    def holds(self, name: str, value: float | None, label: str | None) -> bool:
        """Whether a score is among them."""
        if not self.name.fits(name):
            return False
        if self.comparison is not None and self.number is not None:
            return value is not None and COMPARISONS[self.comparison](value, self.number)
        if self.label is None:
            return True
        return (label is not None and self.label.fits(label)) or (value is not None and value == self.number)


def score_condition(text: str) -> ScoreCondition:
    """The condition in a text. Raises ValueError, which says what is allowed."""
    found = _CONDITION.fullmatch(text)
    name, sign, said = found.groups() if found else (None, None, None)
    if name is None or (sign is not None and not said):
        raise ValueError(ALLOWED)
    number = _number(said)
    if sign in COMPARISONS:
        if number is None:
            raise ValueError(ALLOWED)
        return ScoreCondition(name=text_pattern(name), comparison=sign, number=number)
    label = None if said is None else text_pattern(said)
    return ScoreCondition(name=text_pattern(name), number=number, label=label)


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None
