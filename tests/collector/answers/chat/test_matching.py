"""Calls, their results and their tools' spans put together."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from collector.answers.chat.matching import matched
from collector.answers.chat.values import Call, Result, ThreadMessage, ToolRun


def message(number: int, *parts: Any) -> ThreadMessage:
    return ThreadMessage(role="assistant", name=None, parts=parts, span_id=f"m{number}", time_unix_ns=number)


def run(number: int, call_id: str | None, name: str | None = "look") -> ToolRun:
    return ToolRun(
        span_id=f"r{number}",
        name=name,
        call_id=call_id,
        start_unix_ns=number,
        duration_seconds=0.0,
        arguments=None,
        result=None,
        failure=None,
    )


def steps(work: Callable[[], object]) -> int:
    """How many functions and generators the work has entered."""
    entered = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal entered
        entered += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return entered


def many(count: int, *, ids: bool) -> tuple[list[ThreadMessage], list[ToolRun]]:
    """So many calls, then their results and spans; the last ones first."""
    id_of = (lambda number: str(number)) if ids else (lambda number: None)
    calls = [message(n, Call(id=id_of(n), name=f"t{n}", arguments=None)) for n in range(count)]
    results = [message(count + n, Result(id=id_of(n), name=f"t{n}", content=n)) for n in range(count)]
    return [*calls, *results[::-1]], [run(n, id_of(n), f"t{n}") for n in range(count)][::-1]


def test_results_and_spans_go_to_the_calls_that_fit_by_id_then_by_name_in_order() -> None:
    asked = message(
        0,
        Call(id="a", name="look", arguments=None),
        Call(id=None, name=None, arguments=None),
        Call(id=None, name="Plugin-look", arguments=None),
    )
    told = message(1, Result(id=None, name="look", content=1), Result(id="z", name="look", content=2))
    left = message(2, Result(id="z", name="other", content=3))
    (first, last) = matched([asked, told, left], [run(3, "a"), run(4, None, "look")])
    assert [each.result and each.result.content for each in first.parts] == [1, 2, None]  # type: ignore[union-attr]
    assert [each.run and each.run.span_id for each in first.parts] == ["r3", "r4", None]  # type: ignore[union-attr]
    assert last.parts == left.parts


@pytest.mark.parametrize("ids", [True, False], ids=["by_id", "by_name"])
def test_twice_as_many_calls_take_about_twice_as_long(ids: bool) -> None:
    few, more = many(200, ids=ids), many(400, ids=ids)
    assert steps(lambda: matched(*more)) < 3 * steps(lambda: matched(*few))
