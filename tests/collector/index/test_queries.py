"""Questions to the index against the same numbers worked out span by span."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.models import ErrorPage, Facets, Overview, Session, SessionPage
from collector.index.sql import answers
from collector.spans.conventions import ObservationKind
from collector.spans.summary_models import TraceSummary
from tests.support.indexed import NOW_NS, SECOND, added, ask, asked, close, put, quantile, store_in, tables_of
from tests.support.spans import spanfacts


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
        "traces_with_cost": len(known(each.cost.usd for each in group)),
        "cost_usd_mean": of_sample(statistics.mean, 1, [each.cost.usd for each in group]),
        "cost_usd_stddev": of_sample(statistics.stdev, 2, [each.cost.usd for each in group]),
        "duration_seconds_stddev": of_sample(statistics.stdev, 2, durations),
        "tool_calls_stddev": of_sample(statistics.stdev, 2, [each.tool_call_count for each in group]),
    }


def known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def of_sample(figure: Callable[[Sequence[float]], float], least: int, values: Iterable[float | None]) -> Any:
    """A figure of the values that are known; None of fewer than `least`."""
    listed = known(values)
    return figure(listed) if len(listed) >= least else None


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
    for name, values in found.items():
        groups = ask(store, by=name, metric="count", top="50")["groups"]
        said = [{"value": group["key"][name], "count": group["values"]["count"]} for group in groups]
        assert values == [each for each in said if each["value"] is not None], name


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
