"""The durable log between the receivers and the consumers.

    lane A   | 3 | 7 | 8 |      an entry: spans of one route that arrived together, as zstd'd OTLP
    lane B   | 4 | 5 | 6 | 9 |  a lane: all entries of one route (experiment, run, workspace)
                   ^
                   cursor of a consumer in that lane: everything up to it is done

Invariants
 1. `append` returns after the commit to disk (SQLite WAL, synchronous=FULL); what it returned for survives
    a crash of the process and of the machine.
 2. Sequences grow and are never used again, also after deletes and restarts.
 3. An entry is deleted only when each consumer's cursor has passed it and its retention is over. A follower
    is a consumer that this waits for only while the journal is less than half full.
 4. A cursor passes an entry in the same transaction that writes what was refused of it to the dead letters.
 5. Appends that wait together share one commit, and one entry where they have the same route and client.
 6. At its size bound the journal refuses new entries; it never drops one to make room.

Lanes are to this log what partitions are to Kafka's: order holds inside a lane, lanes don't wait for
each other. Files: sqlite.py, reading.py, letters.py, notes.py (statements), writer.py (the thread that
owns the connection, this protocol's real form), salvage.py (what to do with a broken file), memory.py
(its twin).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.model.batch import DeadLetter, Draft, Entry, Parked

NOTHING: Mapping[bytes, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLane:
    """A lane with entries that a consumer hasn't passed."""

    lane: str
    first_sequence: int
    first_received_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """Counts, taken from the store itself."""

    size_bytes: int
    pending_entries: int
    pending_spans: int
    oldest_received_unix_ns: int | None
    dead_letters: int
    dead_letter_spans: int


class Journal(Protocol):
    """What receivers and consumers ask of the log. Each verb raises JournalClosed after close."""

    appended: asyncio.Event
    """Set once there is more to read, by the next append, commit, retry or replay; another takes its place.

    A consumer takes the event, looks for work, and waits for the event that it took: several can wait, and
    none misses what came while it looked.
    """

    @property
    def refusing(self) -> str | None:
        """Why new entries are refused at this moment (full, disk, last error), or None."""

    async def append(self, drafts: Sequence[Draft]) -> int:
        """Store `drafts`, together or not at all; the last sequence, after the commit.

        Raises Unavailable (journal_full, journal_failed): nothing of it is stored.
        """

    async def pending(self, consumer: str, *, behind: str | None = None) -> list[PendingLane]:
        """Lanes with entries after the consumer's cursor, oldest entry first.

        `behind`: only entries that this other consumer's cursor has passed.
        """

    async def read(
        self,
        consumer: str,
        lane: str,
        *,
        limit_bytes: int,
        after: int | None = None,
        behind: str | None = None,
    ) -> list[Entry]:
        """The next entries of a lane, in order, at least one if there is one, up to `limit_bytes` in all.

        Next after the consumer's cursor, or after the sequence `after`, which moves nothing. `behind`
        names another consumer: only entries that its cursor has passed.

        An entry that two crashes have cut short comes alone; one whose bytes the disk has changed goes to
        the dead letters ("damaged").
        """

    async def begin(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        claims: Mapping[bytes, str],
        clients: Mapping[bytes, str] = NOTHING,
    ) -> Mapping[bytes, str]:
        """Mark the entries up to `through` as being processed, and claim their traces.

        A mark that is still there at the next start counts as an attempt that was cut short.
        `claims` says which target each trace id goes to, `clients` who sent it (nobody: ""); the answer
        says which target it belongs to. The first claim holds, but for that of another client of which
        nothing was delivered yet: a newer one takes its place.
        """

    async def processed(self, consumer: str, lane: str) -> None:
        """Take the mark off: what comes now is waiting for the target, not work on the data."""

    async def commit(
        self,
        consumer: str,
        lane: str,
        *,
        through: int,
        parked: Sequence[Parked] = (),
        first: int | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
    ) -> None:
        """Move the cursor to `through`, writing `parked` to the dead letters in the same transaction.

        `remember` are notes by trace id, for `recall`; they take the place of earlier ones. `delivered` says
        which target has spans of a trace id now: its claim holds against everybody, unless another had it.

        With `first`, the first sequence of what was read: if a replay has moved the cursor back since, none
        of it happens, and the entries come again.
        """

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """The notes that a consumer's commits left of these traces.

        The oldest are forgotten at a bound, once the entries that the commit passed are deleted.
        """

    async def state(self, consumer: str) -> JournalState:
        """Counts for metrics and readiness."""

    async def find(self, trace_id: bytes) -> list[bytes]:
        """Payloads of the entries and dead letters that hold spans of a trace and aren't deleted yet."""

    async def lanes_of(self, trace_id: bytes) -> list[str]:
        """The lanes of what holds spans of a trace, dead letters first, then oldest first."""

    async def replay(self, consumer: str, *, since_unix_ns: int) -> int:
        """Move the cursors back before the first entry received since then; how many entries come again."""

    async def sweep(self) -> int:
        """Delete what every consumer has passed and whose retention is over; how many entries went."""

    async def dead_letters(self, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Dead letters with an id over `after`, oldest first, without payloads."""

    async def dead_letter(self, id: int) -> DeadLetter | None:
        """One dead letter with its payload."""

    async def retry(self, ids: Sequence[int] | None) -> int:
        """Append the dead letters again (None: all) and remove them; how many there were."""

    async def drop(self, ids: Sequence[int]) -> int:
        """Delete dead letters for good; how many there were."""
