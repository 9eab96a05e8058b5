"""One judgement is the same fact from its sender and from MLflow, where delivery has put it."""

from dataclasses import replace
from typing import Any

import pytest

from collector.delivery.logs.assessments import assessment_of
from collector.spans.facts import MAX_TIME_NS
from collector.spans.score_facts import ScoreFact, assessed, fact_of, placed_record, record_fact
from collector.spans.scores import Judge, Score, result_record

TRACE, SPAN = "ab" * 16, "cd" * 8
AT = 1_790_000_000_123_000_000
SAID = Score(name="helpful", trace_id=TRACE, span_id=SPAN, time_unix_ns=AT, source="judge-1", judge=Judge.LLM)


def in_mlflow(score: Score, **changes: Any) -> list[ScoreFact]:
    """What is read of the assessment that delivery writes."""
    document = assessment_of(score, trace_id=TRACE, span_id=score.span_id, received_unix_ns=AT)
    return list(
        assessed({"assessments": [document["assessment"] | {"assessment_id": "a-1"} | changes]}, TRACE)
    )


@pytest.mark.parametrize(
    ("score", "value", "label"),
    [
        pytest.param(replace(SAID, value=0.25), 0.25, None, id="a_number"),
        pytest.param(replace(SAID, value=0.25, label="poor"), 0.25, "poor", id="a_number_with_a_label"),
        pytest.param(replace(SAID, label="kind"), None, "kind", id="a_label"),
        pytest.param(replace(SAID, value=1.0, label="PASS"), 1.0, "pass", id="passed"),
        pytest.param(replace(SAID, value=0.0, label="fail", exact_value="false"), 0.0, "fail", id="failed"),
        pytest.param(replace(SAID, exact_value="[1, 2]"), None, None, id="a_list_is_content"),
        pytest.param(replace(SAID, exact_value='{"a": 1}'), None, None, id="an_object_is_content"),
        pytest.param(replace(SAID, explanation="Because."), None, None, id="an_explanation_is_content"),
        pytest.param(replace(SAID, label="x" * 101), None, None, id="a_long_text_is_content"),
        pytest.param(replace(SAID, label="two\nlines"), None, None, id="lines_are_content"),
        pytest.param(replace(SAID, value=0.5, explanation="Why."), 0.5, None, id="without_its_explanation"),
        pytest.param(replace(SAID, error_type="Timeout"), None, None, id="an_evaluator_that_failed"),
        pytest.param(replace(SAID, span_id=None, value=1.0), 1.0, None, id="on_a_trace"),
    ],
)
def test_the_sender_and_mlflow_say_the_same(score: Score, value: float | None, label: str | None) -> None:
    fact = fact_of(score)
    assert fact is not None and (fact.value, fact.label) == (value, label)
    assert in_mlflow(score) == [fact]
    assert record_fact(result_record(score), received_unix_ns=1) == fact


def test_a_score_of_a_session_keeps_its_key_where_it_is_placed() -> None:
    score = replace(SAID, trace_id=None, span_id=None, session="s-1", value=0.5)
    assert fact_of(score) is None
    placed = record_fact(placed_record(score, trace_id=TRACE, span_id=None), received_unix_ns=1)
    assert placed is not None and (placed.key, placed.session) == (score.key, "s-1")
    assert in_mlflow(score) == [placed]


def test_a_score_of_a_response_is_its_spans_and_no_sessions() -> None:
    score = replace(SAID, trace_id=None, span_id=None, response_id="r-1", value=0.5)
    placed = record_fact(placed_record(score, trace_id=TRACE, span_id=SPAN), received_unix_ns=1)
    assert placed is not None and (placed.key, placed.span_id, placed.session) == (score.key, SPAN, None)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        pytest.param({"valid": False}, 0, id="overridden"),
        pytest.param({"valid": True, "overrides": "a-0"}, 1, id="overrides"),
        pytest.param({"feedback": None, "expectation": {"value": 1}}, 0, id="expectation"),
        pytest.param({"feedback": None, "issue": {"issue_name": "x"}}, 0, id="issue"),
        pytest.param({"assessment_name": None}, 0, id="without_a_name"),
        pytest.param({"metadata": None, "source": None, "span_id": "nonsense"}, 1, id="with_next_to_nothing"),
        pytest.param({"create_time": "yesterday"}, 1, id="with_a_strange_time"),
        pytest.param({"create_time": "9999-12-31T23:59:59Z"}, 1, id="in_the_far_future"),
        pytest.param({"create_time": "0001-01-01T00:00:00"}, 1, id="in_the_far_past"),
    ],
)
def test_feedback_counts_that_holds(changes: dict[str, Any], left: int) -> None:
    found = in_mlflow(replace(SAID, value=0.5), **changes)
    assert len(found) == left
    assert all(0 <= fact.time_unix_ns <= MAX_TIME_NS for fact in found), "the index holds it"


def test_a_time_that_no_table_holds_is_the_last_one_that_it_does() -> None:
    record = result_record(replace(SAID, value=0.5, time_unix_ns=2**64 - 1))
    fact = record_fact(record, received_unix_ns=1)
    assert fact is not None and fact.time_unix_ns == MAX_TIME_NS


def test_what_others_wrote_has_mlflows_own_id_as_its_key() -> None:
    assert [fact.key for fact in in_mlflow(replace(SAID, value=1.0), metadata={})] == ["a-1"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, (1.0, "pass")),
        (False, (0.0, "fail")),
        (3, (3.0, None)),
        ("yes", (None, "yes")),
        (None, (None, None)),
    ],
)
def test_values_of_mlflows_own_feedback_are_read(value: Any, told: tuple[float | None, str | None]) -> None:
    [fact] = in_mlflow(replace(SAID, value=9.0), metadata={}, feedback={"value": value}, rationale="Why.")
    assert (fact.value, fact.label) == told
