"""How deep JSON in an attribute may be for MLflow to give the trace back."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.harmonise.apply import harmonise
from collector.harmonise.nesting import is_too_deep
from collector.harmonise.parts import Part
from tests.support.otlp import all_spans
from tests.support.spans import otlp_span


def objects(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def lists(levels: int) -> str:
    return "[" * levels + "]" * levels


DEPTHS = {
    "objects_that_mlflow_gives_back": (objects(32), False),
    "one_object_more": (objects(33), True),
    "lists_that_mlflow_gives_back": (lists(49), False),
    "one_list_more": (lists(50), True),
    "a_mixture": ('{"a":[' * 20 + "]}" * 20, True),
    "white_space_before_it": (f" \n{objects(40)}", True),
    "many_brackets_side_by_side": (json.dumps([{"a": []}] * 1000), False),
    "brackets_in_texts": (json.dumps(["[{" * 100]), False),
    "brackets_in_texts_and_too_deep": (json.dumps(["[{"])[:-1] + "," + objects(40) + "]", True),
    "no_json": ("[" * 100, False),
    "a_text_that_says_it": (json.dumps(objects(40)), False),
    "thousands_of_levels": (lists(100_000), True),
}


@pytest.mark.parametrize(("text", "too_deep"), DEPTHS.values(), ids=DEPTHS)
def test_what_mlflow_cannot_give_back_is_found(text: str, too_deep: bool) -> None:
    assert is_too_deep(text) is too_deep


nested = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\a', max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@given(nested, st.integers(0, 40))
def test_it_is_found_as_a_plain_walk_finds_it(value: object, wraps: int) -> None:
    for _ in range(wraps):
        value = {"w": value}

    def levels(part: object) -> int:
        if isinstance(part, dict):
            return 3 + max(map(levels, part.values()), default=0)
        return 2 + max(map(levels, part), default=0) if isinstance(part, list) else 0

    assert is_too_deep(json.dumps(value)) is (levels(value) > 98)


def test_it_stays_a_text_with_the_clients_value_beside_it() -> None:
    export = ExportTraceServiceRequest()
    attributes = {"gen_ai.operation.name": "execute_tool", "tool_arguments": objects(40), "x": lists(60)}
    export.resource_spans.add().scope_spans.add().spans.append(otlp_span(attributes))
    harmonise(export, parts=frozenset(Part), notes={})
    found = {each.key: each.value.string_value for each in all_spans(export)[0].attributes}
    assert json.loads(found["x"]) == lists(60)
    assert json.loads(found["tool_arguments"]) == objects(40)
    assert json.loads(found["mlflow.spanInputs"]) == objects(40)
    replaced = json.loads(found["sidespan.replaced"])
    assert replaced == {"x": lists(60), "tool_arguments": objects(40)}


def test_looking_costs_little() -> None:
    """Beside reading the text once: a conversation of a megabyte takes no parsing."""
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "word " * 40}]}] * 4000)
    begin = time.process_time()
    json.loads(messages)
    parsing = time.process_time() - begin
    begin = time.process_time()
    assert not is_too_deep(messages)
    assert time.process_time() - begin < parsing
