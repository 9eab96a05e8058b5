"""MLflow's JSON of traces as rows with the columns that MLflow itself counts by. Pure.

Where the API doesn't tell a column with certainty, the row says so:

    traces         is_whole          else a name, a session or tokens were cut
                   spans_are_held    else they aren't rows of MLflow's database, or not told as they are there
    spans          end_is_certain    else the column has none, or 0
                   type_is_certain   the API fills in a type that the column may lack
    assessments    text_is_certain   whole numbers don't tell whether they were written with a fraction,
                                     and long texts aren't held

Source: SqlTraceInfo, SqlSpan and SqlAssessments,
https://github.com/mlflow/mlflow/blob/master/mlflow/store/tracking/dbmodels/models.py, and what fills them,
mlflow/store/tracking/utils/trace_analytics.py.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from collector.mirror.filters import MAX_CHARACTERS, NAME_TAG, SESSION_METADATA, is_held

Row = dict[str, Any]

TOKENS = tuple(f"{name}_tokens" for name in ("input", "output", "total", "cache_read_input")) + (
    "cache_creation_input_tokens",
)
COSTS = ("input_cost", "output_cost", "total_cost")
MODEL, PROVIDER = "mlflow.llm.model", "mlflow.llm.provider"
MODEL_CHARACTERS = 500
# of an assessment's value in JSON: what is longer is what people wrote, and no group in a chart
MAX_VALUE_CHARACTERS = 100
STORED = "TRACKING_STORE"
_OWN_PREFIX = "mlflow."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of whole traces; each takes the place of what was there of its trace."""

    traces: list[Row] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    assessments: list[Row] = field(default_factory=list)


def spans_are_stored(info: Mapping[str, Any]) -> bool:
    """Whether a trace's spans are rows of MLflow's database."""
    return bool(info.get("tags", {}).get("mlflow.trace.spansLocation") == STORED)


def experiment_of(info: Mapping[str, Any]) -> str | None:
    """The id of the experiment that a trace is in."""
    location = info.get("trace_location", {}).get("mlflow_experiment", {})
    return None if (id := location.get("experiment_id")) is None else str(id)


def add_trace(rows: Rows, info: Mapping[str, Any], spans: Sequence[Mapping[str, Any]] | None) -> None:
    """Add the rows of one trace; `spans` None: they aren't known.

    Raises ValueError, KeyError, TypeError: it isn't in MLflow's JSON.
    """
    trace = _trace(info)
    of = {name: trace[name] for name in ("experiment", "trace_id", "timestamp_ms")}
    trace["spans_are_held"] &= spans is not None and all(map(_is_told, spans))
    rows.traces.append(trace)
    rows.spans.extend(of | _span(span) for span in spans or ())
    rows.assessments.extend(of | _assessment(each) for each in info.get("assessments", ()))
    for kind, values in (("tag", info.get("tags", {})), ("metadata", info.get("trace_metadata", {}))):
        rows.entries.extend(
            {"trace_id": trace["trace_id"], "kind": kind, "key": key, "value": value}
            for key, value in values.items()
            if is_held(key, value)
        )


def _trace(info: Mapping[str, Any]) -> Row:
    tags, metadata = info.get("tags", {}), info.get("trace_metadata", {})
    name, session = tags.get(NAME_TAG), metadata.get(SESSION_METADATA)
    usage, usage_is_whole = _usage(metadata.get("mlflow.trace.tokenUsage"))
    location = tags.get("mlflow.trace.spansLocation", STORED)
    timestamp_ms, latency_ms = trace_times(info)
    return {
        "experiment": int(info["trace_location"]["mlflow_experiment"]["experiment_id"]),
        "trace_id": info["trace_id"],
        "timestamp_ms": timestamp_ms,
        "latency_ms": latency_ms,
        "status": info["state"],
        "name": name,
        "session": session,
        **usage,
        "spans_are_held": location == STORED,
        "is_whole": usage_is_whole
        and len(name or "") < MAX_CHARACTERS["tag"]
        and len(session or "") < MAX_CHARACTERS["metadata"],
    }


def _usage(text: str | None) -> tuple[Row, bool]:
    """The tokens of a trace, and whether they could be read: the API cuts long texts."""
    if text is None:
        return dict.fromkeys(TOKENS), True
    try:
        usage = json.loads(text)
        return {name: None if usage.get(name) is None else int(usage[name]) for name in TOKENS}, True
    except (ValueError, TypeError, AttributeError):
        return dict.fromkeys(TOKENS), False


def trace_times(info: Mapping[str, Any]) -> tuple[int, int | None]:
    """When a trace began, in milliseconds since 1970, and how many it took; None: it hasn't ended."""
    return milliseconds_of(info["request_time"]), _duration_ms(info.get("execution_duration"))


def milliseconds_of(text: str) -> int:
    """A time of protobuf's JSON, in milliseconds since 1970. Raises ValueError."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)


def _duration_ms(text: str | None) -> int | None:
    return None if text is None else int(Decimal(text.removesuffix("s")) * 1000)


def _is_told(span: Mapping[str, Any]) -> bool:
    """Whether MLflow's columns follow from what it tells: not those of models that are no texts."""
    told = {each["key"]: each.get("value", {}) for each in span.get("attributes", ())}
    values = (_value(told.get(key)) for key in (MODEL, PROVIDER))
    return all(value is None or isinstance(value, str) for value in values)


def _span(span: Mapping[str, Any]) -> Row:
    attributes = {each["key"]: each.get("value", {}) for each in span.get("attributes", ())}
    cost = _value(attributes.get("mlflow.llm.cost"))
    type = _value(attributes.get("mlflow.spanType"))
    is_text = isinstance(type, str)
    return {
        "name": span.get("name", ""),
        "type": type if is_text else None,
        # what other conventions say of a span may have become its type on the way out
        "type_is_certain": type is None
        or (is_text and all(key.startswith(_OWN_PREFIX) for key in attributes)),
        "status": str(span.get("status", {}).get("code", "UNSET")).removeprefix("STATUS_CODE_"),
        # JSON leaves out what is 0
        "start_ns": int(span.get("start_time_unix_nano", 0)),
        "end_ns": int(span["end_time_unix_nano"]) if "end_time_unix_nano" in span else None,
        "end_is_certain": "end_time_unix_nano" in span,
        **{name: _finite(cost.get(name)) if isinstance(cost, dict) else None for name in COSTS},
        "model": _model(_value(attributes.get(MODEL))),
        "provider": _model(_value(attributes.get(PROVIDER))),
    }


def _model(value: Any) -> str | None:
    return value[:MODEL_CHARACTERS] if isinstance(value, str) else None


def _finite(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _value(value: Mapping[str, Any] | None) -> Any:
    """OTLP's AnyValue in JSON, as far as it matters here: texts, numbers, and maps of them."""
    if not value:
        return None
    if "kvlist_value" in value:
        pairs = value["kvlist_value"].get("values", ())
        return {each["key"]: _value(each.get("value")) for each in pairs}
    if "int_value" in value:
        return int(value["int_value"])
    return next(iter(value.values()))


def _assessment(document: Mapping[str, Any]) -> Row:
    kind = next(each for each in ("feedback", "expectation", "issue") if each in document)
    value = document[kind].get("value")
    text = _text(value) if kind != "issue" and "value" in document[kind] else None
    return {
        "id": document["assessment_id"],
        "name": document["assessment_name"],
        "type": kind,
        "value": text,
        "text_is_certain": text is not None,
        "number": None if kind == "issue" else _number(value),
        "valid": document.get("valid", True),
    }


def _text(value: Any) -> str | None:
    """The JSON that MLflow has stored for a value, where it is short and there is one way to write it."""
    certain = value is None or isinstance(value, bool | str)
    certain = certain or (isinstance(value, float) and not value.is_integer())
    text = json.dumps(value) if certain else ""
    return text if 0 < len(text) <= MAX_VALUE_CHARACTERS else None


def _number(value: Any) -> float | None:
    """What MLflow counts a value as."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return _finite(value)
    return {"yes": 1.0, "no": 0.0}.get(value.strip().lower()) if isinstance(value, str) else None
