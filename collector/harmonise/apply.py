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
from collector.model.faults import Faults
from collector.spans.facts import bare_facts, resource_facts, span_facts


@dataclass(slots=True)
class Harmonised:
    """What was done: attributes by part, the notes to keep by trace id, and the bugs that were met."""

    added: Counter[Part] = field(default_factory=Counter)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)


def harmonise(
    export: ExportTraceServiceRequest, *, parts: frozenset[Part], notes: Mapping[bytes, bytes]
) -> Harmonised:
    """Add to the spans of `export` what MLflow needs; `notes` are what earlier requests left, by trace id.

    A span for which this fails passes as the client sent it, and is counted; its neighbours don't suffer.
    """
    done = Harmonised()
    for trace_id, members in _traces(export, notes, done.faults).items():
        note = Note.from_bytes(notes[trace_id]) if trace_id in notes else Note()
        decided = _decide_soundly(members, note, parts, done.faults)
        if decided is None:
            continue
        known, left = decided
        for member in members:
            done.added.update(_write(member, done.faults))
        try:
            if left is not None:
                done.notes[trace_id] = left.to_bytes()
            if Part.SESSIONS in parts and (root := comes_first(members, known)):
                _put_first(export, root)
        except Exception as error:
            done.faults.add(error)
    return done


def _decide_soundly(
    members: list[Member], note: Note, parts: frozenset[Part], faults: Faults
) -> tuple[Known, Note | None] | None:
    """As `_decide`; where that fails, without the spans that make it fail. None: nothing helps."""
    try:
        return _decide(members, note, parts)
    except Exception as error:
        _strip_unsound(members, parts, faults, error)
    try:
        return _decide(members, note, parts)
    except Exception as error:
        faults.add(error)
        return None


def _strip_unsound(members: list[Member], parts: frozenset[Part], faults: Faults, met: Exception) -> None:
    """Take the additions back, and leave the spans that fail even alone nothing but their bare facts."""
    before = faults.count
    for member in members:
        member.additions.clear()
        try:
            _decide([member], Note(), parts)
        except Exception as error:
            faults.add(error)
            member.facts, member.view, member.is_raw = bare_facts(member.span), {}, True
        member.additions.clear()
    if faults.count == before:  # each of them is sound: it is how they stand together
        faults.add(met)


def _write(member: Member, faults: Faults) -> Mapping[Part, int]:
    """Put its additions on a span: all of them or, if that fails, none."""
    if member.is_raw:
        return {}
    before = member.span.SerializeToString()
    try:
        return write(member.span, member.additions)
    except Exception as error:
        faults.add(error)
        member.span.ParseFromString(before)
        return {}


def _decide(members: list[Member], note: Note, parts: frozenset[Part]) -> tuple[Known, Note | None]:
    """Collect each member's additions; nothing is written yet."""
    for member in members:
        member.additions += span_additions(member.facts, member.view, parts, member.span.events)
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


def _traces(
    export: ExportTraceServiceRequest, notes: Mapping[bytes, bytes], faults: Faults
) -> dict[bytes, list[Member]]:
    """The spans by trace, in the order of the request, with a root that waited for what came now."""
    traces: dict[bytes, list[Member]] = {}
    for member in _members(export.resource_spans, faults):
        traces.setdefault(member.span.trace_id, []).append(member)
    for trace_id, members in traces.items():
        try:
            if trace_id in notes and tells_more(members, note := Note.from_bytes(notes[trace_id])):
                export.resource_spans.append(ResourceSpans.FromString(note.root or b""))
                members.extend(_members(export.resource_spans[-1:], faults))
        except Exception as error:
            faults.add(error)
    return traces


def _members(parts: Iterable[ResourceSpans], faults: Faults) -> Iterator[Member]:
    for resource_spans in parts:
        resource = resource_facts(resource_spans.resource.attributes, faults)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Member(
                    span=span,
                    facts=span_facts(span, resource, faults),
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
