"""The facts that a span's attributes say, by the table's rows (conventions.py). Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from collector.spans.conventions import AGGREGATED, TABLE, ObservationKind, Row, Source
from collector.spans.readers import amount, count, member, text
from collector.spans.vocabulary import finish_reason, plausible_name, provider

T = TypeVar("T")
Attributes = Mapping[str, Any]
# before the name of a fact: its sum over a run
SUMMED = "aggregated_"
READERS: Mapping[str, Callable[[Any], Any]] = dict.fromkeys(TABLE, text) | {
    **dict.fromkeys((*AGGREGATED, "retry_attempt", "retry_max"), count),
    **dict.fromkeys(("cost_usd", "time_to_first_token_seconds"), amount),
    **dict.fromkeys(("agent", "workflow"), plausible_name),
    "finish_reason": finish_reason,
    "provider": provider,
}


@lru_cache(maxsize=4096)
def _plan(names: tuple[str, ...], kind: ObservationKind) -> Sequence[tuple[str, Callable[[Any], Any], Row]]:
    """For a span of this kind: what can be read at all, with the attributes that it has, best first."""
    there = frozenset(names)
    plan = []
    for prefix, table in (("", TABLE), (SUMMED, AGGREGATED)):
        for fact, sources in table.items():
            known = tuple(each for each in sources if each.key in there and each.only in (None, kind))
            if known:
                plan.append((f"{prefix}{fact}", READERS[fact], known))
    return plan


def read(
    names: tuple[str, ...], attributes: Attributes, kind: ObservationKind
) -> tuple[dict[str, Any], dict[str, Source]]:
    """Each fact that can be read, and which source said so; `names` are the attributes with a row."""
    said, by = {}, {}
    for fact, reader, sources in _plan(names, kind):
        for source in sources:
            raw = attributes[source.key]
            value = reader(member(raw, source.part) if source.part else raw)
            if value is not None:
                said[fact], by[fact] = value, source
                break
    return said, by


def first(
    sources: Iterable[Source],
    attributes: Attributes,
    kind: ObservationKind,
    reader: Callable[[Any], T | None],
) -> tuple[T, Source] | None:
    """The first of `sources` that is there and readable: its value, and which one it was."""
    for source in sources:
        if source.key not in attributes or source.only not in (None, kind):
            continue
        raw = attributes[source.key]
        value = reader(member(raw, source.part) if source.part else raw)
        if value is not None:
            return value, source
    return None
