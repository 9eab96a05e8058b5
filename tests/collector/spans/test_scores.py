"""What is read as a judgement: log records, span events, OpenInference's attributes."""

from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.scores import Judge, Score, record_score, result_record, span_scores
from collector.spans.told_names import RESULT

TRACE, SPAN = bytes(range(16)), bytes(range(8))


def _any(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            return AnyValue(string_value=value)


def attributes(**values: Any) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in values.items()]


def record(said: dict[str, Any], **fields: Any) -> LogRecord:
    given: dict[str, Any] = {"event_name": RESULT, "trace_id": TRACE, "span_id": SPAN, "time_unix_nano": 7}
    return LogRecord(attributes=attributes(**said), **{**given, **fields})


NAMED = {"gen_ai.evaluation.name": "relevance"}
OWN = {"name": "relevance", "source": "relevance"}
ON_SPAN = {"trace_id": TRACE.hex(), "span_id": SPAN.hex(), "time_unix_ns": 7}

RECORDS = [
    pytest.param({"gen_ai.evaluation.score.value": 0.25}, {"value": 0.25}, id="number"),
    pytest.param({"gen_ai.evaluation.score.value": 3}, {"value": 3.0}, id="whole_number"),
    pytest.param({"gen_ai.evaluation.score.value": -1.5}, {"value": -1.5}, id="negative_number"),
    pytest.param({"gen_ai.evaluation.score.label": "good"}, {"label": "good"}, id="label"),
    pytest.param(
        {"gen_ai.evaluation.score.value": 1.0, "gen_ai.evaluation.explanation": "short"},
        {"value": 1.0, "explanation": "short"},
        id="explained",
    ),
    pytest.param(
        {"error.type": "TimeoutError", "gen_ai.evaluation.explanation": "took long"},
        {"error_type": "TimeoutError", "explanation": "took long"},
        id="failed_evaluator",
    ),
    pytest.param(
        {
            "gen_ai.evaluation.score.label": "good",
            "gen_ai.evaluation.evaluator.source": '{"name":"LLMJudge","arguments":null}',
        },
        {"label": "good", "source": "LLMJudge", "judge": Judge.LLM},
        id="pydantic_evals_judge",
    ),
    pytest.param(
        {
            "gen_ai.evaluation.score.label": "good",
            "sidespan.evaluation.source_type": "human",
            "sidespan.evaluation.source_id": "ann",
        },
        {"label": "good", "source": "ann", "judge": Judge.HUMAN},
        id="person",
    ),
    pytest.param(
        {"gen_ai.evaluation.score.value": 1.0, "gen_ai.response.id": "r1"},
        {"value": 1.0, "response_id": "r1"},
        id="response",
    ),
    pytest.param(
        {"gen_ai.evaluation.score.value": 1.0, "gen_ai.conversation.id": "chat"},
        {"value": 1.0, "session": "chat"},
        id="conversation",
    ),
]


@pytest.mark.parametrize(("said", "expected"), RECORDS)
def test_a_result_is_read_from_a_log_record(said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert record_score(record(NAMED | said)) == Score(**{**OWN, **ON_SPAN, **expected})


def test_a_result_is_known_by_the_older_attribute_too() -> None:
    older = record(NAMED | {"event.name": RESULT, "gen_ai.evaluation.score.value": 1.0}, event_name="")
    assert record_score(older) is not None


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"gen_ai.evaluation.score.value": 1.0}, id="without_a_name"),
        pytest.param(NAMED, id="that_says_nothing"),
        pytest.param(NAMED | {"gen_ai.evaluation.score.value": float("nan")}, id="that_is_no_number"),
    ],
)
def test_a_result_that_cannot_be_read_is_none(said: dict[str, Any]) -> None:
    assert record_score(record(said)) is None


def test_a_record_of_another_name_is_no_score() -> None:
    said = NAMED | {"gen_ai.evaluation.score.value": 1.0}
    assert record_score(record(said, event_name="app.started")) is None


def test_an_event_of_a_span_is_read_as_a_log_record_is() -> None:
    said = NAMED | {"gen_ai.evaluation.score.value": 1.0}
    event = Span.Event(name=RESULT, time_unix_nano=7, attributes=attributes(**said))
    (found,) = span_scores(Span(trace_id=TRACE, span_id=SPAN, events=[event]))
    assert found == record_score(record(said))
    assert found.key == Score(**{**OWN, **ON_SPAN, "value": 1.0}).key


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        pytest.param("annotations.0.annotation.", ON_SPAN, id="span_annotation"),
        pytest.param("evaluations.0.evaluation.", ON_SPAN, id="span_evaluation"),
        pytest.param("trace.evaluations.0.evaluation.", ON_SPAN | {"span_id": None}, id="trace"),
        pytest.param(
            "session.annotations.0.annotation.",
            ON_SPAN | {"trace_id": None, "span_id": None, "session": "chat"},
            id="session",
        ),
    ],
)
def test_openinference_feedback_is_read_from_attributes(prefix: str, target: dict[str, Any]) -> None:
    said = {
        "session.id": "chat",
        f"{prefix}name": "relevance",
        f"{prefix}score": 0.5,
        f"{prefix}label": "so so",
        f"{prefix}annotator_kind": "LLM",
        f"{prefix}metadata": '{"model": "m"}',
    }
    span = Span(trace_id=TRACE, span_id=SPAN, end_time_unix_nano=7, attributes=attributes(**said))
    expected = {"value": 0.5, "label": "so so", "judge": Judge.LLM, "metadata": (("model", "m"),)}
    assert span_scores(span) == [Score(**{**OWN, **target, **expected})]


def test_the_key_tells_two_judgements_apart_and_not_two_copies() -> None:
    one = Score(name="a", value=1.0, trace_id="t", time_unix_ns=1)
    assert one.key == Score(name="a", value=1.0, trace_id="t", time_unix_ns=1).key
    assert one.key != Score(name="a", value=1.0, trace_id="t", time_unix_ns=2).key


@pytest.mark.parametrize(
    ("value", "label", "passed"),
    [(1.0, "pass", True), (0.0, "fail", False), (0.7, "pass", None), (1.0, None, None), (None, "fail", None)],
)
def test_pass_and_fail_are_yes_and_no(value: float | None, label: str | None, passed: bool | None) -> None:
    assert Score(name="a", value=value, label=label).is_passed is passed


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(Score(**{**OWN, **ON_SPAN, "value": 0.5, "label": "so so"}), id="of_a_span"),
        pytest.param(
            Score(
                **OWN,
                value=-1.0,
                explanation="why",
                judge=Judge.HUMAN,
                session="chat",
                identifier="i",
                error_type="E",
                exact_value="[1]",
                response_id="r",
                metadata=(("model", "m"),),
                time_unix_ns=9,
            ),
            id="with_everything",
        ),
    ],
)
def test_a_score_is_read_back_from_the_record_that_is_made_of_it(score: Score) -> None:
    found = record_score(result_record(score))
    assert found == score
    assert found is not None and found.key == score.key
