"""One batch of traces out of MLflow: archive -> what is linked? -> look again -> delete -> mark in the index.

Delivery waits with spans of these traces meanwhile, so none comes between reading and deleting. Each step is
in the catalogue before the next one begins: whatever ends the process, the next run goes on from there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.delivery.mlflow.turns import Turn, Turns
from collector.journal import Consumer
from collector.retention.archive import Archive
from collector.retention.catalogue import ArchiveState
from collector.retention.frames import ArchiveDamaged
from collector.retention.marks import Marks
from collector.retention.rules import (
    ATTACHMENT,
    Protected,
    RetainedTrace,
    is_fresh,
    matches,
    protection,
    read_stored,
    says_the_same,
    spans_text,
)
from collector.retention.source import CleanupTrouble, TraceStore
from collector.settings import CleanupSettings, RetentionSettings

OWNER = "retention"
# of spans as MLflow's JSON has them: so much is held in memory before it is archived
MAX_HELD_BYTES = 32 * 1024 * 1024


class ArchiveTrouble(CleanupTrouble):
    """The archive can't be written or read; nothing was deleted that it doesn't hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """Traces that a rule has deleted: for the audit log. Not `is_sure`: MLflow has not said so."""

    rule: str
    action: str
    experiment_id: str
    trace_ids: Sequence[str]
    seconds: float
    is_sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What became of a batch: how many traces went, and why others stay."""

    traces: int
    spans: int
    bytes: int
    kept: Mapping[str, int]

    def plus(self, other: "Cleaned") -> "Cleaned":
        """Both together."""
        return Cleaned(
            traces=self.traces + other.traces,
            spans=self.spans + other.spans,
            bytes=self.bytes + other.bytes,
            kept=Counter(self.kept) + Counter(other.kept),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedCopy:
    """What of a trace is in the archive now. `info` is what MLflow said of it."""

    info: Mapping[str, Any]
    spans: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """What the batches of all rules need. `waiting`: the consumers that bring data to MLflow."""

    store: TraceStore
    archive: Archive
    marks: Marks
    turns: Turns
    waiting: Sequence[Consumer]
    settings: CleanupSettings
    tell: Callable[[Deletion], None]
    now_unix_ns: Callable[[], int]

    async def clean(
        self, experiment_id: str, rule: RetentionSettings, traces: Sequence[RetainedTrace]
    ) -> Cleaned:
        """Carry out the rule on these traces of an experiment. Raises CleanupTrouble, IndexAway."""
        ours = [trace for trace in traces if _is_hex(trace)]
        kept: Counter[str] = Counter(other_id=len(traces) - len(ours))
        async with self.turns.take(OWNER, [bytes.fromhex(trace.trace_id) for trace in ours]) as turn:
            free = await self._free(ours)
            kept["pending"] += len(ours) - len(free)
            copies: dict[str, ArchivedCopy] = {}
            if rule.action == "archive":
                copies = await self._archived(experiment_id, rule, free, kept)
                kept["unreadable"] += len(free) - len(copies) - kept["attachments"]
                free = [trace for trace in free if trace.id in copies]
            gone = await self._deleted(experiment_id, rule, free, copies, turn, kept)
        size = sum(trace.size_bytes or copies[trace.id].bytes for trace in gone if trace.id in copies)
        size += sum(trace.size_bytes for trace in gone if trace.id not in copies)
        spans = sum(copies[trace.id].spans for trace in gone if trace.id in copies)
        return Cleaned(traces=len(gone), spans=spans, bytes=size, kept=+kept)

    async def _deleted(
        self,
        experiment_id: str,
        rule: RetentionSettings,
        traces: Sequence[RetainedTrace],
        copies: Mapping[str, ArchivedCopy],
        turn: Turn,
        kept: Counter[str],
    ) -> list[RetainedTrace]:
        """Those that are gone now. What MLflow says of each is looked at right before it is deleted."""
        protected = await self.store.linked(
            experiment_id,
            [trace.id for trace in traces],
            runs="run" not in rule.even_if,
            datasets="dataset" not in rule.even_if,
        )
        gone: list[RetainedTrace] = []
        done = 0
        async with _together() as begin:  # while some are marked, MLflow is asked about the next
            while some := traces[done : done + self.store.deleted_at_once()]:
                done += len(some)
                chosen = await self._unchanged(experiment_id, some, copies, rule, protected, kept)
                if chosen:
                    went = await self._delete(experiment_id, rule, chosen, turn)
                    kept["not_deleted"] += len(chosen) - len(went)
                    gone += went
                    begin(self._mark(experiment_id, rule, chosen, went))
        return gone

    async def _free(self, traces: Sequence[RetainedTrace]) -> list[RetainedTrace]:
        """Those of which nothing waits for delivery."""
        ids = frozenset(bytes.fromhex(trace.trace_id) for trace in traces)
        busy = frozenset().union(*[await consumer.awaiting(ids) for consumer in self.waiting])
        return [trace for trace in traces if bytes.fromhex(trace.trace_id) not in busy]

    async def _archived(
        self,
        experiment_id: str,
        rule: RetentionSettings,
        traces: Sequence[RetainedTrace],
        kept: Counter[str],
    ) -> dict[str, ArchivedCopy]:
        """Those that the archive holds now, by MLflow's id."""
        copies: dict[str, ArchivedCopy] = {}
        held: list[Mapping[str, Any]] = []
        sizes: dict[str, int] = {}
        async for some in self.store.whole(traces):
            found = await asyncio.to_thread(_sizes, some, rule)
            kept["attachments"] += len(some) - len(found)
            # of others MLflow has more than it says, as older versions kept it in files
            held += (each for each in some if found.get(_id_of(each)))
            sizes |= found
            if len(held) >= self.settings.batch_traces or sum(sizes.values()) >= MAX_HELD_BYTES:
                copies |= await self._write_days(experiment_id, rule, held, sizes)
                held, sizes = [], {}
        return copies | await self._write_days(experiment_id, rule, held, sizes)

    async def _write_days(
        self,
        experiment_id: str,
        rule: RetentionSettings,
        traces: Sequence[Mapping[str, Any]],
        sizes: Mapping[str, int],
    ) -> dict[str, ArchivedCopy]:
        days: dict[str, list[Mapping[str, Any]]] = {}
        for trace in traces:
            days.setdefault(read_stored(trace["trace_info"]).day, []).append(trace)
        written: list[Mapping[str, Any]] = []
        for day, whole in days.items():
            written += await self._write(experiment_id, day, whole, rule.name)
        return {(id := _id_of(each)): _copy(each, sizes[id]) for each in written}

    async def _write(
        self, experiment_id: str, day: str, traces: Sequence[Mapping[str, Any]], rule: str
    ) -> list[Mapping[str, Any]]:
        """Those that could be written. One with a span that OTLP can't hold stays out, and in MLflow."""
        write = partial(
            self.archive.write, experiment_id, day, traces, rule=rule, now_unix_ns=self.now_unix_ns()
        )
        try:
            await asyncio.to_thread(write)
        except ValueError:
            if len(traces) == 1:
                return []
            alone = [await self._write(experiment_id, day, [each], rule) for each in traces]
            return [trace for each in alone for trace in each]
        except (OSError, ArchiveDamaged) as error:
            raise ArchiveTrouble(f"the archive can't be written: {error}") from error
        return list(traces)

    async def _unchanged(
        self,
        experiment_id: str,
        traces: Sequence[RetainedTrace],
        copies: Mapping[str, ArchivedCopy],
        rule: RetentionSettings,
        protected: Protected,
        kept: Counter[str],
    ) -> list[RetainedTrace]:
        """Those of which MLflow says what it said before, and that the rule may still delete."""
        now = await self.store.look_again(experiment_id, [trace.id for trace in traces])
        left = []
        for trace in traces:
            found = now.get(trace.id)
            if found is None:
                kept["gone"] += 1
            elif (why := protection(found, protected, rule, keep_tag=self.settings.keep_tag)) is not None:
                kept[why] += 1
            elif not matches(found, rule) or (
                trace.id in copies and not says_the_same(found.info, copies[trace.id].info)
            ):
                kept["changed"] += 1
            else:
                left.append(found)
        return left

    async def _delete(
        self, experiment_id: str, rule: RetentionSettings, traces: Sequence[RetainedTrace], turn: Turn
    ) -> list[RetainedTrace]:
        """Those that are gone now."""
        trace_ids = [trace.trace_id for trace in traces]
        await asyncio.to_thread(self.archive.catalogue.move, trace_ids, ArchiveState.DELETING)
        return await self._ask_to_delete(experiment_id, rule, traces, turn)

    async def _mark(
        self,
        experiment_id: str,
        rule: RetentionSettings,
        asked: Sequence[RetainedTrace],
        gone: Sequence[RetainedTrace],
    ) -> None:
        """Note what has become of traces that MLflow was asked to delete."""
        move = partial(self.archive.catalogue.move, out_of=ArchiveState.DELETING)
        left = {trace.trace_id for trace in asked} - {trace.trace_id for trace in gone}
        if left:
            await asyncio.to_thread(move, left, ArchiveState.WRITTEN)
        if rule.action == "archive":
            await self.marks.archived(experiment_id, [trace.info for trace in gone])
        # not what was restored meanwhile
        await asyncio.to_thread(move, [trace.trace_id for trace in gone], ArchiveState.ARCHIVED)

    async def _ask_to_delete(
        self, experiment_id: str, rule: RetentionSettings, traces: Sequence[RetainedTrace], turn: Turn
    ) -> list[RetainedTrace]:
        """Delete in MLflow, and tell of it; those that are gone. Raises StoreTrouble: nobody knows."""
        began = time.monotonic()
        is_sure = False
        gone = list(traces)
        try:
            count = await self.store.delete(experiment_id, [trace.id for trace in traces])
            if count != len(traces):
                there = await self.store.look_again(experiment_id, [trace.id for trace in traces])
                gone = [trace for trace in traces if trace.id not in there]
            is_sure = True
        finally:
            turn.in_doubt = not is_sure
            self.tell(
                Deletion(
                    rule=rule.name,
                    action=rule.action,
                    experiment_id=experiment_id,
                    trace_ids=[trace.trace_id for trace in gone],
                    seconds=time.monotonic() - began,
                    is_sure=is_sure,
                )
            )
        return gone

    async def settle(self) -> None:
        """Find out about traces whose deletion a crash has cut short. Raises CleanupTrouble, IndexAway.

        And about those that MLflow had the last time: it may have been deleting them still.
        """
        await self._catch_up()
        await self.marks.ready()
        for state in (ArchiveState.DELETING, ArchiveState.WRITTEN):
            after = ""
            while page := await self._page(state, after):
                await self._settle(page, out_of=state)
                after = page[-1]

    async def _catch_up(self) -> None:
        """Where the archive was away at the start."""
        if not self.archive.is_caught_up:
            try:
                await asyncio.to_thread(self.archive.catch_up)
            except (OSError, ArchiveDamaged) as error:
                raise ArchiveTrouble(f"the archive can't be read: {error}") from error

    async def _page(self, state: ArchiveState, after: str) -> list[str]:
        ids = partial(self.archive.catalogue.ids, state, after=after, limit=self.store_page)
        return [trace_id for trace_id, _ in await asyncio.to_thread(ids)]

    async def _settle(self, ids: Sequence[str], *, out_of: ArchiveState) -> None:
        settled = partial(self.archive.catalogue.move, out_of=out_of)
        async with self.turns.take(OWNER, [bytes.fromhex(id) for id in ids]):
            there = {id.removeprefix("tr-") for id in await self.store.infos([f"tr-{id}" for id in ids])}
            await asyncio.to_thread(settled, there, ArchiveState.WRITTEN)
            gone = [id for id in ids if id not in there]
            await self._mark_gone(gone, is_told=out_of is ArchiveState.WRITTEN)
            await asyncio.to_thread(settled, gone, ArchiveState.ARCHIVED)

    @property
    def store_page(self) -> int:
        """Traces in one question to MLflow that reads no spans."""
        return 4 * self.settings.batch_traces

    async def _mark_gone(self, trace_ids: Sequence[str], *, is_told: bool) -> None:
        """Not `is_told`: the audit log may lack them, for a crash came before it or right after."""
        known = await asyncio.to_thread(self.archive.known, trace_ids)
        try:
            infos = await asyncio.to_thread(self.archive.infos, list(known.values()))
        except (OSError, ArchiveDamaged) as error:
            raise ArchiveTrouble(f"the archive can't be read: {error}") from error
        by_experiment: dict[str, list[Mapping[str, Any]]] = {}
        for trace in known.values():
            by_experiment.setdefault(trace.experiment_id, []).append(infos[trace.trace_id])
        for experiment_id, said in by_experiment.items():
            if not is_told:
                self.tell(_found_deleted(experiment_id, said))
            await self.marks.archived(experiment_id, said)

    async def restored_lately(self, traces: Sequence[RetainedTrace]) -> frozenset[str]:
        """Those that were restored a short time ago, or not wholly yet (hex)."""
        known = await asyncio.to_thread(self.archive.known, [trace.trace_id for trace in traces])
        now = self.now_unix_ns()
        return frozenset(
            id
            for id, each in known.items()
            if each.state is ArchiveState.RESTORED or is_fresh(each.restored_unix_ns, self.settings, now)
        )


def _found_deleted(experiment_id: str, infos: Sequence[Mapping[str, Any]]) -> Deletion:
    return Deletion(
        rule="unknown, before a restart",
        action="archive",
        experiment_id=experiment_id,
        trace_ids=[read_stored(info).trace_id for info in infos],
        seconds=0.0,
    )


@asynccontextmanager
async def _together() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Yields what begins something beside the block. The end waits for it, and raises its first error."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda what: tasks.append(asyncio.create_task(what))
    except BaseException:
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    await asyncio.gather(*tasks)


def _id_of(trace: Mapping[str, Any]) -> str:
    return str(trace["trace_info"]["trace_id"])


def _sizes(traces: Sequence[Mapping[str, Any]], rule: RetentionSettings) -> dict[str, int]:
    """Of each trace but those whose spans name files, which the archive doesn't hold; 0: there are none."""
    texts = {_id_of(trace): spans_text(trace) for trace in traces}
    is_any = "attachments" in rule.even_if
    return {id: len(text) for id, text in texts.items() if is_any or ATTACHMENT not in text}


def _copy(trace: Mapping[str, Any], size: int) -> ArchivedCopy:
    return ArchivedCopy(info=trace["trace_info"], spans=len(trace["spans"]), bytes=size)


def _is_hex(trace: RetainedTrace) -> bool:
    """Whether its id is OpenTelemetry's; one of MLflow 2 isn't, and no span can come for it."""
    return len(trace.trace_id) == 32 and all(digit in "0123456789abcdef" for digit in trace.trace_id)
