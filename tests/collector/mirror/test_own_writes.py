"""Which traces this service's own requests change."""

import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.mirror.own_writes import noticed
from collector.mirror.writes import Writes

TRACE = "tr-" + "ab" * 16


def spans() -> bytes:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes.fromhex(TRACE[3:]))
    return request.SerializeToString()


def deleted(**which: object) -> bytes:
    return json.dumps({"experiment_id": "1", **which}).encode()


def described() -> bytes:
    return json.dumps({"trace": {"trace_info": {"trace_id": TRACE}}}).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/traces", spans(), id="spans"),
        pytest.param(f"/api/3.0/mlflow/traces/{TRACE}/assessments", b"{}", id="an_assessment"),
        pytest.param("/api/3.0/mlflow/traces/delete-traces", deleted(request_ids=[TRACE]), id="a_delete"),
        pytest.param("/api/3.0/mlflow/traces", described(), id="what_is_said_of_it"),
    ],
)
async def test_a_trace_that_is_written_is_read_again(path: str, body: bytes) -> None:
    writes = Writes(lambda _: True)
    ended = noticed(writes, path, body, {"x-mlflow-experiment-id": "1"})
    assert ended is not None
    asked = writes.number
    assert not writes.is_settled(asked, ["1"])
    ended(True)
    assert list(writes.waiting(10)) == [TRACE]
    assert not writes.is_settled(asked, ["1"])
    assert writes.unknown_at == 0


async def test_a_delete_that_names_no_traces_may_have_deleted_any() -> None:
    writes = Writes(lambda _: True)
    ended = noticed(writes, "/api/3.0/mlflow/traces/delete-traces", deleted(max_timestamp_millis=5), {})
    assert ended is not None
    ended(True)
    assert writes.unknown_at == writes.number


async def test_a_write_that_was_not_answered_is_doubted() -> None:
    writes = Writes(lambda _: True)
    ended = noticed(writes, "/v1/traces", spans(), {"x-mlflow-experiment-id": "1"})
    assert ended is not None
    ended(False)
    assert writes.is_lost(["1"])


def test_what_only_reads_is_no_write() -> None:
    assert noticed(Writes(lambda _: True), "/api/3.0/mlflow/traces/search", b"{}", {}) is None
