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
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.model.errors import Reason, Rejected
from collector.otlp.media import Encoding
from collector.otlp.nesting import parse_within

HEX_KEYS = frozenset({"traceId", "spanId", "parentSpanId"})
# stands for an id that isn't hex: one byte is never valid, so validation refuses that span alone
NOT_AN_ID = base64.b64encode(b"\xff").decode()
# protobuf's own bound is 100 levels; JSON needs two levels of text for one of messages
MAX_JSON_DEPTH = 256


# the body, the export in it, and whether surely no attribute in it nests over the bound
Decoded = tuple[bytes | memoryview, ExportTraceServiceRequest, bool]


def decode(chunks: Sequence[bytes], encoding: Encoding, *, max_depth: int) -> Decoded:
    """What the chunks of a body hold. An empty protobuf body is an empty export (H9).

    Raises Rejected (malformed).
    """
    if encoding is Encoding.JSON:
        text = b"".join(chunks)
        return text, _decode_json(text), False
    body, export = parse_within(chunks, max_depth)
    return (body, _decode_protobuf(body), False) if export is None else (body, export, True)


def _decode_protobuf(body: memoryview) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(bytes(body))
    except DecodeError as error:
        raise Rejected(
            Reason.MALFORMED, f"the body is not an ExportTraceServiceRequest in protobuf: {error}"
        ) from error


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
