"""What evaluators, judges and people say of an agent's work, in any convention. Pure.

    log record or span event `gen_ai.evaluation.result`     OpenTelemetry GenAI (pydantic-evals, ours)
    annotations.N.annotation.*, evaluations.N.evaluation.*  OpenInference, of the span
    trace.annotations.N..., trace.evaluations.N...          ... of its trace
    session.annotations.N..., session.evaluations.N...      ... of the session that `session.id` names

Sources: https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md,
https://arize-ai.github.io/openinference/spec/feedback/annotations.html.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.facts import decode_attributes
from collector.spans.json_text import read_json
from collector.spans.readers import text
from collector.spans.told_names import RESULT

NAME, VALUE, LABEL = (
    "gen_ai.evaluation.name",
    "gen_ai.evaluation.score.value",
    "gen_ai.evaluation.score.label",
)
EXPLANATION, RESPONSE_ID = "gen_ai.evaluation.explanation", "gen_ai.response.id"
ERROR_TYPE = "error.type"
# pydantic-evals: JSON of the evaluator, and which version of it
EVALUATOR, EVALUATOR_VERSION = "gen_ai.evaluation.evaluator.source", "gen_ai.evaluation.evaluator.version"
TARGET = "gen_ai.evaluation.target"
# ours, for what the convention has no name for: who says so, and a value that is no number and no text
SOURCE_TYPE, SOURCE_ID = "sidespan.evaluation.source_type", "sidespan.evaluation.source_id"
EXACT_VALUE = "sidespan.evaluation.value"
# what OpenInference has a name for, and the event has none
IDENTIFIER, METADATA = "sidespan.evaluation.identifier", "sidespan.evaluation.metadata"
SESSIONS = ("gen_ai.conversation.id", "session.id")
EVENT_NAME = "event.name"

# MLflow's columns (SqlAssessments)
MAX_NAME_CHARACTERS = MAX_SOURCE_CHARACTERS = 250
MAX_EXPLANATION_CHARACTERS = 16_000
MAX_EXACT_CHARACTERS = 16_000
# of one span; nobody judges it more often
MAX_SCORES = 1000
NO_TRACE_ID, NO_SPAN_ID = bytes(16), bytes(8)
# what the bytes of a span hold that carries a judgement; the result's name has the second
NEEDLES = (b".annotation.", b".evaluation.")

_FEEDBACK = re.compile(
    r"(?:(trace|session)\.)?(annotations|evaluations)\.([0-9]{1,6})\.(?:annotation|evaluation)\.([a-z_]+)"
)


class Judge(StrEnum):
    """Who has judged, in MLflow's words."""

    HUMAN = "HUMAN"
    LLM = "LLM_JUDGE"
    CODE = "CODE"


_JUDGES: Mapping[str, Judge] = {
    "HUMAN": Judge.HUMAN,
    "LLM": Judge.LLM,
    "LLM_JUDGE": Judge.LLM,
    "CODE": Judge.CODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One judgement, on a span, a trace, a model's response or a session. Ids are lower-case hex.

    `value` is a finite number, `label` a category; either may be None, or both where the evaluator failed
    (`error_type`). `exact_value` is JSON of a value that neither can hold. `source` says which evaluator or
    person judged. Without a `trace_id`, `response_id` or else `session` says what was judged.
    `identifier` is the sender's own name for this result, if it has one.
    """

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    source: str = ""
    judge: Judge = Judge.CODE
    trace_id: str | None = None
    span_id: str | None = None
    time_unix_ns: int = 0
    response_id: str | None = None
    session: str | None = None
    exact_value: str | None = None
    error_type: str | None = None
    identifier: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """The same for the same judgement, however often and on whichever way it arrives; 32 hex digits."""
        told = (
            *(self.name, self.value, self.label, self.explanation, self.source, self.judge.value),
            *(self.trace_id, self.span_id, self.time_unix_ns, self.response_id, self.session),
            *(self.exact_value, self.error_type, self.identifier),
        )
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    @property
    def is_passed(self) -> bool | None:
        """Yes or no, where the number and the label together say that it was a question of either."""
        verdicts = {("pass", 1.0): True, ("fail", 0.0): False}
        if self.label is None or self.value is None:
            return None
        return verdicts.get((self.label.lower(), self.value))


def is_result(record: LogRecord) -> bool:
    """Whether a log record says that it is the result of an evaluation."""
    return event_name(record) == RESULT


def event_name(record: LogRecord) -> str:
    """The name of the event that a record is, "" if it is none; an attribute in older SDKs."""
    if record.event_name:
        return record.event_name
    return next((each.value.string_value for each in record.attributes if each.key == EVENT_NAME), "")


def record_score(record: LogRecord) -> Score | None:
    """The judgement in a log record; None if it holds none that can be read."""
    if not is_result(record):
        return None
    trace_id, span_id = context_of(record)
    return _result(
        decode_attributes(record.attributes),
        trace_id=trace_id,
        span_id=span_id,
        time_unix_ns=record.time_unix_nano or record.observed_time_unix_nano,
    )


def context_of(record: LogRecord) -> tuple[str | None, str | None]:
    """The trace and the span that a record belongs to, in hex."""
    trace_id, span_id = record.trace_id, record.span_id
    is_in_trace = len(trace_id) == 16 and trace_id != NO_TRACE_ID
    is_in_span = is_in_trace and len(span_id) == 8 and span_id != NO_SPAN_ID
    return trace_id.hex() if is_in_trace else None, span_id.hex() if is_in_span else None


def carries_scores(payload: bytes) -> bool:
    """Whether spans may carry judgements: the cheap no, which nearly every export gets."""
    return any(needle in payload for needle in NEEDLES)


def span_scores(span: Span) -> list[Score]:
    """The judgements that a span carries, in its events and its attributes."""
    found = [*_of_events(span), *_of_attributes(span.attributes, span)]
    return found[:MAX_SCORES]


def _of_events(span: Span) -> Iterator[Score]:
    for event in span.events:
        if event.name == RESULT:
            score = _result(
                decode_attributes(event.attributes),
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                time_unix_ns=event.time_unix_nano,
            )
            if score is not None:
                yield score


def _result(
    said: Mapping[str, Any], *, trace_id: str | None, span_id: str | None, time_unix_ns: int
) -> Score | None:
    """A judgement in the GenAI convention's words."""
    name = text(said.get(NAME))
    evaluator = read_json(said[EVALUATOR]) if isinstance(said.get(EVALUATOR), str) else None
    spec = evaluator if isinstance(evaluator, dict) else {}
    own_name = text(spec.get("name")) or ""
    judge = _JUDGES.get(str(said.get(SOURCE_TYPE, "")).upper())
    notes = {key: text(said.get(key)) for key in (TARGET, EVALUATOR_VERSION)}
    return _checked(
        name=name,
        value=number(said.get(VALUE)),
        label=text(said.get(LABEL)),
        explanation=_long_text(said.get(EXPLANATION), MAX_EXPLANATION_CHARACTERS),
        source=text(said.get(SOURCE_ID)) or own_name or name or "",
        judge=judge or (Judge.LLM if "judge" in own_name.lower() else Judge.CODE),
        trace_id=trace_id,
        span_id=span_id,
        time_unix_ns=time_unix_ns,
        response_id=text(said.get(RESPONSE_ID)),
        session=next((found for key in SESSIONS if (found := text(said.get(key)))), None),
        exact_value=_long_text(said.get(EXACT_VALUE), MAX_EXACT_CHARACTERS),
        error_type=text(said.get(ERROR_TYPE)),
        identifier=text(said.get(IDENTIFIER)),
        metadata=(
            *((key, value) for key, value in notes.items() if value),
            *_metadata(said.get(METADATA)),
        ),
    )


def result_record(score: Score) -> LogRecord:
    """The judgement as a log record, from which `record_score` reads the same."""
    record = LogRecord(
        event_name=RESULT,
        time_unix_nano=score.time_unix_ns,
        trace_id=bytes.fromhex(score.trace_id or ""),
        span_id=bytes.fromhex(score.span_id or ""),
    )
    texts = {
        NAME: score.name,
        LABEL: score.label,
        EXPLANATION: score.explanation,
        SOURCE_TYPE: score.judge.value,
        SOURCE_ID: score.source,
        RESPONSE_ID: score.response_id,
        SESSIONS[1]: score.session,
        EXACT_VALUE: score.exact_value,
        ERROR_TYPE: score.error_type,
        IDENTIFIER: score.identifier,
        METADATA: json.dumps(dict(score.metadata)) if score.metadata else None,
    }
    for key, value in texts.items():
        if value is not None:
            record.attributes.add(key=key).value.string_value = value
    if score.value is not None:
        record.attributes.add(key=VALUE).value.double_value = score.value
    return record


def _of_attributes(attributes: Sequence[KeyValue], span: Span) -> Iterator[Score]:
    session = None
    for said, scope in _feedback(attributes):
        if scope == "session" and session is None:
            plain = decode_attributes(attributes, SESSIONS)
            session = text(plain.get("session.id")) or text(plain.get(SESSIONS[0]))
        name, judge = text(said.get("name")), _JUDGES.get(str(said.get("annotator_kind", "")).upper())
        score = _checked(
            name=name,
            value=number(said.get("score")),
            label=text(said.get("label")),
            explanation=_long_text(said.get("explanation"), MAX_EXPLANATION_CHARACTERS),
            source=name or "",
            judge=judge or Judge.CODE,
            trace_id=None if scope == "session" and session else span.trace_id.hex(),
            span_id=span.span_id.hex() if scope is None else None,
            time_unix_ns=span.end_time_unix_nano or span.start_time_unix_nano,
            session=session if scope == "session" else None,
            identifier=text(said.get("identifier")),
            metadata=_metadata(said.get("metadata")),
        )
        if score is not None:
            yield score


def _feedback(attributes: Iterable[KeyValue]) -> list[tuple[dict[str, Any], str | None]]:
    """What OpenInference's flattened lists say, item by item, with the item's scope (None: the span)."""
    items: dict[tuple[str, str, int], dict[str, Any]] = {}
    for attribute in attributes:
        if ("annotation" in attribute.key or "evaluation" in attribute.key) and (
            found := _FEEDBACK.fullmatch(attribute.key)
        ):
            item = items.setdefault((found[1] or "", found[2], int(found[3])), {})
            item |= {found[4]: decode_attributes([attribute])[attribute.key]}
    return [(item, scope or None) for (scope, _, _), item in sorted(items.items())]


def _metadata(value: Any) -> tuple[tuple[str, str], ...]:
    read = read_json(value) if isinstance(value, str) else value
    if not isinstance(read, dict):
        return ()
    return tuple((str(key)[:MAX_NAME_CHARACTERS], said) for key, each in read.items() if (said := text(each)))


def _checked(*, name: str | None, source: str, **said: Any) -> Score | None:
    """The score, if it has a name and says anything."""
    told = ("value", "label", "explanation", "exact_value", "error_type")
    if not name or all(said.get(part) is None for part in told):
        return None
    return Score(name=name[:MAX_NAME_CHARACTERS], source=source[:MAX_SOURCE_CHARACTERS], **said)


def number(value: Any) -> float | None:
    """A finite number of any sign, as a float; a truth as 1 or 0."""
    if not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _long_text(value: Any, most: int) -> str | None:
    if not isinstance(value, str):
        return text(value)
    cut = value if len(value) <= most else value[: most - 1] + "…"
    cut = cut.replace("\0", "\ufffd")
    return None if not cut or cut.isspace() else cut
