"""Three brokers and real processes: what is acknowledged is done, and done once, whoever is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from collector.journal.kafka.journal import KafkaJournal
from collector.model.errors import Reason, Unavailable
from tests.support.children import mortal
from tests.support.kafka_brokers import Brokers, kafka
from tests.support.kafka_logs import KafkaLogPlace, draft, place_of, take_all, until
from tests.support.timing import Late, patient

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

# after a session's end (6 s) the brokers give the partitions away, and open transactions end (10 s)
TAKEN_OVER_SECONDS = 30.0
SENDERS = 4


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with kafka(tmp_path_factory.mktemp("kafka"), count=3) as brokers:
        yield brokers


@dataclass
class Traffic:
    """Appends until it is stopped; what isn't acknowledged is sent again, as clients do."""

    journal: KafkaJournal
    acknowledged: set[bytes] = field(default_factory=set)
    repeated: set[bytes] = field(default_factory=set)
    slowest_seconds: float = 0.0
    ends: bool = False

    async def run(self) -> None:
        while not self.ends:
            trace_id = os.urandom(16)
            began = asyncio.get_running_loop().time()
            while not await self._sent(trace_id):
                self.repeated.add(trace_id)
            self.acknowledged.add(trace_id)
            self.slowest_seconds = max(self.slowest_seconds, asyncio.get_running_loop().time() - began)
            await asyncio.sleep(0.01)

    async def _sent(self, trace_id: bytes) -> bool:
        try:
            await self.journal.log.append([draft(trace_id=trace_id)])
        except Unavailable:
            return False
        return True


@asynccontextmanager
async def traffic(journal: KafkaJournal) -> AsyncIterator[Traffic]:
    of_all = Traffic(journal)
    senders = [asyncio.create_task(of_all.run()) for _ in range(SENDERS)]
    try:
        yield of_all
    finally:
        of_all.ends = True
        await asyncio.gather(*senders)


@dataclass
class Deliverers:
    """Processes in the group of deliverers."""

    place: KafkaLogPlace
    running: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        told = {"hosts": self.place.hosts, "replicas": self.place.replicas, "name": self.place.name}
        command = [sys.executable, "-m", "tests.support.kafka_deliverer", json.dumps(told)]
        self.running.append(subprocess.Popen(mortal(command), stderr=subprocess.DEVNULL))
        return self.running[-1]

    def stop(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.running.clear()


@pytest.fixture
def deliverers(three_brokers: Brokers) -> Iterator[Deliverers]:
    found = Deliverers(place_of(three_brokers, more={"delivery_timeout_seconds": 5}))
    yield found
    found.stop()


async def done(journal: KafkaJournal) -> Counter[bytes]:
    """How often each trace was done."""
    letters = await journal.dead_letters("delivery").list(limit=1_000_000)
    return Counter(id for letter in letters for id in letter.trace_ids)


async def done_of(journal: KafkaJournal, acknowledged: set[bytes]) -> Counter[bytes]:
    """Wait until all of these are done."""

    async def all_done() -> bool:
        return not acknowledged - (await done(journal)).keys()

    await until(all_done)
    return await done(journal)


async def more_acknowledged(sent: Traffic, count: int = 100) -> None:
    """Wait until so many more are acknowledged."""
    wanted = len(sent.acknowledged) + count

    async def are_there() -> bool:
        return len(sent.acknowledged) >= wanted

    await until(are_there)


async def expect_once(journal: KafkaJournal, sent: Traffic) -> None:
    """Nothing that was acknowledged is missing; nothing that was sent once is done twice."""
    counts = await done_of(journal, sent.acknowledged)
    await asyncio.sleep(1.0)
    counts = await done(journal)
    twice = {id for id, count in counts.items() if count > 1}
    assert twice <= sent.repeated
    assert counts.keys() >= sent.acknowledged


async def in_step(brokers: Brokers) -> None:
    """Wait until every copy is in step."""
    await until(lambda: asyncio.to_thread(brokers.are_in_step))


async def works(journal: KafkaJournal, sent: Traffic) -> None:
    """Wait until there is traffic, and what was sent up to now is done."""
    await more_acknowledged(sent)
    await done_of(journal, set(sent.acknowledged))


async def expect_taken_over(journal: KafkaJournal, sent: Traffic) -> None:
    """Raise Late if what is acknowledged now is not done in time; it must be done in any case."""
    began = time.monotonic()
    await done_of(journal, set(sent.acknowledged))
    if (took := time.monotonic() - began) > TAKEN_OVER_SECONDS:
        raise Late(f"taken over after {took:.0f} s")


@patient
async def test_a_killed_process_is_replaced_and_nothing_is_lost_or_done_twice(deliverers: Deliverers) -> None:
    deliverers.stop()
    async with deliverers.place.open(running=()) as journal:
        victims = [deliverers.start(), deliverers.start()]
        async with traffic(journal) as sent:
            await works(journal, sent)
            for victim in victims:
                deliverers.start()
                victim.kill()
                await more_acknowledged(sent, 20)
                await expect_taken_over(journal, sent)
        await expect_once(journal, sent)


@patient
async def test_a_paused_process_that_comes_back_repeats_nothing(deliverers: Deliverers) -> None:
    deliverers.stop()
    async with deliverers.place.open(running=()) as journal:
        zombie = deliverers.start()
        async with traffic(journal) as sent:
            await works(journal, sent)
            deliverers.start()
            zombie.send_signal(signal.SIGSTOP)
            await more_acknowledged(sent, 20)
            await expect_taken_over(journal, sent)
            zombie.send_signal(signal.SIGCONT)
            await asyncio.sleep(5)
            await works(journal, sent)
            assert zombie.poll() is None
        await expect_once(journal, sent)


@patient
async def test_a_lost_broker_costs_time_and_nothing_else(
    deliverers: Deliverers, three_brokers: Brokers
) -> None:
    deliverers.stop()
    await in_step(three_brokers)
    async with deliverers.place.open(running=()) as journal:
        deliverers.start()
        async with traffic(journal) as sent:
            await works(journal, sent)
            lost = three_brokers.brokers[0]
            lost.kill()
            await works(journal, sent)  # the other two acknowledge
            lost.start()
            await in_step(three_brokers)
        await expect_once(journal, sent)
    if sent.slowest_seconds >= TAKEN_OVER_SECONDS:
        raise Late(f"an acknowledgement took {sent.slowest_seconds:.0f} s")


async def test_without_enough_copies_nothing_is_acknowledged_and_nothing_is_lost(
    three_brokers: Brokers,
) -> None:
    place = place_of(three_brokers, more={"delivery_timeout_seconds": 2})
    await in_step(three_brokers)
    async with place.open() as journal:
        await journal.log.append([draft(b"before")])
        lost = three_brokers.brokers[1:]
        for broker in lost:
            broker.kill()
        with pytest.raises(Unavailable) as refused:
            await journal.log.append([draft(b"refused")])
        assert refused.value.reason is Reason.JOURNAL_FAILED
        for broker in lost:
            broker.start()
        await in_step(three_brokers)

        async def is_taken() -> bool:
            try:
                await journal.log.append([draft(b"after")])
            except Unavailable:
                return False
            return True

        await until(is_taken)
        found: list[bytes] = []

        async def all_are_read() -> bool:
            with suppress(Unavailable):
                found.extend(await take_all(journal))
            return {b"before", b"after"} <= set(found)

        await until(all_are_read)
