"""Bounds on what one span carries. Pure, in place.

What is cut is added to OTLP's dropped_*_count.
Source: https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-limits.
"""

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.settings.processors import LimitSettings

CUT = "…"
# without these MLflow shows nothing of the span; they are few
KEPT_PREFIXES = ("mlflow.", "sidespan.")


def limit(span: Span, bounds: LimitSettings) -> bool:
    """Bring the span within the bounds; whether anything was cut."""
    cut = 0
    if bounds.attributes is not None:
        gone = _cut_attributes(span, bounds.attributes)
        span.dropped_attributes_count += gone
        cut += gone
    if bounds.events is not None and len(span.events) > bounds.events:
        gone = len(span.events) - bounds.events
        telling = sorted(range(len(span.events)), key=lambda at: (span.events[at].name != "exception", at))
        for position in sorted(telling[bounds.events :], reverse=True):
            del span.events[position]
        span.dropped_events_count += gone
        cut += gone
    if bounds.links is not None and len(span.links) > bounds.links:
        gone = len(span.links) - bounds.links
        del span.links[bounds.links :]
        span.dropped_links_count += gone
        cut += gone
    if bounds.value_characters is not None:
        most = bounds.value_characters
        held = [span.attributes, *(event.attributes for event in span.events)]
        held += [link.attributes for link in span.links]
        cut += sum(_cut_text(each.value, most) for attributes in held for each in attributes)
    return cut > 0


def _cut_attributes(span: Span, most: int) -> int:
    over = len(span.attributes) - most
    if over <= 0:
        return 0
    free = [at for at, each in enumerate(span.attributes) if not each.key.startswith(KEPT_PREFIXES)]
    gone = free[len(free) - over :] if over < len(free) else free
    for position in reversed(gone):
        del span.attributes[position]
    return len(gone)


def _cut_text(value: AnyValue, most: int) -> int:
    """Cut the texts in a value, of lists and maps too (at most 32 deep, as the receiver checks)."""
    match value.WhichOneof("value"):
        case "string_value" if len(value.string_value) > most:
            value.string_value = value.string_value[: most - 1] + CUT
            return 1
        case "bytes_value" if len(value.bytes_value) > most:
            value.bytes_value = value.bytes_value[:most]
            return 1
        case "array_value":
            return sum(_cut_text(each, most) for each in value.array_value.values)
        case "kvlist_value":
            return sum(_cut_text(each.value, most) for each in value.kvlist_value.values)
        case _:
            return 0
