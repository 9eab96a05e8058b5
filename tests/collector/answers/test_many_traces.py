"""Questions to the index: what its errors mean, and what is said without an index."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.answers.errors import AnswerUnavailable, IndexFailed
from collector.answers.index_upkeep import IndexUpkeep
from collector.answers.many_traces import ManyTraces
from collector.answers.rights import ReadRights
from collector.api.index import ROUTES
from collector.api.own_route import OwnRoute
from collector.index.protocol import IndexFailure, IndexQuery, QueryKind, QueryTimedOut
from collector.model.parameters import BadParameter
from tests.support.answers import own_app_with


class FailingIndex:
    """Raises as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def ask(self, _: IndexQuery) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (QueryTimedOut("since", None, "it took too long"), AnswerUnavailable),
        (IndexFailure("it answers 500"), IndexFailed),
        (BadParameter("limit", "0", "must be a whole number"), BadParameter),
    ],
)
async def test_what_the_index_raises_is_said_by_what_the_caller_can_do(
    error: Exception, kind: type[Exception]
) -> None:
    index: Any = FailingIndex(error)
    rights = ReadRights()
    with pytest.raises(kind) as raised:
        await ManyTraces(index=index).ask(QueryKind.TRACES, {}, rights=rights)
    if kind is not IndexFailed:
        assert raised.value.document == error.document  # type: ignore[attr-defined]


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.path)
def test_without_an_index_each_of_its_paths_says_so(row: OwnRoute) -> None:
    app = own_app_with(
        ROUTES,
        many_traces=ManyTraces(index=None),
        index=IndexUpkeep(index=None, consumer=None, backfiller=None),  # type: ignore[arg-type]
    )
    answer = TestClient(app).request(row.method, row.path.replace("{session:path}", "a/b"), json={})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    error = answer.json()["error"]
    assert (error["parameter"], error["value"]) == ("index.enabled", False)


def test_each_question_has_a_path() -> None:
    paths = {row.path for row in ROUTES if row.from_index}
    asked = {
        "traces": "/-/traces",
        "sessions": "/-/sessions",
        "session": "/-/sessions/{session:path}",
    }
    assert {asked.get(question, f"/-/traces/{question}") for question in QueryKind} <= paths
