"""What the end of a trace was waiting for, at each moment."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.spans.critical_path import critical_path_ns
from collector.spans.summary import summarise
from collector.spans.tree import build_tree
from collector.spans.values import SpanFacts
from tests.support.spans import TRACE_ID

Given = tuple[str, str | None, int, int]


def facts(spans: Sequence[Given]) -> list[SpanFacts]:
    return [
        SpanFacts(
            trace_id=TRACE_ID,
            span_id=id,
            parent_span_id=parent,
            name=id,
            start_unix_ns=begin,
            end_unix_ns=end,
        )
        for id, parent, begin, end in spans
    ]


def path(spans: Sequence[Given]) -> dict[str, int]:
    tree = build_tree(facts(spans))
    return {span.span_id: part for span, part in zip(tree.spans, critical_path_ns(tree), strict=True) if part}


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([("r", None, 10, 20)], {"r": 10}, id="a_span_alone"),
        pytest.param(
            [("r", None, 10, 30), ("a", "r", 12, 15), ("b", "r", 15, 28)],
            {"r": 4, "a": 3, "b": 13},
            id="one_after_the_other",
        ),
        pytest.param(
            [("r", None, 10, 30), ("a", "r", 11, 18), ("b", "r", 11, 29)],
            {"r": 2, "b": 18},
            id="of_two_at_once_the_one_that_ended_last",
        ),
        pytest.param(
            [("r", None, 10, 30), ("a", "r", 11, 20), ("b", "r", 15, 29)],
            {"r": 2, "a": 4, "b": 14},
            id="of_the_earlier_what_ran_before_the_later",
        ),
        pytest.param(
            [("r", None, 10, 30), ("a", "r", 12, 28), ("c", "a", 14, 20)],
            {"r": 4, "a": 10, "c": 6},
            id="down_the_tree",
        ),
        pytest.param(
            [("r", None, 10, 20), ("a", "r", 5, 40)], {"a": 10}, id="a_child_that_outlives_its_parent"
        ),
        pytest.param(
            [("r", None, 10, 20), ("x", "gone", 25, 30)], {"r": 10, "x": 5}, id="an_orphan_beside_the_root"
        ),
        pytest.param([("r", None, 10, 10)], {}, id="no_time_at_all"),
    ],
)
def test_the_critical_path_is(spans: list[Given], expected: dict[str, int]) -> None:
    assert path(spans) == expected


numbers = st.integers(1, 60)


@given(st.lists(st.tuples(st.integers(0, 8), numbers, numbers), min_size=1, max_size=9))
def test_it_never_runs_twice_at_a_moment_and_fills_the_root(rows: list[tuple[int, int, int]]) -> None:
    spans: list[Given] = [("s0", None, 1, 100)]
    for number, (parent, begin, lasts) in enumerate(rows, 1):
        spans.append((f"s{number}", f"s{min(parent, number - 1)}", begin, min(begin + lasts, 100)))
    assert sum(path(spans).values()) == 99


def test_a_chain_of_thirty_thousand_is_no_trouble() -> None:
    chain: list[Given] = [("s0", None, 0, 30_000)]
    chain += [(f"s{n}", f"s{n - 1}", n, 30_000) for n in range(1, 30_000)]
    found = summarise(facts(chain), trace_id=TRACE_ID, max_spans=30_000)
    assert len(found.spans) == 30_000
    assert sum(row.critical_seconds for row in found.spans) == pytest.approx(30_000e-9)
    assert sum(own.critical_seconds for own in found.own_time) == pytest.approx(30_000e-9)


def test_own_time_by_kind_is_what_ran_in_no_child() -> None:
    found = summarise(facts([("r", None, 0, 100), ("a", "r", 10, 60), ("b", "r", 40, 90)]), trace_id=TRACE_ID)
    [own] = found.own_time
    assert (own.self_seconds, own.critical_seconds) == pytest.approx((120e-9, 100e-9))
