"""The journal on disk against a plain model, under random actions and crashes at any point between them."""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector.batch import Draft, Parked, Route
from collector.journal.writer import SqliteJournal, open_journal
from collector.settings import Journal as JournalSettings

LANES = [Route(experiment_id=str(n)).lane for n in range(3)]
lanes = st.sampled_from(LANES)


class JournalMachine(RuleBasedStateMachine):
    """`waiting` and `letters` are the model: what must be readable, by lane, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.base = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        self.stack = AsyncExitStack()
        self.generation = 0
        self.number = 0
        self.last_sequence = 0
        self.waiting: dict[str, list[tuple[int, bytes]]] = {lane: [] for lane in LANES}
        self.letters: list[bytes] = []

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    async def open(self) -> SqliteJournal:
        return await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.generation),
                settings=JournalSettings(min_free_disk_bytes=0),
                consumers=("delivery",),
                keep_claims=100,
            )
        )

    @initialize()
    def start(self) -> None:
        self.journal = self.run(self.open())

    @rule(lane=lanes, size=st.integers(1, 5000))
    def append(self, lane: str, size: int) -> None:
        self.number += 1
        payload = self.number.to_bytes(8, "big") + bytes(size)
        draft = Draft(
            lane=lane,
            payload=payload,
            span_count=1,
            trace_ids=frozenset({self.number.to_bytes(16, "big")}),
        )
        sequence = self.run(self.journal.append([draft]))
        assert sequence > self.last_sequence
        self.last_sequence = sequence
        self.waiting[lane].append((sequence, payload))

    @rule(lane=lanes, limit_bytes=st.integers(1, 20_000), mark=st.booleans(), parks=st.booleans())
    def deliver(self, lane: str, limit_bytes: int, mark: bool, parks: bool) -> None:
        entries = self.run(self.journal.read("delivery", lane, limit_bytes=limit_bytes))
        expected = self.waiting[lane][: len(entries)]
        assert [(entry.sequence, entry.payload) for entry in entries] == expected
        assert bool(entries) == bool(self.waiting[lane])
        if not entries:
            return
        through = entries[-1].sequence
        if mark:
            self.run(self.journal.begin("delivery", lane, through=through, claims={}))
            self.run(self.journal.processed("delivery", lane))
        parked = [
            Parked(
                lane=lane,
                payload=entries[0].payload,
                span_count=1,
                trace_ids=entries[0].trace_ids,
                reason="poison",
                message="m",
                received_unix_ns=1,
            )
        ]
        self.run(self.journal.commit("delivery", lane, through=through, parked=parked if parks else ()))
        self.waiting[lane] = self.waiting[lane][len(entries) :]
        self.letters += [entries[0].payload] if parks else []

    @rule()
    def retry_the_oldest_letter(self) -> None:
        found = self.run(self.journal.dead_letters(limit=1))
        if found:
            letter = self.run(self.journal.dead_letter(found[0].id))
            assert self.run(self.journal.retry([letter.id])) == 1
            self.letters.remove(letter.payload)
            entries = self.run(self.journal.read("delivery", letter.lane, limit_bytes=2**30))
            assert entries[-1].payload == letter.payload
            self.last_sequence = entries[-1].sequence
            self.waiting[letter.lane].append((self.last_sequence, letter.payload))

    @rule()
    def sweep(self) -> None:
        self.run(self.journal.sweep())

    @rule()
    def crash(self) -> None:
        """The files as they are at this moment are all that is left."""
        old = self.base / str(self.generation)
        self.generation += 1
        shutil.copytree(old, self.base / str(self.generation))
        self.journal = self.run(self.open())

    @rule()
    def restart(self) -> None:
        self.run(self.stack.aclose())
        self.journal = self.run(self.open())

    @invariant()
    def everything_that_waits_is_there(self) -> None:
        if not hasattr(self, "journal"):
            return
        state = self.run(self.journal.state("delivery"))
        assert state.pending_entries == sum(len(entries) for entries in self.waiting.values())
        assert state.dead_letters == len(self.letters)
        pending = {lane.lane: lane.first_sequence for lane in self.run(self.journal.pending("delivery"))}
        assert pending == {lane: entries[0][0] for lane, entries in self.waiting.items() if entries}

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.base)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
