"""The one form of an error on our own paths: {"error": {"parameter", "value", "message"}}."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

RETRY_AFTER_SECONDS = "2"


class BadParameter(Exception):
    """A parameter that can't be right."""

    def __init__(self, parameter: str, value: object, message: str) -> None:
        super().__init__(message)
        self.document = {"parameter": parameter, "value": value, "message": message}


async def bad_parameter(request: Request, error: Exception) -> Response:
    """The handler for BadParameter."""
    assert isinstance(error, BadParameter)
    return error_answer(400, error.document)


def error_answer(status: int, document: dict[str, Any]) -> Response:
    """The answer; with Retry-After if it passes."""
    headers = {"retry-after": RETRY_AFTER_SECONDS} if status == 503 else None
    return JSONResponse({"error": document}, status_code=status, headers=headers)
