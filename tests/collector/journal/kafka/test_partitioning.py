"""Drafts become records of one partition each, and nothing is lost on the way."""

import os

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal.kafka.partitioning import Placed, key_of, partition_of, place
from collector.model.batch import MAX_ENTRY_BYTES, Draft, Route, Signal
from collector.model.errors import Rejected

ROUTE = Route(experiment_id="1")
PARTITIONS = 8
MIB = 1024 * 1024


def export(spans: dict[bytes, int], *, span_bytes: int = 10) -> Draft:
    """A draft with so many spans of each trace, under two resources."""
    request = ExportTraceServiceRequest()
    for name in ("a", "b"):
        resource = request.resource_spans.add(schema_url=f"resource {name}")
        resource.resource.attributes.add(key="service.name").value.string_value = name
        scope = resource.scope_spans.add(schema_url=f"scope {name}")
        scope.scope.name = name
        for trace_id, count in spans.items():
            for _ in range(count):
                scope.spans.add(trace_id=trace_id, span_id=os.urandom(8), name="x" * span_bytes)
    return Draft(
        lane=ROUTE.lane,
        payload=request.SerializeToString(),
        span_count=2 * sum(spans.values()),
        trace_ids=frozenset(spans),
        client="team",
    )


def spans_of(placed: list[Placed]) -> set[tuple[str, str, str, bytes, bytes]]:
    """Each span with where it stands."""
    return {
        (of_resource.schema_url, of_scope.schema_url, of_scope.scope.name, span.trace_id, span.span_id)
        for each in placed
        for of_resource in ExportTraceServiceRequest.FromString(bytes(each.draft.payload)).resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    }


def whole(draft: Draft) -> list[Placed]:
    return [Placed(partition=0, draft=draft)]


# https://datatracker.ietf.org/doc/html/draft-eastlake-fnv, "FNV Source": 32 bit FNV-1a of these texts
@pytest.mark.parametrize(
    ("text", "hashed"),
    [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)],
    ids=["none", "a", "foobar"],
)
def test_the_hash_is_fnv_1a_and_its_sign_is_dropped(text: str, hashed: int) -> None:
    signed = hashed - 2**32 if hashed >= 2**31 else hashed
    assert partition_of(text.encode(), 1000) == abs(signed) % 1000


def test_traces_go_to_their_own_partitions_with_all_they_had() -> None:
    draft = export({os.urandom(16): 3 for _ in range(40)})
    placed = place([draft], partitions=PARTITIONS, max_bytes=MIB)
    assert spans_of(placed) == spans_of(whole(draft))
    assert sum(each.draft.span_count for each in placed) == draft.span_count
    assert len(placed) == len({each.partition for each in placed}) <= PARTITIONS, "one record a partition"
    for each in placed:
        assert {partition_of(key_of(id), PARTITIONS) for id in each.draft.trace_ids} == {each.partition}
        assert (each.draft.lane, each.draft.client) == (draft.lane, "team")


def test_a_draft_of_one_trace_is_not_touched_and_has_its_key() -> None:
    trace_id = os.urandom(16)
    draft = Draft(lane=ROUTE.lane, payload=b"as it is", span_count=1, trace_ids=frozenset({trace_id}))
    (placed,) = place([draft], partitions=PARTITIONS, max_bytes=MIB)
    assert placed.draft is draft
    assert (placed.key, placed.partition) == (
        trace_id.hex().encode(),
        partition_of(trace_id.hex().encode(), PARTITIONS),
    )


def test_a_record_of_several_traces_has_no_key() -> None:
    (placed,) = place([export({b"1" * 16: 1, b"2" * 16: 1})], partitions=1, max_bytes=MIB)
    assert placed.key is None


def test_what_is_too_large_is_split_by_trace_then_by_span() -> None:
    draft = export({b"1" * 16: 2, b"2" * 16: 400}, span_bytes=10_000)
    placed = place([draft], partitions=1, max_bytes=8 * MIB)
    assert spans_of(placed) == spans_of(whole(draft))
    assert max(len(each.draft.payload) for each in placed) <= MAX_ENTRY_BYTES
    assert sum(each.draft.span_count for each in placed) == draft.span_count


def test_a_single_span_may_be_larger_than_an_entry_up_to_the_largest_record() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, name="x" * (2 * MIB))
    draft = Draft(
        lane=ROUTE.lane,
        payload=request.SerializeToString(),
        span_count=1,
        trace_ids=frozenset({b"1" * 16}),
    )
    assert [each.draft for each in place([draft], partitions=4, max_bytes=3 * MIB)] == [draft]
    with pytest.raises(Rejected, match=r"kafka\.max_message_bytes") as raised:
        place([draft], partitions=4, max_bytes=MIB)
    assert raised.value.reason == "too_large"


def test_log_records_without_a_trace_go_to_the_partition_of_their_lane() -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    ids = [os.urandom(16) for _ in range(20)]
    for trace_id in (*ids, b""):
        records.add(trace_id=trace_id, event_name=trace_id.hex())
    lane = ROUTE.lane_of(Signal.LOGS)
    draft = Draft(lane=lane, payload=request.SerializeToString(), span_count=21, trace_ids=frozenset(ids))
    placed = place([draft], partitions=PARTITIONS, max_bytes=MIB)
    found = {
        record.trace_id: each.partition
        for each in placed
        for record in ExportLogsServiceRequest.FromString(bytes(each.draft.payload))
        .resource_logs[0]
        .scope_logs[0]
        .log_records
    }
    assert len(found) == 21
    assert found.pop(b"") == partition_of(lane.encode(), PARTITIONS)
    assert found == {id: partition_of(key_of(id), PARTITIONS) for id in ids}
