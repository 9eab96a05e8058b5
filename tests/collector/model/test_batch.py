"""Values on their way through: routes have one text, and merging drafts loses nothing."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.batch import MAX_ENTRY_BYTES, Draft, Route, merge
from tests.support.otlp import all_spans, export, trace_ids_of

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
maybe = st.none() | texts
routes = st.builds(
    lambda by_id, target, run_id, workspace: Route(
        experiment_id=target if by_id else None,
        experiment_name=None if by_id else target,
        run_id=run_id,
        workspace=workspace,
    ),
    st.booleans(),
    texts,
    maybe,
    maybe,
)
drafts = st.builds(
    lambda lane, client, size, number: Draft(
        lane=lane,
        client=client,
        payload=bytes([number]) * size,
        span_count=1,
        trace_ids=frozenset({bytes([number]) * 16}),
    ),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "team"]),
    st.sampled_from([1, 1000, MAX_ENTRY_BYTES // 2, MAX_ENTRY_BYTES - 1, MAX_ENTRY_BYTES + 1]),
    st.integers(0, 255),
)


@given(routes)
def test_a_lane_leads_back_to_its_route(route: Route) -> None:
    assert Route.from_lane(route.lane) == route


@given(routes, routes)
def test_two_routes_never_share_a_lane(one: Route, other: Route) -> None:
    assert (one.lane == other.lane) == (one == other)


@pytest.mark.parametrize("parts", [{}, {"experiment_id": "1", "experiment_name": "n"}], ids=["none", "both"])
def test_a_route_has_exactly_one_experiment(parts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either an experiment id or an experiment name"):
        Route(**parts)


@given(st.lists(drafts, max_size=12))
def test_merging_keeps_every_byte_in_the_order_of_its_lane_and_client(given_drafts: list[Draft]) -> None:
    merged = merge(given_drafts)

    def streams(parts: list[Draft]) -> dict[tuple[str, str], bytes]:
        found: defaultdict[tuple[str, str], bytes] = defaultdict(bytes)
        for part in parts:
            found[part.lane, part.client] += part.payload
        return found

    assert streams(merged) == streams(given_drafts)
    assert sum(part.span_count for part in merged) == len(given_drafts)
    for part in merged:
        assert part.trace_ids == {bytes([byte]) * 16 for byte in set(part.payload)}
        assert part.span_count == 1 or len(part.payload) <= MAX_ENTRY_BYTES


def test_merged_exports_are_an_export() -> None:
    exports = [export(spans=n) for n in (1, 2, 3)]
    (merged,) = merge(
        [
            Draft(
                lane="a",
                payload=each.SerializeToString(),
                span_count=len(all_spans(each)),
                trace_ids=frozenset(trace_ids_of(each)),
            )
            for each in exports
        ]
    )
    spans = all_spans(ExportTraceServiceRequest.FromString(merged.payload))
    assert spans == [span for each in exports for span in all_spans(each)]
    assert merged.trace_ids == {span.trace_id for span in spans}
