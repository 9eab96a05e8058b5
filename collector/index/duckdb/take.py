"""The sentence of the index: read on -> what is stored of those traces -> rows, in shards -> put.

lanes of the journal   | 7 | 8 | 11 |   heads say which traces an entry holds; the payloads are read
                                        where the rows are made: here, or in processes beside
"""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.index.duckdb.shard import CONSUMER, Batch, read_shard
from collector.index.duckdb.store import Store
from collector.index.protocol import IndexedBatch, Lane
from collector.index.rows.crew import Crew
from collector.index.rows.gathered import Gathered, Piece, TraceKey, share_out
from collector.journal.sqlite.reader import open_reader
from collector.model.batch import Position, Route, Signal, is_verbatim, signal_of
from collector.telemetry.fault_log import FaultLog

_log = logging.getLogger("sidespan.index")

# one transaction takes so much, at the most
BATCH_SPANS = 24_000
BATCH_BYTES = 192 * 1024 * 1024
# under it one process is as fast as several
SHARED_FROM_SPANS = 3000
IDLE_SECONDS = 30.0
# of what one of the others does: this process writes the batches too
OWN_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A batch whose rows are being made: the first of `tasks` is for this process, `others` do the rest."""

    lanes: Sequence[Lane]
    pieces: Sequence[Piece]
    keys: frozenset[TraceKey]
    known: Mapping[str, int]
    cursors: dict[str, int]
    more: bool
    tasks: Sequence[Callable[[], Batch]]
    others: Sequence["Future[Batch]"]


class Taker:
    """Brings the journal's entries into the store. One thread may use it."""

    def __init__(self, store: Store, journal: Path, *, processes: int, preview_characters: int) -> None:
        self._store = store
        self._journal = journal
        self._preview_characters = preview_characters
        self._crew = Crew(processes - 1)
        self._begun: _Begun | None = None
        self._round = 0
        self._fault_log = FaultLog()

    def follow(self) -> None:
        """Look which journal this is. Raises JournalUnreadable."""
        with open_reader(self._journal, CONSUMER) as journal:
            self._store.follow(journal.identity())

    def take(self, lanes: Sequence[Lane], *, limit_spans: int = BATCH_SPANS) -> IndexedBatch:
        """A batch of what these lanes hold.

        Raises JournalUnreadable, duckdb.Error, OSError: nothing is taken.
        """
        if self._begun is not None and self._begun.lanes != lanes:
            self.put_off()
        begun, self._begun = self._begun, None
        if begun is None:
            begun = self._begin(lanes, self._store.cursors(), limit_spans)
            assert begun is not None  # nothing is on its way
        batches: list[Batch] = []
        if begun.pieces:
            batches = self._finish(begun)
            for batch in batches:
                self._fault_log.tell("a span is indexed with its name and times alone", batch.faults)
            if begun.more and self._crew.size:
                # the others go on while this process waits for the disk
                known = {**begun.known, **begun.cursors}
                self._begun = self._begin(lanes, known, limit_spans, but=begun.keys)
            try:
                self._store.put(batches, begun.cursors)
            except BaseException:
                self.put_off()
                raise
        return IndexedBatch(
            spans=sum(piece.span_count for piece in begun.pieces if piece.signal is Signal.TRACES),
            cursors=begun.cursors,
            unreadable=sum(len(batch.unreadable) for batch in batches),
            failed=sum(batch.faults.count for batch in batches),
            more=begun.more,
        )

    def put_off(self) -> None:
        """Begin the next batch anew: what is stored changes by others, or the batch before failed."""
        begun, self._begun = self._begun, None
        for other in () if begun is None else begun.others:
            with suppress(Exception):
                for file in other.result().files:
                    file.unlink()

    def close(self) -> None:
        """Let the other processes go."""
        self.put_off()
        self._crew.rest()

    def idle(self) -> None:
        """Let them go if they had nothing to do for a while."""
        if self._crew.idle_seconds() > IDLE_SECONDS:
            self._crew.rest()

    def _begin(
        self,
        lanes: Sequence[Lane],
        known: Mapping[str, int],
        limit_spans: int,
        but: Set[TraceKey] = frozenset(),
    ) -> "_Begun | None":
        """Find the next batch, and have the others make their share of its rows.

        None: one of its traces is among `but`, on their way into the store; it has to wait.
        """
        pieces, cursors, more = self._heads(lanes, known, limit_spans)
        keys = frozenset().union(*(piece.keys for piece in pieces))
        if but & keys:
            return None
        stored = self._store.stored(list(keys))
        many = sum(piece.span_count for piece in pieces) >= SHARED_FROM_SPANS
        shares = share_out(pieces, [OWN_SHARE, *[1.0] * self._crew.size] if many else [1.0])
        self._round += 1
        tasks = [
            self._task(f"batch-{self._round}-{number}", share, stored)
            for number, share in enumerate(shares)
            if share
        ]
        return _Begun(
            lanes=lanes,
            pieces=pieces,
            keys=keys,
            known=known,
            cursors=cursors,
            more=more,
            tasks=tasks,
            others=[self._crew.start(task) for task in tasks[1:]],
        )

    def _heads(
        self, lanes: Sequence[Lane], known: Mapping[str, int], limit_spans: int
    ) -> tuple[list[Piece], dict[str, int], bool]:
        pieces: list[Piece] = []
        cursors: dict[str, int] = {}
        spans = size = 0
        with open_reader(self._journal, CONSUMER) as journal:
            for lane in lanes:
                number = self._store.number_of(lane.experiment)
                run_id, signal = Route.from_lane(lane.lane).run_id, signal_of(lane.lane)
                # taken before a crash, but not said so: the journal may let it go
                cursors[lane.lane] = known.get(lane.lane, 0)
                after = Position(cursors[lane.lane]) if cursors[lane.lane] else None
                for head in journal.heads(lane.lane, after=after):
                    spans += head.span_count
                    size += head.size_bytes
                    if pieces and (spans > limit_spans or size > BATCH_BYTES):
                        return pieces, cursors, True
                    cursors[lane.lane] = head.position.token
                    if is_verbatim(lane.lane):  # the index has kept their rows
                        continue
                    pieces.append(
                        Piece(
                            sequence=head.position.token,
                            experiment=number,
                            run_id=run_id,
                            received_unix_ns=head.received_unix_ns,
                            span_count=head.span_count,
                            trace_ids=head.trace_ids if signal is Signal.TRACES else frozenset(),
                            signal=signal,
                        )
                    )
        return pieces, cursors, False

    def _finish(self, begun: "_Begun") -> list[Batch]:
        batches = [begun.tasks[0]()]
        for task, other in zip(begun.tasks[1:], begun.others, strict=True):
            try:
                batches.append(other.result())
            except BrokenProcessPool:
                _log.warning("a helping process of the index has died; its share is done here")
                self._crew.rest()
                batches.append(task())
        return batches

    def _task(
        self, name: str, share: Sequence[Piece], stored: Mapping[TraceKey, Gathered]
    ) -> Callable[[], Batch]:
        keys = set().union(*(piece.keys for piece in share)) & stored.keys()
        return partial(
            read_shard,
            self._journal,
            share,
            {key: stored[key] for key in keys},
            into=self._store.path.parent,
            name=name,
            preview_characters=self._preview_characters,
        )
