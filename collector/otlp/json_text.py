"""What can be told and mended in JSON text without building values from it. Pure.

Parsers refuse a text as a whole for half a surrogate pair or for deep nesting, wherever that stands. `mended`
turns both into something that a parser passes over and that still costs the span that it stands in:

    "cut \\ud83d"        the escape becomes six bytes that are no UTF-8
    [[[... 5,000 ...]]]  what is inside 256 levels is blanked; over 46 are refused in an attribute anyway

Every step takes time in proportion to the text and has a bound; nothing is ever moved.
"""

import re
from itertools import islice

# values that a body may hold: as many as 64 MiB of spans with 30 short attributes each
MAX_VALUES = 3_600_000
# levels of JSON text that are kept: an attribute of 46 lists in an event takes 157, of 46 maps 203
MAX_LEVELS = 256
# escapes of surrogates that mending looks at; with more the text stays as it is
MAX_ESCAPES = 1_000_000

NO_UTF8 = b"\xff" * len(rb"\ud83d")
# a high half with the low one if it follows, or a low half
SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
)
STRING_OR_BRACKET = re.compile(rb'"[^"]*"|[\[\]{}]')
STEP_BYTES = 1024 * 1024
RUN_BYTES = 4096


def count_values(text: bytes, limit: int = MAX_VALUES) -> int:
    """At least how many values `text` may hold, exact only where that may be over `limit`.

    Each list, each map and each comma starts at most one value more. Texts are looked at only if with their
    commas it could be over the limit; counting stops there.
    """
    if len(text) <= limit:
        return len(text)
    most = text.count(b"{") + text.count(b"[") + text.count(b",")
    if most <= limit:
        return most
    return _count_outside_of_strings(_without_escapes(text), limit)


def _count_outside_of_strings(blank: bytes, limit: int) -> int:
    count = quotes = 0
    for start in range(0, len(blank), STEP_BYTES):
        # split at the quotes, every second piece is outside of strings
        pieces = blank[start : start + STEP_BYTES].split(b'"')
        outside = b"".join(pieces[quotes % 2 :: 2])
        count += outside.count(b"{") + outside.count(b"[") + outside.count(b",")
        quotes += len(pieces) - 1
        if max(count, quotes // 4) > limit:  # in JSON each value has at most a key and a text
            break
    return max(count, quotes // 4)


def _without_escapes(text: bytes) -> bytes:
    """The same text with no quote but those around strings; every byte stays in its place."""
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__")


def mended(text: bytes) -> bytes:
    """`text` with halves of surrogate pairs and deep nesting made harmless for a parser, see above."""
    changed = bytearray(text)
    _blank_halves(changed)
    _blank_deep(changed)
    return bytes(changed)


def _blank_halves(text: bytearray) -> None:
    position = text.find(rb"\u")
    for _ in range(MAX_ESCAPES if position >= 0 else 0):
        found = SURROGATE.search(text, position)
        if found is None:
            return
        start, position = found.span()
        if _backslashes_before(text, start) % 2:  # "\\ud83d" is a backslash and five letters
            position = start + 1
        elif found[1] is None:
            text[start:position] = NO_UTF8


def _backslashes_before(text: bytearray, end: int) -> int:
    count = 0
    while True:
        step = text[max(0, end - count - RUN_BYTES) : end - count]
        found = len(step) - len(step.rstrip(b"\\"))
        count += found
        if found < RUN_BYTES:
            return count


def _blank_deep(text: bytearray) -> None:
    if text.count(b"{") + text.count(b"[") <= MAX_LEVELS:
        return
    level = start = 0
    # in JSON a value has at most two brackets, a key and a text; of anything else no more is looked at
    bound = 4 * (text.count(b"{") + text.count(b"[") + text.count(b",") + 1)
    for found in islice(STRING_OR_BRACKET.finditer(_without_escapes(bytes(text))), bound):
        sign = found[0]
        if sign in (b"[", b"{"):
            level += 1
            if level == MAX_LEVELS + 1:
                start = found.end()
        elif sign in (b"]", b"}"):
            if level == MAX_LEVELS + 1:
                text[start : found.start()] = b" " * (found.start() - start)
            level -= 1
