"""What an OTLP client is told: errors and receipts to HTTP and gRPC. Pure; the one table of statuses.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response and #otlpgrpc-response.
Clients retry 429, 502, 503, 504 and nothing else, so every trouble that passes is 503; over gRPC it is
UNAVAILABLE, with RetryInfo.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from collector.model.batch import Receipt, Rejection, Signal
from collector.model.errors import Reason, Rejected, Unavailable
from collector.otlp.codec import encode_response
from collector.otlp.media import Encoding
from collector.otlp.shapes import SHAPES

# the OpenTelemetry Collector's client reads 64 KiB of an answer; a few kB say enough
MAX_MESSAGE_CHARACTERS = 2000

HTTP_STATUS: Mapping[Reason, int] = {
    Reason.MALFORMED: 400,
    Reason.INVALID_ROUTE: 400,
    Reason.INVALID_TRACE_ID: 400,
    Reason.INVALID_SPAN_ID: 400,
    Reason.INVALID_PARENT_SPAN_ID: 400,
    Reason.INVALID_TIMESTAMP: 400,
    Reason.INVALID_NAME: 400,
    Reason.ATTRIBUTES_TOO_DEEP: 400,
    Reason.REDACTION_FAILED: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.UNKNOWN_EXPERIMENT: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.TOO_LARGE: 413,
    Reason.TOO_MANY_SPANS: 413,
    Reason.UNSUPPORTED_MEDIA_TYPE: 415,
    Reason.UNSUPPORTED_ENCODING: 415,
    Reason.TOO_MANY_REQUESTS: 503,
    Reason.MEMORY_FULL: 503,
    Reason.JOURNAL_FULL: 503,
    Reason.JOURNAL_FAILED: 503,
    Reason.SLOW_BODY: 503,
    Reason.DECODER_FAILED: 503,
    Reason.UNDECIDED: 503,
    Reason.DRAINING: 503,
    Reason.WRONG_ROLE: 503,
    Reason.BUG: 503,
}

# of a message over gRPC: it travels twice in trailers, of which clients read 8 kB
MAX_TRAILER_CHARACTERS = 500

# google.rpc.Code: the status over gRPC; over HTTP for readers of the body, clients act on the HTTP status
RPC_CODE: Mapping[int, int] = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    405: 12,
    408: 4,
    413: 8,
    415: 3,
    431: 8,
    503: 14,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: status, headers beside Content-Type and Content-Length, body."""

    status: int
    body: bytes
    encoding: Encoding
    headers: Sequence[tuple[str, str]] = field(default=())


FULL_SUCCESS: Mapping[Encoding, Answer] = {
    encoding: Answer(
        status=200, body=encode_response(ExportTraceServiceResponse(), encoding), encoding=encoding
    )
    for encoding in Encoding
}


def success(receipt: Receipt, encoding: Encoding) -> Answer:
    """200; `partial_success` is set only if spans or log records were rejected."""
    if not receipt.rejections:  # in both signals an empty message
        return FULL_SUCCESS[encoding]
    return Answer(status=200, body=encode_response(response_of(receipt), encoding), encoding=encoding)


def response_of(receipt: Receipt) -> ExportTraceServiceResponse | ExportLogsServiceResponse:
    """What a client is told of an export that was accepted, in its signal's words."""
    refused = len(receipt.rejections)
    said = explain(receipt.rejections, receipt.signal) if refused else ""
    if receipt.signal is Signal.LOGS:
        logs = ExportLogsPartialSuccess(rejected_log_records=refused, error_message=said)
        return ExportLogsServiceResponse(partial_success=logs if refused else None)
    spans = ExportTracePartialSuccess(rejected_spans=refused, error_message=said)
    return ExportTraceServiceResponse(partial_success=spans if refused else None)


def failure(error: Rejected | Unavailable, encoding: Encoding) -> Answer:
    """The error as a google.rpc.Status in the request's encoding, with Retry-After if it passes."""
    headers = []
    if isinstance(error, Unavailable):
        headers.append(("retry-after", str(error.retry_after_seconds)))
    if error.reason is Reason.UNAUTHENTICATED:
        headers.append(("www-authenticate", 'Bearer realm="sidespan"'))
    if error.reason is Reason.METHOD_NOT_ALLOWED:
        headers.append(("allow", "POST"))
    status = HTTP_STATUS[error.reason]
    body = refusal(status, str(error), encoding, about=error.reason.value)
    return Answer(status=status, body=body, encoding=encoding, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcFailure:
    """How a call fails: a google.rpc.Code, a message in ASCII, and `grpc-status-details-bin`."""

    code: int
    message: str
    details: bytes


def rpc_failure(error: Rejected | Unavailable) -> RpcFailure:
    """The error as gRPC says it. RetryInfo is there exactly if the same request may pass later."""
    code = RPC_CODE[HTTP_STATUS[error.reason]]
    message = str(error)[:MAX_TRAILER_CHARACTERS].encode("ascii", "backslashreplace").decode()
    status = Status(code=code, message=message[:MAX_TRAILER_CHARACTERS])
    if isinstance(error, Unavailable):
        retry = RetryInfo()
        retry.retry_delay.seconds = error.retry_after_seconds
        status.details.add().Pack(retry)
    elif code == RPC_CODE[400]:
        status.details.add().Pack(_bad_request(error.reason.value, status.message))
    return RpcFailure(code=code, message=status.message, details=bytes(status.SerializeToString()))


def refusal(
    http_status: int, message: str, encoding: Encoding, *, about: str = Reason.MALFORMED.value
) -> bytes:
    """The body of a 4xx or 5xx: a google.rpc.Status, for 400 with BadRequest about `about`."""
    message = message[:MAX_MESSAGE_CHARACTERS]
    body = Status(code=RPC_CODE[http_status], message=message)
    if http_status == 400:
        body.details.add().Pack(_bad_request(about, message))
    return _encode(body, encoding)


def _bad_request(about: str, message: str) -> BadRequest:
    return BadRequest(field_violations=[BadRequest.FieldViolation(field=about, description=message)])


def explain(rejections: Sequence[Rejection], signal: Signal = Signal.TRACES) -> str:
    """Counts and one example a reason, most frequent first, bounded in length."""
    counts = Counter(rejection.reason for rejection in rejections)
    examples: dict[Reason, str] = {}
    for rejection in rejections:
        examples.setdefault(rejection.reason, rejection.message)
    parts = [f"{count} {reason}: {examples[reason]}" for reason, count in counts.most_common()]
    text = f"{len(rejections)} {SHAPES[signal].word}s rejected; the others are stored. " + "; ".join(parts)
    return text[:MAX_MESSAGE_CHARACTERS]


def _encode(status: Status, encoding: Encoding) -> bytes:
    if encoding is Encoding.PROTOBUF:
        return bytes(status.SerializeToString())
    return json_format.MessageToJson(status, indent=None).encode()
