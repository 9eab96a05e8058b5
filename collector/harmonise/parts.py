"""The parts of harmonising that can be switched, and what they write. Pure."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.conventions import ADDED, REPLACED
from collector.spans.facts import decode
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


def write(span: Span, additions: Sequence[Addition], view: Mapping[str, AnyValue]) -> dict[Part, int]:
    """Put the additions on the span, with the marks that tell them from the client's; how many of each part.

    Without `replaces` an attribute that the client has set stays as it is. `view` are the span's attributes
    by name. Where it fails, the span is as it was.
    """
    count = len(span.attributes)
    undo: list[tuple[AnyValue, bytes]] = []
    try:
        return _write(span, additions, dict(view), undo)
    except Exception:
        del span.attributes[count:]
        for value, before in undo:
            value.ParseFromString(before)
        raise


def _write(
    span: Span,
    additions: Sequence[Addition],
    present: dict[str, AnyValue],
    undo: list[tuple[AnyValue, bytes]],
) -> dict[Part, int]:
    marks = present.get(ADDED), present.get(REPLACED)
    undo += [(each, each.SerializeToString()) for each in marks if each is not None]
    added: list[str] = []
    replaced: dict[str, Any] = {}
    counts: dict[Part, int] = {}
    for addition in additions:
        old = present.get(addition.key)
        if old is None:
            present[addition.key] = value = span.attributes.add(key=addition.key).value
            value.string_value = addition.value
            added.append(addition.key)
        elif addition.replaces:
            undo.append((old, old.SerializeToString()))
            replaced[addition.key] = decode(old)
            old.Clear()
            old.string_value = addition.value
        else:
            continue
        counts[addition.part] = counts.get(addition.part, 0) + 1
    _mark(span, added, replaced, present)
    return counts


def _mark(span: Span, added: list[str], replaced: Mapping[str, Any], present: Mapping[str, AnyValue]) -> None:
    """`sidespan.added`: a list of names; `sidespan.replaced`: JSON text, name to the client's value."""
    if added:
        marks = present[ADDED] if ADDED in present else span.attributes.add(key=ADDED).value
        marks.array_value.values.extend(AnyValue(string_value=key) for key in added)
    if replaced:
        own = present.get(REPLACED)
        # one that is no object is not ours: the client wrote it
        before = read_json(own.string_value, max_characters=MAX_CONTENT_CHARACTERS) if own else None
        values = {**replaced, **(before if isinstance(before, dict) else {})}
        text = json.dumps(_as_json(values), ensure_ascii=False)
        (own or span.attributes.add(key=REPLACED).value).string_value = text


def _as_json(value: Any) -> Any:
    """A value as OTLP's JSON writes it: bytes in base64, NaN and Infinity by name."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
