"""Clients that keep sending, as exporters do, and remember what was acknowledged."""

import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.grpc_calls import TRACES
from tests.support.otlp import all_spans, export

SpanKey = tuple[str, str]
Build = Callable[[], ExportTraceServiceRequest]


class Senders:
    """Threads that post one export after the other to `port` until stopped; a context manager.

    A request that isn't answered with 200 is sent again, like an exporter does on 503 and on a lost
    connection. `pause_seconds` between two requests of a thread keeps the load bounded.
    """

    def __init__(
        self,
        port: int,
        *,
        headers: dict[str, str],
        threads: int = 4,
        pause_seconds: float = 0.05,
        build: Build = lambda: export(spans=3),
    ) -> None:
        self._port = port
        self._headers = {"content-type": "application/x-protobuf", **headers}
        self._pause_seconds = pause_seconds
        self._build = build
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.acknowledged: set[SpanKey] = set()
        self.statuses: dict[int | str, int] = {}

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, spans: int, *, seconds: float = 60) -> None:
        """Until so many spans were acknowledged."""
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < spans:
            assert time.monotonic() < deadline, f"only {len(self.acknowledged)} spans were taken"
            time.sleep(0.05)

    def _run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            request = self._build()
            body = request.SerializeToString()
            while not self._stop.is_set() and not self._post(connection, request, body):
                time.sleep(0.05)
            time.sleep(self._pause_seconds)
        connection.close()

    def _post(self, connection: HTTPConnection, request: ExportTraceServiceRequest, body: bytes) -> bool:
        try:
            connection.request("POST", "/v1/traces", body=body, headers=self._headers)
            answer = connection.getresponse()
            answer.read()
        except (HTTPException, OSError):
            connection.close()
            return False
        return self._note(request, answer.status)

    def _note(self, request: ExportTraceServiceRequest, status: int | str) -> bool:
        taken = status in (200, "OK")
        with self._lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if taken:
                self.acknowledged |= {
                    (f"tr-{span.trace_id.hex()}", span.span_id.hex()) for span in all_spans(request)
                }
        return taken


class GrpcSenders(Senders):
    """The same over gRPC."""

    def _run(self) -> None:
        metadata = tuple(pair for pair in self._headers.items() if pair[0] != "content-type")
        # a connection of its own, and one that comes back at once
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100))
        with grpc.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            call = channel.unary_unary(TRACES)
            while not self._stop.is_set():
                request = self._build()
                body = request.SerializeToString()
                while not self._stop.is_set() and not self._call(call, request, body, metadata):
                    time.sleep(0.05)
                time.sleep(self._pause_seconds)

    def _call(
        self, call: Any, request: ExportTraceServiceRequest, body: bytes, metadata: tuple[Any, ...]
    ) -> bool:
        try:
            call(body, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            return self._note(request, error.code().name)
        return self._note(request, "OK")


def post(
    port: int, body: bytes, headers: dict[str, str] | None = None, *, path: str = "/v1/traces"
) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers (lower-case), body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "POST",
            path,
            body=body,
            headers={"content-type": "application/x-protobuf", **(headers or {})},
        )
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()
