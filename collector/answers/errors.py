"""Why there is no answer, sorted by what the caller can do.

    BadParameter        (model/parameters.py) change the question
    AnswerNotFound      nobody knows what was asked about
    AnswerUnavailable   ask again later, or switch on what is off
    IndexFailed         a bug in the index; its log has the traceback

`document` has the form of every error of the API: {"parameter", "value", "message"}.
"""

from collector.model.errors import SidespanError


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
