"""The rows of a trace as ClickHouse stores them: ids as numbers, and the version that counts. Pure.

Rows are never changed: a newer row of the same key takes the place of an older one. Of two, that with the
higher version counts. What comes from the log has a version made of its place there, so a process that was
held up and goes on with an old batch can't undo what its successor has written; what is written anew without
a place in the log (labels, a backfill) counts from the version that it read.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.rows.columns import SCORE_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS
from collector.index.rows.gathered import Gathered, TraceKey
from collector.index.rows.rows import Row, TraceRows

# the version of a score that the log brings: whatever MLflow says of it, at a time, is above
FROM_THE_LOG = 1
# so many changes of a trace find room between two entries of the log
_CHANGES_BITS = 16
# of a place in the log, so that a version has 63 bits
_PLACE_MASK = (1 << 47) - 1
# behind the columns of index/rows/columns.py
BEHIND_TRACES = ("version",)
BEHIND_SPANS = ("seen_unix_ns", "version")
_TRACE_ID = 1


def version_of(trace: Gathered) -> int:
    """The version of a trace's rows, higher than that of what is stored."""
    return max((trace.sequence & _PLACE_MASK) << _CHANGES_BITS, trace.version + 1)


def comes_again(trace: Gathered, before: Gathered) -> bool:
    """Whether the log brings what is stored: who stored it failed, perhaps before it was told."""
    return 0 < (trace.sequence & _PLACE_MASK) << _CHANGES_BITS <= before.version


def as_stored(trace: Gathered, rows: TraceRows) -> TraceRows:
    """The rows of a trace with its id as a number, in digits, and with what stands behind them."""
    version = version_of(trace)
    begin = (rows.trace[0], str(int(rows.trace[_TRACE_ID], 16)))
    behind = (trace.seen_unix_ns or 0, version)
    return TraceRows(
        trace=begin + rows.trace[_TRACE_ID + 1 :] + (version,),
        spans=[begin + row[_TRACE_ID + 1 :] + behind for row in rows.spans],
    )


def score_as_stored(row: Row, version: int = FROM_THE_LOG) -> Row:
    """The row of a score with its trace's id as a number, and its version behind it."""
    return (row[0], int(row[_TRACE_ID], 16), *row[_TRACE_ID + 1 :], version)


SCORE_NAMES = (*(column.name for column in SCORE_COLUMNS), *BEHIND_TRACES)
TRACE_NAMES = (*(column.name for column in TRACE_COLUMNS), *BEHIND_TRACES)
SPAN_NAMES = (*(column.name for column in SPAN_COLUMNS), *BEHIND_SPANS)
assert TRACE_NAMES[_TRACE_ID] == SPAN_NAMES[_TRACE_ID] == "trace_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOfTraces:
    """Rows on their way into the tables, as CSV. `days` say when traces that are new were seen.

    `changes` are notes for those who follow traces (changes.py): what is new of each.
    `token` tells these rows from all others, and is the same when they come again; None: they come once.
    """

    traces: bytes
    spans: bytes
    days: bytes
    scores: bytes = b""
    changes: bytes = b""
    token: str | None = None


def csv_of(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as ClickHouse reads them: NULL is an empty field."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def encoded(text: str) -> bytes:
    """As UTF-8. What JSON text of an attribute held may be no text at all (a lone surrogate)."""
    return text.encode(errors="replace")


def days_of(traces: Mapping[TraceKey, int]) -> str:
    """Rows that tell when traces were first seen."""
    return csv_of((int(trace_id, 16), number, seen, 1) for (number, trace_id), seen in traces.items())


def changes_of(fresh: Mapping[TraceKey, str], seen: Mapping[TraceKey, int]) -> str:
    """Notes of traces with new spans, and of when these traces were first seen."""
    return csv_of(
        (experiment, int(trace_id, 16), seen[experiment, trace_id], _numbers(spans))
        for (experiment, trace_id), spans in fresh.items()
    )


def _numbers(spans: str) -> str:
    return f"[{','.join(str(int(span_id, 16)) for span_id in spans.split(','))}]"
