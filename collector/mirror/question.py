"""A question to traces/metrics as a value, or the reason why it isn't read. Pure.

Source: QueryTraceMetrics, https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto, and what
may be combined: mlflow/store/tracking/utils/sql_trace_metrics_utils.py.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from collector.mirror.filters import MetricFilter, read_filter

DEFAULT_RESULTS = 1000
MAX_RESULTS = 100_000
# JSON texts of 64-bit integers, as protobuf writes them
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_LISTS = frozenset({"experiment_ids", "aggregations", "dimensions", "filters"})
_NUMBERS = frozenset({"time_interval_seconds", "start_time_ms", "end_time_ms", "max_results"})
_TEXTS = frozenset({"view_type", "metric_name"})


class PassOnReason(StrEnum):
    """Why MLflow is asked; the label of a metric."""

    UNREADABLE = "unreadable"
    QUICK = "quick"
    CREDENTIALS = "credentials"
    WORKSPACE = "workspace"
    INDEX_AWAY = "index_away"
    NOT_HELD = "not_held"
    TOO_MANY = "too_many_traces"
    COUNTS_DIFFER = "counts_differ"
    CHANGED_ELSEWHERE = "changed_elsewhere"
    OTHER_DATABASE = "other_database"
    WRITES_PENDING = "writes_pending"
    HELD_IN_PART = "held_in_part"
    SPAN_TYPES = "span_types"
    SPAN_ENDS = "span_ends"
    FAILED = "failed"


class NotAnswered(Exception):
    """The question is MLflow's."""

    def __init__(self, reason: PassOnReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """How values become one; `percentile` from 0 to 100 for PERCENTILE."""

    type: str
    percentile: float | None = None

    @property
    def label(self) -> str:
        """MLflow's name of the result."""
        return self.type if self.percentile is None else f"P{self.percentile}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuestion:
    """One question. Times are milliseconds since 1970, both inclusive; None: no bound.

    `types_are_certain`: it was proven of the spans' types (span_types.py).
    """

    experiment_ids: Sequence[int]
    view: str
    metric: str
    aggregations: Sequence[Aggregation]
    dimensions: Sequence[str] = ()
    filters: Sequence[MetricFilter] = ()
    interval_seconds: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    max_results: int = DEFAULT_RESULTS
    types_are_certain: bool = False

    @property
    def needs_types(self) -> bool:
        """Whether it is about types of spans."""
        filtered = any((each.table, each.column) == ("span", "type") for each in self.filters)
        return filtered or "span_type" in self.dimensions


_NUMERIC = frozenset({"AVG", "MIN", "MAX", "PERCENTILE"})
_SUMMED = _NUMERIC | {"SUM"}
_MODELS = frozenset({"span_model_name", "span_model_provider"})
_TRACE_NAME = frozenset({"trace_name"})
_TOKENS = ("input", "output", "total", "cache_read_input", "cache_creation_input")
# view and metric -> its aggregations, its dimensions
ALLOWED: Mapping[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = {
    ("TRACES", "trace_count"): (frozenset({"COUNT"}), _TRACE_NAME | {"trace_status"}),
    ("TRACES", "session_count"): (frozenset({"COUNT"}), frozenset()),
    ("TRACES", "latency"): (_NUMERIC, _TRACE_NAME),
    **{("TRACES", f"{name}_tokens"): (_SUMMED, _TRACE_NAME) for name in _TOKENS},
    ("SPANS", "span_count"): (frozenset({"COUNT"}), _MODELS | {"span_name", "span_type", "span_status"}),
    ("SPANS", "latency"): (_NUMERIC, frozenset({"span_name", "span_status"})),
    **{("SPANS", f"{name}_cost"): (_SUMMED, _MODELS) for name in ("input", "output", "total")},
    ("ASSESSMENTS", "assessment_count"): (
        frozenset({"COUNT"}),
        frozenset({"assessment_name", "assessment_value"}),
    ),
    ("ASSESSMENTS", "assessment_value"): (_NUMERIC, frozenset({"assessment_name"})),
}
_FILTERED = {"TRACES": {"trace"}, "SPANS": {"trace", "span"}, "ASSESSMENTS": {"trace", "assessment"}}


def question_from_json(document: Mapping[str, Any]) -> MetricQuestion:
    """A question from what `asdict` makes of it."""
    aggregations = [Aggregation(**each) for each in document["aggregations"]]
    filters = [MetricFilter(**each) for each in document["filters"]]
    return MetricQuestion(**{**document, "aggregations": aggregations, "filters": filters})


def read_question(body: bytes) -> MetricQuestion:
    """The question in a request's body. Raises NotAnswered for all that isn't plain, errors included."""
    try:
        return _question(_fields(read_object(body)))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotAnswered(PassOnReason.UNREADABLE) from None


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object, in which no key is there twice. Raises ValueError, RecursionError."""
    document = json.loads(body, object_pairs_hook=_once)
    if not isinstance(document, dict):
        raise ValueError("no object")
    return document


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """The fields, each of its type. Raises ValueError."""
    for name, value in document.items():
        if name in _LISTS:
            fits = isinstance(value, list)
        elif name in _NUMBERS:
            document[name], fits = _whole(value), True
        else:
            fits = name in _TEXTS and isinstance(value, str)
        if not fits:
            raise ValueError(name)
    return document


def _whole(value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return value
    raise ValueError("no integer")


def _question(fields: Mapping[str, Any]) -> MetricQuestion:
    question = MetricQuestion(
        experiment_ids=[experiment_id_of(each) for each in fields["experiment_ids"]],
        view=fields["view_type"],
        metric=fields["metric_name"],
        aggregations=[_aggregation(each) for each in fields["aggregations"]],
        dimensions=[text_of(each) for each in fields.get("dimensions", ())],
        filters=[_filter(each) for each in fields.get("filters", ())],
        interval_seconds=fields.get("time_interval_seconds") or None,
        start_ms=fields.get("start_time_ms"),
        end_ms=fields.get("end_time_ms"),
        max_results=fields.get("max_results", DEFAULT_RESULTS),
    )
    _check(question)
    return question


def _check(question: MetricQuestion) -> None:
    """Raises ValueError, KeyError for a question that MLflow refuses, or that has two readings."""
    types, dimensions = ALLOWED[question.view, question.metric]
    asked = [each.type for each in question.aggregations]
    interval = question.interval_seconds
    if not (
        question.experiment_ids
        and asked
        and types.issuperset(asked)
        and dimensions.issuperset(question.dimensions)
        and _are_different([each.label for each in question.aggregations])
        and _are_different(question.dimensions)
        and _FILTERED[question.view].issuperset(each.table for each in question.filters)
        and 1 <= question.max_results <= MAX_RESULTS
        and (interval is None or (0 < interval < 10**9 and None not in (question.start_ms, question.end_ms)))
        and all(bound is None or abs(bound) < 9 * 10**12 for bound in (question.start_ms, question.end_ms))
    ):
        raise ValueError("not a question that is answered here")


def _are_different(texts: Sequence[str]) -> bool:
    return len(set(texts)) == len(texts)


def text_of(value: Any) -> str:
    """A text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def experiment_id_of(value: Any) -> int:
    """An experiment's id in its one form. Raises ValueError."""
    if not isinstance(value, str) or not _EXPERIMENT_ID.fullmatch(value):
        raise ValueError("no experiment id")
    return int(value)


def _filter(value: Any) -> MetricFilter:
    found = read_filter(text_of(value))
    if found is None:
        raise ValueError("no plain filter")
    return found


def _aggregation(value: Any) -> Aggregation:
    if not isinstance(value, dict) or not {"aggregation_type", "percentile_value"}.issuperset(value):
        raise ValueError("no aggregation")
    type, percentile = text_of(value["aggregation_type"]), value.get("percentile_value")
    if type != "PERCENTILE":
        if "percentile_value" in value:
            raise ValueError("a percentile of no percentile")
        return Aggregation(type=type)
    if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 0 <= percentile <= 100:
        raise ValueError("no percentile")
    return Aggregation(type=type, percentile=float(percentile))
