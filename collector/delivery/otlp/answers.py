"""What an OTLP server's answer means. Pure; the one table of its statuses.

The specification has three kinds: success, maybe of a part; try again (429, 502, 503, 504); and never again.
Sources: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response,
https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes.

Two departures, both in favour of the data. What says that the address or the credentials are wrong (401, 404
and so on) says nothing of the data, so it waits until somebody puts them right. And a 500 is tried again,
because a server that is about to fail answers it to good data; it is the data's fault only if the server
takes other data meanwhile.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.delivery.group import Request
from collector.delivery.verdicts import Sent, Verdict, retry_after
from collector.model.batch import Signal
from collector.otlp.media import Encoding, encoding_of

MAX_SAID_CHARACTERS = 300
# what is wrong is the address, the credentials or the server: nothing of it is about this data
PASSING = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 429, 502, 503, 504})
# one span may be the cause: found by halving
ABOUT_A_PART = {400: Verdict.REFUSED, 413: Verdict.TOO_LARGE, 422: Verdict.REFUSED, 500: Verdict.SUSPECT}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpAnswer:
    """A server's answer; `headers` have lower-case names, `body` is what was read of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSuccess:
    """How many spans or log records a success has not taken, and why."""

    rejected: int = 0
    message: str = ""


def read_answer(answer: OtlpAnswer, request: Request, *, target: str, now: datetime) -> Sent:
    """What the answer to `request` says. What a success rejects is not sent again."""
    if 200 <= answer.status < 300:
        partial = partial_success(answer, request.signal)
        rejected = min(max(0, partial.rejected), request.span_count)
        said = f": {partial.message}" if partial.message else ""
        return Sent(
            verdict=Verdict.TAKEN,
            message=f"{target} answered {answer.status}{said}",
            status=answer.status,
            rejected_spans=rejected,
        )
    verdict, is_whole = verdict_of(answer.status)
    return Sent(
        verdict=verdict,
        message=f"{target} answered {answer.status}: {_said(answer)}",
        status=answer.status,
        rejected_spans=request.span_count if is_whole else 0,
        retry_after_seconds=retry_after(answer.headers.get("retry-after"), now=now),
    )


def verdict_of(status: int) -> tuple[Verdict, bool]:
    """The meaning of a status that is no success, and whether it is about the request as a whole."""
    if status in ABOUT_A_PART:
        return ABOUT_A_PART[status], False
    if 400 <= status < 500 and status not in PASSING:
        return Verdict.REFUSED, True
    return Verdict.PASSING, False


def partial_success(answer: OtlpAnswer, signal: Signal) -> PartialSuccess:
    """What a success says of a part that it has not taken; nothing, if it can't be read."""
    is_json = encoding_of(answer.headers.get("content-type")) is Encoding.JSON
    try:
        return _from_json(answer.body, signal) if is_json else _from_protobuf(answer.body, signal)
    except (DecodeError, ValueError, TypeError, OverflowError, RecursionError):
        return PartialSuccess()


def _from_protobuf(body: bytes, signal: Signal) -> PartialSuccess:
    if signal is Signal.LOGS:
        logs = ExportLogsServiceResponse.FromString(body).partial_success
        return PartialSuccess(rejected=logs.rejected_log_records, message=_cut(logs.error_message))
    spans = ExportTraceServiceResponse.FromString(body).partial_success
    return PartialSuccess(rejected=spans.rejected_spans, message=_cut(spans.error_message))


def _from_json(body: bytes, signal: Signal) -> PartialSuccess:
    document = json.loads(body) if body else {}
    partial: Any = document.get("partialSuccess") if isinstance(document, dict) else None
    if not isinstance(partial, dict):
        return PartialSuccess()
    name = "rejectedLogRecords" if signal is Signal.LOGS else "rejectedSpans"
    return PartialSuccess(
        rejected=int(partial.get(name) or 0), message=_cut(str(partial.get("errorMessage") or ""))
    )


def _said(answer: OtlpAnswer) -> str:
    """The message of a google.rpc.Status, else the beginning of the text."""
    if encoding_of(answer.headers.get("content-type")) is Encoding.PROTOBUF:
        try:
            return _cut(Status.FromString(answer.body).message)
        except DecodeError:
            return ""
    text = answer.body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _cut(text)
    message = document.get("message") if isinstance(document, dict) else None
    return _cut(message if isinstance(message, str) else text)


def _cut(text: str) -> str:
    return " ".join(text[:MAX_SAID_CHARACTERS].split())
