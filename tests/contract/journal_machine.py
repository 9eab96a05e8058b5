"""A journal against a plain model, under random actions and crashes at any point between them."""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.journal import ISOLATE_FROM_ATTEMPTS
from collector.model.batch import Draft, Entry, FollowUp, Parked, Route, Signal
from collector.settings import JournalSettings
from tests.contract.forms import LOGS, Opened, at, in_memory, on_kafka, on_sqlite

OF_SPANS = ("delivery", "other")
CONSUMERS = (*OF_SPANS, LOGS)
WAITING = Route(experiment_id="0").lane_of(Signal.LOGS, waiting=True)
LANES = {
    **{Route(experiment_id=str(n)).lane: OF_SPANS for n in range(2)},
    Route(experiment_id="0").lane_of(Signal.LOGS): (LOGS,),
    WAITING: (LOGS,),
}
lanes = st.sampled_from(list(LANES))
consumers = st.sampled_from(CONSUMERS)
places = st.sampled_from([(consumer, lane) for lane, readers in LANES.items() for consumer in readers])
limits = st.sampled_from([1, 3_000, 20_000, 2**30])


@dataclass
class Held:
    """An entry as the model has it; `consumer`: the only one that sees it, if it is not everybody's."""

    sequence: int
    payload: bytes
    consumer: str | None = None
    attempts: Counter[str] = field(default_factory=Counter)


@dataclass
class Lane:
    """Everything that is stored of a lane; what is after a consumer's cursor waits for it.

    `readers` are the consumers of its signal.
    """

    readers: tuple[str, ...]
    held: list[Held] = field(default_factory=list)
    cursors: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)

    def waiting(self, consumer: str) -> list[Held]:
        return [held for held in self.seen(consumer) if held.sequence > self.cursors[consumer]]

    def passed(self, consumer: str) -> list[Held]:
        return [held for held in self.seen(consumer) if held.sequence <= self.cursors[consumer]]

    def seen(self, consumer: str) -> list[Held]:
        if consumer not in self.readers:
            return []
        return [held for held in self.held if held.consumer in (None, consumer)]

    def sweep(self) -> None:
        waited = [held.sequence for consumer in CONSUMERS for held in self.waiting(consumer)]
        self.held = [held for held in self.held if held.sequence in waited]

    def window(self, consumer: str, limit_bytes: int) -> list[Held]:
        """What a read must return."""
        found: list[Held] = []
        for held in self.waiting(consumer):
            size = sum(len(other.payload) for other in found) + len(held.payload)
            alone = held.attempts[consumer] >= ISOLATE_FROM_ATTEMPTS
            if found and (size > limit_bytes or alone):
                break
            found.append(held)
            if alone:
                break
        return found


class JournalMachine(RuleBasedStateMachine):
    """`lanes` and `letters` are the model. Which form of the journal it is, is the subclass's part."""

    form: Any
    # the lanes that this form is tried with, and who reads them
    readers: Mapping[str, tuple[str, ...]] = LANES

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.number = 0
        self.last_sequence = 0
        self.lanes = {lane: Lane(readers) for lane, readers in self.readers.items()}
        self.letters: dict[int, tuple[str, str, bytes]] = {}
        self.base = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        self.stack = AsyncExitStack()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    @initialize(retained=st.booleans())
    def start(self, retained: bool) -> None:
        self.retained = retained
        self.settings = JournalSettings(min_free_disk_bytes=0, retention_seconds=3600 if retained else 0)
        opening = self.form(self.base, self.settings, OF_SPANS)
        self.opened: Opened = self.run(self.stack.enter_async_context(opening))
        self.journal = self.opened.journal

    # receivers

    @rule(lane=lanes, size=st.integers(1, 5000))
    def append(self, lane: str, size: int) -> None:
        if lane in self.lanes:
            self.expect_appended([self.draft(lane, size)])

    @rule(size=st.integers(1, 5000))
    def append_to_all_lanes_at_once(self, size: int) -> None:
        self.expect_appended([self.draft(lane, size) for lane in self.lanes])

    def draft(self, lane: str, size: int) -> Draft:
        self.number += 1
        return Draft(
            lane=lane,
            payload=self.number.to_bytes(8, "big") + bytes(size),
            span_count=1,
            trace_ids=frozenset({self.number.to_bytes(16, "big")}),
        )

    def expect_appended(self, drafts: list[Draft]) -> None:
        last = self.run(self.journal.log.append(drafts)).token
        assert last - len(drafts) >= self.last_sequence, "a sequence was used again"
        for number, draft in enumerate(drafts, start=last - len(drafts) + 1):
            self.lanes[draft.lane].held.append(Held(number, draft.payload))
        self.last_sequence = last

    # consumers

    def read(self, consumer: str, lane: str, limit_bytes: int) -> list[Entry]:
        of_name = self.journal.consumer(consumer)
        entries: list[Entry] = self.run(of_name.read(lane, limit_bytes=limit_bytes))
        expected = self.lanes[lane].window(consumer, limit_bytes)
        assert [(e.position, e.payload, e.attempts) for e in entries] == [
            (at(held.sequence), held.payload, held.attempts[consumer]) for held in expected
        ]
        assert self.run(of_name.read_ahead(lane, limit_bytes=limit_bytes, after=None)) == entries
        return entries

    @rule(place=places, limit_bytes=limits)
    def begin(self, place: tuple[str, str], limit_bytes: int) -> None:
        consumer, lane = place
        if lane in self.lanes and (entries := self.read(consumer, lane, limit_bytes)):
            through = entries[-1].position
            claims = {trace_id: lane for entry in entries for trace_id in entry.trace_ids}
            self.run(self.journal.consumer(consumer).mark(lane, through=through))
            assert self.run(self.journal.traces.claim(claims)) == claims
            self.lanes[lane].marks[consumer] = through.token

    @rule(place=places)
    def processed(self, place: tuple[str, str]) -> None:
        consumer, lane = place
        if lane in self.lanes:
            self.run(self.journal.consumer(consumer).processed(lane))
            self.lanes[lane].marks[consumer] = 0

    @rule(place=places, limit_bytes=limits, parks=st.booleans(), waits=st.booleans())
    def commit(self, place: tuple[str, str], limit_bytes: int, parks: bool, waits: bool) -> None:
        consumer, lane = place
        entries = self.read(consumer, lane, limit_bytes) if lane in self.lanes else []
        if not entries:
            return
        parked = [self.parked(entry) for entry in entries] if parks else []
        first, through = entries[0].position, entries[-1].position
        later = [self.draft(WAITING, 100)] if waits and WAITING in self.lanes else []
        now_ns = time.time_ns()  # an older one would be past its retention as soon as it is passed
        self.run(
            self.journal.consumer(consumer).commit(
                lane,
                first=first,
                through=through,
                parked=parked,
                follow_ups=[FollowUp(consumer=LOGS, draft=each, received_unix_ns=now_ns) for each in later],
            )
        )
        for draft in later:
            self.last_sequence += 1
            self.lanes[WAITING].held.append(Held(self.last_sequence, draft.payload, LOGS))
        model = self.lanes[lane]
        model.cursors[consumer], model.marks[consumer] = through.token, 0
        if not self.retained:
            model.sweep()
        self.expect_parked(consumer, lane, parked)

    def expect_parked(self, consumer: str, lane: str, parked: list[Parked]) -> None:
        letters, known = self.journal.dead_letters(consumer), set(self.letters)
        for letter in self.run(letters.list(limit=10_000)):
            assert letter.consumer == consumer
            if letter.id not in known:
                whole = self.run(letters.one(letter.id))
                self.letters[letter.id] = (consumer, lane, whole.payload)
        assert sorted(set(self.letters) - known) == sorted(self.letters)[len(known) :], "an id came again"
        assert [self.letters[id][2] for id in sorted(set(self.letters) - known)] == [
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

    def letters_of(self, consumer: str) -> list[int]:
        return sorted(id for id, (whose, _, _) in self.letters.items() if whose == consumer)

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), all_of_them=st.booleans(), consumer=consumers)
    def retry(self, data: st.DataObject, all_of_them: bool, consumer: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.letters)))
        own = self.letters_of(consumer)
        ids = own if all_of_them else [id] if id in own else []
        letters = self.journal.dead_letters(consumer)
        assert self.run(letters.retry(None if all_of_them else [id])) == len(ids)
        for id in ids:
            _, lane, payload = self.letters.pop(id)
            self.last_sequence += 1
            self.lanes[lane].held.append(Held(self.last_sequence, payload, consumer))

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), consumer=consumers)
    def drop(self, data: st.DataObject, consumer: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.letters)))
        is_own = self.letters[id][0] == consumer
        assert self.run(self.journal.dead_letters(consumer).drop([id, id])) == is_own
        if is_own:
            del self.letters[id]

    @rule(consumer=consumers)
    def replay(self, consumer: str) -> None:
        passed = {name: lane.passed(consumer) for name, lane in self.lanes.items()}
        count = self.run(self.journal.consumer(consumer).replay(since_unix_ns=0))
        assert count == sum(len(held) for held in passed.values())
        for name, held in passed.items():
            if held:
                self.lanes[name].cursors[consumer] = held[0].sequence - 1

    @rule()
    def sweep(self) -> None:
        assert self.run(self.journal.sweep()) == 0, "a commit leaves nothing to sweep"

    # ends

    @rule()
    def crash(self) -> None:
        self.journal = self.run(self.opened.crash())
        self.count_attempts()

    @rule()
    def restart(self) -> None:
        self.journal = self.run(self.opened.restart())
        self.count_attempts()

    def count_attempts(self) -> None:
        for lane in self.lanes.values():
            for consumer in CONSUMERS:
                for held in lane.waiting(consumer):
                    held.attempts[consumer] += held.sequence <= lane.marks[consumer]
            lane.marks.clear()

    @invariant()
    def everything_that_waits_is_there(self) -> None:
        for consumer in CONSUMERS if hasattr(self, "journal") else ():
            self.expect_waiting(consumer)

    def expect_waiting(self, consumer: str) -> None:
        of_name, letters = self.journal.consumer(consumer), len(self.letters_of(consumer))
        state = self.run(of_name.state())
        waiting = {n: held for n, lane in self.lanes.items() if (held := lane.waiting(consumer))}
        assert state.pending_entries == sum(len(held) for held in waiting.values())
        assert (state.dead_letters, state.dead_letter_spans) == (letters, letters)
        pending = {lane.lane: lane.first for lane in self.run(of_name.pending())}
        assert pending == {name: at(held[0].sequence) for name, held in waiting.items()}

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.base)


class SqliteMachine(JournalMachine):
    """A crash leaves the files as they are at that moment; the next journal opens a copy of them."""

    form = staticmethod(on_sqlite)


class MemoryMachine(JournalMachine):
    """The twin, held to the same model."""

    form = staticmethod(in_memory)


class KafkaMachine(JournalMachine):
    """On a real broker: a commit leaves what it has passed to the next sweep.

    Lanes of spans only: the model has one order of all appends, and Kafka keeps none between two topics.
    """

    readers = {lane: names for lane, names in LANES.items() if names == OF_SPANS}
    hosts: tuple[str, ...] = ()

    def form(self, *opening: Any) -> Any:
        return on_kafka(*opening, hosts=self.hosts)

    @rule()
    def sweep(self) -> None:
        assert self.run(self.journal.sweep()) >= 0
