"""An OTLP receiver that records, and can be told to fail."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.otlp import all_spans


class Recorder:
    """What arrived; `status` is its answer to all that follows, given after `delay_seconds`."""

    def __init__(self, *, status: int, delay_seconds: float) -> None:
        self.status = status
        self.released = threading.Event()
        self.delay_seconds = delay_seconds
        self.requests: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []
        self.logs: list[ExportLogsServiceRequest] = []
        self.url = ""
        self.wire_bytes = 0

    @property
    def names(self) -> list[str]:
        """The spans' names without what they are about, sorted."""
        return sorted(span.name.split(" ")[0] for span in self.spans)

    @property
    def spans(self) -> list[Span]:
        return [span for _, request in self.requests for span in all_spans(request)]

    @property
    def resource(self) -> dict[str, str]:
        attributes = self.requests[-1][1].resource_spans[0].resource.attributes
        return {pair.key: pair.value.string_value for pair in attributes}


@contextmanager
def recording(*, status: int = 200, delay_seconds: float = 0) -> Iterator[Recorder]:
    recorder = Recorder(status=status, delay_seconds=delay_seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            recorder.wire_bytes += len(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path.endswith("/v1/logs"):
                recorder.logs.append(ExportLogsServiceRequest.FromString(body))
            else:
                recorder.requests.append((headers, ExportTraceServiceRequest.FromString(body)))
            recorder.released.wait(recorder.delay_seconds)
            self.send_response(recorder.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that does not wait for its answer is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
