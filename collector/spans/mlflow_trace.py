"""MLflow's JSON of one trace as facts. Pure.

    GET /api/3.0/mlflow/traces/get?trace_id=tr-<hex>&allow_partial=true     (service.proto, GetTrace)

    {"trace": {
       "trace_info": {"trace_location": {"mlflow_experiment": {"experiment_id": "1"}}, "tags": {...}, ...},
       "spans": [{"trace_id": base64, "span_id": base64, "parent_span_id": base64, "name": ...,
                  "start_time_unix_nano": number, "end_time_unix_nano": number,
                  "status": {"code": "STATUS_CODE_OK", "message": ...},
                  "attributes": [{"key": ..., "value": {"int_value": 183}}], "events": [...],
                  "links": [{"trace_id": base64, "span_id": base64}]}]}}

This is OTLP's Span in proto3 JSON under its original field names, so protobuf's own parser reads it. Two
things differ from what the client sent: attribute texts that are JSON have become objects, lists and
numbers, and the resource is gone, except for what MLflow keeps of it as the trace's tags.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.conventions import ADDED, REPLACED, TAG_PREFIXES
from collector.spans.facts import decode_attributes, facts
from collector.spans.json_text import read_json
from collector.spans.keys import KEYS
from collector.spans.labels import NO_LABELS, SESSION, USER, TraceLabels, read_labels
from collector.spans.readers import text
from collector.spans.score_facts import ScoreFact, assessed
from collector.spans.values import SpanFacts
from collector.spans.vocabulary import FINISH_EVENTS

PLAIN_FIELDS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "status",
)
REST_FIELDS = ("trace_state", "kind", "flags", "links")
EVENT_FIELDS = ("name", "time_unix_nano")
# events that facts are read from -> their attributes
EVENT_KEYS = {"exception": frozenset({"exception.type", "exception.message"})} | {
    name: frozenset({key}) for name, key in FINISH_EVENTS.items()
}
# the run that a trace belongs to (mlflow.tracing.constant.TraceMetadataKey.SOURCE_RUN)
RUN = "mlflow.sourceRun"
# values that need no parser
PLAIN_KINDS: Mapping[str, type] = {"string_value": str, "bool_value": bool, "int_value": int}
NO_TRACE = (KeyError, TypeError, AttributeError, RecursionError, json_format.ParseError)
PARSE_ERRORS = (json_format.ParseError, ValueError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowTrace:
    """A trace as MLflow has it; `experiment_id` is None where it lies outside of experiments."""

    spans: tuple[SpanFacts, ...]
    experiment_id: str | None
    run_id: str | None = None
    labels: TraceLabels = NO_LABELS
    scores: tuple[ScoreFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTrace:
    """A trace as MLflow has it, without its spans."""

    trace_id: str
    experiment_id: str
    session: str | None
    user: str | None
    labels: TraceLabels
    scores: tuple[ScoreFact, ...] = ()


def read_labelled(body: bytes) -> list[LabelledTrace]:
    """The traces in MLflow's answer to batchGetInfos or search, those of experiments. Raises ValueError."""
    try:
        answer = json.loads(body)
        infos = answer.get("trace_infos", answer.get("traces", ()))
        return [_labelled(info) for info in infos if "mlflow_experiment" in info["trace_location"]]
    except NO_TRACE as error:
        raise ValueError(f"no traces in MLflow's JSON: {error!r}") from error


def _labelled(info: Mapping[str, Any]) -> LabelledTrace:
    metadata, trace_id = info.get("trace_metadata", {}), str(info["trace_id"]).removeprefix("tr-")
    return LabelledTrace(
        trace_id=trace_id,
        experiment_id=str(info["trace_location"]["mlflow_experiment"]["experiment_id"]),
        session=text(metadata.get(SESSION)),
        user=text(metadata.get(USER)),
        labels=read_labels(info),
        scores=assessed(info, trace_id),
    )


def read_trace(body: bytes) -> MlflowTrace:
    """The trace in MLflow's answer. Raises ValueError if that is not what the body holds."""
    try:
        return _trace(json.loads(body)["trace"])
    except NO_TRACE as error:
        raise ValueError(f"not a trace in MLflow's JSON: {error!r}") from error


def read_traces(body: bytes) -> list[MlflowTrace]:
    """The traces in MLflow's answer to batchGet. Raises ValueError if that is not what the body holds."""
    try:
        return [_trace(trace) for trace in json.loads(body).get("traces", ())]
    except NO_TRACE as error:
        raise ValueError(f"no traces in MLflow's JSON: {error!r}") from error


def _trace(trace: Mapping[str, Any]) -> MlflowTrace:
    information = trace["trace_info"]
    experiment = information["trace_location"].get("mlflow_experiment", {})
    tags = information.get("tags", {})
    run_id = information.get("trace_metadata", {}).get(RUN)
    spans = tuple(facts(to_span(document), tags, is_marked=True) for document in trace.get("spans", ()))
    return MlflowTrace(
        spans=spans,
        experiment_id=experiment.get("experiment_id"),
        run_id=run_id if isinstance(run_id, str) else None,
        labels=read_labels(information),
        scores=assessed(information, spans[0].trace_id) if spans else (),
    )


def read_export(body: bytes) -> ExportTraceServiceRequest:
    """The trace in MLflow's answer as an export, with every attribute. Raises ValueError as `read_trace`."""
    try:
        trace = json.loads(body)["trace"]
        export = ExportTraceServiceRequest()
        resource_spans = export.resource_spans.add()
        for key, value in trace["trace_info"].get("tags", {}).items():
            resource_spans.resource.attributes.add(key=key).value.string_value = str(value)
        resource_spans.scope_spans.add().spans.extend(
            to_span(document, None) for document in trace.get("spans", ())
        )
        return export
    except NO_TRACE as error:
        raise ValueError(f"not a trace in MLflow's JSON: {error!r}") from error


def to_span(document: dict[str, Any], keys: Collection[str] | None = KEYS) -> Span:
    """One span as OTLP: the attributes named in `keys` (None: all), its links, the events that tell facts.

    With all attributes those events have all of theirs, too: the stack trace of an exception, for example.

    Attributes and links that don't fit into OTLP are left out.
    """
    plain = {name: document[name] for name in PLAIN_FIELDS if name in document}
    span = json_format.ParseDict(plain, Span(), ignore_unknown_fields=True)
    span.attributes.extend(_attributes(document, keys))
    span.links.extend(_links(document))
    for event in document.get("events", ()):
        if known := EVENT_KEYS.get(event.get("name")):
            wanted = None if keys is None else known
            span.events.add(name=event["name"], attributes=_attributes(event, wanted))
    return span


def _links(document: dict[str, Any]) -> Iterator[Span.Link]:
    for link in document.get("links", ()):
        try:
            ids = {"trace_id": link["trace_id"], "span_id": link["span_id"]}
            yield json_format.ParseDict(ids, Span.Link())
        except (KeyError, *PARSE_ERRORS):
            continue


def client_span(document: dict[str, Any]) -> Span:
    """One span as its client sent it, as far as MLflow has kept that: with all its events and links.

    What Sidespan had added on the way is left out. Raises ValueError if it can't be read.
    """
    span = stored_span(document)
    own = [*_without_additions(span.attributes)]
    del span.attributes[:]
    span.attributes.extend(own)
    return span


def stored_span(document: dict[str, Any]) -> Span:
    """One span as Sidespan sent it, as far as MLflow has kept that: with all its events and links.

    Objects are JSON text again, as conventions write them. Raises ValueError if it can't be read.
    """
    plain = {name: document[name] for name in (*PLAIN_FIELDS, *REST_FIELDS) if name in document}
    try:
        span = json_format.ParseDict(plain, Span(), ignore_unknown_fields=True)
        span.attributes.extend(_attributes(document, None))
        for event in document.get("events", ()):
            given = {name: event[name] for name in EVENT_FIELDS if name in event}
            span.events.append(json_format.ParseDict(given, Span.Event(), ignore_unknown_fields=True))
            span.events[-1].attributes.extend(_attributes(event, None))
    except NO_TRACE as error:
        raise ValueError(f"not a span in MLflow's JSON: {error!r}") from error
    holders: Sequence[Span | Span.Event] = (span, *span.events)
    for attribute in (each for holder in holders for each in holder.attributes):
        _to_text(attribute.value)
    return span


def _without_additions(attributes: Iterable[KeyValue]) -> Iterator[KeyValue]:
    attributes = list(attributes)
    marks = decode_attributes(attributes, (ADDED, REPLACED))
    added, replaced = marks.get(ADDED), marks.get(REPLACED)
    added = added if isinstance(added, list) else []
    before = read_json(replaced) if isinstance(replaced, str) else replaced
    before = before if isinstance(before, dict) else {}
    for attribute in attributes:
        if attribute.key in added or attribute.key in (ADDED, REPLACED):
            continue
        if attribute.key in before:
            attribute.value.Clear()
            attribute.value.string_value = str(before[attribute.key])
        yield attribute


def _to_text(value: AnyValue) -> None:
    """An object, or a list that holds one, as JSON text; lists of plain values stay."""
    kinds = {each.WhichOneof("value") for each in value.array_value.values}
    if value.HasField("kvlist_value") or kinds & {"kvlist_value", "array_value"}:
        found = decode_attributes([KeyValue(key="", value=value)])[""]
        value.string_value = json.dumps(found, ensure_ascii=False, default=str)


def _attributes(document: dict[str, Any], keys: Collection[str] | None) -> Iterator[KeyValue]:
    for attribute in document.get("attributes", ()):
        key = attribute.get("key")
        if keys is not None and key not in keys and not str(key).startswith(TAG_PREFIXES):
            continue
        try:
            yield _plain(attribute) or json_format.ParseDict(
                attribute, KeyValue(), ignore_unknown_fields=True
            )
        except PARSE_ERRORS:
            continue


def _plain(attribute: Mapping[str, Any]) -> KeyValue | None:
    """An attribute with a value of one of the common kinds, read eight times as fast; None: another."""
    key, value = attribute.get("key"), attribute.get("value")
    if len(attribute) != 2 or not isinstance(key, str) or not isinstance(value, dict) or len(value) != 1:
        return None
    given: dict[str, Any] = value
    ((kind, content),) = given.items()
    if type(content) is not PLAIN_KINDS.get(kind):
        return None
    try:
        return KeyValue(key=key, value=AnyValue(**given))
    except ValueError:  # a number that is too large, text that is no Unicode
        return None
