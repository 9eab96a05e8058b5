"""Errors of answers over HTTP: one form, and a status by what the client can do."""

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from collector.answers.errors import AnswerNotFound, AnswerUnavailable, IndexFailed
from collector.answers.opening import Answers
from collector.answers.runs.source import MlflowTrouble, NoSuchRun
from collector.api.own_route import OwnRoute
from collector.index.backfill import MlflowSays
from collector.index.duckdb.client import IndexAway
from collector.model.parameters import BadParameter
from tests.support.answers import own_app_with

RAISED = {
    "bad_parameter": (BadParameter("limit", "0", "too small"), 400, "limit", "0"),
    "not_found": (AnswerNotFound("session", "s", "no such session"), 404, "session", "s"),
    "unavailable": (AnswerUnavailable("since", None, "it took too long"), 503, "since", None),
    "index_failed": (IndexFailed("index", 500, "the index failed"), 500, "index", 500),
    "no_such_run": (NoSuchRun("no such run"), 404, "run or experiment", "/-/raising"),
    "mlflow_trouble": (MlflowTrouble("no connection"), 503, "mlflow", "/-/raising"),
    "mlflow_says": (MlflowSays("no connection"), 503, "mlflow", "/-/raising"),
    "index_away": (IndexAway("it is starting"), 503, "index", "/-/raising"),
}


@pytest.mark.parametrize(("error", "status", "parameter", "value"), RAISED.values(), ids=RAISED.keys())
def test_an_error_names_its_parameter_and_says_whether_to_come_again(
    error: Exception, status: int, parameter: str, value: object
) -> None:
    async def raising(_: Request, __: Answers) -> Response:
        raise error

    row = OwnRoute(
        method="GET", path="/-/raising", permission="sidespan:read", handler=raising, summary="Raise"
    )
    answer = TestClient(own_app_with([row])).get("/-/raising")
    assert answer.status_code == status
    assert answer.json() == {"error": {"parameter": parameter, "value": value, "message": str(error)}}
    assert ("retry-after" in answer.headers) == (status == 503)
