"""Why there is no answer, sorted by what the caller can do.

    BadParameter        (model/parameters.py) change the question
    AnswerNotFound      nobody knows what was asked about
    AnswerUnavailable   ask again later, or switch on what is off
    IndexFailed         a bug in the index; its log has the traceback

`document` has the form of every error of the API: {"parameter", "value", "message"}.
"""

import json
from collections.abc import Callable, Mapping

from collector.model.errors import SidespanError
from collector.model.parameters import BadParameter


class AnswerError(SidespanError):
    """There is no answer; the message says why."""

    def __init__(self, parameter: str, value: object, message: str) -> None:
        super().__init__(message)
        self.document = {"parameter": parameter, "value": value, "message": message}


class AnswerNotFound(AnswerError):
    """Nothing that the client may see is what it asks about."""


class AnswerUnavailable(AnswerError):
    """It can't be told at this moment."""


class IndexFailed(AnswerError):
    """The index failed on the question."""


KINDS: Mapping[int, Callable[[str, object, str], AnswerError | BadParameter]] = {
    400: BadParameter,
    404: AnswerNotFound,
    503: AnswerUnavailable,
}


def index_error(status: int, body: bytes) -> AnswerError | BadParameter:
    """What the index's answer with this status means."""
    try:
        error = json.loads(body)["error"]
        return KINDS[status](error["parameter"], error["value"], error["message"])
    except (ValueError, KeyError, TypeError):
        return IndexFailed("index", status, "the index failed to answer; its log says why")
