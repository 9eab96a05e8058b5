"""The rows of a trace as ClickHouse stores them: ids as numbers, and the version that counts. Pure.

Rows are never changed: a newer row of the same key takes the place of an older one. Of two, that with the
higher version counts. What comes from the log has a version made of its place there, so a process that was
held up and goes on with an old batch can't undo what its successor has written; what is written anew without
a place in the log (labels, a backfill) counts from the version that it read.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from collector.index.clickhouse import native
from collector.index.clickhouse.native import Coded
from collector.index.clickhouse.schema import SCORES_NEVER_NULL, types_of
from collector.index.rows.columns import SCORE_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS
from collector.index.rows.form import OWN_COLUMNS, REPEATED_COLUMNS, Row
from collector.index.rows.gathered import Gathered, TraceKey
from collector.index.rows.rows import TraceRows

# the version of a score that the log brings: whatever MLflow says of it, at a time, is above
FROM_THE_LOG = 1
# so many changes of a trace find room between two entries of the log
_CHANGES_BITS = 16
# of a place in the log, so that a version has 63 bits
_PLACE_MASK = (1 << 47) - 1
_TRACE_ID = 1
# more rows than these leave the processor's cache before they are written
BLOCK_SPANS = 1000


def version_of(trace: Gathered) -> int:
    """The version of a trace's rows, higher than that of what is stored."""
    return max((trace.sequence & _PLACE_MASK) << _CHANGES_BITS, trace.version + 1)


def comes_again(trace: Gathered, before: Gathered) -> bool:
    """Whether the log brings what is stored: who stored it failed, perhaps before it was told."""
    return 0 < (trace.sequence & _PLACE_MASK) << _CHANGES_BITS <= before.version


def score_as_stored(row: Row, version: int = FROM_THE_LOG) -> Row:
    """The row of a score with its trace's id as a number, and its version behind it."""
    return (row[0], int(row[_TRACE_ID], 16), *row[_TRACE_ID + 1 :], version)


_VERSION = {"version": "UInt64"}
SCORE_TYPES = {**types_of(SCORE_COLUMNS, SCORES_NEVER_NULL), **_VERSION}
TRACE_TYPES = {**types_of(TRACE_COLUMNS), **_VERSION}
SPAN_TYPES = {**types_of(SPAN_COLUMNS), "seen_unix_ns": "Int64", **_VERSION}
DAY_TYPES = {"trace_id": "UInt128", "experiment": "Int64", "seen_unix_ns": "Int64", **_VERSION}
SCORE_NAMES, TRACE_NAMES, SPAN_NAMES = map(tuple, (SCORE_TYPES, TRACE_TYPES, SPAN_TYPES))
DAY_NAMES = tuple(DAY_TYPES)
assert TRACE_NAMES[_TRACE_ID] == SPAN_NAMES[_TRACE_ID] == "trace_id"
_OWN_NAMES, _REPEATED_NAMES = ([each.name for each in part] for part in (OWN_COLUMNS, REPEATED_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOfTraces:
    """Rows on their way into the tables, as blocks (native.py), which may stand behind each other.

    `days` say when traces that are new were seen; `changes` are notes for those who follow traces
    (changes.py), as CSV: what is new of each. `token` tells these rows from all others, and is the same when
    they come again; None: they come once.
    """

    traces: bytes
    spans: bytes
    days: bytes
    scores: bytes = b""
    changes: bytes = b""
    token: str | None = None


class _Repeated:
    """What follows from the forms of traces, of many spans: few different rows."""

    def __init__(self) -> None:
        self._rows: dict[Row, int] = {}
        # by the object, which is kept
        self._known: dict[int, tuple[Sequence[Row], Sequence[int]]] = {}
        self._places: list[int] = []

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of a trace's spans."""
        known = self._known.get(id(rows))
        if known is None:
            places = [self._rows.setdefault(row, len(self._rows)) for row in rows]
            known = self._known[id(rows)] = (rows, places)
        self._places += known[1]

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Whether there are few enough with these ones."""
        return id(rows) in self._known or len(self._rows) + len(rows) <= native.MAX_CODED

    def columns(self) -> Mapping[str, Sequence[Any] | Coded]:
        """Their columns by name."""
        rows = list(self._rows)
        if len(rows) > native.MAX_CODED:  # a trace of many different spans
            rows = [rows[place] for place in self._places]
            return dict(zip(_REPEATED_NAMES, zip(*rows, strict=True), strict=True))
        places = bytes(self._places)
        columns = zip(_REPEATED_NAMES, zip(*rows, strict=True), strict=False)
        return {name: Coded(places, values) for name, values in columns}


@dataclass(slots=True)
class _Some:
    """Rows of some traces, and of each trace its id, its number of spans, when it was seen, its version."""

    traces: list[Row] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)
    repeated: _Repeated = field(default_factory=_Repeated)
    ids: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    are_new: list[bool] = field(default_factory=list)

    def trace_block(self) -> bytes:
        return _block(TRACE_TYPES, self.traces, self.ids, self.versions)

    def span_block(self) -> bytes:
        of_each, own = self._of_each_span, [*zip(*self.spans, strict=True)]
        columns: dict[str, Sequence[Any] | Coded] = {
            **dict(zip(_OWN_NAMES, own, strict=False)),
            **self.repeated.columns(),
            "trace_id": of_each(self.ids),
            "seen_unix_ns": of_each(self.seen),
            "version": of_each(self.versions),
        }
        return native.block(SPAN_TYPES, [columns[name] for name in SPAN_NAMES]) if own else b""

    def day_block(self) -> bytes:
        """Rows that tell when new traces were first seen."""
        rows = zip(self.ids, self.traces, self.seen, self.are_new, strict=True)
        found = [(id, trace[0], seen, 1) for id, trace, seen, is_new in rows if is_new]
        return native.block(DAY_TYPES, list(zip(*found, strict=True)))

    def _of_each_span(self, values: Sequence[Any]) -> list[Any]:
        return list(chain.from_iterable(map(repeat, values, self.lengths)))


class RowCollector:
    """Takes the rows of traces, and gives them as ClickHouse stores them."""

    def __init__(self) -> None:
        self._some = _Some()
        self._scores: list[Row] = []
        self._traces, self._spans, self._days = bytearray(), bytearray(), bytearray()
        self._seen: dict[TraceKey, int] = {}

    def put(self, trace: Gathered, rows: TraceRows) -> None:
        """All rows of one trace."""
        if not self._some.repeated.has_room(rows.repeated):
            self._write()
        some = self._some
        some.traces.append(rows.trace)
        some.spans += rows.own
        some.repeated.add(rows.repeated)
        some.ids.append(_id(rows.trace[_TRACE_ID]))
        some.lengths.append(len(rows.own))
        some.seen.append(trace.seen_unix_ns or 0)
        some.versions.append(version_of(trace))
        some.are_new.append(not trace.version)
        self._seen[rows.trace[0], rows.trace[_TRACE_ID]] = trace.seen_unix_ns or 0
        if len(some.spans) >= BLOCK_SPANS:
            self._write()

    def put_scores(self, rows: Sequence[Row]) -> None:
        """Rows of scores."""
        self._scores += rows

    def blocks(self, *, fresh: Mapping[TraceKey, str], token: str | None) -> RowsOfTraces:
        """What was put, with notes of the spans that are `fresh`."""
        self._write()
        # of a trace that can't be stored there is nothing to tell
        told = {key: spans for key, spans in fresh.items() if key in self._seen}
        ids = [_id(row[_TRACE_ID]) for row in self._scores]
        return RowsOfTraces(
            traces=bytes(self._traces),
            spans=bytes(self._spans),
            days=bytes(self._days),
            scores=_block(SCORE_TYPES, self._scores, ids, [FROM_THE_LOG] * len(ids)),
            changes=encoded(changes_of(told, self._seen)),
            token=token,
        )

    def _write(self) -> None:
        some, self._some = self._some, _Some()
        self._traces += some.trace_block()
        self._spans += some.span_block()
        self._days += some.day_block()


def _id(trace_id: str) -> bytes:
    """A number of 128 bits, its last byte first."""
    return bytes.fromhex(trace_id)[::-1]


def _block(
    types: Mapping[str, str], rows: Sequence[Row], ids: Sequence[bytes], *behind: Sequence[int]
) -> bytes:
    """Rows of index/rows/columns.py with ids as numbers, and with what stands behind them."""
    columns: list[Sequence[Any]] = [*zip(*rows, strict=True)]
    if columns:
        columns[_TRACE_ID] = ids
    return native.block(types, [*columns, *behind])


def csv_of(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as ClickHouse reads them: NULL is an empty field."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def encoded(text: str) -> bytes:
    """As UTF-8. What JSON text of an attribute held may be no text at all (a lone surrogate)."""
    return text.encode(errors="replace")


def changes_of(fresh: Mapping[TraceKey, str], seen: Mapping[TraceKey, int]) -> str:
    """Notes of traces with new spans, and of when these traces were first seen."""
    return csv_of(
        (experiment, int(trace_id, 16), seen[experiment, trace_id], _numbers(spans))
        for (experiment, trace_id), spans in fresh.items()
    )


def _numbers(spans: str) -> str:
    return f"[{','.join(str(int(span_id, 16)) for span_id in spans.split(','))}]"
