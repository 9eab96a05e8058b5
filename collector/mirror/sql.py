"""A question as SQL over the rows, with MLflow's meaning. Pure.

What MLflow does on SQLite, and so here: bounds of time are those of the trace, but for the cost of spans,
which begin themselves; a group without a value, or without one of its dimensions, is left out before the
rows are limited; times fall into buckets by division of doubles; durations of spans are cut to milliseconds;
percentiles are interpolated; texts are ordered and compared by their bytes.
"""

from collections.abc import Sequence
from typing import Any

from collector.mirror.filters import MetricFilter
from collector.mirror.question import Aggregation, MetricQuestion, PassOnReason

BUCKET = "time_bucket"
TABLES = {"TRACES": "traces", "SPANS": "spans", "ASSESSMENTS": "assessments"}
DIMENSIONS = {
    "trace_name": "name",
    "trace_status": "status",
    "span_name": "name",
    "span_type": "type",
    "span_status": "status",
    "span_model_name": "model",
    "span_model_provider": "provider",
    "assessment_name": "name",
    "assessment_value": "value",
}
_COUNTED = {"trace_count": "trace_id", "span_count": "start_ns", "assessment_count": "id"}
_LATENCIES = {"TRACES": "latency_ms", "SPANS": "((end_ns - start_ns) // 1000000)"}

Values = list[Any]


def question_sql(question: MetricQuestion) -> tuple[str, Values]:
    """SQL for the rows of the answer: bucket, dimensions, aggregations, in this order."""
    measured = _measured(question)
    where, values = _where(question, measured)
    groups = [*_bucket(question), *(DIMENSIONS[each] for each in question.dimensions)]
    columns = [*groups, *(_aggregated(each, measured) for each in question.aggregations)]
    numbers = ", ".join(str(place + 1) for place in range(len(groups)))
    grouped = f" GROUP BY {numbers} ORDER BY {numbers}" if groups else ""
    sql = f"SELECT {', '.join(columns)} FROM {TABLES[question.view]} WHERE {where}{grouped}"
    return f"{sql} LIMIT {question.max_results}", values


def doubts_sql(question: MetricQuestion) -> dict[PassOnReason, tuple[str, Values]]:
    """SQL that finds something where the rows don't hold what the question needs."""
    ids = _experiments(question)
    held = "(is_whole AND spans_are_held)" if question.view == "SPANS" else "is_whole"
    found: dict[PassOnReason, tuple[str, Values]] = {
        PassOnReason.HELD_IN_PART: (f"SELECT 1 FROM traces WHERE NOT {held} AND {ids} LIMIT 1", [])
    }
    if (question.view, question.metric) == ("SPANS", "latency"):
        sql = f"SELECT 1 FROM spans WHERE NOT end_is_certain AND {ids} LIMIT 1"
        found[PassOnReason.SPAN_ENDS] = (sql, [])
    if question.needs_types and not question.types_are_certain:
        sql = f"SELECT 1 FROM spans WHERE NOT type_is_certain AND {ids} LIMIT 1"
        found[PassOnReason.SPAN_TYPES] = (sql, [])
    if "assessment_value" in question.dimensions:
        asked = [_filtered(each, question.view) for each in question.filters]
        conditions = " AND ".join(["NOT text_is_certain", "valid", ids, *(each for each, _ in asked)])
        values = [value for _, given in asked for value in given]
        found[PassOnReason.UNREADABLE] = (f"SELECT 1 FROM assessments WHERE {conditions} LIMIT 1", values)
    return found


def _measured(question: MetricQuestion) -> str:
    if question.metric == "session_count":
        return "session"
    if question.metric == "latency":
        return _LATENCIES[question.view]
    if question.metric == "assessment_value":
        return "number"
    return _COUNTED.get(question.metric, question.metric)


def _experiments(question: MetricQuestion) -> str:
    return f"experiment IN ({', '.join(str(id) for id in question.experiment_ids)})"


def _where(question: MetricQuestion, measured: str) -> tuple[str, Values]:
    conditions, values = [_experiments(question), f"{measured} IS NOT NULL"], Values()
    conditions += [f"{DIMENSIONS[each]} IS NOT NULL" for each in question.dimensions]
    if question.view == "ASSESSMENTS":
        conditions.append("valid")
    begins_itself = question.view == "SPANS" and question.metric.endswith("_cost")
    time, unit = ("start_ns", 1_000_000) if begins_itself else ("timestamp_ms", 1)
    if question.start_ms is not None:
        conditions.append(f"{time} >= {question.start_ms * unit}")
    if question.end_ms is not None:
        conditions.append(f"{time} < {(question.end_ms + 1) * unit}")
    for each in question.filters:
        condition, given = _filtered(each, question.view)
        conditions.append(condition)
        values += given
    return " AND ".join(conditions), values


def _filtered(each: MetricFilter, view: str) -> tuple[str, Values]:
    if each.key is not None:
        entries = "SELECT trace_id FROM entries WHERE kind = ? AND key = ? AND value = ?"
        return f"trace_id IN ({entries})", [each.column, each.key, each.value]
    if each.table == "trace" and view != "TRACES":
        return f"trace_id IN (SELECT trace_id FROM traces WHERE {each.column} = ?)", [each.value]
    return f"{each.column} = ?", [each.value]


def _bucket(question: MetricQuestion) -> Sequence[str]:
    if question.interval_seconds is None:
        return ()
    size = question.interval_seconds * 1000
    time = "(start_ns::DOUBLE / 1000000::DOUBLE)" if question.view == "SPANS" else "timestamp_ms::DOUBLE"
    return (f"floor({time} / {size}::DOUBLE) * {size}",)


def _aggregated(each: Aggregation, measured: str) -> str:
    if each.type == "COUNT":
        return f"count({'DISTINCT ' if measured == 'session' else ''}{measured})"
    if each.percentile is not None:
        return f"quantile_cont({measured}::DOUBLE, {each.percentile / 100!r})"
    return f"{each.type.lower()}({measured})"
