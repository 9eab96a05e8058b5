"""Entries of the log -> rows as ClickHouse takes them. Runs in processes beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.index.clickhouse.rows import (
    RowCollector,
    RowsOfTraces,
    comes_again,
)
from collector.index.rows.gathered import Gathered, Piece, RowWriter, TraceKey, write_pieces
from collector.model.faults import Faults


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


def joined(made: Sequence[MadeRows], *, token: str) -> MadeRows:
    """The rows of several shares as one, told from others by `token`."""
    faults = Faults()
    for each in made:
        faults.join(each.faults)
    return MadeRows(
        rows=RowsOfTraces(
            traces=b"".join(each.rows.traces for each in made),
            spans=b"".join(each.rows.spans for each in made),
            days=b"".join(each.rows.days for each in made),
            scores=b"".join(each.rows.scores for each in made),
            changes=b"".join(each.rows.changes for each in made),
            token=token,
        ),
        unreadable=sum(each.unreadable for each in made),
        faults=faults,
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
        self._rows = RowCollector()
        self.writer = RowWriter(self._rows, preview_characters, comes_again)

    def rows(self, *, token: str | None) -> RowsOfTraces:
        return self._rows.blocks(fresh=self.writer.fresh, token=token)
