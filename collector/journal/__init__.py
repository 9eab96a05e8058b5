"""The durable log between the receivers and the consumers.

    lane A   | 3 | 7 | 8 |      an entry: spans of one route that arrived together, as zstd'd OTLP
    lane B   | 4 | 5 | 6 | 9 |  a lane: all entries of one route (experiment, run, workspace) and signal
                   ^
                   cursor of a consumer in that lane: everything up to it is done

A journal opens to an object for each role, and nobody gets more than its part needs:

    receivers ──────► Log             append, refusing
    delivery ───────► Consumer        pending lanes, next window, commit with its effects, replay   one for
    sampling, index                                                                                 each name
                ────► TraceMemory     whose a trace id is; what a consumer noted of a trace
    API, CLI ───────► DeadLetters     what the target of one consumer refused: list, show, retry, drop
    answers ────────► PendingTraces   what of a trace isn't delivered yet

Consumers that come and go with the settings (other backends) are subscribed: a new one starts at the present,
and one that is gone holds nothing back.

Invariants
 1. `append` returns after the commit to disk (SQLite WAL, synchronous=FULL); what it returned for survives
    a crash of the process and of the machine. On Kafka it returns when `min.insync.replicas` brokers have it
    (acks=all): it survives the loss of a machine, but not of all of them before they have written to disk.
 2. Positions grow and are never used again, also after deletes and restarts. Only the form that made them
    compares them.
 3. An entry is deleted only when each consumer's cursor has passed it and its retention is over. A follower
    is a consumer that this waits for only while the journal is less than half full.
 4. A cursor passes an entry in the same transaction that writes what was refused of it to the dead letters.
 5. Appends that wait together share one commit, and one entry where they have the same route and client
    (on Kafka: the same partition, too).
 6. At its size bound the journal refuses new entries; it never drops one to make room.
 7. Cursors, dead letters, attempts and marks belong to one consumer. A retried dead letter is an entry that
    this consumer alone sees; a crash in one consumer never counts against another's work on the same entry.
 8. A lane holds spans or log records, never both. A consumer sees the lanes of its signals (one or both) and
    no others; an entry waits only for consumers of its signal.
 9. What a commit appends for a consumer (`follow_ups`) is there if and only if the cursor has moved.
10. A subscribed consumer gets every entry that is appended after its subscription, across restarts, until a
    subscription without it.

Lanes are to this log what partitions are to Kafka's: order holds inside a lane, lanes don't wait for
each other. Forms: sqlite/ (embedded, the default), kafka/ (for replicas without state) and memory.py
(SQLite's twin for tests and benchmarks). On Kafka a lane is spread over partitions: order holds for a trace,
and what everybody has passed is deleted by `sweep`. A new form implements `Journal` and passes the suite and
the machine in tests/contract.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from collector.model.batch import DeadLetter, Draft, Entry, FollowUp, Parked, Position, Route

NOTHING: Mapping[bytes, str] = {}

# whose dead letters are messages of others' topics that are no exports
ROUTE = "route"

# so many crashes in one consumer, and it gets the entry alone
ISOLATE_FROM_ATTEMPTS = 2
# so full may the journal be while entries wait for followers
FOLLOWED_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLane:
    """A lane with entries that a consumer hasn't passed; `first` is the position of the first one."""

    lane: str
    first: Position
    first_received_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """Counts, taken from the store itself: its size, and what waits for one consumer or was refused to it."""

    size_bytes: int
    pending_entries: int
    pending_spans: int
    oldest_received_unix_ns: int | None
    dead_letters: int
    dead_letter_spans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotTell:
    """This form of the log can't look up traces, or not now."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriptions:
    """What a change of the subscribed consumers came to.

    `begun` are new. `ended` are gone, each with the number of dead letters that went with it.
    """

    begun: frozenset[str]
    ended: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """What waits in one partition for a group of consumers: `entries` is an upper bound."""

    group: str
    partition: int
    entries: int


@runtime_checkable
class SharedLog(Protocol):
    """What a form of the log that many processes share says beside `Journal`: any of them may ask."""

    async def lag(self) -> Sequence[PartitionLag]:
        """How far each group is behind, by partition. Raises Unavailable."""

    def partition_of(self, trace_id: bytes) -> int:
        """The partition that holds a trace."""


class Log(Protocol):
    """What a receiver writes to."""

    @property
    def refusing(self) -> str | None:
        """Why new entries are refused at this moment (full, disk, last error), or None."""

    async def append(self, drafts: Sequence[Draft]) -> Position:
        """Store `drafts`, together or not at all; the position of the last entry, after the commit.

        Raises Unavailable (journal_full, journal_failed): nothing of it is stored, or on Kafka perhaps a
        part, for drafts go to several partitions. To send them again does no harm: a span takes the place of
        the same span in MLflow and in the index.
        Raises Rejected (too_large), on Kafka only: a single span is larger than a record may be.
        """


class Consumer(Protocol):
    """The log as one consumer reads it: a cursor in each lane, and what the consumer leaves behind."""

    @property
    def name(self) -> str:
        """Whose cursors, marks, attempts and dead letters these are."""

    @property
    def appended(self) -> asyncio.Event:
        """Set by the next append, commit, retry or replay, when there is more to read; another follows it.

        A consumer takes the event, looks for work, and waits for the event that it took: several can wait,
        and none misses what came while it looked.
        """

    async def pending(self, *, behind: str | None = None) -> list[PendingLane]:
        """Lanes with entries after the cursor, oldest entry first.

        `behind`: nothing from the first entry on that this other consumer's cursor hasn't passed, in the
        lanes that this other consumer reads.
        """

    async def read(self, lane: str, *, limit_bytes: int, behind: str | None = None) -> list[Entry]:
        """The next entries of a lane, in order, at least one if there is one, up to `limit_bytes` in all.

        `behind` as for `pending`. An entry that two crashes of this consumer have cut short comes alone. One
        whose bytes the disk has changed goes to this consumer's dead letters ("damaged"), and is passed.
        """

    async def read_ahead(self, lane: str, *, limit_bytes: int, after: Position | None) -> list[Entry]:
        """As `read`, after a position (None: the cursor) and without any effect.

        A damaged entry comes with an empty payload.
        """

    async def awaiting(self, trace_ids: frozenset[bytes]) -> frozenset[bytes]:
        """Those of the traces that have entries after the cursor, in any lane."""

    async def mark(self, lane: str, *, through: Position) -> None:
        """Mark the entries up to `through` as being processed.

        A mark that is still there at the next start counts as an attempt that was cut short.
        """

    async def processed(self, lane: str) -> None:
        """Take the mark off: what comes now is waiting for the target, not work on the data."""

    async def commit(
        self,
        lane: str,
        *,
        through: Position,
        parked: Sequence[Parked] = (),
        first: Position | None = None,
        remember: Mapping[bytes, bytes] | None = None,
        delivered: Mapping[bytes, str] = NOTHING,
        follow_ups: Sequence[FollowUp] = (),
    ) -> None:
        """Move the cursor to `through` and write the effects of what it passes, in one transaction.

        `parked` go to this consumer's dead letters. `remember` are its notes by trace id; they take the place
        of earlier ones. `delivered` says which target has spans of a trace id now: its claim holds against
        everybody, unless another had it. `follow_ups` are appended, each for one consumer alone; a full
        journal takes them too.

        With `first`, the position of the first entry that was read: if a replay has moved the cursor back
        since, none of it happens, and the entries come again.
        """

    async def replay(self, *, since_unix_ns: int) -> int:
        """Move the cursors back before the first entry received since then; how many entries come again."""

    async def state(self) -> JournalState:
        """Counts for metrics and readiness. Raises Unavailable: others must be asked and don't answer."""


class TraceMemory(Protocol):
    """What is remembered of traces between two windows, across restarts."""

    async def claim(
        self, claims: Mapping[bytes, str], *, clients: Mapping[bytes, str] = NOTHING
    ) -> Mapping[bytes, str]:
        """Claim traces for a target; the target that each belongs to.

        `claims` are targets by trace id, `clients` say who sent it (nobody: ""). The first claim holds, but
        for that of another client of which nothing was delivered yet: a newer one takes its place.
        """

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """The notes that a consumer's commits left of these traces.

        The oldest are forgotten at a bound, once the entries that the commit passed are deleted.
        """


class DeadLetters(Protocol):
    """What the target of one consumer refused for good."""

    async def list(self, *, limit: int = 100, after: int = 0) -> Sequence[DeadLetter]:
        """Those with an id over `after`, oldest first, without payloads."""

    async def one(self, id: int) -> DeadLetter | None:
        """One with its payload."""

    async def retry(self, ids: Sequence[int] | None) -> int:
        """Append them again (None: all) for this consumer alone, and remove them; how many there were."""

    async def drop(self, ids: Sequence[int]) -> int:
        """Delete them for good; how many there were."""


class PendingTraces(Protocol):
    """What the log holds of one trace's spans: entries and dead letters that aren't deleted yet.

    What is there for a subscribed consumer alone is left out: it says nothing of the way to MLflow.
    """

    async def payloads(self, trace_id: bytes) -> Sequence[bytes] | CannotTell:
        """The export requests (protobuf) that hold spans of it; dead letters first, then oldest first."""

    async def routes(self, trace_id: bytes) -> Sequence[Route] | CannotTell:
        """Where these are bound for, in the same order."""


class Journal(Protocol):
    """A form of the log, opened. Each verb of each role raises JournalClosed after close."""

    @property
    def log(self) -> Log:
        """For receivers."""

    @property
    def traces(self) -> TraceMemory:
        """For consumers."""

    @property
    def pending_traces(self) -> PendingTraces:
        """For answers."""

    def consumer(self, name: str) -> Consumer:
        """For the consumer of that name."""

    def dead_letters(self, consumer: str) -> DeadLetters:
        """For operators."""

    async def subscribe(self, names: Collection[str]) -> Subscriptions:
        """From now on, these are the consumers that come and go with the settings.

        A new one starts behind everything that the log holds. One that was subscribed and isn't any more
        leaves nothing: its cursors, marks, attempts, notes, dead letters and entries of its own are deleted.
        """

    async def sweep(self) -> int:
        """Delete what every consumer has passed and whose retention is over; how many entries went."""
