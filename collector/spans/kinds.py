"""What a span does, by the first of its attributes that tells. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from collector.spans.conventions import TABLE, ObservationKind
from collector.spans.kind_table import KINDS, NO_CALLS
from collector.spans.readers import text, unquoted

# whatever names the model that it asks is a call of it
_REQUESTS = tuple(each.key for each in TABLE["request_model"] if each.only is None)


def kind_of(names: Iterable[str], attributes: Mapping[str, Any], span_name: str) -> ObservationKind:
    """The kind of a span; `names` are those of KINDS that are among its attributes, in that order."""
    kind = _named_kind(names, attributes)
    is_call = kind is not ObservationKind.LLM or span_name.rpartition(".")[2] not in NO_CALLS
    return kind if is_call else ObservationKind.CHAIN


def _named_kind(names: Iterable[str], attributes: Mapping[str, Any]) -> ObservationKind:
    for key in names:
        value = attributes[key]
        if isinstance(value, str) and (kind := KINDS[key].get(unquoted(value).lower())):
            return kind
    if text(attributes.get("gen_ai.tool.name")):
        return ObservationKind.TOOL
    if any(text(attributes.get(key)) for key in _REQUESTS):
        return ObservationKind.LLM
    return ObservationKind.OTHER
