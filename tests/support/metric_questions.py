"""Random valid questions to MLflow's traces/metrics, and traces that make them worth asking."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Question = dict[str, Any]

NAMES = ("plan", "answer", "Answer", "résumé", "a b", "x'y", "z")
MODELS = ("gpt-4o", "claude-sonnet-4", "Gpt-4o", "")
TYPES = ("LLM", "TOOL", "AGENT", "CHAT_MODEL", "UNKNOWN", "own kind")
NUMERIC = ("AVG", "MIN", "MAX", "PERCENTILE")
SUMMED = (*NUMERIC, "SUM")
MODEL_DIMENSIONS = ("span_model_name", "span_model_provider")
TOKENS = ("input", "output", "total", "cache_read_input", "cache_creation_input")
# view, metric, aggregations, dimensions
QUESTIONS: Sequence[tuple[str, str, Sequence[str], Sequence[str]]] = (
    ("TRACES", "trace_count", ("COUNT",), ("trace_name", "trace_status")),
    ("TRACES", "session_count", ("COUNT",), ()),
    ("TRACES", "latency", NUMERIC, ("trace_name",)),
    *(("TRACES", f"{kind}_tokens", SUMMED, ("trace_name",)) for kind in TOKENS),
    ("SPANS", "span_count", ("COUNT",), ("span_name", "span_type", "span_status", *MODEL_DIMENSIONS)),
    ("SPANS", "latency", NUMERIC, ("span_name", "span_status")),
    *(("SPANS", f"{kind}_cost", SUMMED, MODEL_DIMENSIONS) for kind in ("input", "output", "total")),
    ("ASSESSMENTS", "assessment_count", ("COUNT",), ("assessment_name", "assessment_value")),
    ("ASSESSMENTS", "assessment_value", NUMERIC, ("assessment_name",)),
)
TRACE_FILTERS = (
    'trace.status = "OK"',
    "trace.status = 'ERROR'",
    "trace.tag.`team` = 'blue'",
    "trace.tag.`mlflow.traceName` = 'plan'",
    "trace.metadata.`mlflow.trace.session` = 'session 1'",
    'trace.metadata.`mlflow.trace.user` = "ada"',
)
SPAN_FILTERS = ("span.name = 'answer'", 'span.name = "a b"', "span.status = 'ERROR'", "span.type = 'LLM'")
ASSESSMENT_FILTERS = ("assessment.name = 'good'", "assessment.type = 'feedback'")
FILTERS = {
    "TRACES": TRACE_FILTERS,
    "SPANS": (*TRACE_FILTERS, *SPAN_FILTERS),
    "ASSESSMENTS": (*TRACE_FILTERS, *ASSESSMENT_FILTERS),
}
INTERVALS = (1, 7, 60, 3600, 86_400)


def random_question(dice: random.Random, experiment_ids: Sequence[str], *, around_ms: int) -> Question:
    """A question that MLflow answers, about these experiments or some of them."""
    view, metric, aggregations, dimensions = dice.choice(QUESTIONS)
    asked = dice.sample(aggregations, dice.randint(1, len(aggregations)))
    question: Question = {
        "experiment_ids": dice.sample(experiment_ids, dice.randint(1, len(experiment_ids))),
        "view_type": view,
        "metric_name": metric,
        "aggregations": [_aggregation(dice, each) for each in asked],
    }
    if dimensions and dice.random() < 0.6:
        question["dimensions"] = dice.sample(dimensions, dice.randint(1, min(3, len(dimensions))))
    if dice.random() < 0.5:
        question["filters"] = dice.sample(FILTERS[view], dice.randint(1, 2))
    bounds = _bounds(dice, around_ms)
    if len(bounds) == 2 and dice.random() < 0.6:
        question["time_interval_seconds"] = dice.choice(INTERVALS)
    if dice.random() < 0.2:
        question["max_results"] = dice.choice((1, 2, 5, 100))
    return question | bounds


def _aggregation(dice: random.Random, type: str) -> Mapping[str, Any]:
    if type != "PERCENTILE":
        return {"aggregation_type": type}
    return {"aggregation_type": type, "percentile_value": dice.choice((0, 50, 95, 99.9, 33.3, 100))}


def _bounds(dice: random.Random, around_ms: int) -> dict[str, Any]:
    start = around_ms + dice.randint(-400_000, 200_000)
    bounds = {"start_time_ms": start, "end_time_ms": start + dice.randint(0, 600_000)}
    if dice.random() < 0.3:
        bounds = {name: str(value) for name, value in bounds.items()}
    return {name: value for name, value in bounds.items() if dice.random() < 0.7}


def random_traces(dice: random.Random, count: int, *, around_ms: int) -> ExportTraceServiceRequest:
    """Traces with everything that is asked about, some of it missing."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(count):
        trace_id, root = dice.randbytes(16), dice.randbytes(8)
        start_ns = (around_ms + dice.randint(-300_000, 300_000)) * 1_000_000
        for number in range(dice.randint(1, 5)):
            span = scope.spans.add(
                trace_id=trace_id,
                span_id=dice.randbytes(8) if number else root,
                parent_span_id=root if number else b"",
                name=dice.choice(NAMES),
                start_time_unix_nano=start_ns + dice.choice((0, 1, 999_999, 10_000_000)) * number,
                status=Status(code=dice.choice(list(Status.StatusCode.values()))),
            )
            span.end_time_unix_nano = span.start_time_unix_nano + dice.randint(0, 3_000_000_000)
            _describe(dice, span, is_root=not number)
    return request


def _describe(dice: random.Random, span: Span, *, is_root: bool) -> None:
    if dice.random() < 0.7:
        _set(span, "mlflow.spanType", dice.choice(TYPES))
    if dice.random() < 0.6:
        _set(span, "mlflow.llm.model", dice.choice(MODELS))
        _set(span, "mlflow.llm.provider", dice.choice(("openai", "anthropic")))
        tokens = {"input_tokens": dice.randint(0, 5000), "output_tokens": dice.randint(0, 500)}
        tokens["total_tokens"] = sum(tokens.values())
        tokens |= {"cache_read_input_tokens": 7} if dice.random() < 0.3 else {}
        _set(span, "mlflow.chat.tokenUsage", json.dumps(tokens))
        cost = {"input_cost": dice.random() / 7, "output_cost": dice.random() / 3}
        cost["total_cost"] = sum(cost.values())
        _set(span, "mlflow.llm.cost", json.dumps(cost))
    if is_root and dice.random() < 0.6:
        _set(span, "session.id", f"session {dice.randint(1, 3)}")
        _set(span, "user.id", dice.choice(("ada", "bob")))
    if is_root and dice.random() < 0.4:
        _set(span, "mlflow.traceTag.team", dice.choice(("blue", "red")))


def _set(span: Span, key: str, value: str) -> None:
    span.attributes.add(key=key).value.string_value = value


def odd_traces(*, around_ms: int, untold: bool, first_id: int) -> ExportTraceServiceRequest:
    """Traces that exporters rarely send; `untold`: MLflow's API doesn't tell all of their columns.

    Their ids are numbers from `first_id` on.
    """
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    start_ns = around_ms * 1_000_000

    def add(number: int, **changed: Any) -> Span:
        number += first_id
        span = {"start_time_unix_nano": start_ns, "end_time_unix_nano": start_ns + 1_500_000} | changed
        trace_id, span_id = number.to_bytes(16), number.to_bytes(8)
        return scope.spans.add(**{"trace_id": trace_id, "span_id": span_id, "name": "odd"} | span)

    if untold:
        add(0, end_time_unix_nano=0)
        add(4).attributes.add(key="mlflow.spanType").value.int_value = 5
        add(5).attributes.add(key="mlflow.llm.model").value.int_value = 5
    add(1, end_time_unix_nano=start_ns - 1_500_000)
    add(2, name="a\x00b")
    add(3, name="")
    _set(add(6), "mlflow.llm.model", "7")
    _set(
        add(7), "mlflow.llm.cost", json.dumps({"input_cost": "0.5", "output_cost": True, "total_cost": None})
    )
    _set(add(8), "mlflow.llm.cost", '{"input_cost": NaN, "output_cost": -1, "total_cost": 1e16}')
    _set(add(9), "mlflow.chat.tokenUsage", json.dumps({"input_tokens": 1.0, "output_tokens": 2**53 + 1}))
    _set(add(10), "session.id", "s" * 249)
    _set(add(11), "mlflow.traceTag.long", "x" * 300)
    _set(add(12), "mlflow.spanType", "")
    _set(add(13), "mlflow.llm.model", "m" * 600)
    _set(add(14), "mlflow.traceName", "n" * 300)
    _set(add(15), "mlflow.traceTag.mlflow.traceName", "renamed")
    return request
