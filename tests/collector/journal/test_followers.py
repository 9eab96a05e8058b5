"""What followers lose when the journal is half full, and what subscriptions survive."""

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from collector.journal.sqlite.journal import SKIPPED_AT_ONCE, open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Draft, Route, Signal
from collector.settings import JournalSettings

MIB = 1024 * 1024
ROUTE = Route(experiment_id="1")
TEE = "forward:tee"


def draft(number: int, size: int = 20_000, signal: Signal = Signal.TRACES) -> Draft:
    return Draft(
        lane=ROUTE.lane_of(signal),
        payload=os.urandom(size),
        span_count=2,
        trace_ids=frozenset(),
        client=str(number),  # keeps entries apart
    )


async def test_a_follower_loses_the_oldest_first_and_what_it_lost_is_counted(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()

    def observe(consumer: str, spans: int) -> None:
        skipped[consumer] += spans

    async with open_journal(
        tmp_path,
        settings=JournalSettings(min_free_disk_bytes=0, max_bytes=16 * MIB),
        consumers=("delivery",),
        log_consumers=("logs",),
        followers=(TEE,),
        log_followers=(TEE,),
        keep_claims=1000,
        observe_skipped=observe,
    ) as journal:
        await journal.subscribe([TEE])
        total = 4 * SKIPPED_AT_ONCE + 50  # about 9 MiB, of which delivery has passed all
        for number in range(total):
            last = await journal.log.append([draft(number)])
        assert (await journal.consumer(TEE).state()).pending_entries == total
        assert skipped == {}
        await journal.consumer("delivery").commit(ROUTE.lane, through=last)
        state = await journal.consumer(TEE).state()
        assert state.pending_entries == total - SKIPPED_AT_ONCE
        assert skipped == {TEE: 2 * SKIPPED_AT_ONCE}
        (first, *_) = await journal.consumer(TEE).read(ROUTE.lane, limit_bytes=1)
        assert first.client == str(SKIPPED_AT_ONCE), "the oldest are gone"
        await journal.sweep()
        assert (await journal.consumer(TEE).state()).pending_entries == total - SKIPPED_AT_ONCE, (
            "there is room again"
        )


async def test_a_follower_that_is_away_never_fills_the_journal_however_much_a_window_holds(
    tmp_path: Path,
) -> None:
    window = 4 * SKIPPED_AT_ONCE  # entries between two commits of delivery, 2 MB
    async with open_journal(
        tmp_path,
        settings=JournalSettings(min_free_disk_bytes=0, max_bytes=16 * MIB),
        consumers=("delivery",),
        followers=(TEE,),
        keep_claims=1000,
    ) as journal:
        await journal.subscribe([TEE])
        for number in range(12):
            drafts = [draft(number * window + each, 5000) for each in range(window)]
            last = await journal.log.append(drafts)  # raises where it is full
            await journal.consumer("delivery").commit(ROUTE.lane, through=last)
        assert journal.log.refusing is None


async def test_log_records_wait_for_a_follower_too(tmp_path: Path) -> None:
    async with open_journal(
        tmp_path,
        settings=JournalSettings(min_free_disk_bytes=0),
        consumers=("delivery",),
        log_consumers=("logs",),
        log_followers=(TEE,),
        keep_claims=1000,
    ) as journal:
        last = await journal.log.append([draft(1, signal=Signal.LOGS)])
        await journal.consumer("logs").commit(ROUTE.lane_of(Signal.LOGS), through=last)
        await journal.sweep()
        assert (await journal.consumer(TEE).state()).pending_entries == 1


async def test_a_subscription_survives_a_broken_file(tmp_path: Path) -> None:
    async def opened_and_subscribed() -> tuple[frozenset[str], int]:
        async with open_journal(
            tmp_path,
            settings=JournalSettings(min_free_disk_bytes=0),
            consumers=("delivery", TEE),
            keep_claims=1000,
        ) as journal:
            begun = (await journal.subscribe([TEE])).begun
            if begun:
                for number in range(5):
                    await journal.log.append([draft(number)])
            return begun, (await journal.consumer(TEE).state()).pending_entries

    assert await opened_and_subscribed() == ({TEE}, 5)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("DROP TABLE claims")
        db.commit()
    assert await opened_and_subscribed() == (frozenset(), 5), "it comes again rather than not at all"
