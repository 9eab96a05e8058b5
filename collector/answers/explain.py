"""Why a trace looks as it does in MLflow: conventions, facts and sources, what each step changes. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.processors.pipeline import outgoing, works_outgoing
from collector.settings.processors import Processor
from collector.spans.conventions import ADDED, REPLACED
from collector.spans.facts import clients_own, decode_attributes
from collector.spans.json_text import read_json
from collector.spans.sources import conventions, sourced_facts

MAX_SPANS = 500
MAX_CHARACTERS = 200
MARKS = frozenset({ADDED, REPLACED})

# why harmonising writes an attribute, by how its name begins
WHY = {
    "mlflow.spanType": "MLflow groups and filters spans by this type, but sets none on OTLP spans",
    "mlflow.chat.tokenUsage": "MLflow sums tokens from here, and misses cached tokens of some conventions",
    "mlflow.llm.cost": "the cost of the call; MLflow's own calculation ignores cached tokens",
    "mlflow.llm.": "MLflow groups costs by model and provider",
    "mlflow.spanInputs": "MLflow would show no inputs, or only the last message of the conversation",
    "mlflow.spanOutputs": "MLflow would show no outputs, or only the last message of the conversation",
    "mlflow.traceTag.mlflow.traceName": "MLflow reads the trace name from the root span only",
    "mlflow.traceTag.": "MLflow reads trace tags from the root span only",
    "session.id": "MLflow reads the session from the first span that it receives",
    "user.id": "MLflow reads the user from this attribute only",
    "gen_ai.usage.reasoning.output_tokens": "the semantic conventions' name for reasoning tokens",
}
STEPS = {
    "limit": "exceeds a limit of the processor `limit`",
    "slim": "duplicates another attribute of the span",
    "tag": "the span matches the condition of the processor `tag`",
    "drop": "the span matches the condition of the processor `drop`",
}

Step = tuple[str, Callable[[ExportTraceServiceRequest], object]]


def explain(
    export: ExportTraceServiceRequest,
    trace_id: bytes | None,
    *,
    parts: frozenset[Part],
    processors: Sequence[Processor] = (),
) -> dict[str, Any]:
    """What is known of the spans of a trace (None: of all) and what is done to them on the way out.

    {"spans": [{"span_id", "parent_span_id", "name", "conventions": [...], "facts": [{"name", "value",
    "source"}], "changes": [{"step", "change": added, replaced or removed, "key", "value", "why"}],
    "dropped_by": step or null}], "spans_omitted": n}. Texts are cut; `export` is used up.
    """
    _keep_trace(export, trace_id)
    explained: dict[bytes, dict[str, Any]] = {}
    for span, resource in _spans(export):
        if len(explained) < MAX_SPANS:
            explained.setdefault(span.span_id, _about(span, resource))
    for name, change in _steps(parts, processors):
        before = {span.span_id: decode_attributes(span.attributes) for span, _ in _spans(export)}
        change(export)
        after = {span.span_id: decode_attributes(span.attributes) for span, _ in _spans(export)}
        for span_id in before.keys() & explained.keys():
            if span_id not in after:
                explained[span_id]["dropped_by"] = name
            else:
                explained[span_id]["changes"] += _changes(name, before[span_id], after[span_id])
    ids = {span.span_id for span, _ in _spans(export)} | explained.keys()
    return {"spans": list(explained.values()), "spans_omitted": len(ids) - len(explained)}


def _steps(parts: frozenset[Part], processors: Sequence[Processor]) -> list[Step]:
    steps: list[Step] = [("harmonise", lambda export: harmonise(export, parts=parts, notes={}))]
    return steps + [
        (processor.type, outgoing([processor]))
        for processor in processors
        if works_outgoing(processor) and processor.type != "keep"
    ]


def _keep_trace(export: ExportTraceServiceRequest, trace_id: bytes | None) -> None:
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            spans = [span for span in scope_spans.spans if trace_id in (None, span.trace_id)]
            del scope_spans.spans[:]
            scope_spans.spans.extend(spans)


def _spans(export: ExportTraceServiceRequest) -> list[tuple[Span, Mapping[str, Any]]]:
    return [
        (span, decode_attributes(resource_spans.resource.attributes))
        for resource_spans in export.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _about(span: Span, resource: Mapping[str, Any]) -> dict[str, Any]:
    facts = [asdict(fact) for fact in sourced_facts(span, resource)]
    attributes = decode_attributes(span.attributes)
    return {
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": _cut(span.name),
        "conventions": conventions(clients_own(dict(attributes))),
        "facts": [{**fact, "value": _cut(fact["value"])} for fact in facts],
        "changes": _marked(attributes),
        "dropped_by": None,
    }


def _marked(attributes: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was done to a span before MLflow stored it, by the marks on it."""
    added, replaced = attributes.get(ADDED, []), _object(attributes.get(REPLACED))
    before = {
        key: value for key, value in attributes.items() if not (isinstance(added, list) and key in added)
    }
    return _changes("harmonise", {**before, **replaced}, attributes)


def _object(value: Any) -> dict[str, Any]:
    # MLflow gives JSON text back as an object
    value = read_json(value) if isinstance(value, str) else value
    return value if isinstance(value, dict) else {}


def _changes(step: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, str]]:
    changes = []
    for key in sorted((before.keys() | after.keys()) - MARKS):
        old, new = before.get(key), after.get(key)
        if key not in before:
            change, value = "added", _cut(new)
        elif key not in after:
            change, value = "removed", _cut(old)
        elif str(old) != str(new):
            change, value = "replaced", f"{_cut(old)} -> {_cut(new)}"
        else:
            continue
        changes.append({"step": step, "change": change, "key": key, "value": value, "why": _why(step, key)})
    return changes


def _why(step: str, key: str) -> str:
    if step in STEPS:
        return STEPS[step]
    return next((reason for prefix, reason in WHY.items() if key.startswith(prefix)), "")


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
