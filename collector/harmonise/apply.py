"""Harmonise one request, in place: facts -> additions a span -> additions a trace -> written. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from collector.harmonise.note import Note
from collector.harmonise.parts import Part, write
from collector.harmonise.rollup import leave_usage_to_parts
from collector.harmonise.spans import span_additions
from collector.harmonise.traces import (
    Known,
    Member,
    cap_session,
    comes_first,
    give_content,
    give_session,
    learn,
    name_and_tag,
    note_for,
    tells_more,
)
from collector.spans.facts import decode_attributes, facts


@dataclass(slots=True)
class Harmonised:
    """What was done: attributes by part, traces that failed, and the notes to keep, by trace id."""

    added: Counter[Part] = field(default_factory=Counter)
    failed_traces: int = 0
    notes: dict[bytes, bytes] = field(default_factory=dict)


def harmonise(
    export: ExportTraceServiceRequest, *, parts: frozenset[Part], notes: Mapping[bytes, bytes]
) -> Harmonised:
    """Add to the spans of `export` what MLflow needs; `notes` are what earlier requests left, by trace id.

    A trace for which this fails passes as the client sent it, and is counted.
    """
    done = Harmonised()
    for trace_id, members in _traces(export, notes).items():
        note = Note.from_bytes(notes[trace_id]) if trace_id in notes else Note()
        try:
            known, left = _decide(members, note, parts)
        except Exception:
            done.failed_traces += 1
            continue
        for member in members:
            done.added.update(write(member.span, member.additions))
        if left is not None:
            done.notes[trace_id] = left.to_bytes()
        if Part.SESSIONS in parts and (root := comes_first(members, known)):
            _put_first(export, root)
    return done


def _decide(members: list[Member], note: Note, parts: frozenset[Part]) -> tuple[Known, Note | None]:
    """Collect each member's additions; nothing is written yet."""
    for member in members:
        member.additions += span_additions(member.facts, member.view, parts)
    known = learn(members, note)
    left = note_for(known, note)
    if Part.TOKENS in parts:
        leave_usage_to_parts(members, note)
    name_and_tag(members, known, parts)
    if Part.CONTENT in parts:
        give_content(known)
    if Part.SESSIONS in parts:
        give_session(members, known)
    if Part.CAPS in parts:
        cap_session(members)
    return known, left


def _traces(export: ExportTraceServiceRequest, notes: Mapping[bytes, bytes]) -> dict[bytes, list[Member]]:
    """The spans by trace, in the order of the request, with a root that waited for what came now."""
    traces: dict[bytes, list[Member]] = {}
    for member in _members(export.resource_spans):
        traces.setdefault(member.span.trace_id, []).append(member)
    for trace_id, members in traces.items():
        if trace_id in notes and tells_more(members, note := Note.from_bytes(notes[trace_id])):
            root = export.resource_spans.add()
            root.ParseFromString(note.root or b"")
            members.extend(_members([root]))
    return traces


def _members(parts: Iterable[ResourceSpans]) -> Iterator[Member]:
    for resource_spans in parts:
        resource = decode_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Member(
                    span=span,
                    facts=facts(span, resource),
                    view={attribute.key: attribute.value for attribute in span.attributes},
                    of=resource_spans,
                    scope=scope_spans,
                    additions=[],
                )


def _put_first(export: ExportTraceServiceRequest, member: Member) -> None:
    """Move a span to the head of the request; the order of spans means nothing in OTLP."""
    span = Span()
    span.CopyFrom(member.span)
    member.scope.spans.remove(member.span)
    head = ResourceSpans(
        resource=member.of.resource,
        schema_url=member.of.schema_url,
        scope_spans=[ScopeSpans(scope=member.scope.scope, schema_url=member.scope.schema_url, spans=[span])],
    )
    export.resource_spans.insert(0, head)
