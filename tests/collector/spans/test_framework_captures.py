"""The summary of what real frameworks sent is what really happened, without any server.

tests/system/test_frameworks.py checks the same, and MLflow and the statistics too, in every way of sending.
"""

import pytest

from tests.data.capture.changes import summaries
from tests.data.capture.environments import FRAMEWORKS
from tests.data.capture.files import CAPTURE, MAX_BYTES, written
from tests.data.capture.truth import Truth, truths
from tests.system.framework_cells import expected_of, same

# what MLflow's own SDK writes to MLflow's API, not on spans
WRITTEN_CELLS = frozenset({"session", "user"})


@pytest.mark.parametrize("truth", truths(), ids=lambda truth: truth.name)
def test_the_summary_of_each_trace_is_what_happened(truth: Truth) -> None:
    left_out = {*truth.wrong, *(WRITTEN_CELLS if written(FRAMEWORKS / truth.name) else ())}
    found = summaries(FRAMEWORKS / truth.name)
    wrong = [
        f"{trace.asks}: {cell} is {value!r}, not {expected_of(trace, cell)!r}"
        for trace, cells in zip(truth.traces, found, strict=True)
        for cell, value in cells.items()
        if cell not in left_out and not same(cell, value, expected_of(trace, cell))
    ]
    assert not wrong


@pytest.mark.parametrize("truth", truths(), ids=lambda truth: truth.name)
def test_captures_stay_small(truth: Truth) -> None:
    assert (FRAMEWORKS / truth.name / CAPTURE).stat().st_size <= MAX_BYTES


def test_every_scenario_has_its_truth() -> None:
    scenarios = {path.parent.name for path in FRAMEWORKS.glob("*/scenario.*")}
    assert {truth.name for truth in truths()} == scenarios
