"""The archive's files: frames of spans, and the manifest that says where each trace is. Pure; slow: a thread.

    EXPERIMENT_ID/2026-01-31.otlp.zst         zstd frames, one after the other. Unpacked, all of them together
                                              are one ExportTraceServiceRequest in protobuf
    EXPERIMENT_ID/2026-01-31.manifest.jsonl   a line for each frame: where it is, its SHA-256, its traces

A frame holds some traces, each under a ResourceSpans of its own. A line is written after its frame, so bytes
behind the last frame that a line names are of a write that was cut short, and so is a line without an end.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.retention.rules import read_stored
from collector.spans.mlflow_trace import stored_span

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPTIONS: Mapping[int, int] = {
    zstd.CompressionParameter.compression_level: 6,
    zstd.CompressionParameter.checksum_flag: 1,
}
# of a frame, unpacked; an answer of MLflow's from which one is made has 64 MiB at most
MAX_FRAME_BYTES = 256 * 1024 * 1024
DATA, MANIFEST = ".otlp.zst", ".manifest.jsonl"
# checked when a manifest is read, for whoever can write to the store may have put it there
TraceId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class ArchiveDamaged(Exception):
    """What the archive holds is not what was written to it; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedTrace:
    """A trace in a frame; `info` is all that MLflow said of it beside its spans."""

    trace_id: TraceId
    spans: Count
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """A line of the manifest."""

    offset: Count
    bytes: Count
    sha256: str
    archived_unix_ns: int
    rule: str
    traces: tuple[ArchivedTrace, ...]

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.offset + self.bytes


def export_of(trace: Mapping[str, Any]) -> ExportTraceServiceRequest:
    """A trace of MLflow's answer (traces/batchGet) as an export: each span as MLflow keeps it.

    Raises ValueError: a span can't be read.
    """
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    for key, value in ((trace.get("trace_info") or {}).get("tags") or {}).items():
        if not key.startswith("mlflow."):
            resource_spans.resource.attributes.add(key=key).value.string_value = str(value)
    resource_spans.scope_spans.add().spans.extend(map(stored_span, trace.get("spans") or ()))
    return export


def pack(exports: Sequence[ExportTraceServiceRequest]) -> bytes:
    """A frame of traces. Raises ValueError: they are too large for one."""
    payload = b"".join([export.SerializeToString(deterministic=True) for export in exports])
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame holds at most {MAX_FRAME_BYTES} bytes")
    packed: bytes = zstd.compress(payload, options=OPTIONS)
    return packed


def unpack(frame: bytes, record: FrameRecord) -> ExportTraceServiceRequest:
    """The traces of a frame. Raises ArchiveDamaged: it is not what its record says."""
    if len(frame) != record.bytes or sha256(frame) != record.sha256:
        raise ArchiveDamaged(f"the frame at byte {record.offset} does not have its checksum")
    try:
        export = ExportTraceServiceRequest.FromString(_unpacked(frame))
    except Exception as error:  # the checksum is right: it was written so
        raise ArchiveDamaged(f"the frame at byte {record.offset} can't be read: {error}") from error
    counted = count_spans(export)
    if any(counted.get(each.trace_id, 0) != each.spans for each in record.traces):
        raise ArchiveDamaged(f"the frame at byte {record.offset} lacks spans that its manifest names")
    return export


def _unpacked(frame: bytes) -> bytes:
    """Raises ValueError: there is more than we ever write, as whoever can write to the store may have put."""
    decompressor = zstd.ZstdDecompressor()
    payload = decompressor.decompress(frame, max_length=MAX_FRAME_BYTES + 1)
    if len(payload) > MAX_FRAME_BYTES or not decompressor.eof:
        raise ValueError(f"it is not a whole frame of at most {MAX_FRAME_BYTES} bytes")
    return payload


def sha256(frame: bytes) -> str:
    """As the manifest has it."""
    return hashlib.sha256(frame).hexdigest()


def count_spans(export: ExportTraceServiceRequest) -> dict[str, int]:
    """Spans by trace id (hex)."""
    counts: dict[str, int] = {}
    for span in spans_of(export):
        id = span.trace_id.hex()
        counts[id] = counts.get(id, 0) + 1
    return counts


def spans_of(export: ExportTraceServiceRequest) -> list[Span]:
    """All of them, in their order."""
    return [
        span
        for resource_spans in export.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def only(export: ExportTraceServiceRequest, trace_ids: Collection[str]) -> list[ExportTraceServiceRequest]:
    """An export for each of these traces (hex) that is there."""
    found = []
    for resource_spans in export.resource_spans:
        ids = {span.trace_id.hex() for scope in resource_spans.scope_spans for span in scope.spans}
        if ids & set(trace_ids):
            found.append(ExportTraceServiceRequest(resource_spans=[resource_spans]))
    return found


def to_line(record: FrameRecord) -> bytes:
    """As the manifest has it."""
    document = {each.name: getattr(record, each.name) for each in fields(record)}
    document["traces"] = [{key.name: getattr(one, key.name) for key in fields(one)} for one in record.traces]
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> FrameRecord:
    """Raises ArchiveDamaged: it is no line of a manifest."""
    try:
        record = msgspec.convert(json.loads(line), FrameRecord)
        strange = [each for each in record.traces if read_stored(each.info).trace_id != each.trace_id]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveDamaged(f"a line of the manifest can't be read: {error!r}") from error
    if strange:
        raise ArchiveDamaged(f"what the manifest says of trace {strange[0].trace_id} is of another one")
    return record


def read_manifest(text: bytes) -> tuple[list[FrameRecord], int]:
    """Its records, and how many bytes of it are whole lines. Raises ArchiveDamaged."""
    end = text.rfind(b"\n") + 1
    return [from_line(line) for line in text[:end].splitlines()], end
