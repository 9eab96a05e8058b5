"""A judgement as MLflow's assessment, and back to the key that tells whether MLflow has it. Pure.

Source: POST /api/3.0/mlflow/traces/{trace_id}/assessments (assessments.proto, service.proto).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from collector.spans.json_text import read_json
from collector.spans.readers import text
from collector.spans.score_facts import KEY, LABEL, SESSION
from collector.spans.scores import MAX_EXACT_CHARACTERS, MAX_EXPLANATION_CHARACTERS, Score

# in the metadata of each assessment that Sidespan writes, with KEY and LABEL
RESPONSE, IDENTIFIER = "gen_ai.response.id", "sidespan.identifier"
MAX_METADATA = 50


def assessment_of(
    score: Score,
    *,
    trace_id: str,
    span_id: str | None,
    received_unix_ns: int,
    max_characters: int = MAX_EXPLANATION_CHARACTERS,
) -> Any:
    """The body of the request that records `score` on a trace (32 hex digits).

    A yes or no (`pass`, `fail`) is a boolean there; of a number with a label the label goes to the metadata.
    """
    at = datetime.fromtimestamp((score.time_unix_ns or received_unix_ns) / 1e9, UTC)
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assessment: dict[str, Any] = {
        "assessment_name": score.name,
        "trace_id": f"tr-{trace_id}",
        "source": {"source_type": score.judge.value, "source_id": score.source or "default"},
        "create_time": time,
        "last_update_time": time,
        "feedback": _feedback(score),
        "metadata": _metadata(score),
    }
    if span_id is not None:
        assessment["span_id"] = span_id
    if score.explanation is not None:
        assessment["rationale"] = _cut(score.explanation, max_characters)
    return {"assessment": assessment}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _feedback(score: Score) -> dict[str, Any]:
    if score.error_type is not None and score.value is None and score.label is None:
        said = {"error_code": score.error_type, "error_message": score.explanation or score.error_type}
        return {"error": said}
    return {"value": _value(score)}


def _value(score: Score) -> Any:
    if score.exact_value is not None:
        exact = read_json(score.exact_value, max_characters=MAX_EXACT_CHARACTERS)
        if exact is not None:
            return exact
    if score.is_passed is not None:
        return score.is_passed
    if score.value is not None:
        return score.value
    return score.label if score.label is not None else score.explanation


def _metadata(score: Score) -> dict[str, str]:
    own = {KEY: score.key}
    if score.label is not None and score.value is not None and score.is_passed is None:
        own[LABEL] = score.label
    named = {RESPONSE: score.response_id, IDENTIFIER: score.identifier}
    own |= {key: value for key, value in named.items() if value is not None}
    if score.trace_id is None and score.session is not None:
        own[SESSION] = score.session
    return dict(score.metadata[:MAX_METADATA]) | own


def keys_of(trace_info: Mapping[str, Any]) -> Mapping[str, str | None]:
    """The keys of the judgements that MLflow has of a trace, each with the span that it is on, if it is."""
    found: dict[str, str | None] = {}
    for assessment in trace_info.get("assessments") or ():
        metadata = assessment.get("metadata") if isinstance(assessment, dict) else None
        if isinstance(metadata, dict) and isinstance(key := metadata.get(KEY), str):
            found[key] = text(assessment.get("span_id"))
    return found
