"""What waits for a consumer: statements that read the log. Synchronous.

cursor of the consumer < sequence <= cursor of the consumer that it reads behind, if any
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from collector.journal import JournalState, PendingLane
from collector.journal.sqlite.statements import decompress, unpack_ids, used_bytes
from collector.model.batch import Entry

ISOLATE_FROM_ATTEMPTS = 2


class DamagedEntry(Exception):
    """The payload of the next entry isn't what was written; SQLite itself has no checksums to notice."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"entry {sequence} is damaged")
        self.sequence = sequence


# the last sequence that the consumer may see of lane l; without a cursor the other has passed nothing
_BOUND = (
    "CASE WHEN :behind IS NULL THEN 9223372036854775807 ELSE coalesce("
    "(SELECT sequence FROM cursors WHERE consumer = :behind AND lane_id = l.id), 0) END"
)
_PENDING = (
    "SELECT l.lane, e.sequence, e.received_unix_ns FROM lanes l"  # noqa: S608 (constants)
    " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
    " JOIN entries e ON e.sequence = (SELECT min(sequence) FROM entries"
    f"   WHERE lane_id = l.id AND sequence > coalesce(c.sequence, 0) AND sequence <= {_BOUND})"
    " ORDER BY e.sequence"
)
_READ = (
    "SELECT e.sequence, e.received_unix_ns, e.span_count, e.size_bytes, e.attempts, e.client,"  # noqa: S608
    " e.trace_ids, e.payload FROM lanes l"
    " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
    " JOIN entries e ON e.lane_id = l.id AND e.sequence > coalesce(:after, c.sequence, 0)"
    f" AND e.sequence <= {_BOUND}"
    " WHERE l.lane = :lane ORDER BY e.sequence"
)


def pending(db: sqlite3.Connection, consumer: str, *, behind: str | None = None) -> list[PendingLane]:
    rows = db.execute(_PENDING, {"consumer": consumer, "behind": behind})
    return [
        PendingLane(lane=lane, first_sequence=sequence, first_received_unix_ns=received)
        for lane, sequence, received in rows
    ]


def read(
    db: sqlite3.Connection,
    consumer: str,
    lane: str,
    *,
    limit_bytes: int,
    after: int | None = None,
    behind: str | None = None,
) -> list[Entry]:
    """See the protocol. Raises DamagedEntry if the first one is."""
    rows = db.execute(_READ, {"consumer": consumer, "lane": lane, "after": after, "behind": behind})
    entries: list[Entry] = []
    total = 0
    for sequence, received, span_count, size, attempts, client, ids, payload in rows:
        total += size
        alone = attempts >= ISOLATE_FROM_ATTEMPTS
        if entries and (total > limit_bytes or alone):
            break
        content = decompress(payload)
        if content is None:
            if entries:
                break
            raise DamagedEntry(sequence)
        entries.append(
            Entry(
                sequence=sequence,
                received_unix_ns=received,
                lane=lane,
                payload=content,
                span_count=span_count,
                trace_ids=unpack_ids(ids),
                client=client,
                attempts=attempts,
            )
        )
        if alone:
            break
    rows.close()
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An entry without its payload."""

    sequence: int
    received_unix_ns: int
    size_bytes: int
    span_count: int
    trace_ids: frozenset[bytes]


def heads(db: sqlite3.Connection, consumer: str, lane: str, *, after: int) -> Iterator[Head]:
    """The entries of a lane after the consumer's cursor and after `after`, in order."""
    rows = db.execute(
        "SELECT e.sequence, e.received_unix_ns, e.size_bytes, e.span_count, e.trace_ids FROM lanes l"
        " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = ?"
        " JOIN entries e ON e.lane_id = l.id AND e.sequence > max(coalesce(c.sequence, 0), ?)"
        " WHERE l.lane = ? ORDER BY e.sequence",
        (consumer, after, lane),
    )
    for sequence, received, size, spans, ids in rows:
        yield Head(
            sequence=sequence,
            received_unix_ns=received,
            size_bytes=size,
            span_count=spans,
            trace_ids=unpack_ids(ids),
        )


def payload(db: sqlite3.Connection, sequence: int) -> bytes | None:
    """The spans of one entry; None if it is gone or damaged."""
    row = db.execute("SELECT payload FROM entries WHERE sequence = ?", (sequence,)).fetchone()
    return None if row is None else decompress(row[0])


def state(db: sqlite3.Connection, consumer: str) -> JournalState:
    entries, spans = db.execute(
        "SELECT count(*), coalesce(sum(e.span_count), 0) FROM entries e INDEXED BY entries_by_lane"
        " LEFT JOIN cursors c ON c.lane_id = e.lane_id AND c.consumer = ?"
        " WHERE e.sequence > coalesce(c.sequence, 0)",
        (consumer,),
    ).fetchone()
    waiting = pending(db, consumer)
    letters, letter_spans = db.execute(
        "SELECT count(*), coalesce(sum(span_count), 0) FROM dead_letters INDEXED BY dead_letters_by_trace"
    ).fetchone()
    return JournalState(
        size_bytes=used_bytes(db),
        pending_entries=entries,
        pending_spans=spans,
        oldest_received_unix_ns=min((w.first_received_unix_ns for w in waiting), default=None),
        dead_letters=letters,
        dead_letter_spans=letter_spans,
    )
