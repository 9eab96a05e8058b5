"""How the value of an attribute is read as a fact. Pure.

Readers never raise: a value of the wrong type is read as what was meant ("12" is 12) or is left out, and
so is a number over MAX_AMOUNT or MAX_COUNT.
"""

import json
import math
from functools import lru_cache
from itertools import islice
from typing import Any

from collector.spans.json_text import read_json

MAX_TEXT_CHARACTERS = 1000
# longer ones are looked at each time
MAX_REMEMBERED_CHARACTERS = 100
# of a list that is read as one text
MAX_WORDS = 500
# what no span can mean: sums of what is under it stay exact in JSON, in SQL's BIGINT and in MLflow's numbers
MAX_COUNT = 10**12
# US dollars, seconds, milliseconds
MAX_AMOUNT = 1e9


def text(value: Any) -> str | None:
    """Text as it stands, numbers as text (MLflow gives the id "7" back as a number), lists joined.

    JSON's quotes are taken off, as MLflow does when it stores an attribute: its SDK encodes every value.
    """
    if isinstance(value, str):
        return _short_text(value) if len(value) <= MAX_REMEMBERED_CHARACTERS else _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return shortened(str(value))
    if isinstance(value, list):
        return shortened(", ".join(islice(filter(None, map(text, value)), MAX_WORDS))) or None
    return None


def _text(value: str) -> str | None:
    if value.startswith('"'):
        value = unquoted(value)
    if len(value) > MAX_TEXT_CHARACTERS:
        value = shortened(value)
    if "\0" in value:  # PostgreSQL's text has no room for it, and MLflow may stand on that
        value = value.replace("\0", "\ufffd")
    return None if not value or value.isspace() else value


# names of models, agents and tools, and ids of sessions come again in span after span
_short_text = lru_cache(maxsize=4096)(_text)


def session_id(value: Any) -> str | None:
    """As `text`; a list of texts, which is a path of sessions (MLflow 3.18), as the JSON that MLflow keeps.

    Source: https://github.com/mlflow/mlflow/blob/master/mlflow/tracing/utils/session_hierarchy.py
    """
    if isinstance(value, list) and value and all(isinstance(level, str) for level in value):
        return text(json.dumps(value[:MAX_WORDS], ensure_ascii=False, separators=(",", ":")))
    return text(value)


def count(value: Any) -> int | None:
    """A whole number of things, from 0 to MAX_COUNT."""
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    number = _number(value)
    if number is None or not 0 <= number <= MAX_COUNT or number != int(number):
        return None
    return int(number)


def amount(value: Any) -> float | None:
    """A number from 0 to MAX_AMOUNT."""
    number = _number(value)
    # -0.0 is 0.0
    return number + 0.0 if number is not None and 0 <= number <= MAX_AMOUNT else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.startswith('"'):
        value = unquoted(value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def unquoted(value: str) -> str:
    """The text within JSON's quotes; any other text as it stands."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    decoded = read_json(value)
    return decoded if isinstance(decoded, str) else value


def member(value: Any, part: str) -> Any:
    """The member `part` of an object, or of JSON text of one; -1 is the last of a list, a dot goes deeper."""
    part, _, rest = part.partition(".")
    found = _member(value, part)
    return member(found, rest) if rest else found


def _member(value: Any, part: str) -> Any:
    if isinstance(value, str):
        value = read_json(value)
        if isinstance(value, str):  # encoded twice
            value = read_json(value)
    if isinstance(value, list):
        return value[-1] if part == "-1" and value else None
    return value.get(part) if isinstance(value, dict) else None


def shortened(value: str) -> str:
    """At most MAX_TEXT_CHARACTERS of `value`, with a sign where something is left out."""
    if len(value) <= MAX_TEXT_CHARACTERS:
        return value
    return value[: MAX_TEXT_CHARACTERS - 1] + "…"
