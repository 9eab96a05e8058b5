"""The facts that a span's attributes say, by the table's rows (conventions.py). Pure."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from collector.spans.conventions import (
    AGGREGATED,
    TABLE,
    TAG_LISTS,
    TAG_PREFIXES,
    ObservationKind,
    Row,
    Source,
)
from collector.spans.readers import amount, count, member, session_id, text
from collector.spans.usage_objects import OBJECTS
from collector.spans.vocabulary import finish_reason, plausible_name, provider

T = TypeVar("T")
Attributes = Mapping[str, Any]
READERS: Mapping[str, Callable[[Any], Any]] = dict.fromkeys(TABLE, text) | {
    **dict.fromkeys((*AGGREGATED, "retry_attempt", "retry_max", "model_attempt"), count),
    **dict.fromkeys(("cost_usd", "time_to_first_token_seconds"), amount),
    **dict.fromkeys(("agent", "workflow"), plausible_name),
    "session": session_id,
    "finish_reason": finish_reason,
    "provider": provider,
}


Readable = tuple[tuple[str, Callable[[Any], Any], Row], ...]
"""Facts, with what reads them and the attributes to read them from, the best first."""


class Plan(NamedTuple):
    """What can be read of a span at all: facts, its counts of tokens, and their sums over a run.

    `repeated` can be read from plain values that many spans have, `varying` is all other facts.
    `sessions` are the attributes that its session may stand in.
    """

    repeated: Readable
    varying: Readable
    counts: Readable
    sums: Readable
    sessions: Row


# facts that are others in each trace or span; `repeated` are those of which there are few
VARYING = frozenset(
    {"session", "conversation", "user", "trace_name", "cost_usd", "time_to_first_token_seconds"}
)
_VARYING = {fact: TABLE[fact] for fact in TABLE if fact in VARYING}
_REPEATED = {fact: TABLE[fact] for fact in TABLE if fact not in VARYING and fact not in AGGREGATED}
_COUNTS = {fact: TABLE[fact] for fact in AGGREGATED}
# attributes that a fact of VARYING, or a count, may stand in
VARYING_KEYS = frozenset(
    source.key
    for table in (_VARYING, _COUNTS, AGGREGATED)
    for sources in table.values()
    for source in sources
)
_REPEATED_KEYS = frozenset(source.key for sources in _REPEATED.values() for source in sources)


def may_repeat(key: str) -> bool:
    """Whether an attribute may say what spans say again and again, or the kind of a span."""
    if key in OBJECTS:
        return False
    if key in _REPEATED_KEYS:
        return True
    return key not in VARYING_KEYS and key not in TAG_LISTS and not key.startswith(TAG_PREFIXES)


@lru_cache(maxsize=4096)
def plan(names: tuple[str, ...], kind: ObservationKind) -> Plan:
    """For a span of this kind; `names` are the attributes with a row that it has."""
    there = frozenset(names)
    tables = (_REPEATED, _VARYING, _COUNTS, AGGREGATED)
    few, many, counts, sums = (_readable(table, there, kind) for table in tables)
    repeated = tuple(each for each in few if not _in_object(each[2]))
    varying = (*many, *(each for each in few if _in_object(each[2])))
    sessions = next((sources for fact, _, sources in varying if fact == "session"), ())
    return Plan(repeated=repeated, varying=varying, counts=counts, sums=sums, sessions=sessions)


def _in_object(sources: Row) -> bool:
    """Whether an object may tell it, which holds other things that differ from span to span."""
    return any(source.key in OBJECTS for source in sources)


def _readable(table: Mapping[str, Row], there: frozenset[str], kind: ObservationKind) -> Readable:
    rows = {
        fact: tuple(each for each in sources if each.key in there and each.only in (None, kind))
        for fact, sources in table.items()
    }
    return tuple((fact, READERS[fact], known) for fact, known in rows.items() if known)


def read(readable: Readable, attributes: Attributes) -> tuple[dict[str, Any], dict[str, Source]]:
    """Each fact that can be read, and which source said so."""
    said, by = {}, {}
    for fact, reader, sources in readable:
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
