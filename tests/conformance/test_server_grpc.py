"""OTLP/gRPC 1.11, the server's side, over a real socket.

Source: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.model.batch import Signal, signal_of
from collector.model.errors import Reason, Rejected, Unavailable
from collector.otlp.status import HTTP_STATUS, rpc_failure
from collector.receivers.bounds import InFlightBounds
from collector.receivers.grpc import handler, health
from collector.receivers.grpc.server import GrpcServer
from collector.settings import MIB, ReceiverSettings, ServerSettings, Settings
from tests.conformance.conftest import reception_of
from tests.support.grpc_calls import CHECK, LOGS, METRICS, TRACES, WATCH, Called, Metadata, call
from tests.support.logs import logs, record
from tests.support.otlp import all_spans, export
from tests.support.ports import free_port
from tests.support.sink import Sink


def body(**kwargs: Any) -> bytes:
    return export(**kwargs).SerializeToString()


@dataclass(kw_only=True)
class Grpc:
    """One gRPC receiver: its sink, its bounds, and a channel to it."""

    port: int
    server: GrpcServer
    sink: Sink
    bounds: InFlightBounds
    channel: Any
    is_ready: bool = True

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def call(self, sent: bytes, method: str = TRACES, **how: Any) -> Called:
        return await call(self.channel, sent, method, **how)


@pytest.fixture
async def receiver(limits: ReceiverSettings) -> AsyncIterator[Grpc]:
    sink, port = Sink(), free_port()
    bounds = InFlightBounds(max_requests=limits.max_concurrent_requests, max_bytes=limits.max_in_flight_bytes)
    settings = Settings(
        receiver=limits, server=ServerSettings(header_timeout_seconds=0.5, max_head_bytes=4096)
    )
    server = GrpcServer(settings, reception_of(sink, bounds, limits), lambda: found.is_ready)
    await server.start(settings.server, port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        found = Grpc(port=port, server=server, sink=sink, bounds=bounds, channel=channel)
        yield found
    await server.leave(0)


async def test_g1_a_unary_export_is_stored_as_it_was_sent_and_answered_empty(receiver: Grpc) -> None:
    sent = body(spans=3)
    assert await receiver.call(sent) == Called(code="OK", body=b"")
    assert receiver.sink.drafts[0].payload == sent


async def test_g1_calls_run_side_by_side_on_one_connection(receiver: Grpc) -> None:
    answers = await asyncio.gather(*[receiver.call(body()) for _ in range(100)])
    assert {answer.code for answer in answers} == {"OK"}
    assert len(receiver.sink.span_names) == 100
    assert (receiver.bounds.requests, receiver.bounds.bytes) == (0, 0)


async def test_g3_gzip_is_taken(receiver: Grpc) -> None:
    sent = body(spans=30)
    assert (await receiver.call(sent, gzip=True)).code == "OK"
    assert receiver.sink.drafts[0].payload == sent


async def test_g3_another_coding_is_unimplemented(receiver: Grpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await receiver.channel.unary_unary(TRACES)(body(spans=30), compression=grpc.Compression.Deflate)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestSize:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_body_bytes=MIB, max_spans=1000)

    @pytest.mark.parametrize(
        ("sent", "compressed"),
        [
            (lambda: b"x" * (MIB + 1), False),
            (lambda: body() + b"\0" * 300 * MIB, True),
            (lambda: body(spans=1001), False),
        ],
        ids=["on_the_wire", "a_bomb_of_300_mib", "too_many_spans"],
    )
    async def test_g2_what_is_too_large_is_refused_for_good(
        self, receiver: Grpc, sent: Callable[[], bytes], compressed: bool
    ) -> None:
        answer = await receiver.call(sent(), gzip=compressed)
        assert (answer.code, answer.retry_seconds) == ("RESOURCE_EXHAUSTED", None)
        assert receiver.sink.drafts == []

    async def test_g2_the_largest_is_taken(self, receiver: Grpc) -> None:
        request = export()
        value = all_spans(request)[0].attributes.add(key="pad").value
        value.string_value = "x" * (MIB - len(request.SerializeToString()) - 20)
        request.resource_spans[0].schema_url = "x"
        missing = MIB - len(request.SerializeToString())
        value.string_value += "x" * missing
        sent = request.SerializeToString()
        assert len(sent) == MIB
        assert (await receiver.call(sent)).code == "OK"

    async def test_g2_a_bomb_costs_a_step_beyond_the_bound(self, receiver: Grpc) -> None:
        """The message is inflated where HTTP's bodies are, within the same bound, and never by gRPC."""
        bomb = gzip.compress(b"\0" * 300 * MIB, compresslevel=1)
        before = receiver.bounds.bytes
        answers = await asyncio.gather(*[receiver.call(bomb) for _ in range(8)])
        assert {answer.code for answer in answers} == {"RESOURCE_EXHAUSTED"}
        assert receiver.bounds.bytes == before


async def test_g4_partial_success_counts_the_rejected_spans(receiver: Grpc) -> None:
    request = export(spans=3)
    all_spans(request)[1].trace_id = bytes(16)
    answer = await receiver.call(request.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.code, partial.rejected_spans) == ("OK", 1)
    assert "invalid_trace_id" in partial.error_message
    assert len(receiver.sink.span_names) == 2


async def test_g4_an_empty_export_is_a_success(receiver: Grpc) -> None:
    assert await receiver.call(b"") == Called(code="OK", body=b"")
    assert receiver.sink.drafts == []


FAULTS: list[tuple[str, Exception, str, int | None]] = [
    ("journal_full", Unavailable(Reason.JOURNAL_FULL, "full", retry_after_seconds=7), "UNAVAILABLE", 7),
    ("journal_failed", Unavailable(Reason.JOURNAL_FAILED, "disk"), "UNAVAILABLE", 1),
    ("undecided", Unavailable(Reason.UNDECIDED, "later"), "UNAVAILABLE", 1),
    ("unauthenticated", Rejected(Reason.UNAUTHENTICATED, "who"), "UNAUTHENTICATED", None),
    ("forbidden", Rejected(Reason.FORBIDDEN, "no"), "PERMISSION_DENIED", None),
    ("unknown_experiment", Rejected(Reason.UNKNOWN_EXPERIMENT, "no"), "NOT_FOUND", None),
    ("bug", ZeroDivisionError("secret"), "UNAVAILABLE", 1),
]


@pytest.mark.parametrize(
    ("fault", "code", "retry_seconds"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
async def test_g5_g6_a_failure_says_by_its_code_and_retry_info_whether_to_repeat_it(
    receiver: Grpc, fault: Exception, code: str, retry_seconds: int | None
) -> None:
    receiver.sink.error = fault
    answer = await receiver.call(body())
    assert (answer.code, answer.retry_seconds) == (code, retry_seconds)
    assert answer.status is not None
    assert (answer.status.message, answer.message) == (answer.message, answer.status.message)
    assert "secret" not in answer.message


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff", b"\x1f\x8bnot gzip", body()[:-3], body(trace_ids=[bytes(16)])],
    ids=["no_protobuf", "no_gzip", "cut", "no_valid_span"],
)
async def test_g5_what_can_never_be_read_is_invalid_argument_with_bad_request(
    receiver: Grpc, sent: bytes
) -> None:
    answer = await receiver.call(sent)
    assert (answer.code, answer.retry_seconds) == ("INVALID_ARGUMENT", None)
    assert answer.bad_request is not None
    assert receiver.sink.drafts == []


@pytest.mark.parametrize("reason", Reason)
def test_g7_no_reason_has_a_code_by_which_clients_lose_or_repeat_data_wrongly(reason: Reason) -> None:
    passes = HTTP_STATUS[reason] == 503
    error = Unavailable(reason, "é" * 3000) if passes else Rejected(reason, "é" * 3000)
    failure = rpc_failure(error)
    code = next(code for code in grpc.StatusCode if code.value[0] == failure.code)
    repeated = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
    assert (code.name in repeated) == passes
    assert code.name not in ("UNKNOWN", "INTERNAL")
    # twice the message, in base64, within the 8 kB of trailers that clients read
    assert failure.message.isascii() and len(failure.details) * 4 / 3 + len(failure.message) < 4096


@pytest.mark.parametrize(
    ("metadata", "lane"),
    [
        ([("x-mlflow-experiment-id", "42")], '["42",null,null,null]'),
        ([("x-mlflow-experiment-name", "caf%C3%A9")], '[null,"café",null,null]'),
        ([("x-mlflow-experiment-id", "4"), ("x-mlflow-run-id", "r1")], '["4",null,"r1",null]'),
        ([("x-mlflow-experiment-id", "4"), ("x-mlflow-workspace", "w")], '["4",null,null,"w"]'),
    ],
    ids=["id", "name", "run", "workspace"],
)
async def test_g8_metadata_routes_as_headers_do(receiver: Grpc, metadata: Metadata, lane: str) -> None:
    assert (await receiver.call(body(), metadata=metadata)).code == "OK"
    assert receiver.sink.drafts[0].lane == lane


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-mlflow-experiment-id", "1"), ("x-mlflow-experiment-id", "2")],
        [("x-mlflow-experiment-id", "one")],
    ],
    ids=["twice", "no_id"],
)
async def test_g8_a_route_that_cannot_be_is_refused(receiver: Grpc, metadata: Metadata) -> None:
    assert (await receiver.call(body(), metadata=metadata)).code == "INVALID_ARGUMENT"
    assert receiver.sink.drafts == []


async def test_log_records_are_stored_as_they_were_sent(receiver: Grpc) -> None:
    sent = logs(record("a.b", n=1)).SerializeToString()
    assert await receiver.call(sent, LOGS) == Called(code="OK", body=b"")
    (draft,) = receiver.sink.drafts
    assert (draft.payload, signal_of(draft.lane)) == (sent, Signal.LOGS)


async def test_metrics_are_refused_with_the_way_out(receiver: Grpc) -> None:
    answer = await receiver.call(b"", METRICS)
    assert answer.code == "NOT_FOUND"
    assert "receiver.other_signals" in answer.message


class TestDropping:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(other_signals="accept-and-drop")

    async def test_metrics_are_dropped_by_setting(self, receiver: Grpc) -> None:
        assert await receiver.call(b"anything", METRICS) == Called(code="OK", body=b"")


@pytest.mark.parametrize(
    "method",
    ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/v1/traces", "/x/y"],
    ids=["reflection", "http_path", "unknown"],
)
async def test_other_methods_are_unimplemented(receiver: Grpc, method: str) -> None:
    assert (await receiver.call(b"", method)).code == "UNIMPLEMENTED"


async def test_a_call_without_a_message_is_refused(receiver: Grpc) -> None:
    stream = receiver.channel.stream_unary(TRACES)()
    await stream.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestSlow:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(body_timeout_seconds=0.3)

    async def test_a_message_that_does_not_arrive_ends_the_call(self, receiver: Grpc) -> None:
        """And gives back its place."""
        stream = receiver.channel.stream_unary(TRACES)()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "did not arrive within" in refused.value.details()
        assert (receiver.bounds.requests, receiver.bounds.bytes) == (0, 0)


class TestPlaces:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_concurrent_requests=5)

    async def test_more_calls_than_places_are_asked_to_come_again(self, receiver: Grpc) -> None:
        """A connection has no more than there are places; others come by their own connections."""
        async with grpc.aio.insecure_channel(
            receiver.target, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as other:
            waiting = [receiver.channel.stream_unary(TRACES)() for _ in range(20)]
            while receiver.bounds.requests < 5:
                await asyncio.sleep(0.01)
            answer = await call(other, body())
            assert (answer.code, answer.retry_seconds) == ("UNAVAILABLE", 1)
            assert receiver.bounds.requests == 5
            for each in waiting:
                each.cancel()
            while receiver.bounds.requests:
                await asyncio.sleep(0.01)
            assert (await call(other, body())).code == "OK"


class TestMemory:
    @pytest.fixture
    def limits(self) -> ReceiverSettings:
        return ReceiverSettings(max_body_bytes=MIB, max_in_flight_bytes=2 * MIB)

    async def test_messages_that_take_long_count_as_the_largest(
        self, receiver: Grpc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handler, "LATE_SECONDS", 0.05)
        calls = [receiver.channel.stream_unary(TRACES)() for _ in range(3)]
        ended, waiting = await asyncio.wait(
            [asyncio.ensure_future(one.code()) for one in calls], return_when=asyncio.FIRST_COMPLETED
        )
        assert [each.result() for each in ended] == [grpc.StatusCode.UNAVAILABLE]
        assert receiver.bounds.bytes == 2 * MIB
        for one in calls:
            one.cancel()
        await asyncio.wait(waiting)
        while receiver.bounds.bytes:
            await asyncio.sleep(0.01)


async def test_an_end_answers_what_is_in_flight_and_cuts_what_takes_too_long(receiver: Grpc) -> None:
    let_go = asyncio.Event()
    store = receiver.sink.append

    async def slowly(drafts: Any) -> int:
        await let_go.wait()
        return await store(drafts)

    receiver.sink.append = slowly  # type: ignore[method-assign]
    quick = asyncio.ensure_future(receiver.call(body()))
    never = receiver.channel.stream_unary(TRACES)()
    while receiver.bounds.requests < 2:
        await asyncio.sleep(0.01)
    leaving = asyncio.ensure_future(receiver.server.leave(20))
    await asyncio.sleep(0.05)
    let_go.set()
    assert (await quick).code == "OK"
    receiver.bounds.draining = True
    receiver.server.cut()
    assert await never.code() is grpc.StatusCode.UNAVAILABLE
    await leaving


class TestConnections:
    """Bytes as they come, below any client."""

    HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    PING = b"\x00\x00\x08\x06" + bytes(5) + b"pingpong"
    GOAWAY, ENHANCE_YOUR_CALM = 7, 11

    async def test_one_that_says_nothing_is_closed(self, receiver: Grpc) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        await reader.read()
        writer.close()

    async def test_so_is_one_that_speaks_http_1(self, receiver: Grpc) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async def test_one_that_pings_without_end_is_told_to_calm_down(self, receiver: Grpc) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(self.HELLO + self.PING * 20)
        kind = None
        while kind != self.GOAWAY:
            head = await reader.readexactly(9)
            kind, content = head[3], await reader.readexactly(int.from_bytes(head[:3], "big"))
        assert int.from_bytes(content[4:8], "big") == self.ENHANCE_YOUR_CALM
        writer.close()

    async def test_metadata_over_the_bound_is_refused(self, receiver: Grpc) -> None:
        answer = await receiver.call(body(), metadata=[("x-long", "a" * 5000)])
        assert (answer.code, answer.retry_seconds) == ("RESOURCE_EXHAUSTED", None)
        assert (await receiver.call(body(), metadata=[("x-long", "a" * 2000)])).code == "OK"


@pytest.mark.parametrize(
    ("service", "ready", "expected"),
    [
        (b"", True, health.SERVING),
        (b"\n\x36opentelemetry.proto.collector.trace.v1.TraceService", True, health.SERVING),
        (b"", False, health.NOT_SERVING),
    ],
    ids=["all", "traces", "not_ready"],
)
async def test_health_says_whether_exports_are_taken(
    receiver: Grpc, service: bytes, ready: bool, expected: int
) -> None:
    receiver.is_ready = ready
    name = service[2:]
    sent = b"\n" + bytes([len(name)]) + name if name else b""
    answer = await receiver.call(sent, CHECK)
    assert (answer.code, answer.body) == ("OK", bytes([8, expected]))


async def test_health_knows_no_other_service(receiver: Grpc) -> None:
    assert (await receiver.call(b"\n\x03abc", CHECK)).code == "NOT_FOUND"


async def test_a_watch_tells_each_change_and_the_end(receiver: Grpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_EVERY_SECONDS", 0.02)
    watch = receiver.channel.unary_stream(WATCH)(b"")
    assert await watch.read() == bytes([8, health.SERVING])
    receiver.is_ready = False
    assert await watch.read() == bytes([8, health.NOT_SERVING])
    receiver.is_ready = True
    assert await watch.read() == bytes([8, health.SERVING])
    leaving = asyncio.ensure_future(receiver.server.leave(20))
    assert await watch.read() == bytes([8, health.NOT_SERVING])
    await leaving
