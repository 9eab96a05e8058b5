"""Searches as values, what MLflow is asked in their place, and what becomes of its answer."""

import json
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

import pytest

from collector.mirror.question import NotAnswered, PassOnReason
from collector.mirror.search import (
    SearchForm,
    SearchOrder,
    SearchQuestion,
    page_token,
    question_for,
    read_search,
    search_from_json,
)
from collector.mirror.search_answer import search_answer

PLACE = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "7"}}
PLAIN: dict[str, Any] = {"locations": [PLACE], "filter": "span.name = 'a'"}
LAST = [SearchOrder(column="timestamp_ms", ascending=False), SearchOrder(column="trace_id", ascending=True)]
ROWS = [["tr-1", 5, 10, "OK", "plan", None], ["tr-2", 4, None, "OK", None, "s"]]


def read(**changed: Any) -> SearchQuestion:
    return read_search(SearchForm.V3, json.dumps(PLAIN | changed).encode())


def reason_of(form: SearchForm, asked: bytes) -> PassOnReason:
    with pytest.raises(NotAnswered) as why:
        read_search(form, asked)
    return why.value.reason


def info(id: str, **changed: Any) -> dict[str, Any]:
    return {
        "trace_id": id,
        "request_time": "1970-01-01T00:00:00.005Z",
        "execution_duration": "0.010s",
        "state": "OK",
        "tags": {"mlflow.traceName": "plan"},
    } | changed


def test_a_plain_search_is_read() -> None:
    question = read(order_by=["name DESC"], max_results=20, page_token=page_token(40))
    assert (question.experiment_ids, question.limit, question.offset) == ([7], 20, 40)
    assert question.order == [SearchOrder(column="name", ascending=False), *LAST]
    assert read().limit == 100
    assert search_from_json(json.loads(json.dumps(asdict(question)))) == question


def test_the_older_form_says_the_same() -> None:
    query = {"experiment_ids": ["7", "8"], "filter": "span.name = 'a'", "max_results": 5}
    question = read_search(SearchForm.V2, urlencode(query, doseq=True).encode())
    assert (question.experiment_ids, question.limit, question.order) == ([7, 8], 5, LAST)


def test_a_token_is_mlflows() -> None:
    assert page_token(100) == "eyJvZmZzZXQiOiAxMDB9"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"locations": []}, id="no_experiment"),
        pytest.param({"locations": [PLACE | {"type": "INFERENCE_TABLE"}]}, id="another_place"),
        pytest.param({"locations": [{"mlflowExperiment": {"experimentId": "7"}}]}, id="the_other_spelling"),
        pytest.param({"locations": [PLACE | {"inference_table": {}}]}, id="two_places_in_one"),
        pytest.param({"filter": None}, id="no_text"),
        pytest.param({"max_results": "5"}, id="a_number_as_a_text"),
        pytest.param({"max_results": True}, id="a_number_that_is_true"),
        pytest.param({"max_results": 0}, id="no_results"),
        pytest.param({"max_results": 501}, id="too_many_results"),
        pytest.param({"order_by": "name"}, id="an_order_that_is_no_list"),
        pytest.param({"order_by": ["name", "trace.name DESC"]}, id="a_field_twice"),
        pytest.param({"order_by": ["end_time"]}, id="an_order_that_3.17_lacks"),
        pytest.param({"order_by": ["tags.a"]}, id="an_order_by_a_tag"),
        pytest.param({"page_token": "eyJvZmZzZXQiOiAwfQ=="}, id="a_token_of_the_first_page"),
        pytest.param({"page_token": "eyJvZmZzZXQiOjEwMH0="}, id="a_token_in_another_spelling"),
        pytest.param({"page_token": "x"}, id="no_token"),
        pytest.param({"model_id": "m"}, id="an_unknown_field"),
    ],
)
def test_anything_else_is_left_to_mlflow(changed: dict[str, Any]) -> None:
    assert reason_of(SearchForm.V3, json.dumps(PLAIN | changed).encode()) is PassOnReason.UNREADABLE


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"filter=span.name+%3D+'a'",
        b"experiment_ids=7&filter=span.name+%3D+'a'&filter=",
        b"experiment_ids=7&filter=span.name+%3D+'a'&max_results=201",
        b"experiment_ids=7&filter=span.name+%3D+'a'&max_results=+5",
        b"experiment_ids=7&filter=span.name+%3D+'a'&x=1",
        b"experiment_ids=7&filter=span.name+%3D+'%FF'",
    ],
)
def test_queries_that_are_not_plain_are_left_to_mlflow(query: bytes) -> None:
    assert reason_of(SearchForm.V2, query) is PassOnReason.UNREADABLE


@pytest.mark.parametrize("text", ["", "trace.status = 'OK'", "timestamp_ms > 5 AND tags.a = 'b'"])
def test_searches_that_are_not_about_spans_are_quick(text: str) -> None:
    asked = json.dumps(PLAIN | {"filter": text}).encode()
    assert reason_of(SearchForm.V3, asked) is PassOnReason.QUICK


def test_mlflow_is_asked_for_the_traces_alone() -> None:
    question = read(order_by=["name DESC"], max_results=2, page_token=page_token(40))
    assert question_for(question, [["tr-1", 7], ["tr-2", 5]]) == {
        "locations": [PLACE],
        "filter": "attributes.timestamp_ms >= 5 AND attributes.timestamp_ms <= 7"
        " AND attributes.request_id IN ('tr-1', 'tr-2')",
        "max_results": 2,
        "order_by": ["name DESC"],
    }
    for row in (["it's", 5], ["tr-1", -5]):
        with pytest.raises(NotAnswered):
            question_for(question, [row])


def test_a_page_goes_on_where_it_began() -> None:
    body = json.dumps({"traces": [info("tr-1")], "next_page_token": page_token(1)}).encode()
    assert search_answer(read(max_results=1), ROWS, body) == body
    later = search_answer(read(max_results=1, page_token=page_token(40)), ROWS, body)
    assert later is not None
    assert json.loads(later)["next_page_token"] == page_token(41)


@pytest.mark.parametrize(
    "traces",
    [
        pytest.param([], id="it_is_gone"),
        pytest.param([info("tr-2")], id="another_is_first"),
        pytest.param([info("tr-1", state="ERROR")], id="its_status"),
        pytest.param([info("tr-1", tags={"mlflow.traceName": "new"})], id="its_name"),
        pytest.param([info("tr-1", execution_duration="2s")], id="its_duration"),
    ],
)
def test_a_trace_that_changed_in_between_is_noticed(traces: list[Any]) -> None:
    body = json.dumps({"traces": traces}).encode()
    assert search_answer(read(max_results=1), ROWS[:1], body) is None


def test_a_trace_that_followed_the_page_and_is_gone_is_noticed() -> None:
    body = json.dumps({"traces": [info("tr-1")]}).encode()
    assert search_answer(read(max_results=1), ROWS[:1], body) == body
    assert search_answer(read(max_results=1), ROWS, body) is None


def test_a_tag_that_changed_in_between_is_noticed() -> None:
    question = read(filter="span.name = 'a' AND tags.team = 'blue'", max_results=1)
    for team, found in (("blue", True), ("red", False)):
        tags = {"mlflow.traceName": "plan", "team": team}
        body = json.dumps({"traces": [info("tr-1", tags=tags)]}).encode()
        assert (search_answer(question, ROWS[:1], body) is not None) == found


def test_the_older_form_knows_no_trace_without_a_duration() -> None:
    query = b"experiment_ids=7&filter=span.name+%3D+'a'"
    told = {
        "request_id": "tr-2",
        "timestamp_ms": 4,
        "execution_time_ms": 0,
        "status": "OK",
        "request_metadata": [{"key": "mlflow.trace.session", "value": "s"}],
        "tags": [],
    }
    body = json.dumps({"traces": [told]}).encode()
    assert search_answer(read_search(SearchForm.V2, query), ROWS[1:], body) == body
