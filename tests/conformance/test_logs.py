"""Log records over OTLP/HTTP: the same promises as for spans, over a real socket.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.model.batch import Route, Signal, signal_of
from collector.otlp.media import zstd
from collector.otlp.nesting import varint_of
from collector.settings import ReceiverSettings
from tests.conformance.conftest import JSON, PROTOBUF, Answered, Service
from tests.support.logs import all_records, any_value, logs, record

TRACE, SPAN = bytes(range(16)), bytes(range(8))


async def send(service: Service, request: ExportLogsServiceRequest | bytes, **given: Any) -> Answered:
    body = request if isinstance(request, bytes) else request.SerializeToString()
    return await service.post(body, path="/v1/logs", **given)


def stored(service: Service) -> list[LogRecord]:
    return [
        each
        for draft in service.sink.drafts
        for each in all_records(ExportLogsServiceRequest.FromString(draft.payload))
    ]


async def test_log_records_are_stored_as_they_came(service: Service) -> None:
    sent = logs(record("a.b", trace_id=TRACE, span_id=SPAN, body={"x": [1]}, n=1)).SerializeToString()
    answer = await send(service, sent)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", PROTOBUF)
    (draft,) = service.sink.drafts
    assert bytes(draft.payload) == sent
    assert (draft.span_count, draft.trace_ids) == (1, {TRACE})


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("zstd", zstd.compress, id="zstd"),
    ],
)
async def test_log_records_come_in_each_coding(
    service: Service, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(logs(record("packed")).SerializeToString())
    assert (await send(service, packed, headers={"content-encoding": coding})).status == 200
    assert [each.event_name for each in stored(service)] == ["packed"]


async def test_log_records_in_json_are_those_in_protobuf(service: Service) -> None:
    sent = {
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
                "scopeLogs": [
                    {
                        "scope": {"name": "evals"},
                        "logRecords": [
                            {
                                "timeUnixNano": "12",
                                "observedTimeUnixNano": 13,
                                "severityNumber": "SEVERITY_NUMBER_WARN",
                                "severityText": "WARN",
                                "body": {
                                    "kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}
                                },
                                "attributes": [{"key": "k", "value": {"boolValue": True}}],
                                "droppedAttributesCount": 2,
                                "flags": 1,
                                "traceId": TRACE.hex().upper(),
                                "spanId": SPAN.hex(),
                                "eventName": "gen_ai.evaluation.result",
                                "later": {"ignored": True},
                            }
                        ],
                    }
                ],
            }
        ]
    }
    answer = await send(service, json.dumps(sent).encode(), content_type=JSON)
    assert (answer.status, answer.body) == (200, b"{}")
    expected = LogRecord(
        time_unix_nano=12,
        observed_time_unix_nano=13,
        severity_number=13,  # type: ignore[arg-type]
        severity_text="WARN",
        body=any_value({"a": 1}),
        dropped_attributes_count=2,
        flags=1,
        trace_id=TRACE,
        span_id=SPAN,
        event_name="gen_ai.evaluation.result",
    )
    expected.attributes.add(key="k").value.bool_value = True
    assert stored(service) == [expected]


BROKEN = [
    pytest.param(record(trace_id=b"short"), "invalid_trace_id", id="short_trace_id"),
    pytest.param(record(trace_id=TRACE, span_id=b"1"), "invalid_span_id", id="short_span_id"),
    pytest.param(record(time_unix_nano=2**64 - 1), "invalid_timestamp", id="time_out_of_range"),
    pytest.param(record("a\0b"), "invalid_name", id="nul_in_the_name"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN)
async def test_a_record_that_cannot_be_stored_costs_itself_only(
    service: Service, broken: LogRecord, reason: str
) -> None:
    answer = await send(service, logs(record("fine"), broken))
    assert answer.status == 200
    partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_log_records == 1
    assert reason in partial.error_message
    assert "log records rejected" in partial.error_message
    assert [each.event_name for each in stored(service)] == ["fine"]


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint_of(len(content)) + content


def deep_record(where: str, levels: int) -> bytes:
    """An export with one record that has a list in a list in a list: no encoder writes so many."""
    value = field(1, b"deep")
    for _ in range(levels):
        value = field(5, field(1, value))
    held = field(5, value) if where == "body" else field(6, field(1, b"a") + field(2, value))
    return field(1, field(2, field(2, held)))


@pytest.mark.parametrize("where", ["body", "attribute"])
@pytest.mark.parametrize("levels", [33, 120], ids=["over_the_bound", "over_what_a_decoder_reads"])
async def test_a_value_that_nests_too_deep_costs_its_record_only(
    service: Service, levels: int, where: str
) -> None:
    sent = logs(record("fine")).SerializeToString() + deep_record(where, levels)
    answer = await send(service, sent)
    assert answer.status == 200
    partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_log_records == 1
    assert [each.event_name for each in stored(service)] == ["fine"]


async def test_a_wrong_record_in_json_is_named_by_its_path(service: Service) -> None:
    sent = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "fine"}, {"timeUnixNano": "x"}]}]}]}
    answer = await send(service, json.dumps(sent).encode(), content_type=JSON)
    partial = json_format.Parse(answer.body, ExportLogsServiceResponse()).partial_success
    assert partial.rejected_log_records == 1
    assert "resourceLogs[0].scopeLogs[0].logRecords[1].timeUnixNano" in partial.error_message


async def test_nothing_but_refused_records_is_400(service: Service) -> None:
    answer = await send(service, logs(record(trace_id=b"short")))
    assert answer.status == 400
    assert b"no log record of this request can be stored" in answer.body


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"\xff\xff", PROTOBUF), (b"{", JSON), (b'{"resourceLogs": 1}', JSON)],
    ids=["protobuf", "json", "json_of_a_wrong_type"],
)
async def test_a_malformed_body_is_400(service: Service, body: bytes, content_type: str) -> None:
    assert (await send(service, body, content_type=content_type)).status == 400
    assert service.sink.drafts == []


async def test_an_empty_export_is_a_success(service: Service) -> None:
    assert (await send(service, b"")).status == 200
    assert service.sink.drafts == []


async def test_records_go_by_the_same_routes_as_spans_in_lanes_of_their_own(service: Service) -> None:
    headers = {"x-mlflow-experiment-id": "7", "x-mlflow-run-id": "r"}
    assert (await send(service, logs(record()), headers=headers)).status == 200
    (draft,) = service.sink.drafts
    assert signal_of(draft.lane) is Signal.LOGS
    assert Route.from_lane(draft.lane) == Route(experiment_id="7", run_id="r")


class TestBounds:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_spans=3, max_body_bytes=200_000, max_in_flight_bytes=1_000_000)

    @pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
    async def test_too_many_records_are_413(self, service: Service, content_type: str) -> None:
        request = logs(*[record() for _ in range(4)])
        body = request.SerializeToString()
        if content_type == JSON:
            body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{},{},{}]}]}]}'
        answer = await send(service, body, content_type=content_type)
        assert answer.status == 413
        assert b"log records in one request" in answer.body

    async def test_a_body_over_the_bound_is_413(self, service: Service) -> None:
        assert (await send(service, logs(record(body="x" * 200_000)))).status == 413

    async def test_a_body_that_inflates_over_the_bound_is_413(self, service: Service) -> None:
        packed = gzip.compress(logs(record(body="x" * 300_000)).SerializeToString())
        assert (await send(service, packed, headers={"content-encoding": "gzip"})).status == 413
