"""The one form of an error over HTTP: {"error": {"parameter", "value", "message"}}."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector.model.parameters import BadParameter

RETRY_AFTER_SECONDS = "2"


async def bad_parameter(request: Request, error: Exception) -> Response:
    """The exception handler for BadParameter."""
    assert isinstance(error, BadParameter)
    return error_answer(400, error.document)


def error_answer(status: int, document: dict[str, Any]) -> Response:
    """The error as an HTTP response; a 503 tells the client when to try again."""
    headers = {"retry-after": RETRY_AFTER_SECONDS} if status == 503 else None
    return JSONResponse({"error": document}, status_code=status, headers=headers)
