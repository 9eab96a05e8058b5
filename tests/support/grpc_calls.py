"""Exports over gRPC, without an SDK: bytes in, an answer or a failure out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
# a HealthCheckResponse
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, kw_only=True)
class Called:
    """How a call ended: the code's name, its message and details, and the answer if it is OK."""

    code: str
    message: str = ""
    status: Status | None = None
    body: bytes = b""

    @property
    def retry_seconds(self) -> int | None:
        """What RetryInfo says; None: the request may not be repeated."""
        found = self._detail(RetryInfo())
        delay: Duration | None = found.retry_delay if found is not None else None
        return None if delay is None else int(delay.seconds)

    @property
    def bad_request(self) -> BadRequest | None:
        return self._detail(BadRequest())

    def _detail(self, kind: Any) -> Any:
        for detail in self.status.details if self.status is not None else ():
            if detail.Unpack(kind):
                return kind
        return None


async def call(
    channel: Any,
    body: bytes,
    method: str = TRACES,
    *,
    metadata: Metadata = (),
    gzip: bool = False,
    timeout_seconds: float = 30,
) -> Called:
    """One call on an aio channel."""
    compression = grpc.Compression.Gzip if gzip else None
    try:
        answer = await channel.unary_unary(method)(
            body, metadata=tuple(metadata), compression=compression, timeout=timeout_seconds
        )
    except grpc.aio.AioRpcError as error:
        return failed(error)
    return Called(code="OK", body=answer)


def failed(error: Any) -> Called:
    """What an error of grpc says, of either API."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    return Called(
        code=error.code().name,
        message=error.details() or "",
        status=None if details is None else Status.FromString(details),
    )
