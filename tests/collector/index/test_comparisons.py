"""Two sides of the same question beside each other."""

from typing import Any

import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.models import Compared
from collector.index.sql import answers
from collector.model.parameters import BadParameter
from collector.spans.summary_models import TraceSummary
from tests.support.indexed import asked, tables_of


def test_two_sides_are_set_beside_each_other(store: Store, summaries: list[TraceSummary]) -> None:
    found = answers.compare(
        tables_of(store),
        asked(a__version="1.0", b__version="1.1", metric=["count", "cost_usd"], by="service"),
    )
    Compared.model_validate(found)
    counts = {v: sum(each.service_version == v for each in summaries) for v in ("1.0", "1.1")}
    assert found["total"]["count"] == {
        "a": counts["1.0"],
        "b": counts["1.1"],
        "difference": counts["1.1"] - counts["1.0"],
        "ratio": counts["1.1"] / counts["1.0"],
    }
    assert {group["key"]["service"] for group in found["groups"]} == {"shop", "desk"}


def test_a_group_that_is_at_the_top_of_one_side_only_has_its_numbers_of_both(store: Store) -> None:
    sides = {
        "a__model": "gpt-4o",
        "b__model": "mistral-large",
        "metric": "count",
        "of": "models",
        "by": "name",
    }
    whole = answers.compare(tables_of(store), asked(top=1000, **sides))
    full = {group["key"]["name"]: group["values"] for group in whole["groups"]}
    cut = answers.compare(tables_of(store), asked(top=1, order="name", **sides))
    differing = answers.compare(tables_of(store), asked(top=1, order="-name", **sides))
    for group in (*cut["groups"], *differing["groups"]):
        assert group["values"] == full[group["key"]["name"]]
    by_session = {"a__since": "-20m", "b__until": "-20m", "by": "name", "metric": "count"}
    full = {
        group["key"]["name"]: group["values"]
        for group in answers.compare(tables_of(store), asked(top=1000, **by_session))["groups"]
    }
    for group in answers.compare(tables_of(store), asked(top=1, **by_session))["groups"]:
        assert group["values"] == full[group["key"]["name"]]


def test_more_groups_of_a_comparison_come_behind_the_same_ones(store: Any) -> None:
    sides = {"a__since": "-40m", "b__until": "-20m", "metric": "count", "by": ["session", "user"]}

    def keys(top: int) -> list[Any]:
        found = answers.compare(tables_of(store), asked(top=top, **sides))
        return [tuple(group["key"].values()) for group in found["groups"]]

    whole = keys(1000)
    assert len(whole) >= 8
    for top in (1, 2, 3, 4, 5):
        some = keys(top)
        assert len(some) >= top
        assert some == whole[: len(some)]


def test_two_sides_that_are_the_same_are_refused(store: Store) -> None:
    for parameters in ({}, {"a__service": "x", "b__service": "x"}, {"a__by": "service"}):
        with pytest.raises(BadParameter):
            answers.compare(tables_of(store), asked(**parameters))
