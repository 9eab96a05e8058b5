"""Which filters of searches are read, and which are MLflow's to read or to refuse."""

from typing import Any

import pytest

from collector.mirror.conditions import read_conditions


@pytest.mark.parametrize(
    ("text", "table", "column", "operator", "value"),
    [
        ("span.name = 'a b'", "spans", "name", "=", "a b"),
        ('span.type != "LLM"', "spans", "type", "!=", "LLM"),
        ("span.name ILIKE '%A AND b%'", "spans", "name", "ILIKE", "%A AND b%"),
        ("span.status IN ('OK', \"ERROR\")", "spans", "status", "IN", ["OK", "ERROR"]),
        ("span.name NOT IN ('a')", "spans", "name", "NOT IN", ["a"]),
        ("attributes.timestamp_ms > 5", "traces", "timestamp_ms", ">", 5),
        ("execution_time<=0", "traces", "latency_ms", "<=", 0),
        ("trace.end_time >= 7", "traces", "end_ms", ">=", 7),
        ("name IS NOT NULL", "traces", "name", "IS NOT NULL", None),
        ("tags.mlflow.traceName = 'a'", "traces", "name", "=", "a"),
        ("metadata.`mlflow.trace.session` LIKE 'a'", "traces", "session", "LIKE", "a"),
        ("tags.team = ''", "tag", "value", "=", ""),
        ("request_metadata.\"mlflow.trace.user\" = 'ada'", "metadata", "value", "=", "ada"),
    ],
)
def test_plain_conditions_are_read(text: str, table: str, column: str, operator: str, value: Any) -> None:
    found = read_conditions(text)
    assert found is not None
    assert [(each.table, each.column, each.operator, each.value) for each in found] == [
        (table, column, operator, value)
    ]


def test_conditions_are_joined_by_and() -> None:
    found = read_conditions("span.name = 'a' AND span.type = 'b' and tags.`a b` = 'c'")
    assert found is not None
    assert [(each.column, each.key) for each in found] == [("name", None), ("type", None), ("value", "a b")]
    assert read_conditions("") == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("span.name = 'a' OR span.name = 'b'", id="an_alternative"),
        pytest.param("span.name = 'a' AND ", id="an_open_end"),
        pytest.param("span.name = 'a' -- b", id="a_comment"),
        pytest.param("span.name = 'a';", id="another_statement"),
        pytest.param("span.name = 'it''s'", id="a_quote_in_a_value"),
        pytest.param("span.name = 'a\\'", id="an_escape"),
        pytest.param("span.name = a", id="a_value_without_quotes"),
        pytest.param("span.name = 5", id="a_name_that_is_a_number"),
        pytest.param("span.name RLIKE 'a'", id="a_regular_expression"),
        pytest.param("span.name > 'a'", id="an_order_of_names"),
        pytest.param("span.name like 'a'", id="a_small_operator"),
        pytest.param("span.name IN ()", id="no_list"),
        pytest.param("span.attributes.x LIKE 'a'", id="attributes_that_are_not_held"),
        pytest.param("span.content LIKE '%a%'", id="content_that_is_not_held"),
        pytest.param("trace.text LIKE '%a%'", id="text_that_is_not_held"),
        pytest.param("feedback.good = 'yes'", id="an_assessment"),
        pytest.param("attributes.request_id = 'tr-1'", id="an_id"),
        pytest.param("run_id = 'r'", id="a_run"),
        pytest.param("prompt = 'a/1'", id="a_prompt"),
        pytest.param("tags.name = 'a'", id="a_key_that_MLflow_takes_for_a_field"),
        pytest.param("tags.in = 'a'", id="a_key_that_MLflow_takes_for_a_keyword"),
        pytest.param("tags.`mlflow.linkedPrompts` = 'a'", id="links_that_are_not_told"),
        pytest.param("metadata.`mlflow.trace.cost` = 'a'", id="sums_in_JSON"),
        pytest.param("tags.team != 'a'", id="values_that_may_be_too_long_to_be_held"),
        pytest.param(f"tags.team = '{'x' * 250}'", id="a_value_that_is_too_long_to_be_held"),
        pytest.param("name IN ('a')", id="a_list_that_MLflow_refuses"),
        pytest.param("status IS NULL", id="a_field_that_is_always_there"),
        pytest.param("timestamp_ms > '5'", id="a_number_in_quotes"),
        pytest.param("timestamp_ms > 9000000000000", id="a_time_that_overflows"),
        pytest.param("timestamp_ms > 1.5", id="a_fraction"),
        pytest.param(" AND ".join(["span.name = 'a'"] * 21), id="many_conditions"),
        pytest.param("span.name IN ('a'" + ", 'a'" * 100 + ")", id="a_long_list"),
        pytest.param(f"span.name = '{'x' * 1001}'", id="a_long_value"),
        pytest.param("timestamp_ms > 01", id="a_number_in_another_spelling"),
    ],
)
def test_anything_else_is_left_to_mlflow(text: str) -> None:
    assert read_conditions(text) is None
