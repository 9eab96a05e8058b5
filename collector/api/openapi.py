"""The document about our own HTTP API, made from the table of own routes and the shapes that it names.

Source: OpenAPI Specification 3.1.1, https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from collector.answers.health import sidespan_version
from collector.api.own_route import OwnRoute, Parameter

REFERENCE = "#/components/schemas/{model}"
JSON = "application/json"

Json = dict[str, Any]


class ErrorBody(BaseModel):
    """Which parameter is wrong, its value, and what is allowed."""

    parameter: str
    value: Any
    message: str


class Error(BaseModel):
    """The form of every error."""

    error: ErrorBody


def openapi_document(routes: Sequence[OwnRoute]) -> Json:
    """The OpenAPI document of these routes."""
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.documented_path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Sidespan",
            "version": sidespan_version(),
            "description": "Sidespan's own API. The same port also receives OTLP at /v1/traces; every other "
            "path is MLflow's.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _schemas(routes: Iterable[OwnRoute]) -> Json:
    inputs: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (route.body, "validation") for route in routes if route.body is not None
    ]
    outputs: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((route.answer, "serialization") for route in routes if route.answer is not None),
        (Error, "serialization"),
    ]
    _, schemas = models_json_schema([*inputs, *outputs], ref_template=REFERENCE)
    definitions: Json = schemas["$defs"]
    return definitions


def _operation(route: OwnRoute) -> Json:
    error = {JSON: {"schema": _reference(Error)}}
    operation: Json = {
        "summary": route.summary,
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": {
            "200": {"description": "Success", "content": {route.media_type: {"schema": _answer(route)}}},
            "4XX": {"description": "The request must be changed", "content": error},
            "503": {"description": "Temporarily unavailable; try again", "content": error},
        },
    }
    if route.method == "POST":
        operation["requestBody"] = _body(route)
    return operation


def _answer(route: OwnRoute) -> Json:
    if route.answer is not None:
        return _reference(route.answer)
    return {"type": "object"} if route.media_type == JSON else {"type": "string"}


def _body(route: OwnRoute) -> Json:
    schema: Json = {"type": "object"} if route.body is None else _reference(route.body)
    described = {"description": route.body_description} if route.body_description else {}
    return described | {"content": {JSON: {"schema": schema}}}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _parameter(parameter: Parameter) -> Json:
    text = {"type": "string"}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.required,
        "schema": {"type": "array", "items": text} if parameter.repeated else text,
    }
