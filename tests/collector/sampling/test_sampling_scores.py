"""Traces that are kept for their scores, as far as these come before the decision."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.sampling.consumer import HELD_FOR_EACH_OPEN
from collector.settings.keep import KeepSettings
from tests.support.logs import any_value, record, result
from tests.support.sampled import Sampled, span
from tests.support.stage import until

A, B = b"a" * 16, b"b" * 16
RULES: dict[str, Any] = {"scores": ("helpful<0.5", "correct=fail")}


@pytest.fixture
async def sampled(tmp_path: Path) -> AsyncIterator[Sampled]:
    sampled = Sampled(tmp_path, dict(RULES))
    await sampled.open()
    yield sampled
    await sampled.stack.aclose()


@pytest.mark.parametrize("comes_first", ["the_trace", "the_score"])
async def test_a_trace_with_a_chosen_score_is_kept_whichever_comes_first(
    sampled: Sampled, comes_first: str
) -> None:
    steps = [
        lambda: sampled.append(span(A, name="child"), span(A, root=True, name="root")),
        lambda: sampled.append_logs(result("helpful", value=0.2, trace_id=A)),
    ]
    for step in steps if comes_first == "the_trace" else reversed(steps):
        await step()
        assert await sampled.reason(A) is None
        await sampled.sampler.look()
    if comes_first == "the_trace":
        assert sampled.counted("kept", "score") == 1
    assert await sampled.passed() == ["child", "root"]
    assert await sampled.reason(A) == "score"
    assert sampled.sampler.held_traces == 0


async def test_a_score_that_a_span_carries_keeps_its_trace(sampled: Sampled) -> None:
    root = span(A, root=True)
    for key, value in (("name", "correct"), ("label", "fail"), ("score", 0)):
        said = root.attributes.add(key=f"annotations.0.annotation.{key}")
        said.value.CopyFrom(any_value(value))
    await sampled.append(root)
    await sampled.sampler.look()
    assert await sampled.reason(A) == "score"


async def test_without_one_it_is_dropped_once_the_time_for_scores_is_over(tmp_path: Path) -> None:
    sampled = Sampled(tmp_path, RULES | {"wait_seconds": 0.3})
    await sampled.open()
    await sampled.append(span(A, root=True), span(B, root=True, error=True))
    await sampled.append_logs(
        result("helpful", value=0.9, trace_id=A), record("gen_ai.choice", trace_id=A, span_id=b"s" * 8)
    )
    await sampled.sampler.look()
    assert [await sampled.reason(B), sampled.sampler.open_traces] == [None, 1], "A waits, and B behind it"

    async def is_decided() -> bool:
        await sampled.sampler.look()
        return await sampled.reason(A) is not None

    await until(is_decided)
    assert [await sampled.reason(A), await sampled.reason(B)] == ["not_sampled", "error"]
    await sampled.append_logs(result("helpful", value=0.1, trace_id=A))
    await sampled.sampler.look()
    assert await sampled.reason(A) == "not_sampled", "a score that comes later changes nothing"
    assert sampled.sampler.held_traces == 0
    await sampled.stack.aclose()


async def test_a_crash_between_score_and_trace_loses_neither(sampled: Sampled) -> None:
    await sampled.append_logs(result("correct", value=0.0, label="fail", trace_id=A))
    await sampled.sampler.look()
    await sampled.crash()
    await sampled.append(span(A, root=True, name="root"))
    await sampled.sampler.look()
    assert (await sampled.passed(), await sampled.reason(A)) == (["root"], "score")


async def test_log_records_behind_an_open_trace_are_held_within_the_bound(tmp_path: Path) -> None:
    sampled = Sampled(tmp_path, RULES | {"max_open_traces": 2, "wait_seconds": 3600})
    await sampled.open()
    await sampled.append_logs(result("helpful", value=0.2, trace_id=A))
    await sampled.sampler.look()
    assert sampled.sampler.open_traces == 1
    for _ in range(2 * HELD_FOR_EACH_OPEN):
        await sampled.append_logs(record("app.started"))
    await sampled.sampler.look()
    assert (sampled.sampler.open_traces, sampled.sampler.held_traces) == (0, 0), "decided early"
    assert await sampled.reason(A) == "score"
    await sampled.stack.aclose()


def test_a_condition_that_cannot_be_read_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ValidationError, match="NAME=label"):
        KeepSettings(one_in=2, scores=("helpful<low",))
