"""Questions to the index: what its errors mean, and what is said without an index."""

import json

import pytest
from starlette.testclient import TestClient

from collector.answers.errors import AnswerNotFound, AnswerUnavailable, IndexFailed, index_error
from collector.answers.index_upkeep import IndexUpkeep
from collector.answers.many_traces import IndexQuestion, ManyTraces
from collector.api.index import ROUTES
from collector.api.own_route import OwnRoute
from collector.model.parameters import BadParameter
from tests.support.answers import own_app_with

SAID = {"parameter": "limit", "value": "0", "message": "must be a whole number"}


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadParameter), (404, AnswerNotFound), (503, AnswerUnavailable)]
)
def test_what_the_index_says_is_said_again(status: int, kind: type[Exception]) -> None:
    error = index_error(status, json.dumps({"error": SAID}).encode())
    assert type(error) is kind
    assert error.document == SAID


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"Internal Server Error"), (400, b"no JSON"), (404, b"[]"), (503, b'{"error": 1}'), (418, b"{}")],
)
def test_an_answer_of_the_index_that_makes_no_sense_is_a_failure_of_the_index(
    status: int, body: bytes
) -> None:
    assert isinstance(index_error(status, body), IndexFailed)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.path)
def test_without_an_index_each_of_its_paths_says_so(row: OwnRoute) -> None:
    app = own_app_with(
        ROUTES,
        many_traces=ManyTraces(index=None),
        index=IndexUpkeep(index=None, journal=None, backfiller=None),  # type: ignore[arg-type]
    )
    answer = TestClient(app).request(row.method, row.path.replace("{session:path}", "a/b"), json={})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    error = answer.json()["error"]
    assert (error["parameter"], error["value"]) == ("index.enabled", False)


def test_each_question_has_a_path() -> None:
    paths = {row.path for row in ROUTES if row.from_index}
    asked = {"traces": "/-/traces", "sessions": "/-/sessions"}
    assert {asked.get(question, f"/-/traces/{question}") for question in IndexQuestion} <= paths
