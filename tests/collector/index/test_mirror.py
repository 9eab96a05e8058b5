"""Rows with MLflow's own columns, and what is asked of them."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb.mirror import MirrorStore
from collector.mirror.database import DatabaseAway
from collector.mirror.filters import read_filter
from collector.mirror.question import Aggregation, MetricQuestion, PassOnReason
from collector.mirror.rows import TOKENS, Rows, add_trace
from collector.mirror.search import SearchForm, page_token, read_search

COUNT = Aggregation(type="COUNT")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MirrorStore]:
    made = MirrorStore(tmp_path, memory_bytes=64 * 1024 * 1024)
    yield made
    made.close()


def info(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "trace_id": f"tr-{number}",
        "trace_location": {"mlflow_experiment": {"experiment_id": "1"}},
        "request_time": "2026-11-20T10:00:00.250Z",
        "execution_duration": "1.500s",
        "state": "OK",
        "tags": {"mlflow.trace.spansLocation": "TRACKING_STORE"},
    } | changed


def span(start_ns: int, end_ns: int | None, *attributes: dict[str, Any]) -> dict[str, Any]:
    ended = {} if end_ns is None else {"end_time_unix_nano": end_ns}
    return {"name": "s", "start_time_unix_nano": start_ns, "attributes": list(attributes)} | ended


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"string_value": value}}


def hold(store: MirrorStore, *traces: tuple[dict[str, Any], list[dict[str, Any]]], gone: Any = ()) -> None:
    rows = Rows()
    for each, spans in traces:
        add_trace(rows, each, spans)
    store.hold({"gone": list(gone), **asdict(rows)})


def ask(store: MirrorStore, view: str, metric: str, *aggregations: Aggregation, **more: Any) -> Any:
    question = MetricQuestion(
        experiment_ids=[1], view=view, metric=metric, aggregations=aggregations or [COUNT], **more
    )
    return store.measure(question)


def find(store: MirrorStore, text: str, **more: Any) -> Any:
    place = {"mlflow_experiment": {"experiment_id": "1"}}
    asked = json.dumps({"locations": [place], "filter": text, **more}).encode()
    found = store.find(read_search(SearchForm.V3, asked))
    return [row[0] for row in found["rows"]] if "rows" in found else found


def test_a_trace_takes_the_place_of_what_was_there(store: MirrorStore) -> None:
    hold(store, (info(1), [span(0, 5), span(0, 6)]), (info(2), []))
    hold(store, (info(1, state="ERROR"), [span(0, 5)]), gone=["tr-1"])
    assert ask(store, "TRACES", "trace_count", dimensions=["trace_status"])["rows"] == [
        ("ERROR", 1),
        ("OK", 1),
    ]
    assert ask(store, "SPANS", "span_count")["rows"] == [(1,)]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "mirror.duckdb.wal").touch()
    made = MirrorStore(tmp_path, memory_bytes=64 * 1024 * 1024)
    hold(made, (info(1), []))
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_can_be_forgotten(store: MirrorStore) -> None:
    hold(store, (info(1), [span(0, 5)]))
    store.clear(1)
    assert ask(store, "TRACES", "trace_count")["rows"] == [(0,)]
    assert ask(store, "SPANS", "span_count")["rows"] == [(0,)]


def test_times_are_milliseconds_and_spans_are_cut_to_them(store: MirrorStore) -> None:
    hold(store, (info(1), [span(0, 1_999_999), span(5_000_000, 0)]))
    both = [Aggregation(type="MIN"), Aggregation(type="MAX")]
    assert ask(store, "TRACES", "latency", *both)["rows"] == [(1500, 1500)]
    assert ask(store, "SPANS", "latency", *both)["rows"] == [(-5, 1)]


def test_spans_without_an_end_are_doubted_where_their_latency_is_asked_for(store: MirrorStore) -> None:
    hold(store, (info(1), [span(0, 5), span(1, None)]))
    assert ask(store, "SPANS", "latency", Aggregation(type="MIN")) == {"doubt": PassOnReason.SPAN_ENDS.value}
    assert ask(store, "SPANS", "span_count")["rows"] == [(2,)]


def test_a_span_that_begins_at_0_is_held(store: MirrorStore) -> None:
    hold(store, (info(1), [{"name": "s", "end_time_unix_nano": 5}]))
    assert ask(store, "SPANS", "span_count")["rows"] == [(1,)]


def test_a_type_that_is_no_text_is_doubted(store: MirrorStore) -> None:
    number = {"key": "mlflow.spanType", "value": {"int_value": "5"}}
    hold(store, (info(1), [span(0, 1, number)]))
    by_type = ask(store, "SPANS", "span_count", dimensions=["span_type"])
    assert by_type == {"doubt": PassOnReason.SPAN_TYPES.value}


def test_types_that_mlflow_may_have_filled_in_are_doubted(store: MirrorStore) -> None:
    own = text("mlflow.spanType", '"LLM"')
    hold(store, (info(1), [span(0, 1, own)]))
    by_type = {"dimensions": ["span_type"]}
    assert "rows" in ask(store, "SPANS", "span_count", **by_type)
    hold(store, (info(2), [span(0, 1, own, text("gen_ai.operation.name", "chat"))]))
    assert ask(store, "SPANS", "span_count", **by_type) == {"doubt": PassOnReason.SPAN_TYPES.value}
    assert "rows" in ask(store, "SPANS", "span_count", **by_type, types_are_certain=True)
    assert "rows" in ask(store, "SPANS", "span_count")


def test_spans_that_lie_elsewhere_are_doubted(store: MirrorStore) -> None:
    hold(store, (info(1, tags={"mlflow.trace.spansLocation": "ARCHIVE_REPO"}), []))
    assert ask(store, "SPANS", "span_count") == {"doubt": PassOnReason.HELD_IN_PART.value}
    assert ask(store, "TRACES", "trace_count")["rows"] == [(1,)]


@pytest.mark.parametrize("characters", [1, 249, 250, 300, 4095, 4096])
@pytest.mark.parametrize(("kind", "told"), [("tag", "tags"), ("metadata", "trace_metadata")])
def test_what_can_be_asked_for_is_found(store: MirrorStore, kind: str, told: str, characters: int) -> None:
    value = "x" * characters
    hold(store, (info(1, **{told: {"team": value}}), []))
    found = read_filter(f"trace.{kind}.`team` = '{value}'")
    assert (found is None) == (characters >= 250)
    if found is not None:
        assert ask(store, "TRACES", "trace_count", filters=[found])["rows"] == [(1,)]


@pytest.mark.parametrize("key", ["mlflow.traceInputs", "mlflow.traceOutputs"])
def test_what_a_trace_was_asked_and_answered_is_not_held(store: MirrorStore, key: str) -> None:
    rows = Rows()
    add_trace(rows, info(1, trace_metadata={key: "secret"}), [])
    assert "secret" not in str(rows)
    assert read_filter(f"trace.metadata.`{key}` = 'secret'") is None


def test_tokens_that_mlflow_has_cut_are_doubted(store: MirrorStore) -> None:
    hold(store, (info(1, trace_metadata={"mlflow.trace.tokenUsage": '{"input_tokens": 12'}), []))
    assert ask(store, "TRACES", "trace_count") == {"doubt": PassOnReason.HELD_IN_PART.value}


@pytest.mark.parametrize(
    ("value", "number", "stored"),
    [
        (True, 1.0, "true"),
        ("No ", 0.0, '"No "'),
        ("other", None, '"other"'),
        (0.25, 0.25, "0.25"),
        (3.0, 3.0, None),
    ],
)
def test_values_of_assessments_count_as_mlflow_counts_them(
    store: MirrorStore, value: Any, number: float | None, stored: str | None
) -> None:
    assessment = {"assessment_id": "a-1", "assessment_name": "good", "feedback": {"value": value}}
    hold(store, (info(1, assessments=[assessment]), []))
    average = ask(store, "ASSESSMENTS", "assessment_value", Aggregation(type="AVG"))
    assert average["rows"] == [(number,)]
    by_value = ask(store, "ASSESSMENTS", "assessment_count", dimensions=["assessment_value"])
    assert by_value == (
        {"doubt": PassOnReason.UNREADABLE.value} if stored is None else {"rows": [(stored, 1)]}
    )


@pytest.mark.parametrize("characters", [98, 99], ids=["the_longest_value", "free_text"])
def test_free_text_is_not_held_and_keeps_no_other_values_from_being_counted(
    store: MirrorStore, characters: int
) -> None:
    values = {"good": "fair", "why": "x" * characters}
    assessments = [
        {"assessment_id": f"a-{name}", "assessment_name": name, "feedback": {"value": value}}
        for name, value in values.items()
    ]
    hold(store, (info(1, assessments=assessments), []))
    found = {}
    for name in values:
        filters = [read_filter(f"assessment.name = '{name}'")]
        by_value = {"dimensions": ["assessment_value"], "filters": filters}
        found[name] = ask(store, "ASSESSMENTS", "assessment_count", **by_value)
    assert found["good"] == {"rows": [('"fair"', 1)]}
    is_held = characters == 98
    assert found["why"] == (
        {"rows": [(f'"{values["why"]}"', 1)]} if is_held else {"doubt": PassOnReason.UNREADABLE.value}
    )


def test_what_mlflows_database_holds_takes_the_place_of_what_was_there(
    store: MirrorStore, tmp_path: Path
) -> None:
    file = tmp_path / "mlflow.db"
    fill_database(file)
    hold(store, (info(1, state="ERROR"), [span(0, 5)]))
    asked = {"file": str(file), "trace_ids": ["tr-1", "tr-2", "tr-none"], "gone": ["tr-1"]}
    assert store.pull({**asked, "experiments": ["1"]}) == {"tr-1": "1"}
    by_status = ask(store, "TRACES", "trace_count", dimensions=["trace_status"])
    assert by_status["rows"] == [("OK", 1)]
    latency = ask(store, "SPANS", "latency", Aggregation(type="MAX"), dimensions=["span_name"])
    assert latency["rows"] == [("a\x00b", 3)]
    costs = ask(store, "SPANS", "total_cost", Aggregation(type="SUM"), dimensions=["span_model_name"])
    assert costs["rows"] == [("m", 0.1)]
    filters = [read_filter("trace.tag.`team` = 'blue'")]
    assert ask(store, "TRACES", "trace_count", filters=filters)["rows"] == [(1,)]
    by_value = ask(store, "ASSESSMENTS", "assessment_count", dimensions=["assessment_value"])
    assert by_value == {"doubt": PassOnReason.UNREADABLE.value}


def test_a_database_that_is_not_there_is_away(store: MirrorStore, tmp_path: Path) -> None:
    asked = {"file": str(tmp_path / "none.db"), "trace_ids": ["tr-1"], "gone": [], "experiments": ["1"]}
    with pytest.raises(DatabaseAway):
        store.pull(asked)
    hold(store, (info(1), []))
    assert ask(store, "TRACES", "trace_count")["rows"] == [(1,)]


def fill_database(file: Path) -> None:
    """As MLflow has its tables, as far as they are read: a trace of ours, and one of another experiment."""
    tokens = ", ".join(f"{name} BIGINT" for name in TOKENS)
    with closing(sqlite3.connect(file)) as db:
        db.executescript(
            f"""
            CREATE TABLE trace_info (request_id TEXT PRIMARY KEY, experiment_id INTEGER, timestamp_ms BIGINT,
                execution_time_ms BIGINT, status TEXT, trace_name TEXT, session_id TEXT, {tokens});
            CREATE TABLE spans (trace_id TEXT, name TEXT, type TEXT, status TEXT,
                start_time_unix_nano BIGINT, end_time_unix_nano BIGINT, input_cost DOUBLE,
                output_cost DOUBLE, total_cost DOUBLE, model_name TEXT, model_provider TEXT);
            CREATE TABLE trace_tags (request_id TEXT, key TEXT, value TEXT);
            CREATE TABLE trace_request_metadata (request_id TEXT, key TEXT, value TEXT);
            CREATE TABLE assessments (assessment_id TEXT, trace_id TEXT, experiment_id INTEGER,
                trace_timestamp_ms BIGINT, name TEXT, assessment_type TEXT, value TEXT,
                aggregate_value DOUBLE, valid BOOLEAN);
            INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status)
                VALUES ('tr-1', 1, 5, 'OK'), ('tr-2', 2, 5, 'OK');
            INSERT INTO spans VALUES
                ('tr-1', 'a' || char(0) || 'b', 'LLM', 'OK', 1000000, 4999999, NULL, NULL, 0.1, 'm', 'p'),
                ('tr-1', 'open', NULL, 'OK', 1000000, NULL, NULL, NULL, NULL, NULL, NULL);
            INSERT INTO trace_tags VALUES ('tr-1', 'team', 'blue'), ('tr-1', 'long', printf('%300c', 'x'));
            INSERT INTO assessments VALUES
                ('a-1', 'tr-1', 1, 5, 'why', 'feedback', printf('%200c', 'x'), NULL, 1);
            """
        )


def named(*names: str) -> list[dict[str, Any]]:
    return [span(number, number + 1) | {"name": name} for number, name in enumerate(names)]


def test_all_conditions_about_spans_are_about_one_span(store: MirrorStore) -> None:
    error = {"status": {"code": "STATUS_CODE_ERROR"}}
    hold(store, (info(1), [named("a")[0] | error, *named("b")]), (info(2), [named("b")[0] | error]))
    assert find(store, "span.name = 'b' AND span.status = 'ERROR'") == ["tr-2"]
    assert find(store, "span.name = 'b'") == ["tr-1", "tr-2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("span.name LIKE '%B%'", ["tr-1"]),
        ("span.name ILIKE '%b%'", ["tr-1", "tr-2"]),
        ("span.name ILIKE 'É%'", ["tr-4"]),
        ("span.name ILIKE 'é%'", []),
        ("span.name ILIKE 'A'", ["tr-3"]),
        ("span.name ILIKE '%Té'", ["tr-4"]),
        ("span.name LIKE '_t_'", ["tr-4"]),
        ("span.name LIKE 'a'", ["tr-3"]),
        ("span.name != 'B'", ["tr-2", "tr-3", "tr-4"]),
        ("span.name IN ('B', 'b')", ["tr-1", "tr-2"]),
        ("span.name LIKE '%' AND span.type = 'LLM'", []),
        (
            "span.name LIKE '%' AND name IS NULL AND execution_time_ms = 1500",
            ["tr-1", "tr-2", "tr-3", "tr-4"],
        ),
        ("span.name LIKE '%' AND tags.team = 'blue'", ["tr-2"]),
    ],
)
def test_texts_are_compared_as_sqlite_compares_them(store: MirrorStore, text: str, found: list[str]) -> None:
    blue = {"mlflow.trace.spansLocation": "TRACKING_STORE", "team": "blue"}
    traces = (info(1), named("B")), (info(2, tags=blue), named("b")), (info(3), named("a\x00b"))
    hold(store, *traces, (info(4), named("Été")))
    assert find(store, text) == found


def test_spans_that_began_long_before_the_time_don_t_count(store: MirrorStore) -> None:
    begun_ms = 1_795_168_800_250
    hold(store, (info(1), [span((begun_ms - 20_000) * 1_000_000, None)]))
    hold(store, (info(2), [span((begun_ms - 5_000) * 1_000_000, None)]))
    assert find(store, "span.name = 's'") == ["tr-1", "tr-2"]
    assert find(store, f"span.name = 's' AND timestamp_ms >= {begun_ms}") == ["tr-2"]


def test_a_page_has_one_more_than_was_asked_for(store: MirrorStore) -> None:
    durations = {1: "2s", 2: None, 3: "1s", 4: "3s"}
    hold(store, *((info(n, execution_duration=d), named("a")) for n, d in durations.items()))
    order = {"order_by": ["execution_time_ms DESC"], "max_results": 2}
    assert find(store, "span.name = 'a'", **order) == ["tr-4", "tr-1", "tr-3"]
    assert find(store, "span.name = 'a'", page_token=page_token(2), **order) == ["tr-3", "tr-2"]


def test_searches_doubt_what_is_not_certain(store: MirrorStore) -> None:
    own = text("mlflow.spanType", '"LLM"')
    hold(store, (info(1), [span(0, 1, own, text("gen_ai.operation.name", "chat"))]))
    assert find(store, "span.name = 's'") == ["tr-1"]
    assert find(store, "span.type = 'LLM'") == {"doubt": PassOnReason.SPAN_TYPES.value}
    hold(store, (info(2, tags={"mlflow.trace.spansLocation": "ARCHIVE_REPO"}), []))
    assert find(store, "span.name = 's'") == {"doubt": PassOnReason.HELD_IN_PART.value}
