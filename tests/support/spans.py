"""Short ways to make OTLP spans and span facts for tests."""

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.conventions import CostSource, Kind
from collector.spans.facts import decode_attributes, facts
from collector.spans.values import SpanFacts, Tokens
from tests.support.otlp import DATA

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def payload(name: str) -> ExportTraceServiceRequest:
    """One of the captured exports in tests/data."""
    return ExportTraceServiceRequest.FromString((DATA / f"{name}.binpb").read_bytes())


def any_value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            made = AnyValue()
            made.array_value.SetInParent()
            made.array_value.values.extend(any_value(item) for item in value)
            return made
        case dict():
            made = AnyValue()
            made.kvlist_value.SetInParent()
            for key, item in value.items():
                made.kvlist_value.values.add(key=key, value=any_value(item))
            return made
        case _:
            return AnyValue(string_value=value)


def otlp_span(attributes: dict[str, Any], **fields: Any) -> Span:
    """A span of 1 s with these attributes."""
    values: dict[str, Any] = {
        "trace_id": bytes.fromhex(TRACE_ID),
        "span_id": b"\x01" * 8,
        "name": "work",
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + SECOND,
    }
    span = Span(**(values | fields))
    for key, value in attributes.items():
        span.attributes.add(key=key, value=any_value(value))
    return span


def read_back(request: ExportTraceServiceRequest) -> list[SpanFacts]:
    """The facts of spans that were harmonised, as of those that MLflow gives back."""
    return [
        facts(span, decode_attributes(resource_spans.resource.attributes), is_marked=True)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def spanfacts(
    span_id: str,
    parent: str | None = None,
    kind: Kind = Kind.OTHER,
    *,
    start: float = 0,
    seconds: float = 1,
    usage: tuple[int, int] | None = None,
    aggregated: tuple[int, int] | None = None,
    cost: float | None = None,
    **others: Any,
) -> SpanFacts:
    """Facts of a span that starts `start` seconds into its trace and runs for `seconds`."""
    begin = START + round(start * SECOND)
    values: dict[str, Any] = {
        "trace_id": TRACE_ID,
        "span_id": span_id,
        "parent_span_id": parent,
        "name": span_id,
        "kind": kind,
        "start_unix_ns": begin,
        "end_unix_ns": begin + round(seconds * SECOND),
        "cost_usd": cost,
        "cost_source": CostSource.NONE if cost is None else CostSource.CLIENT,
    }
    for name, pair in (("tokens", usage), ("aggregated_tokens", aggregated)):
        if pair is not None:
            values[name] = Tokens(input=pair[0], output=pair[1], total=sum(pair))
    return SpanFacts(**(values | others))
