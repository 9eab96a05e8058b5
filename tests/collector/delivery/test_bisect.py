"""Parts of a request: together they are the request, span for span, under the same resources and scopes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.bisect import fit, halve, split
from collector.delivery.group import Request
from tests.support.otlp import all_spans


@st.composite
def exports(draw: st.DrawFn, least_spans: int = 2) -> ExportTraceServiceRequest:
    """Resources of scopes of spans of up to five traces, some of them empty."""
    export = ExportTraceServiceRequest()
    number = 0
    shape = draw(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=3))
    if sum(map(sum, shape)) < least_spans:
        shape.append([least_spans])
    for at, scopes in enumerate(shape):
        resource_spans = export.resource_spans.add(schema_url=f"resource schema {at}")
        resource_spans.resource.attributes.add(key="service.name").value.string_value = f"service {at}"
        resource_spans.resource.dropped_attributes_count = at
        for inner, count in enumerate(scopes):
            scope_spans = resource_spans.scope_spans.add(schema_url=f"scope schema {inner}")
            scope_spans.scope.name = f"scope {inner}"
            scope_spans.scope.attributes.add(key="k").value.int_value = inner
            for _ in range(count):
                number += 1
                trace_id = draw(st.integers(1, 5)).to_bytes(16, "big")
                span = scope_spans.spans.add(trace_id=trace_id, span_id=number.to_bytes(8, "big"))
                span.name = f"span {number}"
                span.events.add(name="event", time_unix_nano=number)
    return export


def request_of(export: ExportTraceServiceRequest) -> Request:
    spans = all_spans(export)
    return Request(
        payload=export.SerializeToString(),
        span_count=len(spans),
        trace_ids=frozenset(span.trace_id for span in spans),
        received_unix_ns=7,
        client="team",
    )


def contents(*requests: Request) -> Counter[bytes]:
    """Each span with all that stands around it."""
    found: Counter[bytes] = Counter()
    for request in requests:
        for resource_spans in ExportTraceServiceRequest.FromString(request.payload).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    one = ExportTraceServiceRequest()
                    around = one.resource_spans.add(schema_url=resource_spans.schema_url)
                    around.resource.CopyFrom(resource_spans.resource)
                    scope = around.scope_spans.add(schema_url=scope_spans.schema_url, spans=[span])
                    scope.scope.CopyFrom(scope_spans.scope)
                    found[one.SerializeToString(deterministic=True)] += 1
    return found


def is_consistent(request: Request) -> bool:
    spans = all_spans(ExportTraceServiceRequest.FromString(request.payload))
    return (
        request.span_count == len(spans)
        and request.trace_ids == {span.trace_id for span in spans}
        and (request.received_unix_ns, request.client) == (7, "team")
    )


@given(exports())
def test_the_halves_are_the_whole(export: ExportTraceServiceRequest) -> None:
    request = request_of(export)
    halves = halve(request)
    assert contents(*halves) == contents(request)
    assert all(half.span_count >= 1 and is_consistent(half) for half in halves)


@given(exports())
def test_traces_stay_whole_as_long_as_that_goes(export: ExportTraceServiceRequest) -> None:
    request = request_of(export)
    first, second = halve(request)
    if len(request.trace_ids) > 1:
        assert first.trace_ids.isdisjoint(second.trace_ids)
        assert abs(len(first.trace_ids) - len(second.trace_ids)) <= 1
    else:
        assert abs(first.span_count - second.span_count) <= 1


@given(exports())
def test_halving_ends_at_each_single_span(export: ExportTraceServiceRequest) -> None:
    request = request_of(export)
    waiting, single, rounds = [request], [], 0
    while waiting:
        rounds += 1
        part = waiting.pop()
        if part.span_count == 1:
            single.append(part)
        else:
            waiting += halve(part)
    assert contents(*single) == contents(request)
    assert rounds == 2 * request.span_count - 1


@given(exports(), st.integers(1, 2000), st.none() | st.integers(1, 5))
def test_parts_that_fit_are_whole_traces_within_the_bounds(
    export: ExportTraceServiceRequest, request_bytes: int, max_traces: int | None
) -> None:
    request = request_of(export)
    parts = fit(request, request_bytes=request_bytes, max_traces=max_traces)
    assert contents(*parts) == contents(request)
    ids = [trace_id for part in parts for trace_id in part.trace_ids]
    assert len(ids) == len(set(ids))
    for part in parts:
        within = len(part.payload) <= request_bytes and len(part.trace_ids) <= (max_traces or 5)
        assert within or len(part.trace_ids) == 1


def test_what_fits_is_not_encoded_again() -> None:
    request = request_of(ExportTraceServiceRequest())
    assert fit(request, request_bytes=2**20) == [request]


@given(exports(), st.sets(st.integers(1, 5)))
def test_split_parts_by_trace(export: ExportTraceServiceRequest, chosen: set[int]) -> None:
    request = request_of(export)
    wanted = {number.to_bytes(16, "big") for number in chosen}
    yes, no = split(request, wanted.__contains__)
    parts = [part for part in (yes, no) if part is not None]
    assert contents(*parts) == contents(request)
    assert all(is_consistent(part) for part in parts)
    assert yes is None or yes.trace_ids <= wanted
    assert no is None or no.trace_ids.isdisjoint(wanted)
    assert (yes is None) == request.trace_ids.isdisjoint(wanted)


@given(exports())
def test_what_needs_no_split_is_not_encoded_again(export: ExportTraceServiceRequest) -> None:
    request = request_of(export)
    assert split(request, lambda _: True) == (request, None)
    assert split(request, lambda _: False) == (None, request)


@given(exports())
def test_spans_keep_their_order(export: ExportTraceServiceRequest) -> None:
    order = {span.span_id: at for at, span in enumerate(all_spans(export))}
    for half in halve(request_of(export)):
        places = [order[s.span_id] for s in all_spans(ExportTraceServiceRequest.FromString(half.payload))]
        assert places == sorted(places)
