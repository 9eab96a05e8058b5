"""JSON schemas of what tools take and give, as short as they can be: each client reads all of them. Pure.

What a text filter may be is said once. Of an answer the first level is typed, and what is under it is named:
{"type": "array", "description": "span_id, name, kind, …"}.

Source: https://json-schema.org/draft/2020-12/schema
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel, TypeAdapter

from collector.mcp.asking import Json

DROPPED_FROM_INPUTS = frozenset({"title"})
TEXTS: Json = {"type": ["string", "array"], "items": {"type": "string"}}
"""One text or several."""
TEXTS_NAME = "texts"
# the envelope's members but for `telemetry`
ENVELOPE = {"notice": {"type": "string"}, "omitted": {"type": "array"}, "bound": {"type": "object"}}
# of how many members of a nested object the names are given
MOST_NAMES = 6


def input_schema(model: type[BaseModel]) -> Json:
    """The schema of a tool's arguments."""
    schema: Json = _short(model.model_json_schema(), DROPPED_FROM_INPUTS)
    schema.pop("description", None)
    for definition in schema.get("$defs", {}).values():
        definition.pop("description", None)
    referring: Json = _with_references(schema)
    if _length(referring) + _length(TEXTS) >= _length(schema):
        return schema
    return referring | {"$defs": referring.get("$defs", {}) | {TEXTS_NAME: TEXTS}}


def output_schema(shape: type) -> Json:
    """The schema of an envelope whose `telemetry` has the members of this type."""
    schema = TypeAdapter(shape).json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    properties = {name: _outline(each, definitions) for name, each in schema["properties"].items()}
    return {
        "type": "object",
        "properties": {"telemetry": {"type": "object", "properties": properties}, **ENVELOPE},
    }


def _outline(schema: Json, definitions: Json) -> Json:
    """The type, and the names of what is in it. Null members are left out of answers, so null is no type."""
    found = _resolved(schema, definitions)
    outline = {key: found[key] for key in ("type", "enum") if key in found}
    names = _names(_resolved(found.get("items", found), definitions), definitions)
    return outline | ({"description": names} if names else {})


def _names(schema: Json, definitions: Json) -> str:
    """The names of an object's first members."""
    if isinstance(values := schema.get("additionalProperties"), dict):
        inner = _names(_resolved(values, definitions), definitions)
        return f"by name: {inner}" if inner else ""
    names = schema.get("properties", {})
    return ", ".join([*islice(names, MOST_NAMES), *(["…"] if len(names) > MOST_NAMES else [])])


def _resolved(schema: Json, definitions: Json) -> Json:
    """The schema itself, where it refers to another one or may be null."""
    found = _without_null(schema)
    if "$ref" in found:
        return _resolved(definitions[found["$ref"].rpartition("/")[2]], definitions)
    return found


def _length(schema: Json) -> int:
    return len(json.dumps(schema))


def _with_references(schema: Any) -> Any:
    """The schema where each that may be one text or several only refers to that."""
    if isinstance(schema, list):
        return [_with_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if TEXTS.items() <= schema.items():
        rest = {key: each for key, each in schema.items() if key not in TEXTS}
        return {"$ref": f"#/$defs/{TEXTS_NAME}"} | rest
    return {key: _with_references(each) for key, each in schema.items()}


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
