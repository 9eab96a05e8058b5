"""Entries of the journal -> rows of the index, in files that DuckDB reads; in one process, or in several.

journal -> payloads -> traces, with what is stored of them -> rows -> CSV          index/rows/gathered.py
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from collector.index.rows.csv_text import csv_text
from collector.index.rows.form import Row
from collector.index.rows.gathered import Gathered, Piece, RowWriter, TraceKey, write_pieces
from collector.index.rows.rows import TraceRows
from collector.journal.sqlite.reader import open_reader
from collector.model.batch import Position
from collector.model.faults import Faults

CONSUMER = "index"


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
    with open_reader(journal, CONSUMER) as reader, open_rows(into, name, preview_characters) as rows:
        unreadable = write_pieces(
            pieces, stored, lambda piece: reader.payload(Position(piece.sequence)), rows
        )
    return batch_of(into, name, rows, unreadable)


def write_rows(
    found: Mapping[TraceKey, Gathered], *, into: Path, name: str, preview_characters: int
) -> Batch:
    """The rows of traces, in files of `into`. Raises OSError."""
    with open_rows(into, name, preview_characters) as rows:
        for key, trace in found.items():
            rows.write(key, trace)
    return batch_of(into, name, rows, ())


def _paths(into: Path, name: str) -> tuple[Path, Path, Path]:
    return into / f"{name}-traces.csv", into / f"{name}-spans.csv", into / f"{name}-scores.csv"


@contextmanager
def open_rows(into: Path, name: str, preview_characters: int) -> Iterator[RowWriter]:
    """Files for rows, called `name`. Raises OSError."""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in _paths(into, name)]
        yield RowWriter(_CsvFiles(*files), preview_characters)


@dataclass(frozen=True, slots=True)
class _CsvFiles:
    """Takes rows as CSV."""

    traces: BinaryIO
    spans: BinaryIO
    scores: BinaryIO

    def put(self, _: Gathered, rows: TraceRows) -> None:
        self.traces.write(csv_text([rows.trace]))
        self.spans.write(csv_text(rows.spans))

    def put_scores(self, rows: Sequence[Row]) -> None:
        self.scores.write(csv_text(rows))


def batch_of(into: Path, name: str, rows: RowWriter, unreadable: Sequence[int]) -> Batch:
    """What was written into them."""
    traces, spans, scores = _paths(into, name)
    return Batch(
        traces_file=traces,
        spans_file=spans,
        scores_file=scores,
        keys=rows.keys,
        fresh=rows.fresh,
        unreadable=tuple(unreadable),
        faults=rows.faults,
    )
