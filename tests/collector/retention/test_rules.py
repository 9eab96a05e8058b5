"""What a rule says of a trace."""

from typing import Any

import pytest
from pydantic import ValidationError

from collector.model.experiment import ExperimentReference
from collector.retention.rules import (
    Protected,
    applies_to,
    matches,
    metric_filters,
    protection,
    read_stored,
    search_filter,
)
from collector.settings import RetentionSettings


def rule(**settings: Any) -> RetentionSettings:
    return RetentionSettings(**{"name": "r", "older_than_seconds": 1.0} | settings)


def info(**changes: Any) -> dict[str, Any]:
    return {"trace_id": "tr-1", "request_time": "2026-01-31T23:59:59.500Z", "state": "OK"} | changes


PROTECTED = [
    ({"assessments": [{"assessment_id": "a"}]}, Protected(), "assessments"),
    ({}, Protected(in_datasets={"tr-1"}), "dataset"),
    ({"trace_metadata": {"mlflow.sourceRun": "x"}}, Protected(), "run"),
    ({}, Protected(in_runs={"tr-1"}), "run"),
    ({"tags": {"keep": "yes"}}, Protected(), "tag"),
    ({"tags": {"keep": ""}}, Protected(), "tag"),
    ({"tags": {"keep": "False"}}, Protected(), None),
    ({"tags": {"kept": "yes"}}, Protected(), None),
    ({}, Protected(in_runs={"tr-2"}, in_datasets={"tr-2"}), None),
]


@pytest.mark.parametrize(("changes", "protected", "why"), PROTECTED)
def test_what_is_needed_elsewhere_is_protected_unless_the_rule_says_so(
    changes: dict[str, Any], protected: Protected, why: Any
) -> None:
    trace = read_stored(info(**changes))
    assert protection(trace, protected, rule(), keep_tag="keep") == why
    if why is not None:
        assert protection(trace, protected, rule(even_if=[why]), keep_tag="keep") is None


@pytest.mark.parametrize(
    ("settings", "is_matched"),
    [
        ({}, True),
        ({"status": ["OK"]}, True),
        ({"status": ["ERROR"]}, False),
        ({"tags": {"team": "a"}}, True),
        ({"tags": {"team": "b"}}, False),
        ({"tags": {"team": "a", "stage": "test"}}, False),
    ],
)
def test_state_and_tags_are_all_matched(settings: dict[str, Any], is_matched: bool) -> None:
    assert matches(read_stored(info(tags={"team": "a"})), rule(**settings)) is is_matched


@pytest.mark.parametrize(
    ("experiments", "is_named"),
    [(["*"], True), (["check*"], True), (["12"], True), (["1"], False), (["Checkout"], False), ([], False)],
)
def test_experiments_are_named_by_pattern_or_id(experiments: list[str], is_named: bool) -> None:
    found = ExperimentReference(id="12", name="checkout")
    assert applies_to(rule(experiments=experiments), found) is is_named


def test_brackets_in_a_pattern_are_themselves() -> None:
    bracketed = rule(experiments=["[test] *"])
    assert applies_to(bracketed, ExperimentReference(id="1", name="[test] a"))
    assert not applies_to(bracketed, ExperimentReference(id="2", name="t a"))


def test_the_day_is_the_one_on_which_it_started_in_utc() -> None:
    assert read_stored(info()).day == "2026-01-31"
    assert read_stored(info()).started_unix_ms % 1000 == 500


@pytest.mark.parametrize(
    ("metadata", "size"),
    [
        ({"mlflow.trace.sizeStats": '{"total_size_bytes": 9}'}, 9),
        ({"mlflow.trace.sizeBytes": "8"}, 8),
        ({"mlflow.trace.sizeStats": "[]"}, 0),
        ({"mlflow.trace.sizeStats": "nonsense"}, 0),
        ({}, 0),
    ],
)
def test_the_size_is_what_mlflow_says(metadata: dict[str, str], size: int) -> None:
    assert read_stored(info(trace_metadata=metadata)).size_bytes == size


def test_filters_ask_for_states_and_tags() -> None:
    both = rule(status=["OK", "ERROR"], tags={"a b": "it's"})
    assert metric_filters(both) == [
        ["trace.status = 'OK'", 'trace.tag.`a b` = "it\'s"'],
        ["trace.status = 'ERROR'", 'trace.tag.`a b` = "it\'s"'],
    ]
    assert metric_filters(rule(status=["OK", "OK"])) == [["trace.status = 'OK'"]]
    asked = search_filter(rule(status=["OK"]), from_unix_ms=1, before_unix_ms=2)
    assert asked == (
        "attributes.timestamp_ms >= 1 AND attributes.timestamp_ms < 2 AND attributes.status = 'OK'"
    )


@pytest.mark.parametrize(
    "settings",
    [{"older_than_seconds": None}, {"name": "two\nlines"}, {"even_if": ["all"]}, {"tags": {"a`b": "c"}}],
)
def test_a_rule_that_can_not_be_carried_out_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule(**settings)
