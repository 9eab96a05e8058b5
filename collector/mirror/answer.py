"""Rows of a result as MLflow's answer. Pure.

Source: convert_results_to_metric_data_points, mlflow/store/tracking/utils/sql_trace_metrics_utils.py, and
QueryTraceMetrics.Response, https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from collector.mirror.question import MetricQuestion
from collector.mirror.sql import BUCKET


def metrics_answer(question: MetricQuestion, rows: Sequence[Sequence[Any]]) -> bytes:
    """The body of the answer. Raises ValueError, OverflowError for a time that has no date."""
    points = [point for row in rows if (point := _point(question, row)) is not None]
    return json.dumps({"data_points": points} if points else {}).encode()


def _point(question: MetricQuestion, row: Sequence[Any]) -> dict[str, Any] | None:
    names = [*([BUCKET] if question.interval_seconds else []), *question.dimensions]
    dimensions = dict(zip(names, row, strict=False))
    labels = [each.label for each in question.aggregations]
    values = {
        label: float(value)
        for label, value in zip(labels, row[len(names) :], strict=True)
        if value is not None
    }
    if not values:
        return None
    if BUCKET in dimensions:
        moment = datetime.fromtimestamp(float(dimensions[BUCKET]) / 1000.0, tz=UTC)
        dimensions[BUCKET] = moment.isoformat()
    point = {"metric_name": question.metric, "dimensions": dimensions, "values": values}
    return {name: value for name, value in point.items() if value}
