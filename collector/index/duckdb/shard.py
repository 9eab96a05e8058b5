"""Entries of the journal -> rows of the index, in files that DuckDB reads; in one process, or in several.

    journal -> payloads -> facts of the traces of this shard -> with what is stored of them -> rows -> CSV
                        -> scores, in spans and in log records ------------------------------> rows -> CSV

A shard takes whole traces: entries that share one are never in two shards (`share_out`), so that several
processes can make rows and none has to know what the others do. An entry that can't be read costs itself
only; a span whose facts can't be read is there with its name and times.
"""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.index.duckdb.rows import TraceRows, score_row, trace_rows
from collector.journal.sqlite.reader import JournalReader, JournalUnreadable, open_reader
from collector.model.batch import Position, Signal
from collector.model.connected import connected
from collector.model.faults import Faults
from collector.spans.facts import export_facts
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.score_facts import ScoreFact, fact_of, record_fact
from collector.spans.scores import NEEDLES, carries_scores, span_scores
from collector.spans.values import SpanFacts
from collector.spans.wire import Export

_log = logging.getLogger("sidespan.index")

CONSUMER = "index"
# of one trace in one batch, for those who follow it live
MAX_FRESH_SPANS = 200

TraceKey = tuple[int, str]
"""The number of an experiment, and a trace id in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One entry to be read: its sequence, the number of its experiment, its run, and when it came.

    Of log records only the scores are read, which belong to no trace's rows: `trace_ids` are those of spans.
    """

    sequence: int
    experiment: int
    run_id: str | None
    received_unix_ns: int
    span_count: int
    trace_ids: frozenset[bytes]
    signal: Signal = Signal.TRACES

    @property
    def keys(self) -> set[TraceKey]:
        """The traces in it."""
        return {(self.experiment, trace_id.hex()) for trace_id in self.trace_ids}


@dataclass(slots=True)
class Gathered:
    """What is known of one trace: spans, and the run and time of what is stored of it, if something is.

    There may be labels of a trace whose spans are still to come.
    """

    spans: list[SpanFacts] = field(default_factory=list)
    run_id: str | None = None
    seen_unix_ns: int | None = None
    labels: TraceLabels = NO_LABELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a shard has written. `unreadable` are the sequences that it could not read.

    `faults` are bugs that cost single spans their facts, or single traces their rows. `fresh` are the ids of
    the spans that a trace did not have before, with commas between them.
    """

    traces_file: Path
    spans_file: Path
    scores_file: Path
    keys: Sequence[TraceKey]
    fresh: Mapping[TraceKey, str] = field(default_factory=dict)
    unreadable: Sequence[int] = ()
    faults: Faults = field(default_factory=Faults)

    @property
    def files(self) -> Sequence[Path]:
        """All of its files."""
        return self.traces_file, self.spans_file, self.scores_file


def read_shard(
    journal: Path,
    pieces: Sequence[Piece],
    stored: Mapping[TraceKey, Gathered],
    *,
    into: Path,
    name: str,
    preview_characters: int,
) -> Batch:
    """The rows of the traces in `pieces`, in files called `name`. Raises JournalUnreadable, OSError."""
    found: dict[TraceKey, Gathered] = {}
    # a trace is written as soon as its last entry is read: few traces are in memory at a time
    waiting = Counter(key for piece in pieces for key in piece.keys)
    unreadable = []
    with open_reader(journal, CONSUMER) as reader, Rows(into, name, preview_characters) as rows:
        for piece in pieces:
            try:
                _read(reader, piece, found, rows)
            except JournalUnreadable:
                raise
            except Exception:
                _log.exception("an entry can't be indexed", extra={"sequence": piece.sequence})
                unreadable.append(piece.sequence)
            for key in piece.keys:
                waiting[key] -= 1
                if not waiting[key] and (trace := found.pop(key, None)):
                    before = stored.get(key)
                    rows.note_fresh(key, trace, before)
                    rows.write(key, _with(trace, before))
    return replace(rows.batch(), unreadable=tuple(unreadable))


def _read(journal: JournalReader, piece: Piece, found: dict[TraceKey, Gathered], rows: "Rows") -> None:
    payload = journal.payload(Position(piece.sequence))
    if payload is None:
        raise DecodeError("gone, or damaged on disk")
    about = {"experiment": piece.experiment, "seen_unix_ns": piece.received_unix_ns}
    if piece.signal is Signal.LOGS:
        rows.write_scores(_logged_scores(payload, piece), **about)
        return
    for span in list(export_facts(Export.FromString(payload), faults=rows.faults)):
        trace = found.get((piece.experiment, span.trace_id))
        if trace is None:
            trace = found[piece.experiment, span.trace_id] = Gathered(seen_unix_ns=piece.received_unix_ns)
        trace.spans.append(span)
        trace.run_id = trace.run_id or piece.run_id
    if carries_scores(payload):
        rows.write_scores(_carried_scores(payload, piece, rows.faults), **about)


def _logged_scores(payload: bytes, piece: Piece) -> list[ScoreFact]:
    if NEEDLES[0] not in payload:
        return []
    return [
        fact
        for resource_logs in ExportLogsServiceRequest.FromString(payload).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
        if (fact := record_fact(record, received_unix_ns=piece.received_unix_ns)) is not None
    ]


def _carried_scores(payload: bytes, piece: Piece, faults: Faults) -> list[ScoreFact]:
    """Those that spans carry; a bug here must not cost them their rows."""
    try:
        return [
            fact
            for resource_spans in ExportTraceServiceRequest.FromString(payload).resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
            for score in span_scores(span)
            if (fact := fact_of(score, received_unix_ns=piece.received_unix_ns)) is not None
        ]
    except Exception as error:
        faults.add(error)
        return []


def _with(fresh: Gathered, before: Gathered | None) -> Gathered:
    if before is None:
        return fresh
    return Gathered(
        spans=[*fresh.spans, *before.spans],
        run_id=before.run_id or fresh.run_id,
        seen_unix_ns=fresh.seen_unix_ns if before.seen_unix_ns is None else before.seen_unix_ns,
        labels=before.labels,
    )


def share_out(pieces: Sequence[Piece], shares: Sequence[float]) -> list[list[Piece]]:
    """`pieces` in a list for each of `shares`, spans in about that proportion; never a trace in two."""
    groups = connected(pieces, lambda piece: piece.keys)
    lists: list[list[Piece]] = [[] for _ in shares]
    loads = [0.0] * len(shares)
    for group in sorted(groups, key=lambda group: -sum(piece.span_count for piece in group)):
        lightest = loads.index(min(loads))
        lists[lightest] += group
        loads[lightest] += sum(piece.span_count for piece in group) / shares[lightest]
    return lists


class Rows:
    """Three files, for rows of `traces`, `spans` and `scores`, as a context. Raises OSError."""

    def __init__(self, into: Path, name: str, preview_characters: int) -> None:
        self._paths = tuple(into / f"{name}-{table}.csv" for table in ("traces", "spans", "scores"))
        self._preview_characters = preview_characters
        self._keys: list[TraceKey] = []
        self._fresh: dict[TraceKey, str] = {}
        self.faults = Faults()

    def __enter__(self) -> "Rows":
        # what JSON text of an attribute held may be no text at all (a lone surrogate)
        self._files = [path.open("w", newline="", encoding="utf-8", errors="replace") for path in self._paths]
        self._write_trace = csv.writer(self._files[0]).writerow
        self._write_spans = csv.writer(self._files[1]).writerows
        self._write_scores = csv.writer(self._files[2]).writerows
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, key: TraceKey, trace: Gathered) -> None:
        """All rows of one trace."""
        rows = self._rows(key, trace)
        if rows is None:
            return
        self._write_trace(rows.trace)
        self._write_spans(rows.spans)
        self._keys.append(key)

    def note_fresh(self, key: TraceKey, trace: Gathered, before: Gathered | None) -> None:
        """Which of its spans are new; of a trace with many of them, some."""
        known = set() if before is None else {span.span_id for span in before.spans}
        ids = [span.span_id for span in trace.spans if span.span_id not in known][:MAX_FRESH_SPANS]
        if ids:
            self._fresh[key] = ",".join(ids)

    def write_scores(self, scores: Sequence[ScoreFact], *, experiment: int, seen_unix_ns: int) -> None:
        """Rows of scores."""
        self._write_scores(score_row(each, experiment, seen_unix_ns=seen_unix_ns) for each in scores)

    def _rows(self, key: TraceKey, trace: Gathered) -> TraceRows | None:
        """Its rows; where a bug keeps them from being made, those of its bare spans. None: not even those."""
        make = partial(
            trace_rows,
            experiment=key[0],
            run_id=trace.run_id,
            seen_unix_ns=trace.seen_unix_ns or 0,
            preview_characters=self._preview_characters,
            labels=trace.labels,
        )
        try:
            return make(trace.spans)
        except Exception as error:
            self.faults.add(error)
        sound = [span if _makes_rows(make, span) else bare(span) for span in trace.spans]
        for spans in (sound, list(map(bare, trace.spans))):
            with suppress(Exception):
                return make(spans)
        return None

    def batch(self) -> Batch:
        """What was written, once the context has ended or is about to."""
        traces_file, spans_file, scores_file = self._paths
        return Batch(
            traces_file=traces_file,
            spans_file=spans_file,
            scores_file=scores_file,
            keys=self._keys,
            fresh=self._fresh,
            faults=self.faults,
        )


def bare(span: SpanFacts) -> SpanFacts:
    """What can be told of any span."""
    return SpanFacts(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name,
        start_unix_ns=span.start_unix_ns,
        end_unix_ns=span.end_unix_ns,
        is_error=span.is_error,
    )


def _makes_rows(make: Callable[[Sequence[SpanFacts]], TraceRows], span: SpanFacts) -> bool:
    try:
        make([span])
    except Exception:
        return False
    return True


def write_rows(
    found: Mapping[TraceKey, Gathered], *, into: Path, name: str, preview_characters: int
) -> Batch:
    """The rows of traces, in files of `into`. Raises OSError."""
    with Rows(into, name, preview_characters) as rows:
        for key, trace in found.items():
            rows.write(key, trace)
    return rows.batch()
