"""What each log record of a window is for. Pure.

A record is a judgement (scores.py), content that belongs onto its span, or neither. The last are dropped and
counted: MLflow has no place for them. Another backend would read them from the same journal, as a consumer of
its own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from collector.model.batch import Entry
from collector.spans.scores import Score, context_of, event_name, record_score

# the messages of a model call: today's event, and those of before 2025
# https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md
CONTENT_EVENTS = re.compile(
    r"gen_ai\.(?:client\.inference\.operation\.details|(?:system|user|assistant|tool)\.message|choice)"
)
# LogRecord.flags: W3C's trace flags
SAMPLED = 0x01


class RecordKind(StrEnum):
    """What a record is for."""

    SCORE = "score"
    CONTENT = "content"
    UNSAMPLED = "unsampled"  # content of a span that its sender has not recorded
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedRecord:
    """A log record, where it stood, and when it came. `score` is what it says, if it is a judgement."""

    kind: RecordKind
    record: LogRecord
    of: ResourceLogs
    scope: ScopeLogs
    entry: Entry
    score: Score | None = None

    @property
    def context(self) -> tuple[str | None, str | None]:
        """The trace and the span that it belongs to, in hex."""
        return context_of(self.record)


def sort_records(entries: Sequence[Entry]) -> list[SortedRecord]:
    """Every record of the entries, in order. Slow: for a thread. Raises DecodeError for a bug of ours."""
    return [
        _sorted(record, resource_logs, scope_logs, entry)
        for entry in entries
        for resource_logs in ExportLogsServiceRequest.FromString(entry.payload).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


def _sorted(record: LogRecord, of: ResourceLogs, scope: ScopeLogs, entry: Entry) -> SortedRecord:
    score = record_score(record)
    kind = RecordKind.SCORE if score else _kind(record)
    return SortedRecord(kind=kind, record=record, of=of, scope=scope, entry=entry, score=score)


def _kind(record: LogRecord) -> RecordKind:
    trace_id, span_id = context_of(record)
    if trace_id is None or span_id is None or not CONTENT_EVENTS.fullmatch(event_name(record)):
        return RecordKind.OTHER
    # 0 is also what says nothing of sampling
    return RecordKind.UNSAMPLED if record.flags and not record.flags & SAMPLED else RecordKind.CONTENT


def by_entry(items: Iterable[SortedRecord]) -> Sequence[tuple[Entry, list[SortedRecord]]]:
    """The records by the entry that they came in."""
    found: dict[int, tuple[Entry, list[SortedRecord]]] = {}
    for item in items:
        found.setdefault(id(item.entry), (item.entry, []))[1].append(item)
    return list(found.values())


def export_of(items: Sequence[SortedRecord]) -> bytes:
    """The records as an export, each with its resource and scope."""
    export = ExportLogsServiceRequest()
    last: SortedRecord | None = None
    for item in items:
        if last is None or last.of is not item.of:
            export.resource_logs.add(schema_url=item.of.schema_url).resource.CopyFrom(item.of.resource)
        if last is None or last.scope is not item.scope:
            scope = export.resource_logs[-1].scope_logs.add(schema_url=item.scope.schema_url)
            scope.scope.CopyFrom(item.scope.scope)
        export.resource_logs[-1].scope_logs[-1].log_records.append(item.record)
        last = item
    return export.SerializeToString()


def trace_ids_of(items: Iterable[SortedRecord]) -> frozenset[bytes]:
    """The traces that the records name."""
    return frozenset(bytes.fromhex(found) for item in items if (found := item.context[0]) is not None)
