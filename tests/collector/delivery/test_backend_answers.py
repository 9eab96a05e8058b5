"""What an OTLP server's answer means, by the specification and with two departures. Pure."""

from datetime import UTC, datetime

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.delivery.group import Request
from collector.delivery.otlp.answers import OtlpAnswer, read_answer
from collector.delivery.verdicts import Sent, Verdict
from collector.model.batch import Signal

PROTOBUF, JSON = "application/x-protobuf", "application/json; charset=utf-8"


def answered(
    status: int,
    body: bytes = b"",
    content_type: str = PROTOBUF,
    signal: Signal = Signal.TRACES,
    **headers: str,
) -> Sent:
    request = Request(
        payload=b"", span_count=10, trace_ids=frozenset(), received_unix_ns=0, client="", signal=signal
    )
    answer = OtlpAnswer(status=status, headers={"content-type": content_type, **headers}, body=body)
    return read_answer(answer, request, target="tee", now=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("status", "verdict", "is_whole"),
    [
        *((status, Verdict.TAKEN, False) for status in (200, 202, 204)),
        *((status, Verdict.PASSING, False) for status in (429, 502, 503, 504)),
        *((status, Verdict.PASSING, False) for status in (301, 302, 307, 401, 403, 404, 405, 407, 408)),
        *((status, Verdict.PASSING, False) for status in (501, 505, 522)),
        (400, Verdict.REFUSED, False),
        (422, Verdict.REFUSED, False),
        (413, Verdict.TOO_LARGE, False),
        (500, Verdict.SUSPECT, False),
        *((status, Verdict.REFUSED, True) for status in (402, 406, 409, 410, 415, 431, 451)),
    ],
)
def test_each_status_has_its_meaning(status: int, verdict: Verdict, is_whole: bool) -> None:
    sent = answered(status)
    assert (sent.verdict, sent.rejected_spans == 10) == (verdict, is_whole)


def spans_rejected(count: int) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = count, "too old"
    return answer.SerializeToString()


def records_rejected(count: int) -> bytes:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = count
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("body", "content_type", "signal", "rejected"),
    [
        (b"", PROTOBUF, Signal.TRACES, 0),
        (spans_rejected(3), PROTOBUF, Signal.TRACES, 3),
        (records_rejected(3), PROTOBUF, Signal.LOGS, 3),
        (spans_rejected(99), PROTOBUF, Signal.TRACES, 10),
        (spans_rejected(-1), PROTOBUF, Signal.TRACES, 0),
        (b'{"partialSuccess": {"rejectedSpans": "3"}}', JSON, Signal.TRACES, 3),
        (b'{"partialSuccess": {"rejectedLogRecords": 3}}', JSON, Signal.LOGS, 3),
        (b'{"partialSuccess": {"rejectedSpans": 3}}', JSON, Signal.LOGS, 0),
        (b'{"partialSuccess": {"rejectedSpans": "many"}}', JSON, Signal.TRACES, 0),
        (b'{"partialSuccess": {"rejectedSpans": 1e999}}', JSON, Signal.TRACES, 0),
        (b'{"partialSuccess": [3]}', JSON, Signal.TRACES, 0),
        (b"[]", JSON, Signal.TRACES, 0),
        (b"OK", "text/plain", Signal.TRACES, 0),
        (b"\xff\xff", PROTOBUF, Signal.TRACES, 0),
    ],
)
def test_a_success_says_what_it_has_not_taken_or_has_taken_all(
    body: bytes, content_type: str, signal: Signal, rejected: int
) -> None:
    sent = answered(200, body, content_type, signal)
    assert (sent.verdict, sent.rejected_spans) == (Verdict.TAKEN, rejected)


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (Status(message="bad span").SerializeToString(), PROTOBUF, "bad span"),
        (b'{"message": "bad span"}', JSON, "bad span"),
        (b"bad\n span", "text/plain", "bad span"),
        (b"\xff", PROTOBUF, ""),
    ],
)
def test_the_reason_is_told(body: bytes, content_type: str, said: str) -> None:
    assert answered(400, body, content_type).message == f"tee answered 400: {said}"


def test_the_servers_wish_is_read() -> None:
    assert answered(503, **{"retry-after": "7"}).retry_after_seconds == 7
    assert answered(429, **{"retry-after": "Thu, 01 Jan 2026 00:00:09 GMT"}).retry_after_seconds == 9
    assert answered(503, **{"retry-after": "soon"}).retry_after_seconds is None
