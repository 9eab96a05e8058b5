"""Export requests between bytes and messages. Pure.

Protobuf is the form that is kept; JSON is turned into it at the door (json_reader.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.model.batch import Rejection
from collector.model.errors import Reason, Rejected
from collector.otlp.json_reader import read_json
from collector.otlp.media import Encoding
from collector.otlp.nesting import parse_within


@dataclass(frozen=True, slots=True)
class Decoded:
    """An export as it was read.

    `body` is the export in protobuf, `surely_flat` whether no attribute of a span nests over the bound;
    `rejections` are of spans that could not be read and are in neither.
    """

    body: bytes | memoryview
    export: ExportTraceServiceRequest
    surely_flat: bool
    rejections: list[Rejection] = field(default_factory=list)


def decode(chunks: Sequence[bytes], encoding: Encoding, *, max_depth: int, max_spans: int) -> Decoded:
    """What the chunks of a body hold. An empty protobuf body is an empty export (H9).

    Raises Rejected: malformed; of JSON too_large (too many values) and too_many_spans too.
    """
    if encoding is Encoding.JSON:
        body, rejections = read_json(b"".join(chunks), max_depth=max_depth, max_spans=max_spans)
        return Decoded(body, ExportTraceServiceRequest.FromString(body), True, rejections)
    view, export = parse_within(chunks, max_depth)
    return Decoded(view, _decode_protobuf(view), False) if export is None else Decoded(view, export, True)


def _decode_protobuf(body: memoryview) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(bytes(body))
    except DecodeError as error:
        raise Rejected(
            Reason.MALFORMED, f"the body is not an ExportTraceServiceRequest in protobuf: {error}"
        ) from error


def encode_response(response: ExportTraceServiceResponse, encoding: Encoding) -> bytes:
    """The answer in the request's own encoding (H5, H6)."""
    if encoding is Encoding.PROTOBUF:
        return response.SerializeToString()
    return json_format.MessageToJson(response, indent=None).encode()
