"""Runs, the pure parts: histories thinned and summed up, MLflow's JSON read, traces summed, runs compared."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.answers.runs.compare import compare
from collector.answers.runs.histories import summarise_history, thinned
from collector.answers.runs.linked import quantile, seconds_of, sum_up
from collector.answers.runs.models import Metric, MetricPoint, Run
from collector.answers.runs.reading import read_artifacts, read_datasets, read_points, read_run

values = st.one_of(st.floats(allow_nan=False), st.just(math.nan))
histories = st.lists(values, max_size=300).map(
    lambda found: [MetricPoint(step=step, value=value, unix_ns=step) for step, value in enumerate(found)]
)
METRIC = Metric(key="m", last=1.0, last_step=0, last_unix_ns=0)


@given(histories, st.integers(2, 50))
def test_a_thinned_history_is_short_in_order_and_keeps_its_ends_and_extremes(
    points: list[MetricPoint], limit: int
) -> None:
    kept = thinned(points, limit)
    assert len(kept) <= limit
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    if len(points) <= limit:
        assert kept == points
        return
    assert kept[0] is points[0]
    assert kept[-1] is points[-1]
    inner = [point.value for point in points[1:-1] if not math.isnan(point.value)]
    if inner and limit >= 4:
        found = [point.value for point in kept]
        assert max(inner) in found
        assert min(inner) in found


@given(histories)
def test_sums_are_of_all_points_whatever_their_order(points: list[MetricPoint]) -> None:
    found = summarise_history(METRIC, points[::-1], limit=2, truncated=False)
    finite = [point.value for point in points if math.isfinite(point.value)]
    assert found.total_points == len(points)
    assert found.minimum == (min(finite) if finite else None)
    assert found.maximum == (max(finite) if finite else None)
    assert found.history is not None
    assert len(found.history) <= 2


def test_no_points_are_sent_unless_they_are_asked_for() -> None:
    points = [MetricPoint(step=0, value=1.0, unix_ns=0)]
    assert summarise_history(METRIC, points, limit=0, truncated=False).history is None
    assert summarise_history(METRIC, points, limit=None, truncated=False).history == points


def test_a_run_is_read_with_what_mlflow_leaves_out() -> None:
    document: dict[str, Any] = {
        "info": {"run_id": "r", "experiment_id": "7", "status": "RUNNING", "start_time": 1000},
        "data": {
            "metrics": [
                {"key": "b", "value": "NaN", "timestamp": "5"},
                {"key": "a", "value": 2, "step": "3"},
                {},
            ],
            "params": [{"key": "p", "value": "1"}],
            "tags": [
                {"key": "mlflow.runName", "value": "first"},
                {"key": "mlflow.parentRunId", "value": "q"},
            ],
        },
    }
    run = read_run(document, now_unix_ns=3_500_000_000)
    assert (run.name, run.parent_run_id, run.duration_seconds) == ("first", "q", 2.5)
    assert [metric.key for metric in run.metrics] == ["a", "b"]
    assert run.metrics[0].last_step == 3
    assert math.isnan(run.metrics[1].last)
    assert '"last":"NaN"' in run.model_dump_json()


@pytest.mark.parametrize(
    "document", [{}, {"info": None, "data": 5}, {"info": {"start_time": "x"}, "data": {"metrics": [{}]}}]
)
def test_odd_answers_raise_nothing(document: Any) -> None:
    read_run(document, now_unix_ns=0)
    read_datasets(document)
    assert read_points({"metrics": []}) == []
    assert read_artifacts({}) == []


def info(state: str = "OK", duration: str = "1s", **metadata: Any) -> dict[str, Any]:
    return {
        "state": state,
        "execution_duration": duration,
        "trace_metadata": {f"mlflow.trace.{key}": value for key, value in metadata.items()},
        "tags": {"mlflow.traceName": "answer"},
    }


def test_linked_traces_are_summed_up() -> None:
    usage = json.dumps({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15})
    found = sum_up(
        [
            info(duration="1s", tokenUsage=usage, cost='{"total_cost": 0.1}', session="a"),
            info(duration="3s", state="ERROR", tokenUsage=usage, cost='{"total_cost": 0.2}', session="a"),
            info(duration="oops", tokenUsage="not json", session="b"),
        ],
        truncated=False,
    )
    assert (found.count, found.errors, found.sessions) == (3, 1, 2)
    assert (found.duration_p50_seconds, found.duration_max_seconds) == (2.0, 3.0)
    assert (found.input_tokens, found.total_tokens) == (20, 30)
    assert found.cost_usd == pytest.approx(0.3)
    assert found.names == {"answer": 3}


def test_what_no_trace_knows_is_unknown() -> None:
    found = sum_up([info()], truncated=True)
    assert (found.total_tokens, found.cost_usd, found.truncated) == (None, None, True)
    assert sum_up([], truncated=False).duration_p95_seconds is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_between_its_neighbours(numbers: list[float], share: float) -> None:
    found = quantile(sorted(numbers), share)
    assert found is not None
    assert min(numbers) - 1e-6 <= found <= max(numbers) + 1e-6
    assert quantile(sorted(numbers), 1.0) == max(numbers)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5s", 1.5), ("0s", 0.0), ("x", None), (None, None), ("nans", None), (5, None)]
)
def test_a_duration_is_read(text: Any, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def run(name: str, *, params: dict[str, str], metrics: dict[str, float]) -> Run:
    return Run(
        run_id=name,
        name=name,
        experiment_id="1",
        status="FINISHED",
        lifecycle_stage="active",
        start_unix_ns=None,
        duration_seconds=None,
        user=None,
        parent_run_id=None,
        params=params,
        tags={"mlflow.user": name, "team": "one"},
        metrics=[Metric(key=key, last=value, last_step=0, last_unix_ns=0) for key, value in metrics.items()],
    )


def test_what_differs_comes_first_with_its_change() -> None:
    found = compare(
        [
            run("a", params={"lr": "0.1", "seed": "1"}, metrics={"loss": 2.0, "nan": math.nan, "zero": 0.0}),
            run("b", params={"lr": "0.2", "seed": "1"}, metrics={"loss": 1.0, "nan": math.nan, "new": 1.0}),
        ]
    )
    assert [(row.key, row.differs) for row in found.params] == [("lr", True), ("seed", False)]
    by_key = {row.key: row for row in found.metrics}
    assert by_key["loss"].change == -0.5
    assert by_key["loss"].values == [2.0, 1.0]
    assert not by_key["nan"].differs
    assert by_key["new"].values == [None, 1.0]
    assert by_key["zero"].change is None
    assert [row.key for row in found.tags] == ["team"], "MLflow's own tags say nothing"
    json.loads(found.model_dump_json(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
