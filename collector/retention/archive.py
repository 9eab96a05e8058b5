"""The archive: traces are written to it, read back, and looked up. Synchronous: for a thread.

write = frame behind the day's frames -> read back, checksum, spans -> line in the manifest -> catalogue
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.retention.catalogue import ArchiveState, Catalogue, CataloguedTrace, FramePlace
from collector.retention.frames import (
    DATA,
    MANIFEST,
    ArchiveDamaged,
    ArchivedTrace,
    FrameRecord,
    count_spans,
    export_of,
    only,
    pack,
    read_manifest,
    sha256,
    spans_of,
    to_line,
    unpack,
)
from collector.retention.lease import Lease
from collector.retention.store import ArchiveFiles


@dataclass(slots=True, kw_only=True)
class Archive:
    """The files with their catalogue. One thread writes at a time."""

    files: ArchiveFiles
    catalogue: Catalogue
    lease: Lease
    # whether the catalogue knows what the manifests say
    is_caught_up: bool = False
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def write(
        self,
        experiment_id: str,
        day: str,
        traces: Sequence[Mapping[str, Any]],
        *,
        rule: str,
        now_unix_ns: int,
    ) -> None:
        """Traces of MLflow's answer (traces/batchGet), of one day: written, checked, and in the catalogue.

        Raises OSError (ArchiveTaken: another service writes); ArchiveDamaged: what was read back is not what
        was written; ValueError: a span can't be read. Then nothing of it counts, and MLflow keeps the traces.
        """
        exports = [_export_of(trace) for trace in traces]
        frame = pack(exports)
        with self._writing, self.files.writing():
            self.lease.take()
            file = f"{experiment_id}/{day}"
            self._catch_up(file)
            at, manifest_at = self.catalogue.sizes(file)
            self._check_sizes(file)
            if newest := self.catalogue.newest_file():  # a file of its own says nothing of where this is
                self._check_sizes(newest)
            record = FrameRecord(
                offset=at,
                bytes=len(frame),
                sha256=sha256(frame),
                archived_unix_ns=now_unix_ns,
                rule=rule,
                traces=tuple(map(_record_of, traces)),
            )
            self.files.append(file + DATA, frame, at=at)
            _check(self.files.read(file + DATA, offset=at, length=len(frame)), record, exports)
            line = to_line(record)
            self.files.append(file + MANIFEST, line, at=manifest_at)
            if self.files.read(file + MANIFEST, offset=manifest_at) != line:
                raise ArchiveDamaged(f"the line at byte {manifest_at} of {file}{MANIFEST} is not as written")
            self.lease.check()
            end = manifest_at + len(line)
            self.catalogue.add(file, experiment_id, [record], end, state=ArchiveState.WRITTEN)

    def leave(self) -> None:
        """Let another service write. Raises OSError."""
        with self._writing:
            self.lease.leave()

    def read(self, trace: CataloguedTrace) -> list[ExportTraceServiceRequest]:
        """What the archive has of a trace, the oldest first. Raises OSError, ArchiveDamaged."""
        return [export for place in trace.places for export in only(self._frame(place), {trace.trace_id})]

    def infos(self, traces: Sequence[CataloguedTrace]) -> dict[str, Mapping[str, Any]]:
        """What MLflow said of them beside their spans, by trace id. Raises OSError, ArchiveDamaged."""
        wanted = {(trace.places[-1].file, trace.trace_id) for trace in traces if trace.places}
        found: dict[str, Mapping[str, Any]] = {}
        for file in sorted({file for file, _ in wanted}):
            records, _ = read_manifest(self.files.read(file + MANIFEST))
            for each in (each for record in records for each in record.traces):
                if (file, each.trace_id) in wanted:
                    found[each.trace_id] = each.info
        if missing := {trace.trace_id for trace in traces} - found.keys():
            raise ArchiveDamaged(f"no manifest names trace {min(missing)}")
        return found

    def catch_up(self) -> None:
        """Read what the catalogue lacks, after a crash or a loss. Raises OSError, ArchiveDamaged."""
        with self._writing:
            for name in self.files.names(MANIFEST):
                self._catch_up(name.removesuffix(MANIFEST))
        self.is_caught_up = True

    def _catch_up(self, file: str) -> None:
        """Before each write too, for `append` cuts off what the catalogue doesn't know."""
        _, known = self.catalogue.sizes(file)
        if self.files.size(file + MANIFEST) > known:
            text = self.files.read(file + MANIFEST, offset=known)
            records, whole = read_manifest(text)
            # whether MLflow has them still is asked before anything else is done with them
            experiment_id = file.partition("/")[0]
            self.catalogue.add(file, experiment_id, records, known + whole, state=ArchiveState.DELETING)

    def _check_sizes(self, file: str) -> None:
        """Raises ArchiveDamaged: a file is shorter than it was."""
        for name, known in zip((file + DATA, file + MANIFEST), self.catalogue.sizes(file), strict=True):
            if self.files.size(name) < known:
                raise ArchiveDamaged(f"{name} is shorter than it was: is the archive at {self.files.url}?")

    def _frame(self, place: FramePlace) -> ExportTraceServiceRequest:
        frame = self.files.read(place.file + DATA, offset=place.offset, length=place.bytes)
        record = FrameRecord(
            offset=place.offset,
            bytes=place.bytes,
            sha256=place.sha256,
            archived_unix_ns=0,
            rule="",
            traces=(),
        )
        try:
            return unpack(frame, record)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{place.file}{DATA}: {error}") from error

    def known(self, trace_ids: Collection[str]) -> dict[str, CataloguedTrace]:
        """Those of these traces (hex) that it has."""
        return self.catalogue.find(trace_ids)


def open_archive_of(files: ArchiveFiles, catalogue: Catalogue, *, where: str) -> Archive:
    """The archive as one service writes to it. `where` tells people of other services which one that is."""
    lease = Lease(files=files, owner=catalogue.owner(), where=where)
    return Archive(files=files, catalogue=catalogue, lease=lease)


def _export_of(trace: Mapping[str, Any]) -> ExportTraceServiceRequest:
    """Raises ValueError: a span can't be read, or is of another trace, and could not be found again."""
    export = export_of(trace)
    if others := count_spans(export).keys() - {_record_of(trace).trace_id}:
        raise ValueError(f"spans of trace {min(others)} are in another one")
    return export


def _record_of(trace: Mapping[str, Any]) -> ArchivedTrace:
    info = trace["trace_info"]
    trace_id = str(info["trace_id"]).removeprefix("tr-")
    return ArchivedTrace(trace_id=trace_id, spans=len(trace.get("spans") or ()), info=info)


def _check(frame: bytes, record: FrameRecord, written: Sequence[ExportTraceServiceRequest]) -> None:
    """Raises ArchiveDamaged: what was read back is not what was written."""
    found = [span.SerializeToString(deterministic=True) for span in spans_of(unpack(frame, record))]
    sent = [span.SerializeToString(deterministic=True) for each in written for span in spans_of(each)]
    if found != sent:
        raise ArchiveDamaged(f"the frame at byte {record.offset} does not hold the spans that were written")
