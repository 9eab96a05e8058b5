"""The one look at the index for all readers, and the streams of their events.

Between looks, readers' positions are all the same: that of the feed. A reader that comes back first gets
what it lacks up to there, by a question of its own.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from collector.answers.errors import AnswerUnavailable, IndexFailed
from collector.answers.many_traces import index_off
from collector.answers.rights import ReadRights
from collector.index.protocol import (
    Changes,
    ChangesQuery,
    Index,
    IndexAway,
    IndexFailure,
    Look,
    QueryTimedOut,
    TellsChanges,
)
from collector.live.backlog import Backlog, Chunk
from collector.live.frames import heartbeat, opening, parse_position, trace_events
from collector.settings.live import LiveSettings
from collector.telemetry.supervision import RestartPause, supervised

_log = logging.getLogger("sidespan.live")

# the index takes a batch every quarter of a second or so
LOOK_SECONDS = 0.2
RETRY_SECONDS = 1.0
RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=1.0)
# events for one reader in one look; nobody can read more, and they would cost those who send
MOST_EVENTS = 50
# to a reader that comes back
MOST_RESUMED = 1000


@dataclass(slots=True, eq=False)
class LiveReader:
    """One reader: what it asks for and what waits for it. A LiveStream."""

    feed: "LiveFeed"
    look: Look
    backlog: Backlog
    starts_at: int
    ended: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """End its stream."""
        self.ended = True
        self.wake.set()

    def leave(self) -> None:
        """As in the protocol."""
        self.feed.forget(self)

    async def events(self) -> AsyncIterator[bytes]:
        """As in the protocol."""
        settings = self.feed.settings
        ends = time.monotonic() + settings.max_stream_seconds
        yield opening(self.starts_at)
        while not self.ended and (left := ends - time.monotonic()) > 0:
            self.wake.clear()
            if self.backlog:
                yield self.backlog.take()
            elif not await _is_set(self.wake, min(left, settings.heartbeat_seconds)) and not self.backlog:
                yield heartbeat(self.feed.position)


class LiveFeed:
    """All readers of one service: LiveAnswers. `run` looks for them."""

    def __init__(self, index: Index | None, settings: LiveSettings) -> None:
        self.settings = settings
        self._index = index
        self._readers: set[LiveReader] = set()
        self._coming = 0
        self._looking = asyncio.Lock()
        self._is_read = asyncio.Event()
        self._stopped = False
        self.position = 0

    @property
    def readers(self) -> int:
        """How many read."""
        return len(self._readers)

    async def follow(
        self, parameters: Mapping[str, Sequence[str]], *, rights: ReadRights, last_event_id: str | None
    ) -> LiveReader:
        """As in the protocol."""
        index = self._followed()
        look = Look(parameters=parameters, experiment_ids=rights.experiments)
        self._coming += 1
        try:
            async with self._looking:
                return await self._join(index, look, parse_position(last_event_id))
        except QueryTimedOut as error:
            raise AnswerUnavailable(error.parameter, error.value, str(error)) from error
        except IndexFailure as error:
            raise IndexFailed("index", 500, "the index failed to answer; its log says why") from error
        finally:
            self._coming -= 1

    def _followed(self) -> TellsChanges:
        """The index, if there is a place for one more reader. Raises AnswerUnavailable."""
        most = self.settings.max_readers
        if self._index is None:
            raise index_off()
        if not isinstance(self._index, TellsChanges):
            raise AnswerUnavailable("index", None, "this form of the index can't be followed; ask /-/traces")
        if self._stopped:
            raise AnswerUnavailable("live", None, "the service is stopping; connect again in a moment")
        if len(self._readers) + self._coming >= most:
            message = f"{most} readers follow traces already (live.max_readers); try again later"
            raise AnswerUnavailable("live.max_readers", most, message)
        return self._index

    async def _join(self, index: TellsChanges, look: Look, after: int | None) -> LiveReader:
        if not self._readers:
            self.position = (await index.changes(ChangesQuery(after=None))).newest
        backlog = Backlog(
            max_events=self.settings.max_waiting_events,
            max_bytes=self.settings.max_waiting_bytes,
        )
        query = ChangesQuery(
            after=self.position if after is None else after,
            until=self.position,
            looks=[look],
            most=MOST_RESUMED,
        )
        found = await index.changes(query)
        if after is not None:
            _tell([backlog], 0, found, is_gap=not found.oldest <= after <= found.newest)
        reader = LiveReader(self, look, backlog, starts_at=self.position if after is None else after)
        if self._stopped:
            reader.end()
        self._readers.add(reader)
        self._is_read.set()
        return reader

    def forget(self, reader: LiveReader) -> None:
        """It is gone."""
        self._readers.discard(reader)
        if not self._readers:
            self._is_read.clear()

    async def run(self) -> None:
        """Look while somebody reads, until cancelled."""
        while True:
            await self._is_read.wait()
            try:
                await self._look()
            except (IndexAway, IndexFailure, QueryTimedOut) as error:
                _log.debug("the index can't be followed now", extra={"reason": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """End all streams at once, and take no more readers."""
        self._stopped = True
        for reader in self._readers:
            reader.end()

    async def _look(self) -> None:
        """One question for all; those who ask for the same share the answer's bytes."""
        async with self._looking:
            by_look = self._by_look()
            if not by_look or not isinstance(self._index, TellsChanges):
                return
            looks = [readers[0].look for readers in by_look]
            query = ChangesQuery(after=self.position, looks=looks, most=MOST_EVENTS)
            found = await self._index.changes(query)
            # an index that began anew knows nothing of before
            is_gap = not found.oldest <= self.position <= found.newest
            for number, readers in enumerate(by_look):
                _tell([reader.backlog for reader in readers], number, found, is_gap=is_gap)
                for reader in readers:
                    if reader.backlog:
                        reader.wake.set()
            self.position = found.newest

    def _by_look(self) -> list[list[LiveReader]]:
        found: dict[object, list[LiveReader]] = {}
        for reader in self._readers:
            key = repr(sorted(reader.look.parameters.items())), reader.look.experiment_ids
            found.setdefault(key, []).append(reader)
        return list(found.values())


def _tell(backlogs: Sequence[Backlog], number: int, found: Changes, *, is_gap: bool) -> None:
    """What a look found, to all who share it."""
    mine = [each for each in found.traces if number in each.to]
    chunk = Chunk(
        events=len(mine), data=trace_events(mine), missed=None if is_gap else found.left_out[number]
    )
    for backlog in backlogs:
        backlog.add(chunk)


@asynccontextmanager
async def open_live(index: Index | None, settings: LiveSettings) -> AsyncIterator[LiveFeed]:
    """The feed, looking while somebody reads, until the block ends."""
    feed = LiveFeed(index, settings)
    async with supervised("a background task", feed.run, pause=RESTART_PAUSE, task="live"):
        try:
            yield feed
        finally:
            feed.stop()


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
