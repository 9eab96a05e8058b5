"""Errors of answers as HTTP: the one table, and the handlers that Starlette calls.

400   BadParameter                           change the request
404   AnswerNotFound, NoSuchRun              nobody knows it
500   IndexFailed                            a bug in the index
503   AnswerUnavailable, IndexAway,          ask again later
      MlflowSays, MlflowTrouble, Unavailable
"""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from collector.answers.errors import AnswerError, AnswerNotFound, AnswerUnavailable, IndexFailed
from collector.answers.runs.source import MlflowTrouble, NoSuchRun
from collector.api.error_answers import bad_parameter, error_answer
from collector.index.backfill import MlflowSays
from collector.index.protocol import IndexAway
from collector.model.errors import Unavailable
from collector.model.parameters import BadParameter

STATUS: Mapping[type[AnswerError], int] = {AnswerNotFound: 404, AnswerUnavailable: 503, IndexFailed: 500}
# errors that know no parameter: their status, and what takes its place
WITHOUT_PARAMETER: Mapping[type[Exception], tuple[int, str]] = {
    NoSuchRun: (404, "run or experiment"),
    MlflowTrouble: (503, "mlflow"),
    MlflowSays: (503, "mlflow"),
    IndexAway: (503, "index"),
    Unavailable: (503, "journal"),
}


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnswerError)
    return error_answer(STATUS[type(error)], error.document)


async def _without_parameter(request: Request, error: Exception) -> Response:
    status, parameter = WITHOUT_PARAMETER[type(error)]
    document = {"parameter": parameter, "value": str(request.url.path), "message": str(error)}
    return error_answer(status, document)


HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    BadParameter: bad_parameter,
    AnswerError: _answer_error,
    **dict.fromkeys(WITHOUT_PARAMETER, _without_parameter),
}
