"""Questions to the index against the same numbers worked out span by span."""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.asked import moment, seconds
from collector.index.queries.models import (
    Compared,
    ErrorPage,
    Facets,
    Overview,
    Session,
    SessionPage,
    Stats,
    TracePage,
)
from collector.index.queries.stats import ENTITIES
from collector.index.sql import answers
from collector.index.sql.answers import Export
from collector.model.experiment import ExperimentReference
from collector.model.parameters import BadParameter
from collector.spans.conventions import ObservationKind
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceSummary
from collector.spans.values import SpanFacts
from tests.support.clickhouse_rows import put_rows, tables_on
from tests.support.indexed import (
    BEGIN_NS,
    NOW_NS,
    SECOND,
    asked,
    made_spans,
    made_trace,
    put,
    quantile,
    store_in,
    tables_of,
    trace_in,
)
from tests.support.spans import spanfacts

SEEDS = range(300)
SHOP, DESK = ExperimentReference(id="1", name="shop"), ExperimentReference(id="2", name="desk")


@pytest.fixture(scope="module", params=["duckdb", pytest.param("clickhouse", marks=pytest.mark.scale)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An index of made-up traces, on either engine."""
    shop, desk = (made_spans(seed for seed in SEEDS if bool(seed % 3) is own) for own in (True, False))
    if request.param == "clickhouse":
        with tables_on(request.getfixturevalue("clickhouse")) as tables:
            put_rows(tables, shop, experiment=SHOP, run_id="run-1")
            put_rows(tables, desk, experiment=DESK)
            yield tables
        return
    with store_in(tmp_path_factory.mktemp("index")) as store:
        put(store, shop, experiment=SHOP, run_id="run-1")
        put(store, desk, experiment=DESK)
        yield store


@pytest.fixture(scope="module")
def summaries() -> list[TraceSummary]:
    return [
        summarise(spans, trace_id=spans[0].trace_id, experiment_id="1" if seed % 3 else "2", max_spans=10**6)
        for seed in SEEDS
        if (spans := made_trace(seed))
    ]


def close(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def ask(store: Store, **parameters: Any) -> dict[str, Any]:
    answer = answers.stats(tables_of(store), asked(**parameters))
    Stats.model_validate(answer)
    return answer


def added(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def of_traces(group: list[TraceSummary]) -> dict[str, Any]:
    durations = [each.duration_seconds for each in group]
    return {
        "count": len(group),
        "errors": sum(each.status == "ERROR" for each in group),
        "error_rate": sum(each.status == "ERROR" for each in group) / len(group),
        "recovered_retries": sum(each.recovered_retry_count for each in group),
        "duration_seconds_p50": quantile(durations, 0.5),
        "duration_seconds_p95": quantile(durations, 0.95),
        "duration_seconds_p99": quantile(durations, 0.99),
        "duration_seconds_max": max(durations),
        "input_tokens": added(each.tokens.input for each in group),
        "output_tokens": added(each.tokens.output for each in group),
        "cost_usd": added(each.cost.usd for each in group),
        "spans": sum(each.span_count for each in group),
        "model_calls": sum(each.model_call_count for each in group),
        "tool_calls": sum(each.tool_call_count for each in group),
        "unpriced_model_calls": sum(each.cost.unpriced_model_calls for each in group),
        "sessions": len({each.session for each in group} - {None}),
        "incomplete": sum(not each.complete for each in group),
    }


TRACE_GROUPS: Mapping[str, Callable[[TraceSummary], Any]] = {
    "service": lambda each: each.service,
    "version": lambda each: each.service_version,
    "session": lambda each: each.session,
    "user": lambda each: each.user,
    "status": lambda each: str(each.status.value),
    "name": lambda each: each.name,
    "experiment": lambda each: "shop" if each.experiment.id == "1" else "desk",
}


@pytest.mark.parametrize("by", TRACE_GROUPS)
def test_numbers_of_traces_are_those_of_their_summaries(
    store: Store, summaries: list[TraceSummary], by: str
) -> None:
    expected = defaultdict(list)
    for each in summaries:
        expected[TRACE_GROUPS[by](each)].append(each)
    metrics = list(of_traces(summaries))
    found = ask(store, by=by, metric=metrics, top=1000)
    assert {group["key"][by] for group in found["groups"]} == set(expected)
    for group in found["groups"]:
        for name, value in of_traces(expected[group["key"][by]]).items():
            assert close(group["values"][name], value), (group["key"], name)
    for name, value in of_traces(summaries).items():
        assert close(found["total"][name], value), name


def calls(summaries: list[TraceSummary], *kinds: ObservationKind) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for each in summaries:
        for row in each.spans:
            if row.kind in kinds:
                found[row.model if row.kind is ObservationKind.LLM else row.tool].append(row)
    return found


def test_numbers_of_model_calls_and_tool_calls_are_those_of_their_spans(
    store: Store, summaries: list[TraceSummary]
) -> None:
    for of, by, kind in (("models", "model", ObservationKind.LLM), ("tools", "tool", ObservationKind.TOOL)):
        expected = calls(summaries, kind)
        metrics = ["count", "errors", "duration_seconds_p50", "duration_seconds_p95", "duration_seconds_max"]
        found = ask(store, of=of, by=by, metric=metrics, top=100)
        assert {group["key"][by] for group in found["groups"]} == set(expected)
        for group in found["groups"]:
            rows = expected[group["key"][by]]
            durations = [row.duration_seconds for row in rows]
            assert group["values"]["count"] == len(rows)
            assert group["values"]["errors"] == sum(row.is_error and not row.recovered_retry for row in rows)
            for share in (50, 95):
                assert close(group["values"][f"duration_seconds_p{share}"], quantile(durations, share / 100))
            assert close(group["values"]["duration_seconds_max"], max(durations))


def test_tokens_and_cost_by_model_add_up_to_those_of_the_traces(
    store: Store, summaries: list[TraceSummary]
) -> None:
    metrics = ["input_tokens", "output_tokens", "cost_usd"]
    found = ask(store, of="models", by="model", metric=metrics, top=100)
    uses = [use for each in summaries for use in each.models]
    for group in found["groups"]:
        mine = [use for use in uses if use.model == group["key"]["model"]]
        assert close(group["values"]["input_tokens"], added(use.tokens.input for use in mine))
        assert close(group["values"]["cost_usd"], added(use.cost_usd for use in mine))
    for name in metrics:
        whole = ask(store, metric=[name])["total"][name]
        assert close(found["total"][name], whole), name


def test_sessions_are_their_traces_together(store: Store, summaries: list[TraceSummary]) -> None:
    expected = defaultdict(list)
    for each in summaries:
        if each.session:
            expected[each.session, each.experiment.id].append(each)
    found = answers.sessions(tables_of(store), asked(limit=1000), Path())
    assert isinstance(found, dict)
    SessionPage.model_validate(found)
    assert len(found["sessions"]) == len(expected)
    for row in found["sessions"]:
        turns = expected[row["session"], row["experiment_id"]]
        assert row["turns"] == len(turns)
        assert set(row["agents"]) == {each.agent for each in turns} - {None}
        assert row["errors"] == sum(each.status == "ERROR" for each in turns)
        assert close(row["cost_usd"], added(each.cost.usd for each in turns))
        assert close(row["busy_seconds"], sum(each.duration_seconds for each in turns))
    numbers = ask(store, of="sessions", metric=["count", "turns", "cost_usd", "errors"])["total"]
    assert numbers["count"] == len(expected)
    assert numbers["turns"] == sum(map(len, expected.values()))
    one = answers.session(tables_of(store), asked(experiment_id="1"), "s-1")
    Session.model_validate(one)
    assert one is not None
    assert [each["start_unix_ns"] for each in one["turns"]] == sorted(
        each.start_unix_ns for each in expected["s-1", "1"]
    )
    assert answers.session(tables_of(store), asked(), "nobody's") is None


def test_steps_of_the_time_axis_hold_what_began_in_them(store: Store, summaries: list[TraceSummary]) -> None:
    expected: dict[int, int] = defaultdict(int)
    for each in summaries:
        expected[each.start_unix_ns // (600 * SECOND) * 600 * SECOND] += 1
    found = ask(store, bucket="10m", metric="count")
    assert {step["start_unix_ns"]: step["values"]["count"] for step in found["series"]} == expected
    by = ask(store, bucket="10m", metric="count", by="service", top=1)
    assert len(by["groups"]) == 1 and by["more_groups"]
    assert (
        sum(step["values"]["count"] for step in by["groups"][0]["series"])
        == by["groups"][0]["values"]["count"]
    )


@pytest.mark.parametrize(
    ("parameters", "meant"),
    [
        ({"status": "ERROR"}, lambda each: each.status == "ERROR"),
        ({"service": ["shop", "desk"]}, lambda each: True),
        ({"service": "sh*"}, lambda each: each.service == "shop"),
        ({"session": "s-1", "user": "ann"}, lambda each: each.session == "s-1" and each.user == "ann"),
        ({"model": "gpt-4o"}, lambda each: any(use.model == "gpt-4o" for use in each.models)),
        ({"model": "gpt"}, lambda each: False),
        ({"model": "gpt*"}, lambda each: any((use.model or "").startswith("gpt") for use in each.models)),
        ({"tool": "new\nline"}, lambda each: any(use.tool == "new\nline" for use in each.tools)),
        ({"provider": "openai"}, lambda each: any(use.provider == "openai" for use in each.models)),
        ({"experiment_id": "2"}, lambda each: each.experiment.id == "2"),
        ({"experiment_name": "shop"}, lambda each: each.experiment.id == "1"),
        ({"run_id": "run-1"}, lambda each: each.experiment.id == "1"),
        ({"version": "1.1"}, lambda each: each.service_version == "1.1"),
        ({"agent": "planner"}, lambda each: each.agent == "planner"),
        ({"min_duration_seconds": "5"}, lambda each: each.duration_seconds >= 5),
        ({"max_duration_seconds": "5"}, lambda each: each.duration_seconds <= 5),
        ({"min_cost_usd": "0.003"}, lambda each: (each.cost.usd or 0) >= 0.003),
        ({"since": "-30m"}, lambda each: each.start_unix_ns >= NOW_NS - 1800 * SECOND),
        ({"until": str(BEGIN_NS + 900 * SECOND)}, lambda each: each.start_unix_ns < BEGIN_NS + 900 * SECOND),
        ({"error": "city <n> not found"}, None),
        ({"tag": "tier=gold"}, None),
        ({"tag": "tier=a=b"}, None),
        ({"tag": "tier"}, None),
        ({"tag": "tie"}, None),
    ],
    ids=lambda given: "expected" if callable(given) else str(given),
)
def test_filters_leave_the_traces_that_are_meant(
    store: Store, summaries: list[TraceSummary], parameters: dict[str, Any], meant: Any
) -> None:
    if meant is None:
        meant = SPAN_MEANINGS[str(parameters)]
    expected = {each.trace_id for each in summaries if meant(each)}
    found = answers.traces(tables_of(store), asked(limit=1000, **parameters), Path())
    assert isinstance(found, dict)
    TracePage.model_validate(found)
    assert {row["trace_id"] for row in found["traces"]} == expected
    assert ask(store, metric="count", **parameters)["total"]["count"] == len(expected)


FACTS: dict[str, list[SpanFacts]] = {
    spans[0].trace_id: spans for seed in SEEDS if (spans := made_trace(seed))
}


def tags_of(each: TraceSummary) -> set[tuple[str, str]]:
    return {tag for span in FACTS[each.trace_id] for tag in span.tags}


def last_message(each: TraceSummary) -> str | None:
    failed = [error for error in each.errors if not error.recovered]
    telling = [error for error in failed if error.message] or failed
    return telling[-1].message if telling else None


SPAN_MEANINGS: Mapping[str, Callable[[TraceSummary], bool]] = {
    str({"error": "city <n> not found"}): lambda each: (last_message(each) or "").startswith("city"),
    str({"tag": "tier=gold"}): lambda each: ("tier", "gold") in tags_of(each),
    str({"tag": "tier=a=b"}): lambda each: ("tier", "a=b") in tags_of(each),
    str({"tag": "tier"}): lambda each: bool(tags_of(each)),
    str({"tag": "tie"}): lambda each: False,
}


@pytest.mark.parametrize(
    "sort", ["start", "-start", "-duration", "cost", "-tokens", "-spans", "name", "-errors"]
)
def test_pages_together_are_the_table_each_row_once(store: Store, sort: str) -> None:
    whole = answers.traces(tables_of(store), asked(limit=1000, sort=sort), Path())
    assert isinstance(whole, dict)
    rows: list[Any] = []
    cursor = None
    while True:
        page = answers.traces(
            tables_of(store), asked(limit=37, sort=sort, **({"cursor": cursor} if cursor else {})), Path()
        )
        assert isinstance(page, dict)
        rows += page["traces"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert rows == whole["traces"]
    assert len(rows) == len(SEEDS)


def test_errors_that_say_the_same_are_one_row(store: Store, summaries: list[TraceSummary]) -> None:
    found = answers.errors(tables_of(store), asked(), Path())
    assert isinstance(found, dict)
    ErrorPage.model_validate(found)
    cities = next(row for row in found["errors"] if row["error"] == "city <n> not found")
    spans = [
        error
        for each in summaries
        for error in each.errors
        if not error.recovered and (error.message or "").startswith("city")
    ]
    assert cities["spans"] == len(spans)
    assert cities["example_message"] in ("city 4711 not found", "city 0815 not found")
    assert ask(store, of="errors", metric="count")["total"]["count"] == sum(
        row["spans"] for row in found["errors"]
    )


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


def test_the_overview_has_the_period_before_beside_it(store: Store, summaries: list[TraceSummary]) -> None:
    found = answers.overview(tables_of(store), asked(since="-20m"))
    Overview.model_validate(found)
    cut = NOW_NS - 1200 * SECOND
    count = found["totals"]["count"]
    assert count["b"] == sum(each.start_unix_ns >= cut for each in summaries)
    assert count["a"] == sum(cut - 1200 * SECOND <= each.start_unix_ns < cut for each in summaries)
    assert sum(step["values"]["count"] for step in found["axis"]) == count["b"]
    failed = answers.overview(tables_of(store), asked(status="ERROR"))
    assert failed["totals"]["count"]["b"] == sum(each.status == "ERROR" for each in summaries)


def test_facets_name_what_there_is(store: Store) -> None:
    found = answers.facets(tables_of(store), asked())
    Facets.model_validate(found)
    assert {each["value"] for each in found["experiment"]} == {"shop", "desk"}
    assert {each["value"] for each in found["model"]} == {"gpt-4o", "claude-sonnet-4-5", "mistral-large"}


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


def test_two_sides_that_are_the_same_are_refused(store: Store) -> None:
    for parameters in ({}, {"a__service": "x", "b__service": "x"}, {"a__by": "service"}):
        with pytest.raises(BadParameter):
            answers.compare(tables_of(store), asked(**parameters))


def exported(store: Store, folder: Path, **parameters: Any) -> bytes:
    found = answers.traces(tables_of(store), asked(**parameters), folder)
    assert isinstance(found, Export)
    content = b"".join(found.chunks())
    left = list(folder.iterdir()) if folder.exists() else []
    assert left == [], "the file is gone when it was sent"
    return content


def test_exports_hold_the_same_rows(store: Store, tmp_path: Path) -> None:
    table = answers.traces(tables_of(store), asked(limit=1000, sort="name"), tmp_path)
    assert isinstance(table, dict)
    text = exported(store, tmp_path / "csv", format="csv", sort="name").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["trace_id"] for row in rows] == [row["trace_id"] for row in table["traces"]]
    assert rows[0].keys() == table["traces"][0].keys()
    file = tmp_path / "traces.parquet"
    file.write_bytes(exported(store, tmp_path / "parquet", format="parquet", sort="name"))
    found = duckdb.sql(f"SELECT * FROM '{file}'")
    assert found.columns == list(table["traces"][0])
    assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == table["traces"]
    limited = exported(store, tmp_path / "csv", format="csv", service="shop", limit=5).decode()
    assert len(list(csv.reader(io.StringIO(limited)))) == 6


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


def test_an_empty_index_has_empty_answers(tmp_path: Path) -> None:
    with store_in(tmp_path) as empty:
        assert answers.traces(tables_of(empty), asked(), tmp_path) == {"traces": [], "next_cursor": None}
        assert ask(empty, bucket="auto", by="model")["groups"] == []
        overview = answers.overview(tables_of(empty), asked(since="-1h"))
        Overview.model_validate(overview)
        assert overview["totals"]["count"]["b"] == 0
        assert json.dumps(answers.facets(tables_of(empty), asked()))


def test_a_failed_call_is_one_of_the_model_that_was_asked_for(tmp_path: Path) -> None:
    """It names no other; the model that answers is called by the name of its version."""
    asks: dict[str, Any] = {"request_model": "gpt-4o-mini", "parent": "a" * 16, "kind": ObservationKind.LLM}
    answered = "gpt-4o-mini-2024-07-18"
    spans = [
        spanfacts("a" * 16, None, ObservationKind.AGENT),
        spanfacts("b" * 16, **asks, model=answered, response_model=answered),
        spanfacts("c" * 16, **asks, model="gpt-4o-mini", is_error=True),
    ]
    with store_in(tmp_path) as store:
        put(store, spans)
        of: dict[str, Any] = {"of": "models", "metric": ["count", "error_rate"]}
        by_model = answers.stats(tables_of(store), asked(**of, by="model"))["groups"]
        by_answer = answers.stats(tables_of(store), asked(**of, by="response_model", order="-count"))[
            "groups"
        ]
        filtered = answers.stats(tables_of(store), asked(**of, response_model="gpt-4o-mini-2024*"))["total"]
        traces = answers.traces(tables_of(store), asked(response_model=answered), tmp_path)
        facets = answers.facets(tables_of(store), asked())
    assert by_model == [{"key": {"model": "gpt-4o-mini"}, "values": {"count": 2, "error_rate": 0.5}}]
    assert {group["key"]["response_model"]: group["values"]["error_rate"] for group in by_answer} == {
        answered: 0.0,
        None: 1.0,
    }
    assert filtered == {"count": 1, "error_rate": 0.0}
    assert isinstance(traces, dict)
    assert [(row["models"], row["response_models"]) for row in traces["traces"]] == [
        (["gpt-4o-mini"], [answered])
    ]
    assert [each["value"] for each in facets["response_model"]] == [answered]


def test_answers_that_were_cut_and_agents_named_by_their_spans_are_counted(tmp_path: Path) -> None:
    reasons = ("stop", "stop, length", "max_tokens", None)
    spans = [
        spanfacts("a" * 16, None, ObservationKind.AGENT, name="CodeAgent.run"),
        *(
            spanfacts(f"{number:016x}", "a" * 16, ObservationKind.LLM, name="chat", finish_reason=reason)
            for number, reason in enumerate(reasons, 2)
        ),
    ]
    with store_in(tmp_path) as store:
        put(store, spans)
        of_models: dict[str, Any] = {"of": "models", "metric": ["truncated_share"]}
        models = answers.stats(tables_of(store), asked(**of_models, by="agent"))["groups"]
        traces = answers.stats(tables_of(store), asked(metric=["count", "truncated_share"], by="agent"))[
            "groups"
        ]
    assert models == [{"key": {"agent": "CodeAgent"}, "values": {"truncated_share": 0.5}}]
    assert traces == [{"key": {"agent": "CodeAgent"}, "values": {"count": 1, "truncated_share": 0.5}}]
