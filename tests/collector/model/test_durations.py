"""Lengths of time as people write them."""

import pytest

from collector.model.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800), ("2w", 1209600), ("0s", 0)],
)
def test_a_number_with_a_unit_is_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "-5m", "5 m", "5M", "1e3s", "1.s", "\u0665m", "5m\n", "9" * 10 + "s"]
)
def test_anything_else_is_none(text: str) -> None:
    assert parse_duration(text) is None
