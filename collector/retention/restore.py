"""Traces back from the archive into MLflow, through the journal; and spans that come for archived traces.

A restored span goes to MLflow as MLflow had it: harmonise and processors don't see it again, and neither do
the index, which has kept its facts, and other backends, which got it when it came first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from collector.index.protocol import IndexAway
from collector.journal import Log
from collector.model.batch import Draft, Route
from collector.model.errors import SidespanError, Unavailable
from collector.retention.archive import Archive
from collector.retention.catalogue import ArchiveState, CataloguedTrace
from collector.retention.frames import ArchiveDamaged, count_spans
from collector.retention.marks import Marks

_log = logging.getLogger("sidespan.retention")

RESTORED_AT_ONCE = 50
# of frames, packed: all of a portion is unpacked in memory
PORTION_BYTES = 8 * 1024 * 1024


class CannotRestore(SidespanError):
    """The archive can't be read, or the journal takes nothing now; the message says which."""


class CannotRead(CannotRestore):
    """A file of the archive is damaged, or isn't there; others may be whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorer:
    """The way back. Safe to use from several tasks: a trace that is restored twice is the same."""

    archive: Archive
    log: Log
    marks: Marks
    now_unix_ns: Callable[[], int]

    async def restore(self, trace_ids: Collection[str]) -> int:
        """Send these traces (hex) back; how many spans. What the archive doesn't have is left out.

        Raises CannotRestore: those of the portion are in the archive as before.
        """
        known = list((await asyncio.to_thread(self.archive.known, trace_ids)).values())
        spans = 0
        for portion in portions(known):
            spans += await self._restore(portion)
        return spans

    async def experiment(self, experiment_id: str) -> tuple[int, int]:
        """Send some of an experiment's traces back; how many, and how many are left.

        Raises CannotRestore: none of those that are left can be restored.
        """
        restored, after = 0, ""
        trouble: CannotRestore | None = None
        while not restored and (ids := await self._archived(experiment_id, after)):
            restored, after = len(ids), ids[-1]
            try:
                await self.restore(ids)
            except CannotRestore as error:
                restored, trouble = await self._one_by_one(ids), error
                if not isinstance(error, CannotRead):
                    break
        if trouble is not None and not restored:
            raise trouble
        counts = await asyncio.to_thread(self.archive.catalogue.counts)
        return restored, counts.get(experiment_id, {}).get(ArchiveState.ARCHIVED, 0)

    async def _archived(self, experiment_id: str, after: str) -> list[str]:
        """Some of an experiment's traces that only the archive has, in the order of their ids."""
        ids = partial(self.archive.catalogue.ids, experiment_id=experiment_id, limit=RESTORED_AT_ONCE)
        page = await asyncio.to_thread(ids, ArchiveState.ARCHIVED, after=after)
        return [trace_id for trace_id, _ in page]

    async def _one_by_one(self, trace_ids: Sequence[str]) -> int:
        """How many could be restored: a damaged file must not keep back what other files hold."""
        known = await asyncio.to_thread(self.archive.known, trace_ids)
        done = sum(each.state is not ArchiveState.ARCHIVED for each in known.values())
        for trace in (each for each in known.values() if each.state is ArchiveState.ARCHIVED):
            try:
                await self._restore([trace])
                done += 1
            except CannotRestore as error:
                extra = {"trace_id": trace.trace_id, "reason": str(error)}
                _log.warning("an archived trace can't be restored", extra=extra)
        return done

    async def _restore(self, traces: Sequence[CataloguedTrace]) -> int:
        ids = [trace.trace_id for trace in traces]
        catalogue = self.archive.catalogue
        try:
            drafts = await asyncio.to_thread(lambda: [_draft(self.archive, trace) for trace in traces])
            infos = await asyncio.to_thread(self.archive.infos, traces)
            await self.log.append(drafts)
        except (FileNotFoundError, ArchiveDamaged) as error:
            raise CannotRead(f"the archive can't be read: {error}") from error
        except OSError as error:
            raise CannotRestore(f"the archive can't be read: {error}") from error
        except Unavailable as error:
            raise CannotRestore(f"the journal takes nothing now: {error}") from error
        # only now: whatever cuts this short before, the archive alone has them still, and says so
        now = self.now_unix_ns()
        await asyncio.to_thread(catalogue.move, ids, ArchiveState.RESTORED, now_unix_ns=now)
        try:
            await self.marks.restored(list(infos.values()))
        except IndexAway as error:
            _log.warning("restored traces stay marked as archived", extra={"reason": str(error)})
        return sum(draft.span_count for draft in drafts)


def portions(traces: Sequence[CataloguedTrace]) -> Iterator[list[CataloguedTrace]]:
    """The traces in their order, few enough at a time for the memory."""
    portion: list[CataloguedTrace] = []
    size = 0
    for trace in traces:
        more = sum(place.bytes for place in trace.places)
        if portion and (len(portion) == RESTORED_AT_ONCE or size + more > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(trace)
        size += more
    if portion:
        yield portion


def _draft(archive: Archive, trace: CataloguedTrace) -> Draft:
    """A trace as an entry of the journal. Raises OSError, ArchiveDamaged."""
    exports = archive.read(trace)
    return Draft(
        lane=Route(experiment_id=trace.experiment_id).verbatim_lane,
        payload=b"".join([export.SerializeToString() for export in exports]),
        span_count=sum(sum(count_spans(export).values()) for export in exports),
        trace_ids=frozenset({bytes.fromhex(trace.trace_id)}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LateSpans:
    """What delivery does with spans of archived traces."""

    gone: Callable[[Collection[str]], frozenset[str]]
    restore: Callable[[Collection[str]], Awaitable[int]]
    policy: Literal["dead-letter", "reopen"]

    async def refused(self, trace_ids: Collection[bytes]) -> frozenset[bytes]:
        """Those of these traces whose spans are not to be delivered."""
        gone = await asyncio.to_thread(self.gone, [trace_id.hex() for trace_id in trace_ids])
        if gone and self.policy == "reopen":
            try:
                await self.restore(gone)
            except CannotRestore as error:
                _log.warning("archived traces can't be reopened", extra={"reason": str(error)})
            else:
                return frozenset()
        return frozenset(bytes.fromhex(id) for id in gone)
