"""JSON in attributes that is nested too deeply for MLflow to give the trace back. Pure.

MLflow makes structures of attributes whose text is JSON, and answers 500 to `traces/get` for the whole trace
if one of them is deeper than protobuf's 100 levels: an object takes three of them, a list two. The same text
as a JSON string stays a text: MLflow unwraps it once and shows what the client sent.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from collector.harmonise.parts import Addition, Part
from collector.harmonise.traces import Member

# MLflow 3.17 and 3.18 give an attribute of 98 levels back, and fail at one of 99
MAX_LEVELS = 98
OBJECT_LEVELS, LIST_LEVELS = 3, 2
# rounds of closing a list and an object around it that are surely within it
SURELY_FINE = MAX_LEVELS // (OBJECT_LEVELS + LIST_LEVELS)
# a longer text with so many brackets isn't parsed to find out
MAX_PARSED_CHARACTERS = 1024 * 1024
BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in BRACKETS)
_JSON_BEGINS = re.compile(r"\s*[\[{]")


def cap_nesting(members: Iterable[Member]) -> None:
    """Have each attribute that is nested too deeply, and each such addition, stay a text in MLflow."""
    for member in members:
        member.additions[:] = [
            replace(each, value=json.dumps(each.value)) if is_too_deep(each.value) else each
            for each in member.additions
        ]
        given = {each.key for each in member.additions}
        member.additions += [
            Addition(part=Part.CAPS, key=key, value=json.dumps(value.string_value), replaces=True)
            for key, value in member.view.items()
            if key not in given and is_too_deep(value.string_value)
        ]


def is_too_deep(text: str) -> bool:
    """Whether the text is JSON of more levels than MLflow can give back."""
    if len(text) <= SURELY_FINE or not _JSON_BEGINS.match(text) or _is_surely_fine(text):
        return False
    if len(text) > MAX_PARSED_CHARACTERS:
        return True
    try:
        return _levels_exceed(json.loads(text), MAX_LEVELS)
    except ValueError:  # MLflow leaves it a text too
        return False
    except RecursionError:
        return True


def _is_surely_fine(text: str) -> bool:
    """Without parsing: its brackets alone close within few rounds. False: nobody knows yet."""
    left = text.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    for _ in range(SURELY_FINE):
        if not left:
            return True
        before, left = left, left.replace(b"[]", b"").replace(b"{}", b"")
        if left == before:  # brackets in texts
            return False
    return not left


def _levels_exceed(value: Any, most: int) -> bool:
    waiting = [(value, 0)]
    while waiting:
        holder, levels = waiting.pop()
        if isinstance(holder, dict):
            levels += OBJECT_LEVELS
            waiting.extend((inner, levels) for inner in holder.values())
        elif isinstance(holder, list):
            levels += LIST_LEVELS
            waiting.extend((inner, levels) for inner in holder)
        if levels > most:
            return True
    return False
