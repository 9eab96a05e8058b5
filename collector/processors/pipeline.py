"""Limit, slim, tag and drop on the copy that goes to MLflow, in the order of the settings. Pure, in place."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from collector.model.faults import Faults
from collector.processors.conditions import matcher
from collector.processors.limit import limit
from collector.processors.slim import slim
from collector.settings.processors import DropSettings, LimitSettings, Processor, SlimSettings, TagSettings

# what one processor does to a span in place: whether it changed anything; None: the span is to go
Change = Callable[[Span, ScopeSpans, ResourceSpans], bool | None]
Counts = Counter[tuple[str, str]]


class OutgoingProcessors(Protocol):
    """Processors on an export, in place; the counts are by (processor, outcome)."""

    def __call__(self, export: ExportTraceServiceRequest, faults: Faults | None = None) -> Counts:
        """Bugs are noted in `faults`; each costs the change of one span, never the span."""


def works_outgoing(processor: Processor) -> bool:
    """Whether it works on the copy that goes to MLflow."""
    return processor.type != "redact"


def outgoing(processors: Sequence[Processor]) -> OutgoingProcessors:
    """All of them as one function on an export; the counts are by (processor, outcome)."""
    changes = [
        (each.type, _change(each))
        for each in processors
        if isinstance(each, LimitSettings | SlimSettings | TagSettings | DropSettings)
    ]

    def process(export: ExportTraceServiceRequest, faults: Faults | None = None) -> Counts:
        counts: Counts = Counter()
        met = Faults() if faults is None else faults
        for name, change in changes:
            for resource_spans in export.resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    _each(scope_spans, resource_spans, name, change, counts, met)
        return counts

    return process


def _each(
    scope_spans: ScopeSpans,
    resource_spans: ResourceSpans,
    name: str,
    change: Change,
    counts: Counts,
    faults: Faults,
) -> None:
    going = []
    for position, span in enumerate(scope_spans.spans):
        before = span.SerializeToString()
        try:
            changed = change(span, scope_spans, resource_spans)
        except Exception as error:  # a bug costs the change, never the span
            faults.add(error)
            span.ParseFromString(before)
            counts[name, "failed"] += 1
            continue
        if changed is None:
            going.append(position)
        if changed is not False:
            counts[name, "dropped" if changed is None else "changed"] += 1
    for position in reversed(going):
        del scope_spans.spans[position]


def _change(processor: LimitSettings | SlimSettings | TagSettings | DropSettings) -> Change:
    match processor:
        case LimitSettings():
            return lambda span, scope, resource: limit(span, processor)
        case SlimSettings():
            return lambda span, scope, resource: slim(span, processor)
        case TagSettings():
            return _tag(processor)
        case DropSettings():
            matches = matcher(processor.when)
            return lambda span, scope, resource: None if matches(span, scope, resource) else False


def _tag(processor: TagSettings) -> Change:
    matches = matcher(processor.when)

    def tag(span: Span, scope: ScopeSpans, resource: ResourceSpans) -> bool:
        if not matches(span, scope, resource):
            return False
        present = {attribute.key: attribute for attribute in span.attributes}
        for key, value in processor.set.items():
            attribute = present.get(key) or span.attributes.add(key=key)
            attribute.value.Clear()
            attribute.value.string_value = value
        return True

    return tag
