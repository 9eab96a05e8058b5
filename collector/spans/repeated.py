"""What many spans say alike: kind, model, agent, tool; and what is left to be read of each. Pure.

Ids, sessions, counts and costs differ from span to span. Of everything else a service says the same few
things all day, so it is read once for all spans with the same name, the same names of attributes, and the
same bytes in those that say it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from collector.spans.conventions import ObservationKind
from collector.spans.kind_table import ROLL_UPS
from collector.spans.kinds import kind_of
from collector.spans.readers import shortened, text
from collector.spans.reading import Attributes, Plan, plan, read
from collector.spans.shapes import AttributeShape, Encoded
from collector.spans.told_names import TellingNames
from collector.spans.usage import PRICED_KINDS

TOOL_SPAN_PREFIX, TOOL_METHOD = "execute_tool ", ".__call__"
MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 16_384, 2000


class Repeated(NamedTuple):
    """`facts` are fields of SpanFacts, and `error_type` where the span has failed; `plan` reads the rest."""

    facts: Mapping[str, Any]
    kind: ObservationKind
    error_type: str | None
    plan: Plan


def repeated(telling: TellingNames, attributes: Attributes, span_name: str) -> Repeated:
    """What a span says, its objects opened, but for what differs from span to span."""
    kind = kind_of(telling.kinds, attributes, span_name)
    left = plan(telling.of_rows, kind)
    facts, _ = read(left.repeated, attributes)
    facts["name"] = shortened(span_name)
    facts["kind"] = kind
    facts["is_http"] = telling.is_http and kind not in PRICED_KINDS
    facts["is_roll_up"] = telling.may_roll_up and _is_roll_up(attributes)
    if "tool" not in facts and kind is ObservationKind.TOOL:
        facts["tool"] = text(span_name.removeprefix(TOOL_SPAN_PREFIX).removesuffix(TOOL_METHOD))
    return Repeated(facts=facts, kind=kind, error_type=facts.pop("error_type", None), plan=left)


_remembered: dict[tuple[AttributeShape, str, tuple[bytes, ...]], Repeated] = {}


def remembered(
    shape: AttributeShape, encoded: Encoded, span_name: str, decode: Callable[[bytes], Any]
) -> Repeated:
    """The same, of attributes as their bytes."""
    told = shape.repeated(encoded)
    said = (shape, span_name, told)
    found = _remembered.get(said)
    if found is None:
        attributes = dict(zip(shape.telling.repeated, map(decode, told), strict=True))
        found = repeated(shape.telling, attributes, span_name)
        if shape.is_known and len(span_name) + sum(map(len, told)) <= MAX_REMEMBERED_BYTES:
            if len(_remembered) >= MAX_REMEMBERED:
                _remembered.clear()
            _remembered[said] = found
    return found


def _is_roll_up(attributes: Attributes) -> bool:
    for key, values in ROLL_UPS.items():
        if key in attributes and str(attributes[key]).lower() in values:
            return True
    return False
