"""The attributes of a span as the bytes of OTLP's KeyValues, and what follows from their names alone. Pure.

    0A <length> <name> 12 <value>

A KeyValue begins with its name, so spans whose attributes begin alike have the same names in the same places.
For them it is known already which attributes tell anything, and where they stand: no other is looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from collector.spans.told_names import TellingNames, telling_names

# tags of protobuf's fields, wire type 2: KeyValue.key and KeyValue.value
KEY, VALUE = 0x0A, b"\x12"
# longer names have a length of two bytes
LONG_NAME = 0x80
MAX_REMEMBERED, MAX_REMEMBERED_NAMES, MAX_REMEMBERED_BYTES = 1024, 200, 10_000
MAX_REMEMBERED_CHARACTERS = 200

T = TypeVar("T")
Encoded = Sequence[bytes]


# compared by which it is, as TellingNames
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AttributeShape:
    """What follows from names: `told` and `varying` say where the attributes of these names stand.

    `begins` is what the attributes begin with, up to the tag of the value; `repeated` takes out those that
    say what is the same in many spans. `is_known`: other spans with these names may have this very shape.
    """

    begins: tuple[bytes, ...]
    is_known: bool
    telling: TellingNames
    told: Sequence[tuple[str, int]]
    varying: Sequence[tuple[str, int]]
    repeated: Callable[[Encoded], tuple[bytes, ...]]


_remembered: dict[tuple[bytes, ...], AttributeShape] = {}
# the last one of spans with this name and so many attributes: to compare is faster than to take apart
_latest: dict[tuple[str, int], AttributeShape] = {}


def shape_of(attributes: Encoded, span_name: str) -> AttributeShape:
    """What follows from the names of a span's attributes."""
    about = span_name, len(attributes)
    latest = _latest.get(about)
    if latest is not None and all(map(bytes.startswith, attributes, latest.begins)):
        return latest
    begins = tuple([each[: _end_of_name(each)] for each in attributes])
    found = _remembered.get(begins)
    if found is None:
        found = _shape(attributes, begins)
        if not found.is_known:
            return found
        _remember(_remembered, begins, found)
    if len(span_name) <= MAX_REMEMBERED_CHARACTERS:
        _remember(_latest, about, found)
    return found


def _remember(known: dict[T, AttributeShape], about: T, shape: AttributeShape) -> None:
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[about] = shape


def _end_of_name(attribute: bytes) -> int:
    """Where the tag of the value ends, if the attribute begins with a name that isn't long."""
    return attribute[1] + 3 if len(attribute) > 1 else 0


def _shape(attributes: Encoded, begins: tuple[bytes, ...]) -> AttributeShape:
    # of a name that is there twice the last wins
    places = {KeyValue.FromString(each).key: place for place, each in enumerate(attributes)}
    telling = telling_names(tuple(places))
    return AttributeShape(
        begins=begins,
        is_known=_can_be_remembered(begins),
        telling=telling,
        told=[(name, places[name]) for name in telling.told],
        varying=[(name, places[name]) for name in telling.varying],
        repeated=_picked([places[name] for name in telling.repeated]),
    )


def _picked(places: Sequence[int]) -> Callable[[Encoded], tuple[bytes, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda attributes: tuple([attributes[place] for place in places])


def _can_be_remembered(begins: Sequence[bytes]) -> bool:
    """Whether the names can be told by these bytes, which are few."""
    return (
        len(begins) <= MAX_REMEMBERED_NAMES
        and sum(map(len, begins)) <= MAX_REMEMBERED_BYTES
        and all(map(_is_whole_name, begins))
    )


def _is_whole_name(begin: bytes) -> bool:
    """Whether the bytes end with the tag of the value, behind the name."""
    return len(begin) > 2 and begin[0] == KEY and begin[1] < LONG_NAME and begin[begin[1] + 2 :] == VALUE
