"""A model call that several instrumentations tell of is one call, with what either says of it."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.same_call import united
from collector.spans.summary import summarise
from collector.spans.tree import build_tree
from collector.spans.values import SpanFacts, Tokens
from tests.support.spans import TRACE_ID, spanfacts

AGENT, LLM, TOOL, CHAIN, EMBEDDING, OTHER = (
    ObservationKind.AGENT,
    ObservationKind.LLM,
    ObservationKind.TOOL,
    ObservationKind.CHAIN,
    ObservationKind.EMBEDDING,
    ObservationKind.OTHER,
)


def used(taken: int, given: int, **parts: int) -> Tokens:
    return Tokens(input=taken, output=given, total=taken + given, **parts)


# tokens of the outer span, of the inner one, of the call
COUNTS = {
    "a_part_that_the_outer_one_knows": (used(10, 2, cache_read=4), used(10, 2), used(10, 2, cache_read=4)),
    "a_part_that_each_knows": (
        used(10, 2, cache_read=4),
        used(10, 2, reasoning=1),
        used(10, 2, cache_read=4, reasoning=1),
    ),
    "tokens_by_modality_that_one_of_them_knows": (
        used(10, 2, audio_input=8),
        used(10, 2, audio_output=1),
        used(10, 2, audio_input=8, audio_output=1),
    ),
    "an_input_without_its_cached_part_takes_none": (
        used(10, 2, cache_read=4, cache_write=1),
        used(5, 2),
        used(10, 2, cache_read=4, cache_write=1),
    ),
    "parts_of_another_whole_are_not_taken_over": (
        used(10, 2, cache_read=4),
        used(9, 2, reasoning=1),
        used(9, 2, reasoning=1),
    ),
    "only_the_outer_one_tells": (used(10, 2), Tokens(), used(10, 2)),
    "only_the_inner_one_tells": (Tokens(), used(10, 2), used(10, 2)),
    "both_tell_the_same": (used(10, 2), used(10, 2), used(10, 2)),
}


@pytest.mark.parametrize(("outer", "inner", "expected"), COUNTS.values(), ids=COUNTS)
def test_the_counts_of_a_call_are_put_together(outer: Tokens, inner: Tokens, expected: Tokens) -> None:
    found = summarise(
        [spanfacts("a", None, LLM, tokens=outer), spanfacts("b", "a", LLM, tokens=inner)], trace_id=TRACE_ID
    )
    assert (found.tokens, found.model_call_count) == (expected, 1)


def facts_of_calls(spans: Sequence[SpanFacts]) -> list[dict[str, Any]]:
    names = ("model", "request_model", "response_model", "provider", "cost_usd", "finish_reason")
    return [
        {name: getattr(span, name) for name in names}
        for span in united(build_tree(spans)).spans
        if span.tokens.known
    ]


def test_three_instrumentations_tell_of_one_call_whatever_the_order() -> None:
    spans = [
        spanfacts("a", None, LLM, usage=(10, 2), request_model="m", finish_reason="length"),
        spanfacts("b", "a", OTHER, is_http=True),
        spanfacts("c", "b", LLM, usage=(10, 2), provider="p", cost=0.5),
        spanfacts("d", "c", LLM, usage=(10, 2), response_model="m-2024", model="m-2024"),
    ]
    expected = {
        "model": "m-2024",
        "request_model": "m",
        "response_model": "m-2024",
        "provider": "p",
        "cost_usd": 0.5,
        "finish_reason": "length",
    }
    for order in itertools.permutations(spans):
        assert facts_of_calls([*order, *order]) == [expected]


def test_a_stream_that_repeats_the_requested_model_gives_way_to_the_answering_one() -> None:
    outer = spanfacts("a", None, LLM, request_model="m", response_model="m-2024", model="m-2024")
    inner = spanfacts("b", "a", LLM, usage=(1, 1), request_model="m", response_model="m", model="m")
    assert facts_of_calls([outer, inner])[0]["model"] == "m-2024"


def test_a_price_is_that_of_the_counts_together() -> None:
    outer = spanfacts("a", None, LLM, tokens=used(1000, 0, cache_read=400), model="gpt-4o")
    inner = spanfacts(
        "b", "a", LLM, tokens=used(1000, 0), model="gpt-4o", cost_usd=0.0025, cost_source=CostSource.TABLE
    )
    found = summarise([outer, inner], trace_id=TRACE_ID).cost
    assert (found.usd, found.source) == (pytest.approx(600 * 2.5e-6 + 400 * 1.25e-6), CostSource.TABLE)


OTHERS = {
    "several_calls_below": [("a", None, LLM), ("b", "a", LLM), ("c", "a", LLM)],
    "an_agent_between": [("a", None, LLM), ("b", "a", AGENT), ("c", "b", LLM)],
    "a_tool_between": [("a", None, LLM), ("b", "a", TOOL), ("c", "b", LLM)],
    "a_tools_call_beside_its_own": [("a", None, LLM), ("b", "a", LLM), ("t", "a", TOOL), ("c", "t", LLM)],
    "an_embedding_below": [("a", None, LLM), ("b", "a", EMBEDDING)],
    "an_agent_around": [("a", None, AGENT), ("b", "a", LLM)],
}


@pytest.mark.parametrize("shape", OTHERS.values(), ids=OTHERS)
def test_other_spans_around_a_call_are_left_alone(
    shape: Sequence[tuple[str, str | None, ObservationKind]],
) -> None:
    tree = build_tree([spanfacts(id, parent, kind, usage=(1, 1)) for id, parent, kind in shape])
    assert united(tree) is tree


def test_an_embedding_in_an_embedding_is_one() -> None:
    spans = [spanfacts("a", None, EMBEDDING), spanfacts("b", "a", EMBEDDING, usage=(8, 0))]
    found = summarise(spans, trace_id=TRACE_ID)
    assert (found.model_call_count, found.tokens.input) == (1, 8)
