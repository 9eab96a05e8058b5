"""Export requests between bytes and messages. Pure.

Protobuf is the form that is kept; JSON is turned into it at the door (json_reader.py).
"""

from typing import NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.model.batch import Rejection
from collector.otlp.json_reader import read_json
from collector.otlp.media import Encoding
from collector.otlp.protobuf import read_protobuf
from collector.otlp.shapes import SPANS, Export, SignalShape


class Decoded(NamedTuple):  # made for each request: a frozen dataclass takes four times as long
    """An export as it was read.

    `body` is the export in protobuf, `surely_flat` whether no attribute of a span nests over the bound;
    `rejections` are of spans (or log records) that could not be read and are in neither.
    """

    body: bytes | memoryview
    export: Export
    surely_flat: bool
    rejections: list[Rejection]


def decode(
    chunks: list[bytes],
    encoding: Encoding,
    *,
    max_depth: int,
    max_spans: int,
    max_messages: int,
    shape: SignalShape = SPANS,
) -> Decoded:
    """What the chunks of a body hold; `chunks` is empty afterwards, to save memory.

    An empty protobuf body is an empty export.
    Raises Rejected (malformed, too_many_spans, too_large).
    """
    if encoding is Encoding.JSON:
        text = b"".join(chunks)
        chunks.clear()
        body, rejections = read_json(text, max_depth=max_depth, max_spans=max_spans, shape=shape)
        del text
        return Decoded(body, shape.request.FromString(body), True, rejections)
    return Decoded(
        *read_protobuf(
            chunks, max_depth=max_depth, max_spans=max_spans, max_messages=max_messages, shape=shape
        )
    )


def encode_response(
    response: ExportTraceServiceResponse | ExportLogsServiceResponse, encoding: Encoding
) -> bytes:
    """The answer in the request's own encoding."""
    if encoding is Encoding.PROTOBUF:
        return response.SerializeToString()
    return json_format.MessageToJson(response, indent=None).encode()
