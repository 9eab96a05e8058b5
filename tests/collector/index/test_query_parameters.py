"""What can be asked for, what is refused by name, and what no question shows."""

from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.asked import moment, seconds
from collector.index.queries.stats import ENTITIES
from collector.index.sql import answers
from collector.model.parameters import BadParameter
from tests.support.indexed import NOW_NS, SECOND, SEEDS, ask, asked, made_trace, tables_of, trace_in


@pytest.mark.parametrize("of", ENTITIES)
def test_every_metric_and_every_dimension_can_be_asked_for(store: Store, of: str) -> None:
    entity = ENTITIES[of]
    ask(store, of=of, metric=list(entity.metrics), bucket="auto")
    for by in entity.dimensions:
        ask(store, of=of, by=[by], metric=list(entity.metrics)[:2], bucket="1h")
    ask(store, of=of, by=list(entity.dimensions)[:3])


@pytest.mark.parametrize("of", ENTITIES)
def test_no_question_shows_what_the_client_may_not_see(store: Store, of: str) -> None:
    own = frozenset({"2"})
    inside = answers.stats(tables_of(store), asked(of=of, metric="count", experiment_id="2"))["total"][
        "count"
    ]
    for parameters in ({}, {"experiment_id": ["1", "2"]}, {"experiment_name": ["shop", "desk"]}):
        found = answers.stats(tables_of(store), asked(experiments=own, of=of, metric="count", **parameters))
        assert found["total"]["count"] == inside
    assert ask(store, experiments=frozenset(), of=of, metric="count")["total"]["count"] == 0
    other = next(spans[0].trace_id for seed in SEEDS if seed % 3 and (spans := made_trace(seed)))
    assert trace_in(store, other, own) is None
    assert trace_in(store, other, frozenset({"1"})) is not None
    table = answers.traces(tables_of(store), asked(experiments=own, limit=1000), Path())
    assert isinstance(table, dict)
    assert {row["experiment_id"] for row in table["traces"]} == {"2"}
    seen = answers.sessions(tables_of(store), asked(experiments=own), Path())
    assert isinstance(seen, dict)
    assert {row["experiment_id"] for row in seen["sessions"]} == {"2"}
    named = answers.facets(tables_of(store), asked(experiments=own))
    assert [each["value"] for each in named["experiment"]] == ["desk"]
    assert answers.overview(tables_of(store), asked(experiments=own))["totals"]["count"]["b"] == len(
        table["traces"]
    )


NASTY = ["' OR true --", "'; DROP TABLE traces; --", "%", "_", "\\", "\x00", '"', "🎉", "*", "a" * 1000]


@pytest.mark.parametrize("value", NASTY, ids=repr)
def test_a_value_is_a_value_and_never_sql(store: Store, value: str) -> None:
    for name in ("service", "name", "model", "tag", "session", "error", "experiment_name", "experiment_id"):
        found = answers.traces(tables_of(store), asked(**{name: value}), Path())
        assert isinstance(found, dict)
        if value != "*":
            assert found["traces"] == []
    assert store.counts()[0] == len(SEEDS)


@pytest.mark.parametrize(
    "parameters",
    [
        {"of": "nothing"},
        {"metric": "fame"},
        {"by": "colour"},
        {"by": "count(*)"},
        {"order": "name"},
        {"top": "0"},
        {"top": "1e3"},
        {"bucket": "0"},
        {"bucket": "soon"},
        {"bucket": "1s"},
        {"since": "yesterday"},
        {"since": "-1y"},
        {"since": ["-1h", "-2h"]},
        {"min_duration_seconds": "-1"},
        {"min_cost_usd": "nan"},
        {"servcie": "shop"},
        {"service": ["x"] * 101},
        {"service": "x" * 1001},
    ],
    ids=str,
)
def test_what_cannot_be_right_is_named(store: Store, parameters: dict[str, Any]) -> None:
    with pytest.raises(BadParameter) as raised:
        answers.stats(tables_of(store), asked(**parameters))
    assert raised.value.document["parameter"] in parameters
    assert raised.value.document["message"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"sort": "beauty"},
        {"limit": "0"},
        {"limit": "1001"},
        {"cursor": "x"},
        {"cursor": "W10"},
        {"format": "xml"},
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_named(store: Store, parameters: dict[str, Any]) -> None:
    for table in (answers.traces, answers.sessions):
        with pytest.raises(BadParameter) as raised:
            table(tables_of(store), asked(**parameters), Path())
        assert raised.value.document["parameter"] in parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        ("-1h", NOW_NS - 3600 * SECOND),
        ("-2w", NOW_NS - 14 * 86_400 * SECOND),
        ("2026-01-01", 1_767_225_600 * SECOND),
        ("2026-01-01T00:00:00+01:00", 1_767_222_000 * SECOND),
        ("1767225600", 1_767_225_600 * SECOND),
        ("1767225600123", 1_767_225_600_123 * 10**6),
        ("1767225600123456789", 1_767_225_600_123_456_789),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert moment(text, "since", NOW_NS) == expected


def test_lengths_of_time_are_too() -> None:
    assert [seconds(text, "bucket") for text in ("90", "5m", "1h", "2d", "1w")] == [
        90,
        300,
        3600,
        172_800,
        604_800,
    ]
