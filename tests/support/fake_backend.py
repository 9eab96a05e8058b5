"""Another backend as a small real OTLP/HTTP server whose faults can be switched while it runs."""

import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.otlp import all_spans

PROTOBUF = "application/x-protobuf"
# the names of the spans or records of a request -> an answer in the place of success
Fault = Callable[[list[str]], web.Response | None]


def refusal(status: int, text: str = "fault", **headers: str) -> web.Response:
    body = Status(message=text).SerializeToString()
    return web.Response(status=status, body=body, content_type=PROTOBUF, headers=headers)


def partial_traces(rejected: int, message: str) -> web.Response:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = rejected, message
    return web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)


def partial_logs(rejected: int, message: str) -> web.Response:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = message
    return web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)


@dataclass
class FakeBackend:
    """Keeps every request that it has taken, repeats included."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0
    fault: Fault | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/{path:.*}", self.take)
        return app

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.asked += 1
        self.headers.append(headers_of(request))
        names = names_of(request.path, body)
        answer = self.fault(names) if self.fault else None
        if answer is None or answer.status == 200:
            self.bodies.append((request.path, body))
            self.taken += names
        return answer or web.Response(body=b"", content_type=PROTOBUF)

    @property
    def spans(self) -> ExportTraceServiceRequest:
        """Everything that it has of traces, as one export."""
        return ExportTraceServiceRequest.FromString(
            b"".join(body for path, body in self.bodies if not path.endswith("logs"))
        )


def headers_of(request: web.Request) -> dict[str, str]:
    """By lower-case names; what stands there twice, with a comma."""
    return {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}


def names_of(path: str, body: bytes) -> list[str]:
    if not path.endswith("logs"):
        return [span.name for span in all_spans(ExportTraceServiceRequest.FromString(body))]
    export = ExportLogsServiceRequest.FromString(body)
    return [
        record.event_name
        for of_resource in export.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]


@asynccontextmanager
async def backend_at(
    backend: FakeBackend, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Until the block ends, it listens there."""
    runner = web.AppRunner(backend.app())
    await runner.setup()
    await web.TCPSite(runner, "localhost" if tls else "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield
    finally:
        await runner.cleanup()
