"""The one form of an error on our own paths: {"error": {"parameter", "value", "message"}}."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

RETRY_AFTER_SECONDS = "2"
MAX_BODY_BYTES = 1024 * 1024


class BadParameter(Exception):
    """A parameter that can't be right."""

    def __init__(self, parameter: str, value: object, message: str) -> None:
        super().__init__(message)
        self.document = {"parameter": parameter, "value": value, "message": message}


async def bad_parameter(request: Request, error: Exception) -> Response:
    """The handler for BadParameter."""
    assert isinstance(error, BadParameter)
    return error_answer(400, error.document)


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the request's body. Raises BadParameter."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BadParameter("body", f"over {MAX_BODY_BYTES} bytes", "is too large")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadParameter("body", body[:80].decode("utf-8", "replace"), f"must be JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadParameter("body", document, "must be a JSON object")
    return document


def error_answer(status: int, document: dict[str, Any]) -> Response:
    """The answer; with Retry-After if it passes."""
    headers = {"retry-after": RETRY_AFTER_SECONDS} if status == 503 else None
    return JSONResponse({"error": document}, status_code=status, headers=headers)
