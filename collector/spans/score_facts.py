"""A judgement as the index holds it: who judged what by which name, with a number or a label. Pure.

    Score (scores.py)                        from log records and spans
    MLflow's assessment in a trace's JSON    from MLflow

One judgement is the same fact from both: MLflow's copy of what Sidespan wrote carries its key. Explanations,
long texts, lists and objects are content and are left out; expectations and issues judge nothing.

Source: https://github.com/mlflow/mlflow/blob/master/mlflow/protos/assessments.proto
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.spans.facts import MAX_TIME_NS, decode_attributes
from collector.spans.json_text import read_json
from collector.spans.readers import text
from collector.spans.scores import (
    MAX_EXACT_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SCORES,
    MAX_SOURCE_CHARACTERS,
    Judge,
    Score,
    number,
    record_score,
    result_record,
)
from collector.spans.summary_models import ScoreRow

# in the metadata of each assessment that Sidespan writes: the judgement's key, and the label of a number
KEY, LABEL = "sidespan.key", "sidespan.label"
# what makes MLflow show an assessment with its session (mlflow.tracing.constant.TraceMetadataKey)
SESSION = "mlflow.trace.session"
# of a log record that says where a judgement belongs that named a session or a response: its first key
PLACED_KEY = "sidespan.evaluation.key"
# a longer text is no category
MAX_LABEL_CHARACTERS = 100
PASS, FAIL = "pass", "fail"
_SPAN_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFact:
    """One judgement on a trace or a span; `key` tells it from all others of the trace. Ids are in hex.

    `value` and `label` are both None for a failed evaluator (`error_type`) and for content. `session`: the
    judgement is on the whole session.
    """

    key: str
    trace_id: str
    span_id: str | None
    name: str
    value: float | None
    label: str | None
    error_type: str | None
    source: str | None
    judge: str
    session: str | None
    time_unix_ns: int


def shown(score: ScoreFact) -> ScoreRow:
    """The score as a summary has it."""
    return ScoreRow(**{each.name: getattr(score, each.name) for each in fields(ScoreRow)})


def record_fact(record: LogRecord, *, received_unix_ns: int) -> ScoreFact | None:
    """The judgement in a log record; None: there is none, or it names no trace."""
    score = record_score(record)
    if score is None:
        return None
    placed = text(decode_attributes(record.attributes, (PLACED_KEY,)).get(PLACED_KEY))
    return fact_of(score, key=placed, received_unix_ns=received_unix_ns)


def placed_record(score: Score, *, trace_id: str, span_id: str | None) -> LogRecord:
    """A judgement that named a response or a session, with the trace that this is; the same judgement."""
    session = score.session if score.trace_id is None else None
    record = result_record(replace(score, trace_id=trace_id, span_id=span_id, session=session))
    record.attributes.add(key=PLACED_KEY).value.string_value = score.key
    return record


def fact_of(score: Score, *, key: str | None = None, received_unix_ns: int = 0) -> ScoreFact | None:
    """The judgement as a fact; None: it names no trace. `key`: of the judgement before it was placed."""
    if score.trace_id is None:
        return None
    value, label = _said(score)
    return ScoreFact(
        key=key or score.key,
        trace_id=score.trace_id,
        span_id=score.span_id,
        name=score.name,
        value=value,
        label=label,
        error_type=score.error_type,
        source=score.source or None,
        judge=score.judge.value,
        session=score.session if key else None,
        time_unix_ns=min(score.time_unix_ns or received_unix_ns, MAX_TIME_NS),
    )


def _said(score: Score) -> tuple[float | None, str | None]:
    if score.is_passed is not None:
        return _verdict(passed=score.is_passed)
    if score.value is not None or score.label is not None or score.exact_value is None:
        return score.value, category(score.label)
    return value_and_label(read_json(score.exact_value, max_characters=MAX_EXACT_CHARACTERS))


def value_and_label(said: Any) -> tuple[float | None, str | None]:
    """The number and the label in the value of a feedback; a yes or no is a number with a label."""
    if isinstance(said, bool):
        return _verdict(passed=said)
    if isinstance(said, int | float):
        return number(said), None
    return None, category(said if isinstance(said, str) else None)


def _verdict(*, passed: bool) -> tuple[float, str]:
    return float(passed), PASS if passed else FAIL


def category(label: str | None) -> str | None:
    """A label, if it is one: a short text in one line."""
    stripped = (label or "").strip()
    return stripped if 0 < len(stripped) <= MAX_LABEL_CHARACTERS and stripped.isprintable() else None


def assessed(trace_info: Mapping[str, Any], trace_id: str) -> tuple[ScoreFact, ...]:
    """The feedback that MLflow has of a trace (32 hex digits), but for what was overridden."""
    found = _feedback(trace_info)
    return tuple(_assessed(each, trace_id) for each, _ in zip(found, range(MAX_SCORES), strict=False))


def _feedback(trace_info: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for assessment in trace_info.get("assessments") or ():
        if (
            isinstance(assessment, dict)
            and isinstance(assessment.get("feedback"), dict)
            and assessment.get("valid") is not False
            and text(assessment.get("assessment_name"))
            and text(assessment.get("assessment_id"))
        ):
            yield assessment


def _assessed(assessment: Mapping[str, Any], trace_id: str) -> ScoreFact:
    feedback, source = assessment["feedback"], assessment.get("source") or {}
    metadata = assessment.get("metadata") or {}
    said, error = feedback.get("value"), feedback.get("error") or {}
    if said == assessment.get("rationale"):  # an explanation without a score
        said = None
    value, label = value_and_label(said)
    span_id = str(assessment.get("span_id") or "").lower()
    return ScoreFact(
        key=text(metadata.get(KEY)) or str(assessment["assessment_id"]),
        trace_id=trace_id,
        span_id=span_id if _SPAN_ID.fullmatch(span_id) else None,
        name=str(assessment["assessment_name"])[:MAX_NAME_CHARACTERS],
        value=value,
        label=label or (category(text(metadata.get(LABEL))) if value is not None else None),
        error_type=text(error.get("error_code")),
        source=(text(source.get("source_id")) or "")[:MAX_SOURCE_CHARACTERS] or None,
        judge=_judge(source.get("source_type")),
        session=text(metadata.get(SESSION)),
        time_unix_ns=_nanoseconds(assessment.get("create_time")),
    )


def _judge(source_type: Any) -> str:
    named = str(source_type or "").upper()
    return Judge.LLM.value if named == "AI_JUDGE" else named if named in set(Judge) else Judge.CODE.value


def _nanoseconds(time: Any) -> int:
    """Of protobuf's JSON form of a Timestamp, 2026-01-01T00:00:00.123Z."""
    try:
        found = int(datetime.fromisoformat(str(time)).timestamp() * 1000) * 1_000_000
    except (ValueError, OverflowError):
        return 0
    return min(max(0, found), MAX_TIME_NS)
