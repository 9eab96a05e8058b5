"""The copy of each experiment that was asked about: listed, read, and kept up to date.

    listing: ids, a page at a time -> what isn't held is read -> store     (sources.py: whence)
    written: what was written is read again, before anything else

A copy is begun by the first question about its experiment. MLflow's own count of traces says whether it is
whole; where that differs, the experiment is listed again. Where MLflow's database is at hand, its state says
whether anything has changed at all (proof.py).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from collector.mirror.copy import Copy, Listing
from collector.mirror.proof import DatabaseProof
from collector.mirror.question import Aggregation, MetricQuestion, NotAnswered, PassOnReason
from collector.mirror.reading import read_document
from collector.mirror.rows import Rows
from collector.mirror.sources import (
    ApiSource,
    DatabaseSource,
    MirrorAway,
    MirrorRows,
    MirrorSource,
    WantedTraces,
)
from collector.mirror.watched import DatabaseState, WatchedDatabase
from collector.mirror.writes import Writes
from collector.mlflow.client import MlflowUnreachable
from collector.mlflow.rest import MlflowApi

_log = logging.getLogger("sidespan.mirror")

# how long MLflow's count is remembered, and what comes between two listings because of it
REMEMBER_SECONDS = 3.0
LIST_AGAIN_SECONDS = 30.0
# how long it is believed that nothing changes in MLflow's database
PROVE_AGAIN_SECONDS = 60.0
# how often MLflow's database is looked at without a question
LOOK_SECONDS = 1.0
# reading all again because somebody else has written, or because somebody might have: that many times as
# long as it took lies between
REST_AFTER_CHANGE, REST_AFTER_CHECK = 4.0, 20.0
CHECK_SECONDS = 60.0
RETRY_SECONDS = 1.0
MAX_COPIES = 500
KEEP_SECONDS = 6 * 3600.0
# more than this isn't read again within the time that a question waits
MAX_BACKLOG = 500
# MLflow can't be read as fast as it is written: no copy would ever be whole
MAX_UNREAD = 200_000


class Copies:
    """All copies; `run` fills them until it is cancelled."""

    def __init__(
        self, api: MlflowApi, store: MirrorRows, *, max_traces: int, database: WatchedDatabase | None = None
    ) -> None:
        """`max_traces`: bound on all of them together. `database`: MLflow's own, if it is at hand."""
        self._api, self._store, self._max_traces = api, store, max_traces
        self._life = store.life
        self._copies: dict[str, Copy] = {}
        # trace id -> experiment id
        self._held: dict[str, str] = {}
        # traces that the store may have taken in though it failed to say so
        self._doubted: set[str] = set()
        self.writes = Writes(self._matters)
        # told of all traces of an experiment after each listing: ids, and milliseconds since 1970
        self.listed: Callable[[str, Mapping[str, int]], None] = lambda *_: None
        self._source: MirrorSource = ApiSource(api=api, store=store)
        self.proof: DatabaseProof | None = None
        if database is not None:
            self._source = DatabaseSource(api=api, store=store, database=database)
            self.proof = DatabaseProof(database, self.writes)

    def _matters(self, experiment_id: str | None) -> bool:
        return bool(self._copies) and (experiment_id is None or experiment_id in self._copies)

    def states(self) -> list[dict[str, Any]]:
        """For people: each copy, and how far it is."""
        return [
            {"experiment_id": id, "ready": copy.ready, "traces": copy.count, "total": copy.total}
            for id, copy in self._copies.items()
        ]

    async def cover(self, experiment_ids: Sequence[str]) -> Sequence[Copy]:
        """The copies, when the rows are as MLflow's own, at this moment. Raises NotAnswered."""
        if self._life != self._store.life:
            self.writes.note(())  # has `run` see it
            raise NotAnswered(PassOnReason.INDEX_AWAY)
        ends = self.writes.ends
        state = None if self.proof is None else await self.proof.look()
        number = self.writes.number
        copies = [await self._copy(id) for id in experiment_ids]
        if state is not None and self._are_proven(copies, state, ends):
            return copies
        if self.writes.backlog > MAX_BACKLOG or self.writes.is_lost(experiment_ids):
            raise NotAnswered(PassOnReason.WRITES_PENDING)
        await self.writes.settled(number, experiment_ids)
        if self.writes.is_lost(experiment_ids):
            raise NotAnswered(PassOnReason.WRITES_PENDING)
        for copy in copies:
            self._check_listed(copy)
            async with copy.counting:
                await self._compare(copy, state, ends)
        return copies

    def _are_proven(self, copies: Sequence[Copy], state: DatabaseState, ends: int) -> bool:
        """Whether nothing was committed since. Writes that commit nothing are a reason to look closer."""
        if any(copy.proven != state for copy in copies):
            return False
        if any(copy.proven_ends != ends for copy in copies):
            self._source.doubt()
            return False
        return all(time.monotonic() - copy.counted_at < PROVE_AGAIN_SECONDS for copy in copies)

    def _check_listed(self, copy: Copy) -> None:
        """Raises NotAnswered: something was written since it was listed, nobody knows what."""
        if copy.listed_at >= self.writes.unknown_at:
            return
        is_elsewhere = self.proof is not None and self.proof.elsewhere_at == self.writes.unknown_at
        if not is_elsewhere or copy.has_rested(REST_AFTER_CHANGE):
            self._list(copy)
        raise NotAnswered(PassOnReason.CHANGED_ELSEWHERE if is_elsewhere else PassOnReason.WRITES_PENDING)

    def stand(self, copies: Sequence[Copy]) -> bool:
        """Whether the rows of these copies were there all the time since `cover` returned them."""
        kept = all(self._copies.get(copy.experiment_id) is copy for copy in copies)
        return kept and self._life == self._store.life

    def _check_life(self) -> None:
        """Forget what was lost; only the task that fills the store may do so."""
        if self._life != self._store.life:
            self._life = self._store.life
            self._copies.clear()
            self._held.clear()
            self._doubted.clear()

    async def _copy(self, id: str) -> Copy:
        """The copy, ready. Raises NotAnswered where it isn't; then it is begun."""
        copy = self._copies.get(id)
        if copy is None:
            total = await self._source.count(id, view="TRACES")
            if (
                len(self._copies) >= MAX_COPIES
                or total + sum(each.total for each in self._copies.values()) > self._max_traces
            ):
                raise NotAnswered(PassOnReason.TOO_MANY)
            copy = self._copies.setdefault(id, Copy(experiment_id=id, total=total))
            if copy.listing is None and not copy.ready:
                self._list(copy)
        copy.asked_at = time.monotonic()
        if not copy.ready:
            raise NotAnswered(PassOnReason.NOT_HELD)
        return copy

    def _list(self, copy: Copy) -> None:
        if copy.listing is None:
            copy.begin(self.writes.number)
            copy.checked = 0 if self.proof is None else self.proof.ours
            self.writes.note(())

    async def _compare(self, copy: Copy, state: DatabaseState | None, ends: int) -> None:
        """Raises NotAnswered: MLflow counts other traces. `state`, `Writes.ends`: as they were before."""
        now = time.monotonic()
        is_fresh = now - copy.counted_at < REMEMBER_SECONDS and copy.counted_others == self.writes.others
        if is_fresh and state is None:
            return
        for _ in range(5):
            number, others = self.writes.number, self.writes.others
            copy.total = await self._source.count(copy.experiment_id, view="TRACES")
            if copy.total == copy.count and (
                state is None or await self._assessments_agree(copy.experiment_id)
            ):
                copy.counted_at, copy.counted_others = now, others
                copy.proven, copy.proven_ends = state, ends
                return
            among = [copy.experiment_id]
            if self.writes.number == number and self.writes.is_settled(number, among):
                break
            await self.writes.settled(self.writes.number, among)
        else:
            raise NotAnswered(PassOnReason.WRITES_PENDING)
        if now - copy.begun_at > LIST_AGAIN_SECONDS:
            self._list(copy)
        raise NotAnswered(PassOnReason.COUNTS_DIFFER)

    async def cover_assessments(self, experiment_ids: Sequence[str]) -> None:
        """Return when MLflow counts the same assessments: jobs of its own write some. Raises NotAnswered."""
        for id in experiment_ids if self.proof is None else ():
            if (copy := self._copies.get(id)) is None:
                raise NotAnswered(PassOnReason.NOT_HELD)
            async with copy.counting:
                now, number, others = time.monotonic(), self.writes.number, self.writes.others
                if now - copy.assessments_at < REMEMBER_SECONDS and copy.assessments_others == others:
                    continue
                if await self._assessments_agree(id):
                    copy.assessments_at, copy.assessments_others = now, others
                    continue
            if self.writes.number != number or not self.writes.is_settled(number, [id]):
                raise NotAnswered(PassOnReason.WRITES_PENDING)
            if time.monotonic() - copy.begun_at > LIST_AGAIN_SECONDS:
                self._drop(copy)
            raise NotAnswered(PassOnReason.COUNTS_DIFFER)

    async def _assessments_agree(self, id: str) -> bool:
        """Whether both count the same."""
        question = MetricQuestion(
            experiment_ids=[int(id)],
            view="ASSESSMENTS",
            metric="assessment_count",
            aggregations=[Aggregation(type="COUNT")],
        )
        ours = (await self._store.measure(question)).get("rows")
        theirs = await self._source.count(id, view="ASSESSMENTS")
        return ours is not None and ours[0][0] == theirs

    def _drop(self, copy: Copy) -> None:
        """Forget a copy; the next question begins another."""
        if self._copies.get(copy.experiment_id) is copy:  # it may have been forgotten meanwhile
            del self._copies[copy.experiment_id]
            self._forget_held(copy)

    async def _clear(self, copy: Copy) -> None:
        """Begin with nothing: not with what an earlier copy left, or was written before the first page."""
        await self._store.clear(copy.experiment_id)
        self._forget_held(copy)
        copy.count = 0

    def _forget_held(self, copy: Copy) -> None:
        for trace_id in [i for i, of in self._held.items() if of == copy.experiment_id]:
            del self._held[trace_id]

    async def _let_go(self) -> None:
        """Forget the copies that nobody asks for any more, and what is too much. Raises MirrorAway."""
        before = time.monotonic() - KEEP_SECONDS
        for copy in [each for each in self._copies.values() if each.asked_at < before]:
            await self._remove(copy)
        while len(self._held) > self._max_traces and self._copies:
            await self._remove(max(self._copies.values(), key=lambda each: each.count))
        if self.writes.backlog > MAX_UNREAD:
            for copy in list(self._copies.values()):
                await self._remove(copy)
            self.writes.forget()

    async def _remove(self, copy: Copy) -> None:
        self._drop(copy)
        await self._store.clear(copy.experiment_id)

    async def prove_types(self, experiment_ids: Sequence[str]) -> bool:
        """Whether the types of these experiments' spans are MLflow's own, after asking it if need be."""
        for id in experiment_ids:
            copy = self._copies.get(id)
            if copy is None or not await copy.types.attempt(
                int(id), self._ask, self._store.measure, partial(self.writes.quiet, id)
            ):
                return False
        return True

    def types_hold(self, experiment_ids: Sequence[str]) -> bool:
        """Whether they still are."""
        copies = [self._copies.get(id) for id in experiment_ids]
        return all(copy is not None and copy.types.holds for copy in copies)

    async def _ask(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return read_document(await self._api.trace_metrics(document))

    async def run(self) -> None:
        """Read what was written, and list what is to be listed, until cancelled."""
        try:
            while True:
                await self._step()
        finally:
            if self.proof is not None:
                self.proof.database.close()

    async def _step(self) -> None:
        self._check_life()
        started = time.monotonic()
        try:
            await self._let_go()
            worked = await self._reread() or await self._list_on()
        except (MlflowUnreachable, MirrorAway) as error:
            _log.debug("the copy of MLflow's traces waits", extra={"reason": str(error)})
            await asyncio.sleep(RETRY_SECONDS)
            return
        if worked == LISTED:
            await asyncio.sleep((time.monotonic() - started) * self._source.rest)
        elif not worked:
            await self._rest()

    async def _rest(self) -> None:
        """Until there may be something to do."""
        if self.proof is None or not self._copies:
            await self.writes.moved()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self.writes.moved()
        with suppress(NotAnswered):  # a question will say so
            await self.proof.look()
        for copy in self._copies.values():
            if copy.ready and copy.checked != self.proof.ours:
                if copy.has_rested(REST_AFTER_CHECK, at_least_seconds=CHECK_SECONDS):
                    self._list(copy)

    async def _reread(self) -> str:
        waiting = self.writes.waiting(self._source.at_once)
        if not waiting:
            return ""
        try:
            await self._read(list(waiting))
        except (MlflowUnreachable, MirrorAway):
            self.writes.put_off(waiting)
            raise
        self.writes.done(waiting)
        return REREAD

    async def _list_on(self) -> str:
        """One step of one listing."""
        for copy in self._copies.values():
            if (listing := copy.listing) is None:
                continue
            if listing.todo:
                ids = [listing.todo.popleft() for _ in range(min(self._source.at_once, len(listing.todo)))]
                try:
                    await self._read(ids)
                except (MlflowUnreachable, MirrorAway):
                    listing.todo.extend(ids)
                    raise
            elif not listing.is_last:
                if not copy.ready and not listing.token:
                    await self._clear(copy)
                await self._next_page(copy, listing)
            else:
                # what isn't there any more, or came while it was listed
                unseen = [i for i, of in self._held.items() if of == copy.experiment_id]
                self.writes.note(id for id in unseen if id not in listing.seen)
                copy.finish()
                self.listed(copy.experiment_id, listing.seen)
            return LISTED
        return ""

    async def _next_page(self, copy: Copy, listing: Listing) -> None:
        found, listing.token = await self._source.page(copy.experiment_id, listing.token)
        listing.seen.update(found)
        is_held = {} if self._source.is_watched else self._held
        listing.todo.extend(id for id in found if is_held.get(id) != copy.experiment_id)
        listing.is_last = not listing.token

    async def _read(self, trace_ids: Sequence[str]) -> None:
        """Have the store hold these traces as MLflow has them now. Raises MlflowUnreachable, MirrorAway."""
        gone: list[str] = []

        def leaving() -> Sequence[str]:
            gone[:] = [id for id in trace_ids if id in self._held or id in self._doubted]
            self._doubted.update(trace_ids)
            return gone

        life = self._store.life
        wanted = WantedTraces(
            trace_ids=trace_ids, experiments=self._copies.keys(), gone=leaving, note=self._note_types
        )
        held = await self._source.fill(wanted)
        if life == self._store.life:
            self._doubted.difference_update(trace_ids)
            self._note(gone, held)

    def _note(self, gone: Sequence[str], held: Mapping[str, str]) -> None:
        for id in gone:
            if (copy := self._copies.get(self._held.pop(id, ""))) is not None:
                copy.count -= 1
        for id, experiment_id in held.items():
            # it may have been forgotten meanwhile
            if (copy := self._copies.get(experiment_id)) is not None:
                self._held[id] = experiment_id
                copy.count += 1

    def _note_types(self, rows: Rows) -> None:
        unclear = {row["trace_id"] for row in rows.spans if not row["type_is_certain"]}
        for row in rows.traces:
            if row["trace_id"] in unclear:
                if (copy := self._copies.get(str(row["experiment"]))) is not None:
                    copy.types.note(row["timestamp_ms"])


LISTED, REREAD = "listed", "reread"
