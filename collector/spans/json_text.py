"""JSON that stands in an attribute's text, read so that whatever a client writes there does no harm. Pure.

A text that is valid may hold JSON that is not: half of a surrogate pair behind an escape (a text cut in the
middle of an emoji) can't be encoded, NaN is no JSON (RFC 8259, section 6), thousands of levels end in a
RecursionError. Every reading of JSON within attributes goes through `read_json`.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

# an object of tags, usage or costs; parsing takes many times the memory of the text
MAX_CHARACTERS = 1024 * 1024
# a list of messages: a whole conversation may stand in one attribute
MAX_CONTENT_CHARACTERS = 16 * 1024 * 1024
MAX_DEPTH = 64

REPLACEMENT = "\\ufffd"
# an escape as a whole, so that `\\\\ud83d` is seen for what it is: a backslash and five letters
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<broken>u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)",
    re.DOTALL,
)
_SUSPECT = ("\\ud", "\\uD", "\\u0000")


def _nothing(_: str) -> None:
    """In the place of NaN and Infinity."""


_decode = json.JSONDecoder(parse_constant=_nothing).decode


def read_json(text: str, *, max_characters: int = MAX_CHARACTERS) -> Any:
    """The value in `text`; None where it is no JSON, too long, or nested over MAX_DEPTH levels. Never raises.

    Lone surrogates and NUL come out as U+FFFD (PostgreSQL stores neither), NaN and Infinity as None. Whole
    numbers may have any size that Python reads, up to 4,300 digits.
    """
    if len(text) > max_characters:
        return None
    try:
        value = _decode(mended(text))
    except (ValueError, RecursionError):
        return None
    # as many levels as brackets at the most
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return value
    return None if _is_deeper(value, MAX_DEPTH) else value


def mended(text: str) -> str:
    """JSON text without escapes that stand for half a surrogate pair or NUL."""
    if not any(map(text.__contains__, _SUSPECT)):  # nearly always
        return text
    return _ESCAPE.sub(lambda match: REPLACEMENT if match["broken"] else match[0], text)


def _is_deeper(value: Any, bound: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(bound):
        if not level:
            return False
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, dict | list)]
    return bool(level)


def _members(holder: Any) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder
