"""What only the journal on disk can promise: durability, one process, group commit, broken files."""

import asyncio
import logging
import os
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from collector.journal.sqlite import writer
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Draft, Position, Route
from collector.model.errors import Misconfigured
from collector.settings import JournalSettings

LANE = Route(experiment_id="1").lane
SETTINGS = JournalSettings(min_free_disk_bytes=0)


def draft(number: int, payload: bytes | None = None) -> Draft:
    trace_id = number.to_bytes(16, "big")
    return Draft(
        lane=LANE,
        payload=payload or trace_id,
        span_count=1,
        trace_ids=frozenset({trace_id}),
        client=str(number),  # keeps entries apart
    )


@asynccontextmanager
async def journal_in(
    directory: Path,
    commits: list[float] | None = None,
    *,
    max_notes: int = SETTINGS.max_notes,
    requests: Callable[[], int] = lambda: 0,
) -> AsyncIterator[SqliteJournal]:
    async with open_journal(
        directory,
        settings=SETTINGS.model_copy(update={"max_notes": max_notes}),
        consumers=("delivery",),
        keep_claims=1000,
        observe_commit=(commits if commits is not None else []).append,
        requests=requests,
    ) as journal:
        yield journal


async def payloads(journal: SqliteJournal) -> list[bytes]:
    return [entry.payload for entry in await journal.consumer("delivery").read(LANE, limit_bytes=2**30)]


async def test_an_append_wakes_those_who_read_its_signal_and_a_commit_wakes_all(tmp_path: Path) -> None:
    async with open_journal(
        tmp_path, settings=SETTINGS, consumers=("delivery",), log_consumers=("logs",), keep_claims=1000
    ) as journal:
        spans, logs = journal.consumer("delivery").appended, journal.consumer("logs").appended
        position = await journal.log.append([draft(1)])
        assert (spans.is_set(), logs.is_set()) == (True, False)
        spans = journal.consumer("delivery").appended
        assert not spans.is_set()
        await journal.consumer("delivery").commit(LANE, through=position)
        assert (spans.is_set(), logs.is_set()) == (True, True)


async def test_requests_that_wait_together_share_commits(tmp_path: Path) -> None:
    commits: list[float] = []
    async with journal_in(tmp_path, commits) as journal:
        await asyncio.gather(*(journal.log.append([draft(n)]) for n in range(500)))
        assert sorted(await payloads(journal)) == [n.to_bytes(16, "big") for n in range(500)]
    assert len(commits) < 100


async def test_a_commit_waits_for_requests_that_are_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 2.0)
    commits: list[float] = []
    async with journal_in(tmp_path, commits, requests=lambda: 2) as journal:
        first = asyncio.create_task(journal.log.append([draft(1)]))
        await asyncio.sleep(0.1)
        await asyncio.gather(first, journal.log.append([draft(2)]))
        assert len(commits) == 1


async def test_a_commit_waits_for_nobody_where_all_requests_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 600.0)
    async with journal_in(tmp_path, requests=lambda: 1) as journal:
        for number in range(3):
            await journal.log.append([draft(number)])
        assert len(await payloads(journal)) == 3


async def during_a_commit(journal: SqliteJournal, count: int) -> list[asyncio.Task[Position]]:
    """Appends of as many turns of the loop, all of them while the writer is busy; it goes on soon after."""
    is_busy, may_end = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        is_busy.set()
        may_end.wait()

    tasks = [asyncio.ensure_future(journal.file.write(wait))]
    await asyncio.to_thread(is_busy.wait)
    for number in range(count):
        tasks.append(asyncio.ensure_future(journal.log.append([draft(number)])))
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(may_end.set)
    return tasks[1:]


async def test_what_is_asked_for_during_a_commit_shares_the_next(tmp_path: Path) -> None:
    commits: list[float] = []
    async with journal_in(tmp_path, commits) as journal:
        before = len(commits)
        await asyncio.gather(*await during_a_commit(journal, 50))
        assert len(commits) == before + 2
        assert sorted(await payloads(journal)) == [n.to_bytes(16, "big") for n in range(50)]


async def test_what_is_asked_for_during_a_commit_is_stored_though_the_journal_closes(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        tasks = await during_a_commit(journal, 50)
        await journal.close()
        assert len(await asyncio.gather(*tasks)) == 50
    async with journal_in(tmp_path) as journal:
        assert sorted(await payloads(journal)) == [n.to_bytes(16, "big") for n in range(50)]


async def test_the_file_is_in_wal_mode_and_commits_are_synced(tmp_path: Path) -> None:
    from collector.journal.sqlite import statements as sqlite

    with closing(sqlite.connect(tmp_path / "j")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    async with journal_in(tmp_path):
        with pytest.raises(Misconfigured, match=f"in use by process {os.getpid()}"):
            async with journal_in(tmp_path):
                pass
    async with journal_in(tmp_path):
        pass


async def test_a_directory_that_cannot_be_made_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="can't be written"):
        async with journal_in(tmp_path / "file" / "data"):
            pass


async def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    async with journal_in(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Misconfigured, match="schema 99"):
        async with journal_in(tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir() if "corrupt" in path.name] == []


async def test_the_oldest_notes_are_forgotten(tmp_path: Path) -> None:
    ids = [number.to_bytes(16, "big") for number in range(1, 1501)]
    async with journal_in(tmp_path, max_notes=1000) as journal:
        await journal.log.append([draft(0, b"x")])
        await journal.consumer("delivery").commit(
            LANE, through=Position(1), remember=dict.fromkeys(ids, b"n")
        )
        await journal.sweep()
        assert set(await journal.traces.recall("delivery", ids)) == set(ids[500:])


async def test_a_note_is_not_forgotten_while_another_consumer_waits_for_its_entry(tmp_path: Path) -> None:
    ids = [number.to_bytes(16, "big") for number in range(1, 1501)]
    consumers = ("delivery", "sampling")
    settings = SETTINGS.model_copy(update={"max_notes": 1000})
    async with open_journal(tmp_path, settings=settings, consumers=consumers, keep_claims=9) as journal:
        await journal.log.append([draft(0, b"x")])
        await journal.consumer("sampling").commit(
            LANE, through=Position(1), remember=dict.fromkeys(ids, b"n")
        )
        await journal.sweep()
        assert len(await journal.traces.recall("sampling", ids)) == 1500
        await journal.consumer("delivery").commit(LANE, through=Position(1))
        await journal.sweep()
        assert len(await journal.traces.recall("sampling", ids)) == 1000


def _flip_pages(file: Path, share: float) -> None:
    """Noise over the middle of some pages, never the first."""
    content = bytearray(file.read_bytes())
    pages = len(content) // 8192
    for page in random.Random(1).sample(range(3, pages), max(1, int(pages * share))):
        content[page * 8192 + 100 : page * 8192 + 4000] = os.urandom(3900)
    file.write_bytes(content)


@pytest.mark.parametrize("share", [0.02, 0.2])
async def test_a_damaged_file_is_set_aside_and_what_is_readable_is_carried_over(
    tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    written = {os.urandom(2000) for _ in range(300)}
    async with journal_in(tmp_path) as journal:
        for number, payload in enumerate(written):
            await journal.log.append([draft(number, payload)])
    _flip_pages(tmp_path / FILE_NAME, share)

    with caplog.at_level(logging.WARNING, "sidespan.journal"):
        async with journal_in(tmp_path) as journal:
            salvaged = set(await payloads(journal))
            await journal.log.append([draft(999, b"goes on")])
            assert b"goes on" in await payloads(journal)
    assert salvaged <= written, "nothing that is wrong may come back"
    assert salvaged
    (aside,) = [path for path in tmp_path.iterdir() if path.name.startswith(f"{FILE_NAME}.corrupt")]
    assert any(str(aside) in str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("content", [b"this is no database" * 999, b""], ids=["garbage", "empty"])
async def test_a_file_that_is_no_journal_does_not_stop_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    async with journal_in(tmp_path) as journal:
        await journal.log.append([draft(1)])
        assert len(await payloads(journal)) == 1
    kept = [path for path in tmp_path.iterdir() if "corrupt" in path.name]
    assert [path.read_bytes() for path in kept] == ([content] if content else [])


async def test_a_cut_file_is_salvaged(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        for number in range(300):
            await journal.log.append([draft(number, os.urandom(2000))])
    file = tmp_path / FILE_NAME
    os.truncate(file, file.stat().st_size // 2)
    async with journal_in(tmp_path) as journal:
        assert await payloads(journal)


async def test_damage_met_while_running_refuses_new_entries_and_is_mended_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with journal_in(tmp_path) as journal:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        journal.file._note_damage(error)
        assert "restart the service" in str(journal.log.refusing)
    assert (tmp_path / "journal.suspect").exists()
    async with journal_in(tmp_path) as journal:
        assert journal.log.refusing is None
    assert not (tmp_path / "journal.suspect").exists()
