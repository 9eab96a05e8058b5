"""Reading of requests: parameters, bodies, and the rights that the guard has found. Raises BadParameter."""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from collector.answers.rights import EVERYTHING, ReadRights
from collector.model.parameters import BadParameter

MAX_BODY_BYTES = 1024 * 1024
MAX_SHOWN_CHARACTERS = 80
# in the scope of a request: the ReadRights of its client
RIGHTS = "sidespan.rights"
# their values don't belong into an answer
SECRETS = frozenset({"password"})

M = TypeVar("M", bound=BaseModel)


def rights_of(request: Request) -> ReadRights:
    """What the client may see. Everything, where nothing guards the routes."""
    rights: ReadRights = request.scope.get(RIGHTS, EVERYTHING)
    return rights


def parameters_of(request: Request) -> dict[str, list[str]]:
    """Every value of every parameter in the query."""
    return {name: request.query_params.getlist(name) for name in request.query_params}


def whole_number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """A parameter of the query that is a whole number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    return parse_whole_number(text, name, low=low, high=high)


def yes_or_no(request: Request, name: str) -> bool:
    """A parameter of the query that is `true` or `false`; false where it is missing."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise BadParameter(name, text[:MAX_SHOWN_CHARACTERS], "must be true or false")
    return text == "true"


def parse_whole_number(text: str, name: str, *, low: int, high: int, or_else: str = "") -> int:
    """The number; `or_else` says what else is allowed."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        allowed = f"must be a whole number from {low} to {high}{or_else}"
        raise BadParameter(name, text[:MAX_SHOWN_CHARACTERS], allowed)
    return int(text)


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body."""
    document = _parse(await _read_body(request))
    if not isinstance(document, dict):
        raise BadParameter("body", document, "must be a JSON object")
    return document


async def read_model(request: Request, model: type[M]) -> M:
    """The body, validated; an empty one is an empty object. The error names the field that is wrong."""
    document = _parse(await _read_body(request) or b"{}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "body"
        value = None if name in SECRETS else first.get("input")
        raise BadParameter(name, value, str(first["msg"])) from error


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BadParameter("body", f"over {MAX_BODY_BYTES} bytes", "is too large")
    return body


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        shown = body[:MAX_SHOWN_CHARACTERS].decode("utf-8", "replace")
        raise BadParameter("body", shown, f"must be JSON: {error}") from error
