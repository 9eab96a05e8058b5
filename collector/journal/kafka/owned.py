"""A partition as the member of a group that owns it keeps it in memory. No input or output; one thread.

    held      entries that a consumer of the group hasn't passed, by where they are
    waiting   the same by consumer and lane, in the order in which they were seen
    progress  how far each consumer is in each lane; notes, claims: what is remembered of traces

Everything here is built from the topics when the partition is assigned, and goes when it is taken away. What
changes here is written in the transaction that says so; if that fails, the partition is built anew.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from collector.journal.kafka.records import HeldRecord, HeldTraceClaim, Kind, LaneProgress, Spot
from collector.model.batch import Signal, signal_of

Waiting = deque[HeldRecord]

# the group of all consumers that must have passed an entry; each follower is a group of its own
DELIVER = "deliver"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMembers:
    """A group of consumers that share partitions: those of spans and those of log records."""

    name: str
    spans: Sequence[str] = ()
    logs: Sequence[str] = ()

    @property
    def consumers(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(dict.fromkeys((*self.spans, *self.logs)))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What they read."""
        kinds = ((Kind.SPANS,) if self.spans else ()) + ((Kind.LOGS,) if self.logs else ())
        return (*kinds, Kind.FOLLOW_UPS)

    def readers(self, held: HeldRecord) -> list[str]:
        """Who of them sees an entry."""
        of_signal = self.spans if signal_of(held.lane) is Signal.TRACES else self.logs
        return [consumer for consumer in of_signal if held.is_for(consumer)]


def groups_of(followers: Sequence[str], log_followers: Sequence[str]) -> list[GroupMembers]:
    """A group for each follower of spans, of log records, or of both."""
    return [
        GroupMembers(
            name=name,
            spans=(name,) if name in followers else (),
            logs=(name,) if name in log_followers else (),
        )
        for name in dict.fromkeys((*followers, *log_followers))
    ]


@dataclass(slots=True, kw_only=True)
class OwnedPartition:
    """See above. `begins`: the group's offsets by kind when it was assigned, before which all is passed."""

    number: int
    members: GroupMembers
    begins: list[int]
    nexts: list[int] = field(default_factory=list)
    held: dict[Kind, dict[int, HeldRecord]] = field(default_factory=dict)
    waiting: dict[tuple[str, str], Waiting] = field(default_factory=dict)
    progress: dict[tuple[str, str], LaneProgress] = field(default_factory=dict)
    notes: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    claims: dict[bytes, HeldTraceClaim] = field(default_factory=dict)
    loading: list[HeldRecord] | None = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nexts = list(self.begins)
        self.held = {kind: {} for kind in Kind}

    @property
    def low(self) -> list[int]:
        """The offset by kind before which each consumer has passed everything."""
        if self.loading is not None:  # what was read isn't held yet
            return list(self.begins)
        return [next(iter(self.held[kind]), self.nexts[kind]) for kind in Kind]

    def progress_of(self, consumer: str, lane: str) -> LaneProgress:
        """How far a consumer is in a lane, made if it is new."""
        return self.progress.setdefault((consumer, lane), LaneProgress())

    def see(self, held: HeldRecord) -> bool:
        """Take in an entry; whether anybody waits for it."""
        waits = False
        kind, offset = held.spot.kind, held.spot.offset
        for consumer in self.members.readers(held):
            progress = self.progress.get((consumer, held.lane))
            if progress is not None and offset < progress.following[kind]:
                continue
            if progress is not None and (attempts := progress.attempts.get(held.spot.position.token)):
                held.attempts[consumer] = attempts
            self.waiting.setdefault((consumer, held.lane), deque()).append(held)
            waits = True
        if waits:
            self.held[kind][offset] = held
        return waits

    def loaded(self) -> list[HeldRecord]:
        """End the loading: the entries that were there, in the order in which they were written."""
        found, self.loading = self.loading or [], None
        newest = dict.fromkeys(Kind, 0)
        keys: list[tuple[int, int, HeldRecord]] = []
        for held in sorted(found, key=lambda held: held.spot):
            newest[held.spot.kind] = max(newest[held.spot.kind], held.written_unix_ms)
            keys.append((newest[held.spot.kind], len(keys), held))
        return [held for _, _, held in sorted(keys, key=lambda key: key[:2])]

    def pass_through(self, consumer: str, lane: str, order: int) -> list[HeldRecord]:
        """Move a consumer over what it saw of a lane up to `order`; the entries that nobody waits for now."""
        waiting = self.waiting.get((consumer, lane), deque())
        progress = self.progress_of(consumer, lane)
        freed: list[HeldRecord] = []
        while waiting and waiting[0].order <= order:
            held = waiting.popleft()
            kind, offset = held.spot.kind, held.spot.offset
            progress.following[kind] = max(progress.following[kind], offset + 1)
            progress.attempts.pop(held.spot.position.token, None)
            if not any(self._waits(other, held) for other in self.members.readers(held)):
                del self.held[kind][offset]
                freed.append(held)
        if not waiting:
            self.waiting.pop((consumer, lane), None)
        progress.marked = None
        return freed

    def _waits(self, consumer: str, held: HeldRecord) -> bool:
        progress = self.progress.get((consumer, held.lane))
        return progress is None or held.spot.offset >= progress.following[held.spot.kind]

    def mark(self, consumer: str, lane: str, order: int) -> None:
        """Mark what a consumer saw of a lane up to `order`."""
        marked = [0, 0, 0]
        for held in self.waiting.get((consumer, lane), ()):
            if held.order > order:
                break
            marked[held.spot.kind] = held.spot.offset + 1
        self.progress_of(consumer, lane).marked = marked if any(marked) else None

    def count_attempts(self) -> list[tuple[str, str]]:
        """Count what the owner before was cut short in; the (consumer, lane) whose progress has changed."""
        changed = []
        for (consumer, lane), progress in self.progress.items():
            if progress.marked is None:
                continue
            for held in self.waiting.get((consumer, lane), ()):
                if held.spot.offset < progress.marked[held.spot.kind]:
                    held.attempts[consumer] = held.attempts.get(consumer, 0) + 1
                    progress.attempts[held.spot.position.token] = held.attempts[consumer]
            progress.marked = None
            changed.append((consumer, lane))
        return changed

    def drop_before(self, kind: Kind, offset: int) -> None:
        """Forget entries that are deleted from the log."""
        gone = [number for number in self.held[kind] if number < offset]
        for number in gone:
            held = self.held[kind].pop(number)
            for consumer in self.members.readers(held):
                waiting = self.waiting.get((consumer, held.lane))
                if waiting and held in waiting:
                    waiting.remove(held)
                    if not waiting:
                        del self.waiting[consumer, held.lane]

    def lanes_of(self, consumer: str) -> Iterator[tuple[str, Waiting]]:
        """The lanes in which something waits for a consumer."""
        for (name, lane), waiting in self.waiting.items():
            if name == consumer:
                yield lane, waiting

    def seen_by(self, consumer: str, lane: str, *, behind: str | None) -> Iterator[HeldRecord]:
        """What waits of a lane, before the first entry that `behind` hasn't passed."""
        before = self.waiting.get((behind, lane)) if behind is not None else None
        for held in self.waiting.get((consumer, lane), ()):
            if before and held.order >= before[0].order:
                return
            yield held

    def find(self, spot: Spot) -> HeldRecord | None:
        """The entry there, if a consumer waits for it."""
        return self.held[spot.kind].get(spot.offset)

    def idle_progress(self, low: Sequence[int]) -> list[tuple[str, str]]:
        """Progress that says no more than the group's own offsets `low` do."""
        return [
            key
            for key, progress in self.progress.items()
            if key not in self.waiting
            and progress.marked is None
            and all(progress.following[kind] <= low[kind] for kind in Kind)
        ]
