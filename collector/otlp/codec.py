"""Export requests between bytes and messages. Pure.

Protobuf is the form that is kept; JSON is turned into it at the door. The JSON mapping is proto3's with
OTLP's exceptions (OTLP 1.11 "JSON Protobuf Encoding", J1 to J6 in the conformance table):

    traceId, spanId, parentSpanId     hex in any case, not base64
    keys                              lowerCamelCase only; snake_case is an unknown field
    unknown fields                    ignored at any depth
    enums                             integers; names are tolerated
    64-bit integers                   decimal strings or numbers
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.batch import Rejection
from collector.errors import Reason, Rejected
from collector.otlp.media import Encoding
from collector.otlp.protobuf import read_protobuf

HEX_KEYS = frozenset({"traceId", "spanId", "parentSpanId"})
# stands for an id that isn't hex: one byte is never valid, so validation refuses that span alone
NOT_AN_ID = base64.b64encode(b"\xff").decode()
# protobuf's own bound is 100 levels; JSON needs two levels of text for one of messages
MAX_JSON_DEPTH = 256


class Decoded(NamedTuple):  # made for each request: a frozen dataclass takes four times as long
    """An export as it was read.

    `body` is the export in protobuf, `surely_flat` whether no attribute of a span nests over the bound;
    `rejections` are of spans that could not be read and are in neither.
    """

    body: bytes | memoryview
    export: ExportTraceServiceRequest
    surely_flat: bool
    rejections: list[Rejection]


def decode(
    chunks: list[bytes], encoding: Encoding, *, max_depth: int, max_spans: int, max_messages: int
) -> Decoded:
    """What the chunks of a body hold; `chunks` is empty afterwards, to save memory.

    An empty protobuf body is an empty export (H9).
    Raises Rejected (malformed, too_many_spans, too_large).
    """
    if encoding is Encoding.JSON:
        export = _decode_json(b"".join(chunks))
        return Decoded(export.SerializeToString(), export, False, [])
    return Decoded(
        *read_protobuf(chunks, max_depth=max_depth, max_spans=max_spans, max_messages=max_messages)
    )


def _decode_json(body: bytes) -> ExportTraceServiceRequest:
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("the top level must be an object")
        return json_format.ParseDict(
            _as_proto3(document, 0), ExportTraceServiceRequest(), ignore_unknown_fields=True
        )
    except (ValueError, RecursionError, json_format.ParseError, TypeError, AttributeError) as error:
        raise Rejected(
            Reason.MALFORMED, f"the body is not an ExportTraceServiceRequest in JSON: {error}"
        ) from error


def _as_proto3(value: Any, depth: int) -> Any:
    """OTLP's JSON as the proto3 JSON that protobuf's library reads."""
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, list):
        return [_as_proto3(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _id(item) if key in HEX_KEYS else _as_proto3(item, depth + 1)
        for key, item in value.items()
        if "_" not in key
    }


def _id(value: Any) -> Any:
    if not isinstance(value, str):
        return value if value is None else NOT_AN_ID
    try:
        return base64.b64encode(binascii.unhexlify(value)).decode()
    except (binascii.Error, ValueError):
        return NOT_AN_ID


def encode_response(response: ExportTraceServiceResponse, encoding: Encoding) -> bytes:
    """The answer in the request's own encoding (H5, H6)."""
    if encoding is Encoding.PROTOBUF:
        return response.SerializeToString()
    return json_format.MessageToJson(response, indent=None).encode()
