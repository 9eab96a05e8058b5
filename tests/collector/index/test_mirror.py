"""Rows with MLflow's own columns, and what is asked of them."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb.mirror import MirrorStore
from collector.mirror.filters import read_filter
from collector.mirror.question import Aggregation, MetricQuestion, PassOnReason
from collector.mirror.rows import Rows, add_trace

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
