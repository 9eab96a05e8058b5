"""The files of a capture. Pure but for reading them.

capture.binpb   the ExportTraceServiceRequests in the order in which they came, each after its length (varint)
logs.binpb      the same for log records: what a framework tells only there
calls.json      the versions, and what the provider answered to each call
truth.toml      written by hand: what the scenario did, and what its sender doesn't tell (truth.py)
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CAPTURE, LOGS, WRITTEN = "capture.binpb", "logs.binpb", "mlflow.json"
CALLS, TRUTH = "calls.json", "truth.toml"
MAX_BYTES = 60_000


def join(requests: Iterable[bytes]) -> bytes:
    return b"".join(_varint(len(each)) + each for each in requests)


def split(content: bytes) -> Iterator[bytes]:
    """What `join` has joined."""
    position = 0
    while position < len(content):
        length = shift = 0
        while True:
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield content[position : position + length]
        position += length


def requests(folder: Path) -> list[ExportTraceServiceRequest]:
    """What the framework in `folder` exported, request by request."""
    content = (folder / CAPTURE).read_bytes()
    return [ExportTraceServiceRequest.FromString(each) for each in split(content)]


def logs(folder: Path) -> list[ExportLogsServiceRequest]:
    """The log records that the framework in `folder` exported, request by request."""
    file = folder / LOGS
    content = file.read_bytes() if file.exists() else b""
    return [ExportLogsServiceRequest.FromString(each) for each in split(content)]


def written(folder: Path) -> list[dict[str, Any]]:
    """What the framework in `folder` wrote to MLflow's API; nothing but from MLflow's own SDK."""
    file = folder / WRITTEN
    return list(json.loads(file.read_text())) if file.exists() else []


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
