"""What waits for a consumer: statements that read the log. Synchronous.

A consumer sees the entries after its cursor that are everybody's or its own alone. Behind another consumer
it sees those before the first one that the other sees and hasn't passed.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from collector.journal import ISOLATE_FROM_ATTEMPTS, JournalState, PendingLane
from collector.journal.sqlite.statements import decompress, unpack_ids, used_bytes
from collector.model.batch import Entry, Position


class DamagedEntry(Exception):
    """The payload of the next entry isn't what was written; SQLite itself has no checksums to notice."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"entry {sequence} is damaged")
        self.sequence = sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A consumer that another one stays behind, in the lanes of its signals (their names, in one text)."""

    consumer: str
    signals: str


_LAST = 2**63 - 1
# the last sequence that the consumer may see of lane l
_BOUND = (
    f"CASE WHEN :behind IS NULL OR instr(:its_signals, l.signal) = 0 THEN {_LAST}"  # noqa: S608
    " ELSE coalesce((SELECT b.sequence - 1 FROM entries b"
    " WHERE b.lane_id = l.id AND (b.consumer IS NULL OR b.consumer = :behind) AND b.sequence > coalesce("
    "(SELECT sequence FROM cursors WHERE consumer = :behind AND lane_id = l.id), 0)"
    f" ORDER BY b.sequence LIMIT 1), {_LAST}) END"
)
_PENDING = (
    "SELECT l.lane, e.sequence, e.received_unix_ns FROM lanes l"  # noqa: S608 (constants)
    " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
    " JOIN entries e ON e.sequence = (SELECT o.sequence FROM entries o WHERE o.lane_id = l.id"
    "   AND o.sequence > coalesce(c.sequence, 0) AND (o.consumer IS NULL OR o.consumer = :consumer)"
    f"  AND o.sequence <= {_BOUND} ORDER BY o.sequence LIMIT 1)"
    " WHERE instr(:signals, l.signal) > 0 ORDER BY e.sequence"
)
_READ = (
    "SELECT e.sequence, e.received_unix_ns, e.span_count, e.size_bytes, e.client, e.trace_ids, e.payload,"  # noqa: S608
    " coalesce((SELECT count FROM attempts a WHERE a.consumer = :consumer AND a.sequence = e.sequence), 0)"
    " FROM lanes l"
    " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
    " JOIN entries e ON e.lane_id = l.id AND e.sequence > coalesce(:after, c.sequence, 0)"
    f" AND e.sequence <= {_BOUND} AND (e.consumer IS NULL OR e.consumer = :consumer)"
    " WHERE l.lane = :lane ORDER BY e.sequence"
)


def pending(
    db: sqlite3.Connection, consumer: str, *, signals: str, behind: Behind | None = None
) -> list[PendingLane]:
    """See the protocol. `signals`: the names of the consumer's own, in one text."""
    rows = db.execute(_PENDING, {"consumer": consumer, "signals": signals, **_bound(behind)})
    return [
        PendingLane(lane=lane, first=Position(sequence), first_received_unix_ns=received)
        for lane, sequence, received in rows
    ]


def _bound(behind: Behind | None) -> dict[str, str | None]:
    if behind is None:
        return {"behind": None, "its_signals": ""}
    return {"behind": behind.consumer, "its_signals": behind.signals}


def read(
    db: sqlite3.Connection, consumer: str, lane: str, *, limit_bytes: int, behind: Behind | None = None
) -> list[Entry]:
    """See the protocol. Raises DamagedEntry if the first one is."""
    entries: list[Entry] = []
    asked = {"consumer": consumer, "lane": lane, "after": None, **_bound(behind)}
    for entry, is_damaged in _window(db, asked, limit_bytes):
        if is_damaged:
            if entries:
                break
            raise DamagedEntry(entry.position.token)
        entries.append(entry)
    return entries


def awaiting(
    db: sqlite3.Connection, consumer: str, trace_ids: frozenset[bytes], *, signals: str
) -> frozenset[bytes]:
    if not trace_ids:
        return frozenset()
    rows = db.execute(
        "SELECT e.trace_ids FROM lanes l LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
        " JOIN entries e INDEXED BY entries_by_lane ON e.lane_id = l.id"
        " AND e.sequence > coalesce(c.sequence, 0) AND (e.consumer IS NULL OR e.consumer = :consumer)"
        " WHERE instr(:signals, l.signal) > 0",
        {"consumer": consumer, "signals": signals},
    )
    return trace_ids & frozenset().union(*(unpack_ids(packed) for (packed,) in rows))


def read_ahead(
    db: sqlite3.Connection, consumer: str, lane: str, *, limit_bytes: int, after: Position | None
) -> list[Entry]:
    asked = {"consumer": consumer, "lane": lane, "after": after.token if after else None, **_bound(None)}
    return [entry for entry, _ in _window(db, asked, limit_bytes)]


def _window(
    db: sqlite3.Connection, asked: Mapping[str, str | int | None], limit_bytes: int
) -> Iterator[tuple[Entry, bool]]:
    """The entries that fit, and whether each is damaged; a suspect alone."""
    total = 0
    with closing(db.execute(_READ, asked)) as rows:
        for sequence, received, span_count, size, client, ids, payload, attempts in rows:
            is_first = not total
            total += size or 1
            alone = attempts >= ISOLATE_FROM_ATTEMPTS
            if not is_first and (total > limit_bytes or alone):
                return
            content = decompress(payload)
            entry = Entry(
                position=Position(sequence),
                received_unix_ns=received,
                lane=str(asked["lane"]),
                payload=content or b"",
                span_count=span_count,
                trace_ids=unpack_ids(ids),
                client=client,
                attempts=attempts,
            )
            yield entry, content is None
            if alone:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An entry without its payload."""

    position: Position
    received_unix_ns: int
    size_bytes: int
    span_count: int
    trace_ids: frozenset[bytes]


def heads(db: sqlite3.Connection, consumer: str, lane: str, *, after: Position | None) -> Iterator[Head]:
    """The entries of a lane after the consumer's cursor and after `after`, in order."""
    rows = db.execute(
        "SELECT e.sequence, e.received_unix_ns, e.size_bytes, e.span_count, e.trace_ids FROM lanes l"
        " LEFT JOIN cursors c ON c.lane_id = l.id AND c.consumer = :consumer"
        " JOIN entries e ON e.lane_id = l.id AND e.sequence > max(coalesce(c.sequence, 0), :after)"
        " AND (e.consumer IS NULL OR e.consumer = :consumer)"
        " WHERE l.lane = :lane ORDER BY e.sequence",
        {"consumer": consumer, "after": after.token if after else 0, "lane": lane},
    )
    for sequence, received, size, spans, ids in rows:
        yield Head(
            position=Position(sequence),
            received_unix_ns=received,
            size_bytes=size,
            span_count=spans,
            trace_ids=unpack_ids(ids),
        )


def payload(db: sqlite3.Connection, position: Position) -> bytes | None:
    """The spans of one entry; None if it is gone or damaged."""
    row = db.execute("SELECT payload FROM entries WHERE sequence = ?", (position.token,)).fetchone()
    return None if row is None else decompress(row[0])


def state(db: sqlite3.Connection, consumer: str, *, signals: str) -> JournalState:
    entries, spans = db.execute(
        "SELECT count(*), coalesce(sum(e.span_count), 0) FROM entries e INDEXED BY entries_by_lane"
        " LEFT JOIN cursors c ON c.lane_id = e.lane_id AND c.consumer = :consumer"
        " WHERE e.sequence > coalesce(c.sequence, 0) AND (e.consumer IS NULL OR e.consumer = :consumer)"
        " AND e.lane_id IN (SELECT id FROM lanes WHERE instr(:signals, signal) > 0)",
        {"consumer": consumer, "signals": signals},
    ).fetchone()
    waiting = pending(db, consumer, signals=signals)
    letters, letter_spans = db.execute(
        "SELECT count(*), coalesce(sum(span_count), 0) FROM dead_letters INDEXED BY dead_letters_by_consumer"
        " WHERE consumer = ?",
        (consumer,),
    ).fetchone()
    return JournalState(
        size_bytes=used_bytes(db),
        pending_entries=entries,
        pending_spans=spans,
        oldest_received_unix_ns=min((w.first_received_unix_ns for w in waiting), default=None),
        dead_letters=letters,
        dead_letter_spans=letter_spans,
    )
