"""OTLP/HTTP 1.11, the server's side, over a real socket.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import gzip
import json
import os
import zlib
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.model.errors import Reason, Unavailable
from collector.otlp.media import zstd
from collector.settings import ReceiverSettings
from tests.conformance.conftest import JSON, PROTOBUF, Answered, Service
from tests.support.otlp import all_spans, export

MIB = 1024 * 1024


def body(**kwargs: Any) -> bytes:
    return export(**kwargs).SerializeToString()


def status_of(answer: Answered, encoding: str = PROTOBUF) -> Status:
    """The Status in the body of an error (all 4xx and 5xx), in the request's encoding."""
    assert answer.headers["content-type"] == encoding
    if encoding == JSON:
        return json_format.Parse(answer.body, Status())
    return Status.FromString(answer.body)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_h1_other_methods_than_post_are_405_with_allow(service: Service, method: str) -> None:
    answer = await service.post(b"", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert "use POST" in status_of(answer).message


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/x-protobuf", 200),
        ("application/X-Protobuf", 200),
        ("application/x-protobuf; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/grpc", 415),
        (None, 415),
    ],
    ids=[
        "takes_protobuf",
        "takes_capitals",
        "takes_parameters",
        "rejects_text",
        "rejects_grpc",
        "rejects_none",
    ],
)
async def test_h2_the_content_type_chooses_the_encoding(
    service: Service, content_type: str | None, expected: int
) -> None:
    answer = await service.post(body(), content_type)
    assert answer.status == expected
    if expected == 415:
        assert "send application/x-protobuf or application/json" in status_of(answer, JSON).message


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_h2_json_on_the_same_port(service: Service, content_type: str) -> None:
    answer = await service.post(b'{"resourceSpans": []}', content_type)
    assert answer.status == 200
    assert answer.headers["content-type"] == JSON


def _deflate_without_head(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


SPANS = body(spans=3)


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("identity", SPANS),
        ("gzip", gzip.compress(SPANS)),
        ("GZIP", gzip.compress(SPANS)),
        ("x-gzip", gzip.compress(SPANS)),
        ("gzip", gzip.compress(SPANS[:50]) + gzip.compress(SPANS[50:])),
        ("deflate", zlib.compress(SPANS)),
        ("deflate", _deflate_without_head(SPANS)),
        ("zstd", zstd.compress(SPANS)),
        ("zstd", zstd.compress(SPANS[:50]) + zstd.compress(SPANS[50:])),
        ("gzip, zstd", zstd.compress(gzip.compress(SPANS))),
    ],
    ids=[
        "identity",
        "gzip",
        "gzip_in_capitals",
        "x_gzip",
        "gzip_with_two_members",
        "deflate",
        "deflate_without_head",
        "zstd",
        "zstd_with_two_frames",
        "two_codings",
    ],
)
async def test_h3_takes_content_encodings(service: Service, coding: str, sent: bytes) -> None:
    answer = await service.post(sent, headers={"content-encoding": coding})
    assert answer.status == 200
    assert service.sink.span_names == ["root", "child 1", "child 2"]


@pytest.mark.parametrize(
    ("coding", "sent", "expected"),
    [
        ("gzip", gzip.compress(SPANS)[:-20], 400),
        ("gzip", b"\x1f\x8b" + os.urandom(50), 400),
        ("gzip", b"", 400),
        ("deflate", zlib.compress(SPANS)[:-8], 400),
        ("zstd", zstd.compress(SPANS)[:-8], 400),
        ("zstd", b"no zstd at all", 400),
        ("br", SPANS, 415),
        ("snappy", SPANS, 415),
    ],
    ids=[
        "rejects_cut_gzip",
        "rejects_corrupt_gzip",
        "rejects_empty_gzip",
        "rejects_cut_deflate",
        "rejects_cut_zstd",
        "rejects_corrupt_zstd",
        "rejects_brotli",
        "rejects_snappy",
    ],
)
async def test_h3_refuses_what_it_cannot_undo(
    service: Service, coding: str, sent: bytes, expected: int
) -> None:
    answer = await service.post(sent, headers={"content-encoding": coding})
    assert answer.status == expected
    assert status_of(answer).message
    assert service.sink.drafts == []


@pytest.mark.parametrize(
    ("lines", "sent", "expected"),
    [
        (("gzip", "identity"), gzip.compress(SPANS), 200),
        (("identity", "gzip"), gzip.compress(SPANS), 200),
        (("gzip, identity",), gzip.compress(SPANS), 200),
        (("", "gzip", " "), gzip.compress(SPANS), 200),
        (("gzip", "zstd"), zstd.compress(gzip.compress(SPANS)), 200),
        (("gzip,identity", "identity ,\tzstd"), zstd.compress(gzip.compress(SPANS)), 200),
        (("zstd", "gzip"), zstd.compress(gzip.compress(SPANS)), 400),
        (("br", "gzip"), gzip.compress(SPANS), 415),
        (("gzip", "gzip", "gzip"), SPANS, 415),
    ],
    ids=[
        "identity_after_gzip",
        "identity_before_gzip",
        "identity_beside_gzip",
        "empty_lines",
        "two_codings",
        "two_lists",
        "rejects_the_wrong_order",
        "rejects_an_unknown_coding",
        "rejects_three_codings",
    ],
)
async def test_h3_content_encoding_lines_are_one_list(
    service: Service, lines: tuple[str, ...], sent: bytes, expected: int
) -> None:
    """RFC 9110, section 5.3."""
    codings = b"".join(b"content-encoding: %b\r\n" % line.encode() for line in lines)
    reader, writer = await asyncio.open_connection(*_address(service.url))
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
        b"%bcontent-length: %d\r\n\r\n%b" % (codings, len(sent), sent)
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    assert head.startswith(b"HTTP/1.1 %d" % expected)
    assert len(service.sink.span_names) == (3 if expected == 200 else 0)


class TestH4BodySize:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_body_bytes=MIB, max_in_flight_bytes=8 * MIB)

    async def test_h4_a_declared_length_over_the_limit_is_413_before_it_is_read(
        self, service: Service
    ) -> None:
        reader, writer = await asyncio.open_connection(*_address(service.url))
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/x-protobuf\r\ncontent-length: 1048577\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()

    async def test_h4_chunks_over_the_limit_are_413(self, service: Service) -> None:
        reader, writer = await asyncio.open_connection(*_address(service.url))
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            writer.write(b"80000\r\n" + bytes(0x80000) + b"\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
    async def test_h4_a_bomb_is_413_and_never_held_whole(self, service: Service, coding: str) -> None:
        import tracemalloc

        pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[coding]
        bomb = pack(bytes(200 * MIB))
        tracemalloc.start()
        try:
            answer = await service.post(bomb, headers={"content-encoding": coding})
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status == 413
        assert peak_bytes < 12 * MIB
        assert "smaller batches" in status_of(answer).message

    async def test_h4_exactly_the_limit_is_taken(self, service: Service) -> None:
        request = export()
        pad = all_spans(request)[0].attributes.add(key="pad").value
        pad.string_value = "x" * MIB
        pad.string_value = "x" * (MIB - (request.ByteSize() - MIB))
        assert request.ByteSize() == MIB
        answer = await service.post(request.SerializeToString())
        assert answer.status == 200


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


EMPTY = [
    (PROTOBUF, b""),
    (PROTOBUF, ExportTraceServiceRequest(resource_spans=[{}]).SerializeToString()),
    (PROTOBUF, ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{}]}]).SerializeToString()),
    (JSON, b"{}"),
    (JSON, b'{"resourceSpans": []}'),
    (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": []}]}]}'),
]


@pytest.mark.parametrize(
    ("content_type", "sent"),
    EMPTY,
    ids=[
        "no_bytes",
        "resource_without_scopes",
        "scope_without_spans",
        "empty_object",
        "empty_list",
        "empty_spans",
    ],
)
async def test_h9_h20_an_export_without_spans_is_a_success(
    service: Service, content_type: str, sent: bytes
) -> None:
    answer = await service.post(sent, content_type)
    assert answer.status == 200
    assert service.sink.drafts == []


@pytest.mark.parametrize(("content_type", "expected"), [(PROTOBUF, b""), (JSON, b"{}")])
async def test_h5_h6_h10_full_success_leaves_partial_success_unset(
    service: Service, content_type: str, expected: bytes
) -> None:
    sent = body() if content_type == PROTOBUF else b'{"resourceSpans":[]}'
    answer = await service.post(sent, content_type)
    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-length"] == str(len(expected))


async def test_h7_no_content_encoding_where_none_was_asked_for(service: Service) -> None:
    answer = await service.post(body(), headers={"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers


def _three_of_ten_invalid() -> ExportTraceServiceRequest:
    request = export(spans=10)
    spans = all_spans(request)
    spans[2].trace_id = bytes(16)
    spans[5].span_id = b"abc"
    spans[7].end_time_unix_nano = 2**63
    return request


async def test_h11_valid_neighbours_of_invalid_spans_are_stored(service: Service) -> None:
    answer = await service.post(_three_of_ten_invalid().SerializeToString())
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 3
    for reason in ("invalid_trace_id", "invalid_span_id", "invalid_timestamp"):
        assert reason in partial.error_message
    assert len(service.sink.span_names) == 7


async def test_h11_j5_rejected_spans_is_a_string_in_json(service: Service) -> None:
    spans = [
        {"traceId": "0" * 32, "spanId": "1" * 16, "name": "bad"},
        {"traceId": "1" * 32, "spanId": "1" * 16, "name": "good"},
    ]
    sent = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    answer = await service.post(sent, JSON)
    assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "1"
    assert service.sink.span_names == ["good"]


async def test_h8_the_answer_to_many_rejections_is_small(service: Service) -> None:
    request = export(spans=2000)
    for span in all_spans(request)[1:]:
        span.span_id = b""
        span.name = "n" * 500
    answer = await service.post(request.SerializeToString())
    assert answer.status == 200
    assert len(answer.body) < 4096


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        (PROTOBUF, b"\xff" * 40),
        (PROTOBUF, SPANS[:-7]),
        (JSON, b'{"resourceSpans": '),
        (JSON, b"[]"),
        (JSON, b'{"resourceSpans": 3}'),
        (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "123"}]}]}]}'),
        (JSON, b"\xff\xfe"),
        (JSON, b"[" * 100_000),
    ],
    ids=[
        "rejects_noise",
        "rejects_cut_protobuf",
        "rejects_cut_json",
        "rejects_list",
        "rejects_wrong_type",
        "rejects_odd_hex",
        "rejects_utf16",
        "rejects_deep_nesting",
    ],
)
async def test_h15_what_cannot_be_decoded_is_400_with_bad_request(
    service: Service, content_type: str, sent: bytes
) -> None:
    answer = await service.post(sent, content_type)
    assert answer.status == 400
    status = status_of(answer, content_type)
    assert status.message
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    assert detail.field_violations


async def test_h15_all_spans_invalid_is_400(service: Service) -> None:
    request = export(spans=3)
    for span in all_spans(request):
        span.trace_id = bytes(16)
    answer = await service.post(request.SerializeToString())
    assert answer.status == 400
    assert "2 more" in status_of(answer).message


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (Unavailable(Reason.JOURNAL_FULL, "full", retry_after_seconds=2), "2"),
        (Unavailable(Reason.JOURNAL_FAILED, "sync failed"), "1"),
        (RuntimeError("a bug"), "1"),
        (OSError(28, "No space left on device"), "1"),
    ],
    ids=["journal_full", "sync_error", "bug", "disk_full"],
)
async def test_h16_h17_every_trouble_that_passes_is_503_with_retry_after(
    service: Service, error: Exception, retry_after: str
) -> None:
    service.sink.error = error
    answer = await service.post(body())
    assert answer.status == 503
    assert answer.headers["retry-after"] == retry_after
    assert status_of(answer).message
    service.sink.error = None
    assert (await service.post(body())).status == 200


async def test_a_bug_is_logged_once_with_its_traceback(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.sink.error = RuntimeError("what a span holds")
    for _ in range(3):
        assert (await service.post(body())).status == 503
    (record,) = [record for record in caplog.records if "could not be processed" in record.message]
    assert record.__dict__["traceback"].endswith("RuntimeError")
    assert "what a span holds" not in str(record.__dict__)


async def test_h16_draining_is_503(service: Service) -> None:
    service.bounds.draining = True
    answer = await service.post(body())
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")


class TestH16Bounds:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(
            max_concurrent_requests=1,
            body_timeout_seconds=2,
            max_body_bytes=MIB,
            max_in_flight_bytes=2 * MIB,
            max_spans=5,
        )

    async def test_h16_one_request_too_many_is_503(self, service: Service) -> None:
        async with _half_sent(service):
            answer = await service.post(body())
        assert answer.status == 503
        assert "in flight" in status_of(answer).message

    async def test_h16_a_slow_sender_is_503_and_gives_its_place_back(self, service: Service) -> None:
        async with _half_sent(service) as reader:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 503")
        assert service.bounds.requests == service.bounds.bytes == 0
        assert (await service.post(body())).status == 200

    async def test_h16_a_client_that_leaves_gives_its_place_back(self, service: Service) -> None:
        async with _half_sent(service):
            assert service.bounds.requests == 1
        for _ in range(100):
            if service.bounds.requests == 0:
                break
            await asyncio.sleep(0.01)
        assert service.bounds.requests == service.bounds.bytes == 0

    async def test_h16_memory_at_its_bound_is_503(self, service: Service) -> None:
        service.bounds.bytes = 2 * MIB
        answer = await service.post(body())
        assert answer.status == 503
        service.bounds.bytes = 0

    async def test_h16_too_many_spans_are_413(self, service: Service) -> None:
        answer = await service.post(body(spans=6))
        assert answer.status == 413
        assert "5 are allowed" in status_of(answer).message


class _half_sent:
    """A request whose body doesn't arrive, while the block runs."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __aenter__(self) -> asyncio.StreamReader:
        reader, self._writer = await asyncio.open_connection(*_address(self._service.url))
        self._writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/x-protobuf\r\ncontent-length: 1000\r\n\r\nabc"
        )
        for _ in range(200):
            if self._service.bounds.requests:
                break
            await asyncio.sleep(0.005)
        return reader

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/traces/"])
async def test_no_redirect_on_the_traces_path(service: Service, path: str) -> None:
    assert (await service.post(body(), path=path)).status == 200


async def test_metrics_are_404_with_a_way_out(service: Service) -> None:
    answer = await service.post(b"", path="/v1/metrics")
    assert answer.status == 404
    assert "OTEL_METRICS_EXPORTER=none" in status_of(answer).message


class TestAcceptAndDrop:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(other_signals="accept-and-drop")

    async def test_metrics_are_taken_and_dropped_where_that_is_set(self, service: Service) -> None:
        answer = await service.post(b"anything", path="/v1/metrics/")
        assert (answer.status, answer.body) == (200, b"")
        assert service.sink.drafts == []


async def test_h21_unknown_fields_survive_byte_for_byte(service: Service) -> None:
    sent = body() + b"\xda\x3e\x05later"  # field 1003, length-delimited
    assert (await service.post(sent)).status == 200
    assert service.sink.drafts[0].payload == sent


async def test_unknown_experiment_is_404_and_some_unknown_is_partial(service: Service) -> None:
    service.sink.unknown_experiments = {"41"}
    answer = await service.post(body(), headers={"x-mlflow-experiment-id": "41"})
    assert answer.status == 404
    assert "no active experiment with id 41" in status_of(answer).message

    both = export(resource={"mlflow.experiment.id": "41"})
    both.MergeFrom(export(resource={"mlflow.experiment.id": "42"}, spans=2))
    answer = await service.post(both.SerializeToString())
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert len(service.sink.span_names) == 2


@pytest.mark.parametrize("value", ["00", "+1", "1_0", "٠", "-1", "1 ", "x", ""])
async def test_an_experiment_id_has_one_form(service: Service, value: str) -> None:
    headers = {"x-mlflow-experiment-id": value.encode().decode("latin-1")}
    answer = await service.post(body(), headers=headers)
    assert answer.status == (200 if value == "1 " else 400)  # HTTP strips white space around a value


async def test_a_routing_header_given_twice_is_400(service: Service) -> None:
    reader, writer = await asyncio.open_connection(*_address(service.url))
    sent = body()
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nx-mlflow-experiment-id: 1\r\n"
        b"x-mlflow-experiment-id: 2\r\ncontent-type: application/x-protobuf\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(sent), sent)
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert head.startswith(b"HTTP/1.1 400")
    writer.close()


async def test_pages_of_other_sites_may_not_send(service: Service) -> None:
    answer = await service.post(body(), headers={"origin": "https://evil.example"})
    assert answer.status == 403
    assert "cors_allowed_origins" in status_of(answer).message
    assert service.sink.drafts == []
