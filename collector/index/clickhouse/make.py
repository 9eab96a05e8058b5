"""Entries of the log -> rows as ClickHouse takes them: CSV under zstd. Runs in processes beside it."""

import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.index.clickhouse.rows import RowsOfTraces, as_stored, days_of, encoded, score_as_stored
from collector.index.rows.gathered import Gathered, Piece, RowWriter, TraceKey, write_pieces
from collector.index.rows.rows import TraceRows
from collector.model.faults import Faults

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPiece(Piece):
    """An entry with its payload and lane."""

    lane: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRows:
    """The rows of a share of a batch, how many entries can't be read, and bugs that cost facts or rows."""

    rows: RowsOfTraces
    unreadable: int
    faults: Faults


def make_rows(
    pieces: Sequence[LoadedPiece], stored: Mapping[TraceKey, Gathered], *, preview_characters: int
) -> MadeRows:
    """The rows of the traces in `pieces`, put together with what is stored of them."""
    made = _Made(preview_characters)
    unreadable = write_pieces(pieces, stored, _payload_of, made.writer)
    return MadeRows(
        rows=made.rows(token=token_of(pieces)), unreadable=len(unreadable), faults=made.writer.faults
    )


def rewritten(traces: Mapping[TraceKey, Gathered], *, preview_characters: int) -> MadeRows:
    """The rows of traces of which all is known."""
    made = _Made(preview_characters)
    for key, trace in traces.items():
        made.writer.write(key, trace)
    return MadeRows(rows=made.rows(token=None), unreadable=0, faults=made.writer.faults)


def token_of(pieces: Sequence[LoadedPiece]) -> str:
    """What tells the rows of these entries from those of all others, also of another log."""
    said = hashlib.sha256()
    for piece in pieces:
        said.update(f"{piece.lane} {piece.sequence} {piece.received_unix_ns}\n".encode())
    return said.hexdigest()


def _payload_of(piece: Piece) -> bytes | None:
    # the log gives an empty payload for one that is damaged
    return (piece.payload or None) if isinstance(piece, LoadedPiece) else None


class _Made:
    """Rows of traces as they are made."""

    def __init__(self, preview_characters: int) -> None:
        self._traces, self._spans, self._scores = (io.BytesIO() for _ in range(3))
        self._new: dict[TraceKey, int] = {}
        self.writer = RowWriter(
            self._traces,
            self._spans,
            self._scores,
            preview_characters,
            stored_as=self._stored_as,
            score_stored_as=score_as_stored,
        )

    def _stored_as(self, trace: Gathered, rows: TraceRows) -> TraceRows:
        if not trace.version:
            self._new[rows.trace[0], rows.trace[1]] = trace.seen_unix_ns or 0
        return as_stored(trace, rows)

    def rows(self, *, token: str | None) -> RowsOfTraces:
        return RowsOfTraces(
            traces=_compressed(self._traces.getvalue()),
            spans=_compressed(self._spans.getvalue()),
            days=_compressed(encoded(days_of(self._new))),
            scores=_compressed(self._scores.getvalue()),
            token=token,
        )


def _compressed(text: bytes) -> bytes:
    return zstd.compress(text, LEVEL) if text else b""
