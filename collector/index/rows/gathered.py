"""Entries of the journal -> the traces in them, with what is stored of these -> rows. Shared by all engines.

    payloads -> facts, by trace -> a trace is whole when its last entry is read -> its rows, to a writer

A share of a batch takes whole traces: entries that share one are never in two shares (`share_out`), so that
several processes can make rows and none has to know what the others do. An entry that can't be read costs
itself only; a span whose facts can't be read is there with its name and times.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from typing import Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.index.rows.form import Row
from collector.index.rows.rows import TraceRows, score_row, trace_rows
from collector.model.batch import Signal
from collector.model.connected import connected
from collector.model.faults import Faults
from collector.spans.facts import export_facts
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.score_facts import ScoreFact, fact_of, record_fact
from collector.spans.scores import span_scores
from collector.spans.told_names import RESULT
from collector.spans.values import SpanFacts
from collector.spans.wire import Export

_log = logging.getLogger("sidespan.index")

# of one trace in one batch, for those who follow it live
MAX_FRESH_SPANS = 200

_trace_id = attrgetter("trace_id")

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


PayloadOf = Callable[[Piece], bytes | None]
"""What an entry holds; None: it is gone, or damaged."""


@dataclass(slots=True)
class Gathered:
    """What is known of one trace: spans, and the run and time of what is stored of it, if something is.

    There may be labels of a trace whose spans are still to come. `sequence` is that of its newest entry in
    this batch, `version` that of its stored rows, in engines that keep one (0: none is stored).
    """

    spans: list[SpanFacts] = field(default_factory=list)
    run_id: str | None = None
    seen_unix_ns: int | None = None
    labels: TraceLabels = NO_LABELS
    sequence: int = 0
    version: int = 0


class RowSink(Protocol):
    """Where an engine's rows go."""

    def put(self, trace: Gathered, rows: TraceRows) -> None:
        """All rows of one trace."""

    def put_scores(self, rows: Sequence[Row]) -> None:
        """Rows of scores."""


class RowWriter:
    """Makes rows of `traces`, `spans` and `scores`, and puts them into an engine's `sink`.

    `comes_again` says whether what came of a trace was stored, and may not have been told: it counts as new.
    """

    def __init__(
        self,
        sink: RowSink,
        preview_characters: int,
        comes_again: Callable[[Gathered, Gathered], bool] | None = None,
    ) -> None:
        self._sink = sink
        self._preview_characters = preview_characters
        self._comes_again = comes_again
        self.keys: list[TraceKey] = []
        self.fresh: dict[TraceKey, str] = {}
        self.faults = Faults()

    def write(self, key: TraceKey, trace: Gathered) -> None:
        """All rows of one trace."""
        rows = self._rows(key, trace)
        if rows is None:
            return
        self._sink.put(trace, rows)
        self.keys.append(key)

    def note_fresh(self, key: TraceKey, trace: Gathered, before: Gathered | None) -> None:
        """Which of its spans are new; of a trace with many of them, some."""
        ids = [span.span_id for span in trace.spans]
        if before is not None and not (self._comes_again and self._comes_again(trace, before)):
            known = {span.span_id for span in before.spans}
            ids = [id for id in ids if id not in known]
        if ids:
            self.fresh[key] = ",".join(ids[:MAX_FRESH_SPANS])

    def write_scores(self, scores: Sequence[ScoreFact], *, experiment: int, seen_unix_ns: int) -> None:
        """Rows of scores."""
        self._sink.put_scores([score_row(each, experiment, seen_unix_ns=seen_unix_ns) for each in scores])

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


def write_pieces(
    pieces: Sequence[Piece], stored: Mapping[TraceKey, Gathered], payload_of: PayloadOf, rows: RowWriter
) -> list[int]:
    """The rows of the traces in `pieces`; the sequences of those that can't be read.

    Raises what `payload_of` raises.
    """
    found: dict[TraceKey, Gathered] = {}
    # a trace is written as soon as its last entry is read: few traces are in memory at a time
    keys = [piece.keys for piece in pieces]
    waiting = Counter(chain.from_iterable(keys))
    unreadable = []
    for piece, its_keys in zip(pieces, keys, strict=True):
        payload = payload_of(piece)
        try:
            _read(payload, piece, found, rows)
        except Exception:
            _log.exception("an entry can't be indexed", extra={"sequence": piece.sequence})
            unreadable.append(piece.sequence)
        for key in its_keys:
            waiting[key] -= 1
            if not waiting[key] and (trace := found.pop(key, None)):
                before = stored.get(key)
                rows.note_fresh(key, trace, before)
                rows.write(key, with_stored(trace, before))
    return unreadable


def _read(payload: bytes | None, piece: Piece, found: dict[TraceKey, Gathered], rows: RowWriter) -> None:
    if payload is None:
        raise DecodeError("gone, or damaged on disk")
    about = {"experiment": piece.experiment, "seen_unix_ns": piece.received_unix_ns}
    if piece.signal is Signal.LOGS:
        rows.write_scores(_logged_scores(payload, piece), **about)
        return
    scored: list[bytes] = []
    spans = list(export_facts(Export.FromString(payload), faults=rows.faults, scored=scored))
    for trace_id, its_spans in groupby(spans, _trace_id):
        trace = found.get((piece.experiment, trace_id))
        if trace is None:
            trace = found[piece.experiment, trace_id] = Gathered(seen_unix_ns=piece.received_unix_ns)
        trace.spans += its_spans
        trace.run_id = trace.run_id or piece.run_id
        trace.sequence = max(trace.sequence, piece.sequence)
    if scored:
        rows.write_scores(_carried_scores(payload, piece, rows.faults), **about)


def _logged_scores(payload: bytes, piece: Piece) -> list[ScoreFact]:
    if RESULT.encode() not in payload:
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


def with_stored(fresh: Gathered, before: Gathered | None) -> Gathered:
    """What came, beside what is stored of the same trace."""
    if before is None:
        return fresh
    return Gathered(
        spans=[*fresh.spans, *before.spans],
        run_id=before.run_id or fresh.run_id,
        seen_unix_ns=fresh.seen_unix_ns if before.seen_unix_ns is None else before.seen_unix_ns,
        labels=before.labels,
        sequence=fresh.sequence,
        version=before.version,
    )


def with_put(before: Gathered, put: Gathered) -> Gathered:
    """What is stored of a trace, with those spans of `put` that it lacks."""
    known = {span.span_id for span in before.spans}
    before.spans += [span for span in put.spans if span.span_id not in known]
    before.run_id = before.run_id or put.run_id
    before.seen_unix_ns = put.seen_unix_ns if before.seen_unix_ns is None else before.seen_unix_ns
    before.labels = put.labels
    return before


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
