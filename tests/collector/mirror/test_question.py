"""Which questions are read, and which are MLflow's to read or to refuse."""

import json
from typing import Any

import pytest

from collector.mirror.question import Aggregation, NotAnswered, PassOnReason, read_question

PLAIN: dict[str, Any] = {
    "experiment_ids": ["7"],
    "view_type": "SPANS",
    "metric_name": "latency",
    "aggregations": [{"aggregation_type": "PERCENTILE", "percentile_value": 95}],
    "dimensions": ["span_name"],
}


def test_a_plain_question_is_read() -> None:
    question = read_question(json.dumps(PLAIN).encode())
    assert question.experiment_ids == [7]
    assert question.aggregations == [Aggregation(type="PERCENTILE", percentile=95.0)]
    assert question.aggregations[0].label == "P95.0"
    assert question.max_results == 1000


@pytest.mark.parametrize(
    ("text", "column", "key", "value"),
    [
        ("trace.status = 'OK'", "status", None, "OK"),
        ('span.name = "a b"', "name", None, "a b"),
        ("trace.tag.`a.b` = 'c'", "tag", "a.b", "c"),
        ("trace.tag.`mlflow.traceName` = 'c'", "name", None, "c"),
        ("trace.metadata.`mlflow.trace.session` = 's'", "session", None, "s"),
    ],
)
def test_plain_filters_are_read(text: str, column: str, key: str | None, value: str) -> None:
    (found,) = read_question(json.dumps(PLAIN | {"filters": [text]}).encode()).filters
    assert (found.column, found.key, found.value) == (column, key, value)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"filters": ["span.name != 'a'"]}, id="another_comparison"),
        pytest.param({"filters": ["span.name = 'a' OR span.name = 'b'"]}, id="more_than_a_comparison"),
        pytest.param({"filters": ["span.name = 'it''s'"]}, id="a_quote_in_a_value"),
        pytest.param({"filters": ["span.name = 'a' -- 'b'"]}, id="a_comment"),
        pytest.param({"filters": ["span.name = ' a'"]}, id="a_value_with_spaces_around_it"),
        pytest.param({"filters": ["span.name = ''"]}, id="an_empty_value"),
        pytest.param({"filters": ["trace.tag.order = 'a'"]}, id="a_key_without_quotes"),
        pytest.param({"filters": ["trace.metadata.`mlflow.sourceRun` = 'a'"]}, id="links_that_are_not_told"),
        pytest.param({"filters": ["trace.metadata.`mlflow.trace.cost` = 'a'"]}, id="sums_in_JSON"),
        pytest.param({"filters": [f"trace.metadata.`k` = '{'x' * 250}'"]}, id="a_value_that_MLflow_cuts"),
        pytest.param({"filters": ["assessment.name = 'a'"]}, id="a_filter_of_another_view"),
        pytest.param({"dimensions": ["span_type"]}, id="a_dimension_that_MLflow_refuses"),
        pytest.param({"dimensions": ["span_name", "span_name"]}, id="a_dimension_twice"),
        pytest.param({"aggregations": [{"aggregation_type": "SUM"}]}, id="a_sum_of_times"),
        pytest.param({"aggregations": [{"aggregation_type": "PERCENTILE"}]}, id="a_percentile_of_nothing"),
        pytest.param({"aggregations": [{"aggregationType": "AVG"}]}, id="the_other_spelling"),
        pytest.param({"experiment_ids": ["07"]}, id="an_id_in_another_form"),
        pytest.param({"experiment_ids": [7]}, id="an_id_as_a_number"),
        pytest.param({"experiment_ids": []}, id="no_experiment"),
        pytest.param({"time_interval_seconds": 60}, id="buckets_without_bounds"),
        pytest.param(
            {"time_interval_seconds": -1, "start_time_ms": 0, "end_time_ms": 1}, id="a_bucket_below_0"
        ),
        pytest.param({"start_time_ms": 1.5}, id="a_fraction_of_a_millisecond"),
        pytest.param({"start_time_ms": True}, id="a_time_that_is_true"),
        pytest.param({"page_token": "x"}, id="a_page"),
        pytest.param({"max_results": 0}, id="no_results"),
    ],
)
def test_anything_else_is_left_to_mlflow(changed: dict[str, Any]) -> None:
    with pytest.raises(NotAnswered) as why:
        read_question(json.dumps(PLAIN | changed).encode())
    assert why.value.reason is PassOnReason.UNREADABLE


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"experiment_ids": ["1"], "experiment_ids": ["2"]}', b"\xff\xfe{"]
)
def test_what_is_no_object_is_left_to_mlflow(body: bytes) -> None:
    with pytest.raises(NotAnswered):
        read_question(body)
