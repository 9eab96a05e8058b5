"""Whole-trace sampling, ahead of delivery: read on -> fold -> decide -> remember and pass on.

    lane A   | 3 | 7 | 8 | 11 | 12 |
                   ^   ^         ^
            delivery   sampling  read so far: each trace of 11 and 12 is open or decided

The log is the waiting room: in memory are a small state of each open trace and the places of the entries
that wait for one. The cursor passes an entry once all of its traces are decided, and writes the decisions
in the same transaction; spans that come later, and the next start, find them there. Delivery reads only
what the cursor has passed. A start reads again from the cursor on.
"""

import asyncio
import heapq
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from collector.journal import Consumer, TraceMemory
from collector.model.batch import Entry, Position, Signal, signal_of
from collector.model.faults import Faults
from collector.processors.keep import (
    KeepReason,
    SamplingDecision,
    TraceState,
    decide,
    decision_of,
    due_in_seconds,
    fold,
    fold_scores,
    merged,
    note_of,
)
from collector.settings.keep import KeepSettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

CONSUMER = "sampling"
READ_BYTES = 4 * 1024 * 1024
IDLE_SECONDS = 5.0
# under load each append would wake the loop, and each look costs a commit
LOOK_EVERY_SECONDS = 0.05
# answers to clients come first: while the process is that busy without sampling, it rests, at the most
# so many times as long as it has worked
BUSY_SHARE = 0.8
REST_FOR_EACH_WORKED = 12.0
REST_SECONDS = 0.01
# places of traces in entries that wait, for each trace that may be open
HELD_FOR_EACH_OPEN = 8


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry that was read and not passed."""

    position: Position
    trace_ids: frozenset[bytes]

    @property
    def places(self) -> int:
        """What it counts for while it waits: log records that speak of no trace need memory too."""
        return max(1, len(self.trace_ids))


class Sampler:
    """Decides traces until `run` is cancelled; only one may run over a journal."""

    def __init__(
        self, consumer: Consumer, traces: TraceMemory, settings: KeepSettings, metrics: Metrics
    ) -> None:
        self._consumer = consumer
        self._traces = traces
        self._settings = settings
        self._metrics = metrics
        self._fault_log = FaultLog()
        self._forget()

    def _forget(self) -> None:
        """Begin anew from the cursors."""
        self._open: dict[bytes, TraceState] = {}
        self._due: list[tuple[float, bytes]] = []  # a heap; may name traces that are decided by now
        self._rooted: dict[bytes, None] = {}  # open, with a root; the first seen first
        self._ripe: dict[bytes, None] = {}  # of those what has changed since the last look
        self._decided: dict[bytes, SamplingDecision] = {}  # those in the entries that wait
        self._fresh: set[bytes] = set()  # those of them that are not in the journal yet
        self._uses: Counter[bytes] = Counter()  # how many waiting entries hold a trace
        self._held = 0  # the places of these entries
        self._waiting: dict[str, deque[_Waiting]] = {}

    @property
    def open_traces(self) -> int:
        """How many traces are waited for."""
        return len(self._open)

    @property
    def held_traces(self) -> int:
        """How many traces are in memory: open, or decided and held up behind an open one."""
        return len(self._open) + len(self._decided)

    async def run(self) -> None:
        """Decide until cancelled. Any exception is a bug; what was not passed is read again."""
        self._forget()
        while True:
            appended = self._consumer.appended
            await self.look()
            await self._wait(appended)

    async def look(self) -> None:
        """Read all that there is, decide what is complete or due, and pass on what is decided."""
        started_unix_ns = time.time_ns()
        for pending in await self._consumer.pending():
            await self._read_lane(pending.lane, until_unix_ns=started_unix_ns)
        for trace_id in self._ripe:
            self._decide_ripe(trace_id)
        self._ripe.clear()
        while self._due and self._due[0][0] <= time.monotonic():
            self._decide(heapq.heappop(self._due)[1])
        await self._pass_on()
        self._metrics.sampling_open_traces.set(len(self._open))

    async def _wait(self, appended: asyncio.Event) -> None:
        """Until something was appended or a trace is due."""
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        while self._due and self._due[0][1] not in self._open:
            heapq.heappop(self._due)
        pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else IDLE_SECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(appended.wait(), min(pause, IDLE_SECONDS))

    # reading

    async def _read_lane(self, lane: str, *, until_unix_ns: int) -> None:
        """What the lane holds, but for what arrives meanwhile: the next look reads that."""
        waiting = self._waiting.get(lane)
        after = waiting[-1].position if waiting else None
        while True:
            started, appended = time.monotonic(), self._consumer.appended
            entries = await self._consumer.read_ahead(lane, limit_bytes=READ_BYTES, after=after)
            if not entries:
                return
            await self._take(entries)
            await self._keep_to_bounds()
            if appended.is_set():
                await rest(time.monotonic() - started)
            if entries[-1].received_unix_ns >= until_unix_ns:
                return
            after = entries[-1].position

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Entries of one lane. Of log records only those count that give a trace a chosen score."""
        is_spans = signal_of(entries[0].lane) is Signal.TRACES
        if is_spans:
            await self._recall(frozenset().union(*(entry.trace_ids for entry in entries)))
        folded = await asyncio.to_thread(self._fold, entries)
        if not is_spans:
            await self._recall(frozenset[bytes]().union(*(states or () for states in folded)))
        for entry, states in zip(entries, folded, strict=True):
            trace_ids = entry.trace_ids if is_spans else frozenset(states or ())
            self._hold(entry, trace_ids)
            for trace_id in trace_ids:
                self._see(trace_id, states)
            self._decide_early(len(self._open) - self._settings.max_open_traces)

    def _hold(self, entry: Entry, trace_ids: frozenset[bytes]) -> None:
        waiting = self._waiting.setdefault(entry.lane, deque())
        waiting.append(_Waiting(entry.position, trace_ids))
        self._uses.update(trace_ids)
        self._held += waiting[-1].places

    async def _recall(self, trace_ids: frozenset[bytes]) -> None:
        """Spans that come late follow the decision on their trace."""
        unknown = [id for id in trace_ids if id not in self._open and id not in self._decided]
        notes = await self._traces.recall(CONSUMER, unknown)
        self._decided |= {trace_id: decision_of(note) for trace_id, note in notes.items()}

    def _fold(self, entries: Sequence[Entry]) -> list[dict[bytes, TraceState] | None]:
        """In a thread. None for an entry that can't be judged."""
        folded: list[dict[bytes, TraceState] | None] = []
        for entry in entries:
            if entry.trace_ids <= self._decided.keys():
                folded.append({})
                continue
            faults = Faults()
            try:
                folded.append(self._folded(entry, faults))
            except Exception as error:  # its traces are kept
                faults.add(error)
                folded.append(None)
            self._fault_log.tell("a trace can't be judged and is kept", faults, sequence=entry.position.token)
        return folded

    def _folded(self, entry: Entry, faults: Faults) -> dict[bytes, TraceState]:
        received = entry.received_unix_ns
        if signal_of(entry.lane) is Signal.LOGS:
            return fold_scores(entry.payload, received_unix_ns=received, settings=self._settings)
        return fold(entry.payload, received_unix_ns=received, settings=self._settings, faults=faults)

    def _see(self, trace_id: bytes, states: dict[bytes, TraceState] | None) -> None:
        if trace_id in self._decided:
            return
        before = self._open.get(trace_id)
        if states is None or trace_id not in states:
            self._settle(trace_id, SamplingDecision(reason=KeepReason.UNREADABLE))
            return
        state = states[trace_id] if before is None else merged(before, states[trace_id])
        self._open[trace_id] = state
        if before is None:
            wait_seconds = due_in_seconds(
                state, now_unix_ns=time.time_ns(), wait_seconds=self._settings.wait_seconds
            )
            heapq.heappush(self._due, (time.monotonic() + wait_seconds, trace_id))
        if state.has_root:
            self._rooted.setdefault(trace_id)
            self._ripe[trace_id] = None

    async def _keep_to_bounds(self) -> None:
        """Pass on what can be, and more while too much is held up behind open traces."""
        await self._pass_on()
        while self._open and self._held > self._settings.max_open_traces * HELD_FOR_EACH_OPEN:
            self._decide_oldest(len(self._open) // 10 + 1)
            await self._pass_on()
        if len(self._due) > 2 * len(self._open) + 1000:
            self._due = [(due, trace_id) for due, trace_id in self._due if trace_id in self._open]
            heapq.heapify(self._due)

    # deciding

    def _decide_early(self, count: int) -> None:
        """Those with a root first: they are most likely whole."""
        rooted = list(islice(self._rooted, max(0, count)))
        for trace_id in rooted:
            self._decide(trace_id)
        self._decide_oldest(count - len(rooted))

    def _decide_oldest(self, count: int) -> None:
        remaining = max(0, len(self._open) - count)
        while len(self._open) > remaining:
            self._decide(heapq.heappop(self._due)[1])

    def _decide_ripe(self, trace_id: bytes) -> None:
        """One with its root: at once, unless nothing but an evaluation that may still come would keep it."""
        state = self._open.get(trace_id)
        if state is not None and (not self._settings.scores or decide(trace_id, state, self._settings).kept):
            self._decide(trace_id)

    def _decide(self, trace_id: bytes) -> None:
        state = self._open.get(trace_id)
        if state is not None:
            self._settle(trace_id, decide(trace_id, state, self._settings))

    def _settle(self, trace_id: bytes, decision: SamplingDecision) -> None:
        self._open.pop(trace_id, None)
        self._rooted.pop(trace_id, None)
        self._decided[trace_id] = decision
        self._fresh.add(trace_id)

    # passing on

    async def _pass_on(self) -> None:
        for lane in list(self._waiting):
            await self._pass_lane(lane)
            if not self._waiting[lane]:
                del self._waiting[lane]

    async def _pass_lane(self, lane: str) -> None:
        """Move the lane's cursor over the entries at its front whose traces are all decided."""
        waiting = self._waiting[lane]
        passed: list[_Waiting] = []
        while waiting and waiting[0].trace_ids.isdisjoint(self._open):
            passed.append(waiting.popleft())
        if not passed:
            return
        uses = Counter(trace_id for entry in passed for trace_id in entry.trace_ids)
        notes = {trace_id: note_of(self._decided[trace_id]) for trace_id in uses}
        await self._consumer.commit(lane, through=passed[-1].position, remember=notes)
        self._count(uses)
        self._held -= sum(entry.places for entry in passed)
        for trace_id, count in uses.items():
            self._uses[trace_id] -= count
            if not self._uses[trace_id]:
                del self._uses[trace_id], self._decided[trace_id]

    def _count(self, trace_ids: Counter[bytes]) -> None:
        """Each trace once, when its decision is in the journal."""
        fresh = {trace_id for trace_id in trace_ids if trace_id in self._fresh}
        self._fresh -= fresh
        for decision, traces in Counter(self._decided[trace_id] for trace_id in fresh).items():
            labels = {"decision": "kept" if decision.kept else "dropped", "reason": decision.reason.value}
            self._metrics.sampled_traces.labels(**labels).inc(traces)


async def rest(worked_seconds: float) -> None:
    """Let others go first while they keep the process busy."""
    until = time.monotonic() + worked_seconds * REST_FOR_EACH_WORKED
    while (began := time.monotonic()) < until:
        busy = time.process_time()
        await asyncio.sleep(REST_SECONDS)
        if time.process_time() - busy < BUSY_SHARE * (time.monotonic() - began):
            return
