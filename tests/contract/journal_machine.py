"""A journal against a plain model, under random actions and crashes at any point between them."""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.journal.memory import MemoryJournal
from collector.journal.sqlite.reading import ISOLATE_FROM_ATTEMPTS
from collector.journal.sqlite.writer import SqliteJournal, open_journal
from collector.model.batch import Draft, Entry, Parked, Route
from collector.settings import Journal as JournalSettings

LANES = [Route(experiment_id=str(n)).lane for n in range(3)]
lanes = st.sampled_from(LANES)
limits = st.sampled_from([1, 3_000, 20_000, 2**30])


@dataclass
class Held:
    """An entry as the model has it."""

    sequence: int
    payload: bytes
    attempts: int = 0


@dataclass
class Lane:
    """Everything that is stored of a lane; what is after the cursor waits."""

    held: list[Held] = field(default_factory=list)
    cursor: int = 0
    mark: int | None = None

    @property
    def waiting(self) -> list[Held]:
        return [held for held in self.held if held.sequence > self.cursor]

    def window(self, limit_bytes: int) -> list[Held]:
        """What a read must return."""
        found: list[Held] = []
        for held in self.waiting:
            size = sum(len(other.payload) for other in found) + len(held.payload)
            alone = held.attempts >= ISOLATE_FROM_ATTEMPTS
            if found and (size > limit_bytes or alone):
                break
            found.append(held)
            if alone:
                break
        return found


class JournalMachine(RuleBasedStateMachine):
    """`lanes` and `letters` are the model. How a journal is opened, and dies, is the subclass's part."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.number = 0
        self.last_sequence = 0
        self.lanes = {lane: Lane() for lane in LANES}
        self.letters: dict[int, tuple[str, bytes]] = {}

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    async def open(self) -> Any:
        raise NotImplementedError

    async def die_and_open(self) -> Any:
        raise NotImplementedError

    async def close_and_open(self) -> Any:
        raise NotImplementedError

    @initialize(retained=st.booleans())
    def start(self, retained: bool) -> None:
        self.retained = retained
        self.settings = JournalSettings(min_free_disk_bytes=0, retention_seconds=3600 if retained else 0)
        self.journal = self.run(self.open())

    # receivers

    @rule(lane=lanes, size=st.integers(1, 5000))
    def append(self, lane: str, size: int) -> None:
        self.expect_appended([self.draft(lane, size)])

    @rule(size=st.integers(1, 5000))
    def append_to_all_lanes_at_once(self, size: int) -> None:
        self.expect_appended([self.draft(lane, size) for lane in LANES])

    def draft(self, lane: str, size: int) -> Draft:
        self.number += 1
        return Draft(
            lane=lane,
            payload=self.number.to_bytes(8, "big") + bytes(size),
            span_count=1,
            trace_ids=frozenset({self.number.to_bytes(16, "big")}),
        )

    def expect_appended(self, drafts: list[Draft]) -> None:
        last = self.run(self.journal.append(drafts))
        assert last - len(drafts) >= self.last_sequence, "a sequence was used again"
        for number, draft in enumerate(drafts, start=last - len(drafts) + 1):
            self.lanes[draft.lane].held.append(Held(number, draft.payload))
        self.last_sequence = last

    # consumers

    def read(self, lane: str, limit_bytes: int) -> list[Entry]:
        entries: list[Entry] = self.run(self.journal.read("delivery", lane, limit_bytes=limit_bytes))
        expected = self.lanes[lane].window(limit_bytes)
        assert [(e.sequence, e.payload, e.attempts) for e in entries] == [
            (held.sequence, held.payload, held.attempts) for held in expected
        ]
        return entries

    @rule(lane=lanes, limit_bytes=limits)
    def begin(self, lane: str, limit_bytes: int) -> None:
        if entries := self.read(lane, limit_bytes):
            through = entries[-1].sequence
            claims = {trace_id: lane for entry in entries for trace_id in entry.trace_ids}
            assert self.run(self.journal.begin("delivery", lane, through=through, claims=claims)) == claims
            self.lanes[lane].mark = through

    @rule(lane=lanes)
    def processed(self, lane: str) -> None:
        self.run(self.journal.processed("delivery", lane))
        self.lanes[lane].mark = None

    @rule(lane=lanes, limit_bytes=limits, parks=st.booleans())
    def commit(self, lane: str, limit_bytes: int, parks: bool) -> None:
        entries = self.read(lane, limit_bytes)
        if not entries:
            return
        parked = [self.parked(entry) for entry in entries] if parks else []
        first, through = entries[0].sequence, entries[-1].sequence
        self.run(self.journal.commit("delivery", lane, first=first, through=through, parked=parked))
        model = self.lanes[lane]
        model.cursor, model.mark = through, None
        if not self.retained:
            model.held = model.waiting
        known = set(self.letters)
        for letter in self.run(self.journal.dead_letters(limit=10_000)):
            if letter.id not in known:
                whole = self.run(self.journal.dead_letter(letter.id))
                self.letters[letter.id] = (lane, whole.payload)
        assert sorted(set(self.letters) - known) == sorted(self.letters)[len(known) :], "an id came again"
        assert [self.letters[id][1] for id in sorted(set(self.letters) - known)] == [
            part.payload for part in parked
        ]

    def parked(self, entry: Entry) -> Parked:
        return Parked(
            lane=entry.lane,
            payload=entry.payload,
            span_count=1,
            trace_ids=entry.trace_ids,
            reason="poison",
            message="m",
            received_unix_ns=entry.received_unix_ns,
        )

    # operators

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), all_of_them=st.booleans())
    def retry(self, data: st.DataObject, all_of_them: bool) -> None:
        ids = sorted(self.letters) if all_of_them else [data.draw(st.sampled_from(sorted(self.letters)))]
        assert self.run(self.journal.retry(None if all_of_them else ids)) == len(ids)
        for id in ids:
            lane, payload = self.letters.pop(id)
            self.last_sequence += 1
            self.lanes[lane].held.append(Held(self.last_sequence, payload))

    @precondition(lambda self: self.letters)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.letters)))
        assert self.run(self.journal.drop([id, id])) == 1
        del self.letters[id]

    @rule()
    def replay(self) -> None:
        passed = {
            name: [h for h in lane.held if h.sequence <= lane.cursor] for name, lane in self.lanes.items()
        }
        count = self.run(self.journal.replay("delivery", since_unix_ns=0))
        assert count == sum(len(held) for held in passed.values())
        for name, held in passed.items():
            if held:
                self.lanes[name].cursor = held[0].sequence - 1

    @rule()
    def sweep(self) -> None:
        assert self.run(self.journal.sweep()) == 0, "a commit leaves nothing to sweep"

    # ends

    @rule()
    def crash(self) -> None:
        self.journal = self.run(self.die_and_open())
        self.count_attempts()

    @rule()
    def restart(self) -> None:
        self.journal = self.run(self.close_and_open())
        self.count_attempts()

    def count_attempts(self) -> None:
        for lane in self.lanes.values():
            for held in lane.waiting:
                held.attempts += lane.mark is not None and held.sequence <= lane.mark
            lane.mark = None

    @invariant()
    def everything_that_waits_is_there(self) -> None:
        if not hasattr(self, "journal"):
            return
        state = self.run(self.journal.state("delivery"))
        assert state.pending_entries == sum(len(lane.waiting) for lane in self.lanes.values())
        assert (state.dead_letters, state.dead_letter_spans) == (len(self.letters), len(self.letters))
        pending = {lane.lane: lane.first_sequence for lane in self.run(self.journal.pending("delivery"))}
        assert pending == {n: lane.waiting[0].sequence for n, lane in self.lanes.items() if lane.waiting}

    def teardown(self) -> None:
        self.loop.close()


class SqliteMachine(JournalMachine):
    """A crash leaves the files as they are at that moment; the next journal opens a copy of them."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        self.stack = AsyncExitStack()
        self.generation = 0

    async def open(self) -> SqliteJournal:
        return await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.generation),
                settings=self.settings,
                consumers=("delivery",),
                keep_claims=100_000,
            )
        )

    async def die_and_open(self) -> SqliteJournal:
        old = self.base / str(self.generation)
        self.generation += 1
        shutil.copytree(old, self.base / str(self.generation))
        return await self.open()

    async def close_and_open(self) -> SqliteJournal:
        await self.stack.aclose()
        return await self.open()

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        super().teardown()
        shutil.rmtree(self.base)


class MemoryMachine(JournalMachine):
    """The twin, held to the same model."""

    async def open(self) -> MemoryJournal:
        return MemoryJournal(retention_seconds=self.settings.retention_seconds)

    async def die_and_open(self) -> MemoryJournal:
        assert isinstance(self.journal, MemoryJournal)
        self.journal.crash()
        return self.journal

    async def close_and_open(self) -> MemoryJournal:
        return await self.die_and_open()
