"""JSON schemas of what tools take and give, as short as they can be: each client reads all of them. Pure.

Source: https://json-schema.org/draft/2020-12/schema
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from collector.mcp.asking import Json

# null members are left out of answers, so nothing in them is required
DROPPED_FROM_ANSWERS = frozenset({"title", "description", "required", "default", "additionalProperties"})
DROPPED_FROM_INPUTS = frozenset({"title"})
TEXT = {"type": "string"}
OMISSIONS = {"type": "array", "items": {"type": "object", "properties": {"what": TEXT, "how": TEXT}}}
BOUND = {
    "type": "object",
    "properties": {"max_tokens": {"type": "integer"}, "estimated_tokens": {"type": "integer"}},
}


def input_schema(model: type[BaseModel], example: Mapping[str, Any]) -> Json:
    """The schema of a tool's arguments, with an example."""
    schema: Json = _short(model.model_json_schema(), DROPPED_FROM_INPUTS)
    schema.pop("description", None)
    for definition in schema.get("$defs", {}).values():
        definition.pop("description", None)
    return schema | {"examples": [dict(example)]}


def output_schema(**parts: Any) -> Json:
    """The schema of an envelope whose `telemetry` has these parts: types, or schemas."""
    definitions: Json = {}
    properties = {name: _part(part, definitions) for name, part in parts.items()}
    schema = {
        "type": "object",
        "required": ["notice", "telemetry", "omitted", "bound"],
        "properties": {
            "notice": TEXT,
            "telemetry": {"type": "object", "properties": properties},
            "omitted": OMISSIONS,
            "bound": BOUND,
        },
    }
    return schema | ({"$defs": definitions} if definitions else {})


def members(shape: type) -> dict[str, Any]:
    """The members of a type, each as a part of `telemetry`, for answers that are one object."""
    schema = TypeAdapter(shape).json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    return {
        name: {**each, "$defs": definitions} if definitions else each
        for name, each in schema["properties"].items()
    }


def _part(part: Any, definitions: Json) -> Json:
    schema = part if isinstance(part, dict) else TypeAdapter(part).json_schema(mode="serialization")
    definitions |= _short(schema.get("$defs", {}), DROPPED_FROM_ANSWERS, named=True)
    without = {key: each for key, each in schema.items() if key != "$defs"}
    shortened: Json = _short(without, DROPPED_FROM_ANSWERS)
    return shortened


def with_infinities(schema: Any) -> Any:
    """The schema of numbers that may be "NaN", "Infinity" or "-Infinity", as those of runs."""
    if isinstance(schema, list):
        return [with_infinities(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: with_infinities(each) for key, each in schema.items()}
    return found | {"type": ["number", "string"]} if found.get("type") == "number" else found


def _short(schema: Any, dropped: frozenset[str], *, named: bool = False) -> Any:
    """Without the keywords that are not needed; `named`: the keys are names of members, not keywords."""
    if isinstance(schema, list):
        return [_short(each, dropped) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: _short(each, dropped, named=key in ("properties", "$defs") and not named)
        for key, each in schema.items()
        if named or key not in dropped
    }
    return found if named else _without_null(found)


def _without_null(schema: Json) -> Json:
    """`anyOf` with null as what it is besides: null members are left out."""
    choices: Sequence[Json] = schema.get("anyOf", ())
    kept = [each for each in choices if each.get("type") != "null"]
    rest = {key: each for key, each in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    match kept:
        case []:
            return rest
        case [only]:
            return only | rest
        case _:
            return rest | {"anyOf": kept}
