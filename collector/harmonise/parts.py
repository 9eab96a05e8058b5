"""The parts of harmonising that can be switched, and what they write. Pure."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.conventions import ADDED, REPLACED
from collector.spans.facts import decode_attributes
from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json


class Part(StrEnum):
    """One switch of the settings' section `harmonise`."""

    TYPES = "types"
    TOKENS = "tokens"
    COST = "cost"
    CONTENT = "content"
    NAMES = "names"
    TAGS = "tags"
    SESSIONS = "sessions"
    CAPS = "caps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """One attribute for a span. `replaces`: also where the client has set it."""

    part: Part
    key: str
    value: str
    replaces: bool = False


def write(span: Span, additions: list[Addition]) -> dict[Part, int]:
    """Put the additions on the span, with the marks that tell them from the client's; how many of each part.

    Without `replaces` an attribute that the client has set stays as it is.
    """
    present = {attribute.key: attribute for attribute in span.attributes}
    added: list[str] = []
    replaced: dict[str, Any] = {}
    counts: dict[Part, int] = {}
    for addition in additions:
        old = present.get(addition.key)
        if old is None:
            span.attributes.add(key=addition.key).value.string_value = addition.value
            present[addition.key] = span.attributes[-1]
            added.append(addition.key)
        elif addition.replaces:
            replaced[addition.key] = decode_attributes([old])[addition.key]
            old.value.Clear()
            old.value.string_value = addition.value
        else:
            continue
        counts[addition.part] = counts.get(addition.part, 0) + 1
    _mark(span, added, replaced)
    return counts


def _mark(span: Span, added: list[str], replaced: Mapping[str, Any]) -> None:
    """`sidespan.added`: a list of names; `sidespan.replaced`: JSON text, name to the client's value."""
    if added:
        marks = next((a for a in span.attributes if a.key == ADDED), None) or span.attributes.add(key=ADDED)
        for key in added:
            marks.value.array_value.values.add().string_value = key
    if replaced:
        own = next((a for a in span.attributes if a.key == REPLACED), None)
        # one that is no object is not ours: the client wrote it
        before = read_json(own.value.string_value, max_characters=MAX_CONTENT_CHARACTERS) if own else None
        values = {**replaced, **(before if isinstance(before, dict) else {})}
        text = json.dumps(_as_json(values), ensure_ascii=False)
        (own or span.attributes.add(key=REPLACED)).value.string_value = text


def _as_json(value: Any) -> Any:
    """A value as OTLP's JSON writes it: bytes in base64, NaN and Infinity by name."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
