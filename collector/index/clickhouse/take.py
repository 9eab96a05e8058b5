"""The sentence of the index: entries of the log -> what is stored of their traces -> rows -> inserts.

    consumer.read_ahead -> pieces -> stored -> rows, in processes beside the service -> put

A batch is taken in parts: while the rows of one are made and put, the next one is read. Spans of a trace that
is in both wait until those before them are stored.

Nothing here remembers how far the log is read: that is the log's alone to say. A batch that comes again, in
whole or in part, gives rows that take the place of those that are there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from collector.index.clickhouse.book import ExperimentBook
from collector.index.clickhouse.make import LoadedPiece, MadeRows, joined, make_rows, token_of
from collector.index.clickhouse.store import ClickhouseStore
from collector.index.protocol import IndexAway, IndexedBatch, Lane
from collector.index.rows.crew import Crew
from collector.index.rows.gathered import Gathered, TraceKey, share_out
from collector.journal import Consumer
from collector.model.batch import Entry, Position, Route, Signal, is_verbatim, signal_of
from collector.model.experiment import ExperimentReference
from collector.telemetry.fault_log import FaultLog

T = TypeVar("T")

# one batch takes so much, at the most
BATCH_BYTES = 192 * 1024 * 1024
# the log is asked for so much at once
WINDOW_BYTES = 8 * 1024 * 1024
# so much is read before its rows are made
PART_SPANS = 12_000
# under it one process is as fast as several
SHARED_FROM_SPANS = 3000
# so much goes to a process at once: it is copied on the way, in memory that is used again and again
SHARE_BYTES = 4 * 1024 * 1024
IDLE_SECONDS = 30.0


@dataclass(slots=True)
class _Read:
    """How far each lane is read in this batch, how many spans that are, and whether there is more."""

    cursors: dict[str, int] = field(default_factory=dict)
    spans: int = 0
    more: bool = False


class EntryTaker:
    """Brings entries of the log into the tables, one batch at a time."""

    def __init__(
        self, store: ClickhouseStore, consumer: Consumer, *, processes: int, preview_characters: int
    ) -> None:
        self._store = store
        self._consumer = consumer
        self._preview_characters = preview_characters
        self._crew = Crew(processes)
        self._fault_log = FaultLog()

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        """A batch of what these lanes hold. Raises BatchRefused, IndexAway, IndexFailure: it comes again."""
        numbers, unnamed = await asyncio.to_thread(self._numbers, [lane.experiment for lane in lanes])
        read = _Read()
        made = await self._take(self._parts(lanes, numbers, limit_spans, read))
        for each in made:
            self._fault_log.tell("a span is indexed with its name and times alone", each.faults)
        return IndexedBatch(
            spans=read.spans,
            cursors=read.cursors,
            unreadable=sum(each.unreadable for each in made),
            failed=sum(each.faults.count for each in made),
            more=read.more,
            unnamed=unnamed,
        )

    async def _take(self, parts: AsyncIterator[Sequence[LoadedPiece]]) -> Sequence[MadeRows]:
        begun: list[asyncio.Task[MadeRows]] = []
        on_their_way: set[TraceKey] = set()
        try:
            async for pieces in parts:
                keys: set[TraceKey] = set().union(*(piece.keys for piece in pieces))
                if keys & on_their_way:
                    await asyncio.gather(*begun)
                    on_their_way.clear()
                stored = await asyncio.to_thread(self._store.stored, list(keys))
                begun.append(asyncio.create_task(self._put(pieces, stored)))
                on_their_way |= keys
            return await asyncio.gather(*begun)
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    def _numbers(
        self, experiments: Sequence[ExperimentReference]
    ) -> tuple[Mapping[ExperimentReference, int], Sequence[ExperimentReference]]:
        book = ExperimentBook(self._store)
        numbers = {each: book.number_of(each) for each in dict.fromkeys(experiments)}
        return numbers, book.unnamed()

    async def _parts(
        self,
        lanes: Sequence[Lane],
        numbers: Mapping[ExperimentReference, int],
        limit_spans: int,
        read: _Read,
    ) -> AsyncIterator[Sequence[LoadedPiece]]:
        """The entries of a batch, part by part; `read` says how far they are read."""
        pieces: list[LoadedPiece] = []
        count = taken = size = 0
        async for lane, entry in self._entries(lanes):
            taken += entry.span_count
            size += len(entry.payload)
            if count and (taken > limit_spans or size > BATCH_BYTES):
                read.more = True
                break
            if sum(piece.span_count for piece in pieces) >= PART_SPANS:
                yield pieces
                pieces = []
            count += 1
            read.cursors[lane.lane] = entry.position.token
            if is_verbatim(lane.lane):  # the index has kept their rows
                continue
            piece = _loaded(entry, numbers[lane.experiment])
            pieces.append(piece)
            read.spans += piece.span_count if piece.signal is Signal.TRACES else 0
        if pieces:
            yield pieces

    async def _entries(self, lanes: Sequence[Lane]) -> AsyncIterator[tuple[Lane, Entry]]:
        for lane in lanes:
            after: Position | None = None
            while entries := await self._consumer.read_ahead(
                lane.lane, limit_bytes=WINDOW_BYTES, after=after
            ):
                for entry in entries:
                    yield lane, entry
                after = entries[-1].position

    def _shares(self, pieces: Sequence[LoadedPiece]) -> list[list[LoadedPiece]]:
        many = sum(piece.span_count for piece in pieces) >= SHARED_FROM_SPANS
        size = sum(len(piece.payload) for piece in pieces)
        shares = share_out(pieces, [1.0] * max(self._crew.size if many else 1, size // SHARE_BYTES))
        return [[piece for piece in share if isinstance(piece, LoadedPiece)] for share in shares if share]

    async def _put(self, pieces: Sequence[LoadedPiece], stored: Mapping[TraceKey, Gathered]) -> MadeRows:
        made = await asyncio.gather(*(self._make(share, stored) for share in self._shares(pieces)))
        # few large inserts cost the server half as much as many small ones
        whole = joined(made, token=token_of(pieces))
        await asyncio.to_thread(self._store.put, whole.rows)
        return whole

    async def _make(self, share: Sequence[LoadedPiece], stored: Mapping[TraceKey, Gathered]) -> MadeRows:
        keys = set().union(*(piece.keys for piece in share)) & stored.keys()
        return await self._beside(
            partial(
                make_rows,
                share,
                {key: stored[key] for key in keys},
                preview_characters=self._preview_characters,
            )
        )

    async def _beside(self, task: Callable[[], T]) -> T:
        """Raises IndexAway: the process that worked on it has died, and what it worked on may be why."""
        try:
            return await asyncio.wrap_future(self._crew.start(task))
        except BrokenProcessPool as error:
            self._crew.rest()
            raise IndexAway("a process that makes rows has died") from error

    def idle(self) -> None:
        """Let the processes go if they had nothing to do for a while."""
        if self._crew.idle_seconds() > IDLE_SECONDS:
            self._crew.rest()

    def close(self) -> None:
        """Let the processes go."""
        self._crew.rest()


def _loaded(entry: Entry, experiment: int) -> LoadedPiece:
    signal = signal_of(entry.lane)
    return LoadedPiece(
        sequence=entry.position.token,
        experiment=experiment,
        run_id=Route.from_lane(entry.lane).run_id,
        received_unix_ns=entry.received_unix_ns,
        span_count=entry.span_count,
        trace_ids=entry.trace_ids if signal is Signal.TRACES else frozenset(),
        signal=signal,
        lane=entry.lane,
        payload=entry.payload,
    )
