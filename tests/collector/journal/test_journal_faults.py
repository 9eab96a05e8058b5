"""The journal when the disk, the file or a caller misbehaves: it says so, loses nothing and goes on."""

import asyncio
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from collector.journal.sqlite import opening
from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Draft, Parked, Position, Route
from collector.model.errors import Misconfigured, Reason, Unavailable
from collector.settings import JournalSettings

LANE, OTHER = Route(experiment_id="1").lane, Route(experiment_id="2").lane
ROOT = Path(__file__).parents[3]


def draft(number: int, payload: bytes | None = None, lane: str = LANE) -> Draft:
    trace_id = number.to_bytes(16, "big")
    return Draft(
        lane=lane,
        payload=payload if payload is not None else trace_id,
        span_count=1,
        trace_ids=frozenset({trace_id}),
        client=str(number),  # keeps entries apart
    )


def parked(payload: bytes) -> Parked:
    return Parked(
        lane=LANE,
        payload=payload,
        span_count=1,
        trace_ids=frozenset({b"p" * 16}),
        reason="poison",
        message="m",
        received_unix_ns=1,
    )


@asynccontextmanager
async def journal_in(directory: Path, *consumers: str) -> AsyncIterator[SqliteJournal]:
    async with open_journal(
        directory,
        settings=JournalSettings(min_free_disk_bytes=0),
        consumers=consumers or ("delivery",),
        keep_claims=1000,
    ) as journal:
        yield journal


async def payloads(journal: SqliteJournal, lane: str = LANE) -> list[bytes]:
    return [entry.payload for entry in await journal.consumer("delivery").read(lane, limit_bytes=2**30)]


async def test_a_volume_that_goes_away_is_an_answer_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal_in(tmp_path) as journal:
        with monkeypatch.context() as patch:

            def gone(path: object) -> os.statvfs_result:
                raise OSError(5, "Input/output error")

            patch.setattr(os, "statvfs", gone)
            with pytest.raises(Unavailable) as raised:
                await asyncio.wait_for(journal.log.append([draft(1)]), 60)
            assert raised.value.reason is Reason.JOURNAL_FAILED
        await asyncio.wait_for(journal.log.append([draft(2)]), 60)
        assert await payloads(journal) == [(2).to_bytes(16, "big")]


async def test_a_commit_counts_though_giving_pages_back_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(db: sqlite3.Connection, free_pages: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with journal_in(tmp_path) as journal:
        monkeypatch.setattr(sqlite, "give_back", full)
        assert await journal.log.append([draft(1)]) == Position(1)
        assert len(await payloads(journal)) == 1


async def test_one_callers_mistake_does_not_fail_those_that_share_its_commit(tmp_path: Path) -> None:
    bad = Draft(lane="\ud800", payload=b"x", span_count=1, trace_ids=frozenset())
    async with journal_in(tmp_path) as journal:
        outcomes = await asyncio.gather(
            *(journal.log.append([each]) for each in (draft(1), bad, draft(2))), return_exceptions=True
        )
        assert [isinstance(outcome, UnicodeEncodeError) for outcome in outcomes] == [False, True, False]
        assert len(await payloads(journal)) == 2


async def test_a_cancelled_append_harms_nobody(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        task = asyncio.create_task(journal.log.append([draft(1)]))
        await asyncio.sleep(0)
        task.cancel()
        assert await journal.log.append([draft(2)])
        assert task.cancelled() or task.done() or await asyncio.gather(task, return_exceptions=True)


async def test_appends_that_were_waiting_at_the_close_are_stored(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        tasks = [asyncio.create_task(journal.log.append([draft(n)])) for n in range(50)]
        await asyncio.sleep(0)
        await journal.close()
        assert len(await asyncio.gather(*tasks)) == 50
    async with journal_in(tmp_path) as journal:
        assert len(await payloads(journal)) == 50


# damage


def damage_payload(file: Path, content: bytes) -> None:
    """A wrong byte that SQLite itself can't notice."""
    with file.open("r+b") as opened:
        at = opened.read().index(content)
        opened.seek(at + len(content) // 2)
        opened.write(b"\xff\x00\xff")


async def test_an_entry_with_a_wrong_byte_is_a_dead_letter_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = os.urandom(1000)
    async with journal_in(tmp_path) as journal:
        for number, payload in enumerate([b"before", noise, b"after"]):
            await journal.log.append([draft(number, payload)])
    damage_payload(tmp_path / FILE_NAME, noise)
    with caplog.at_level(logging.ERROR, "sidespan.journal"):
        async with journal_in(tmp_path) as journal:
            assert await payloads(journal) == [b"before"]
            await journal.consumer("delivery").commit(LANE, through=Position(1))
            assert await payloads(journal) == [b"after"]
            (letter,) = await journal.dead_letters("delivery").list()
            assert (letter.reason, letter.span_count) == ("damaged", 1)
            shown = await journal.dead_letters("delivery").one(letter.id)
            assert shown is not None
            assert shown.payload == b""
            assert await journal.pending_traces.payloads((1).to_bytes(16, "big")) == []
            await journal.dead_letters("delivery").retry([letter.id])
            assert await payloads(journal) == [b"after"]
    assert "damaged" in caplog.text


async def test_a_damaged_entry_is_a_dead_letter_of_each_consumer_that_it_waits_for(tmp_path: Path) -> None:
    noise = os.urandom(1000)
    async with journal_in(tmp_path, "delivery", "other") as journal:
        for number, payload in enumerate([noise, b"after"]):
            await journal.log.append([draft(number, payload)])
    damage_payload(tmp_path / FILE_NAME, noise)
    async with journal_in(tmp_path, "delivery", "other") as journal:
        assert await payloads(journal) == [b"after"]
        ahead = await journal.consumer("other").read_ahead(LANE, limit_bytes=2**30, after=None)
        assert [entry.payload for entry in ahead] == [b"", b"after"], "what has no effect parks nothing"
        assert await journal.dead_letters("other").list() == []
        assert [e.payload for e in await journal.consumer("other").read(LANE, limit_bytes=1)] == [b"after"]
        for consumer in ("delivery", "other"):
            (letter,) = await journal.dead_letters(consumer).list()
            assert (letter.consumer, letter.reason) == (consumer, "damaged")


async def test_damage_met_by_a_reader_is_mended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECK_UP_TO_BYTES", -1)
    await fill(tmp_path, begun=False)
    flip_pages(tmp_path / FILE_NAME, share=0.5)
    async with journal_in(tmp_path) as journal:
        with pytest.raises(sqlite3.DatabaseError):
            await payloads(journal)
        assert "restart the service" in str(journal.log.refusing)
        with pytest.raises(Unavailable):
            await journal.log.append([draft(999)])
    async with journal_in(tmp_path) as journal:
        assert journal.log.refusing is None
        assert await payloads(journal)
        await journal.log.append([draft(999)])


async def fill(directory: Path, count: int = 300, *, begun: bool = True) -> list[bytes]:
    written = [os.urandom(2000) for _ in range(count)]
    async with journal_in(directory) as journal:
        for number, payload in enumerate(written):
            await journal.log.append([draft(number, payload)])
        if begun:
            await journal.consumer("delivery").mark(LANE, through=Position(count))
    return written


def flip_pages(file: Path, *, share: float, first: int = 6) -> None:
    content = bytearray(file.read_bytes())
    pages = len(content) // 8192
    for page in random.Random(1).sample(range(first, pages), max(1, int(pages * share))):
        content[page * 8192 + 8 : page * 8192 + 4000] = os.urandom(3992)
    file.write_bytes(content)


def overwrite_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(os.urandom(100))


def forget_version(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 0")


def lose_a_table(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("DROP TABLE lanes")


def cut_the_tail(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3 * 8192 - 11)


def flip_some(file: Path) -> None:
    flip_pages(file, share=0.05)


@pytest.mark.parametrize("check_up_to", [2**30, -1], ids=["checked_at_start", "too_large_to_check"])
@pytest.mark.parametrize(
    ("damage", "least_salvaged"),
    [
        (flip_some, 100),
        (cut_the_tail, 200),
        (overwrite_header, 0),
        (forget_version, 300),
        (lose_a_table, 0),
    ],
    ids=["flipped_pages", "cut_tail", "header", "version", "table"],
)
async def test_whatever_happened_to_the_file_the_service_starts_and_keeps_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    least_salvaged: int,
    check_up_to: int,
) -> None:
    """A large file is not looked at whole: then the damage is met later, and the second start mends it."""
    written = await fill(tmp_path)
    damage(tmp_path / FILE_NAME)
    monkeypatch.setattr(opening, "CHECK_UP_TO_BYTES", check_up_to)
    for _ in range(2):
        async with journal_in(tmp_path) as journal:
            try:
                found = await payloads(journal)
            except sqlite3.DatabaseError:
                continue
            assert journal.log.refusing is None
            await journal.log.append([draft(999)])
            break
    else:
        pytest.fail("two starts did not mend it")
    assert set(found) <= set(written)
    assert found == [payload for payload in written if payload in set(found)], "the order is kept"
    assert len(found) >= least_salvaged
    assert [path for path in tmp_path.iterdir() if path.name.startswith(f"{FILE_NAME}.corrupt")]


async def test_salvage_takes_dead_letters_too(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        for number in range(100):
            await journal.log.append([draft(number, os.urandom(2000))])
        await journal.consumer("delivery").commit(LANE, through=Position(1), parked=[parked(b"bad")])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 0")
    async with journal_in(tmp_path) as journal:
        (letter,) = await journal.dead_letters("delivery").list()
        shown = await journal.dead_letters("delivery").one(letter.id)
        assert shown is not None
        assert shown.payload == b"bad"
        assert len(await payloads(journal)) == 99


async def test_salvage_needs_no_memory_for_the_whole_file(tmp_path: Path) -> None:
    """Sixty MB in the file, and 40 MB allowed on top of what the process has after its imports."""
    async with journal_in(tmp_path) as journal:
        for number in range(60):
            await journal.log.append([draft(number, os.urandom(1_000_000))])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 0")
    script = f"""
import resource, asyncio, logging, pathlib
from collector.journal.sqlite import opening
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
opening.open_file(pathlib.Path({str(tmp_path / FILE_NAME)!r})).close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40_000
    async with journal_in(tmp_path) as journal:
        assert (await journal.consumer("delivery").state()).pending_entries == 60


async def test_a_start_that_was_killed_while_it_salvaged_salvages_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = await fill(tmp_path, 50)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 0")

    class Killed(BaseException):
        pass

    def killed(*args: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(opening, "salvage", killed)
        with pytest.raises(Killed):
            async with journal_in(tmp_path):
                pass
    async with journal_in(tmp_path) as journal:
        assert await payloads(journal) == written


# the disk


SMALL_DISK = """
import asyncio, os, pathlib, resource, signal, sys
from collector.model.batch import Draft, Position, Route
from collector.model.errors import Unavailable
from collector.journal.sqlite.journal import open_journal
from collector.settings import JournalSettings

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
LANE = Route(experiment_id="1").lane

async def main():
    settings = JournalSettings(min_free_disk_bytes=0)
    directory = pathlib.Path(sys.argv[1])
    async with open_journal(directory, settings=settings, consumers=("delivery",), keep_claims=9) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
        taken = refused = 0
        while refused < 20:
            payload = taken.to_bytes(8, "big") + os.urandom(100_000)
            draft = Draft(lane=LANE, payload=payload, span_count=1, trace_ids=frozenset({os.urandom(16)}))
            try:
                await asyncio.wait_for(journal.log.append([draft]), 60)
                taken += 1
            except Unavailable as error:
                refused += 1
                reason = error.reason
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        last = Draft(lane=LANE, payload=b"after", span_count=1, trace_ids=frozenset({os.urandom(16)}))
        await journal.log.append([last])
        entries = await journal.consumer("delivery").read(LANE, limit_bytes=2**30)
        numbers = [int.from_bytes(entry.payload[:8], "big") for entry in entries[:-1]]
        assert numbers == list(range(taken)), (numbers, taken)
        assert entries[-1].payload == b"after"
        print(taken, refused, reason)

asyncio.run(main())
"""


async def test_a_full_disk_refuses_keeps_what_it_has_and_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    taken, refused, reason = done.stdout.split()
    assert int(taken) > 5
    assert (int(refused), reason) == (20, "journal_failed")
    async with journal_in(tmp_path) as journal:
        assert (await journal.consumer("delivery").state()).pending_entries == int(taken) + 1


async def test_a_refused_append_is_unavailable_whatever_the_writer_meets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it refuses, an append only looks at the disk: also that may fail."""
    async with journal_in(tmp_path) as journal:
        journal.file.refusing = "the disk of the journal has 0 bytes left"

        def gone(path: object) -> os.statvfs_result:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "statvfs", gone)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(journal.log.append([draft(1)]), 60)


async def test_too_little_free_disk_refuses(tmp_path: Path) -> None:
    settings = JournalSettings(min_free_disk_bytes=2**62)
    async with open_journal(tmp_path, settings=settings, consumers=("delivery",), keep_claims=9) as journal:
        assert "bytes left" in str(journal.log.refusing)
        with pytest.raises(Unavailable) as raised:
            await journal.log.append([draft(1)])
        assert raised.value.reason is Reason.JOURNAL_FULL
        assert await payloads(journal) == []


# processes


HOLDER = """
import asyncio, pathlib, sys
from collector.journal.sqlite.journal import open_journal
from collector.settings import JournalSettings

async def main():
    settings = JournalSettings(min_free_disk_bytes=0)
    async with open_journal(pathlib.Path(sys.argv[1]), settings=settings, consumers=("d",), keep_claims=9):
        print("open", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


async def test_another_process_holds_the_directory_until_it_is_dead(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(Misconfigured, match=f"in use by process {holder.pid};"):
            async with journal_in(tmp_path):
                pass
        holder.kill()
    async with journal_in(tmp_path) as journal:
        await journal.log.append([draft(1)])


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody may write to")
async def test_a_directory_that_cannot_be_written_is_misconfigured() -> None:
    """Root may write to any folder of modes; the kernel's own refuse also root."""
    with pytest.raises(Misconfigured, match="can't be written"):
        async with journal_in(Path("/sys/kernel/sidespan")):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_read_only_directory_is_misconfigured(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Misconfigured, match="can't be written"):
        async with journal_in(tmp_path):
            pass


async def test_a_killed_writer_leaves_whole_commits_only(tmp_path: Path) -> None:
    """The log cut at any length, as a crash leaves it: each time a beginning of the appends is there."""
    async with journal_in(tmp_path / "a") as journal:
        for number in range(8):
            await journal.log.append([draft(number), draft(number, lane=OTHER)])
        log = (tmp_path / "a" / f"{FILE_NAME}-wal").read_bytes()
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    for cut in range(0, len(log), 4099):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "b", tmp_path / "c")
        os.truncate(tmp_path / "c" / f"{FILE_NAME}-wal", cut)
        async with journal_in(tmp_path / "c") as journal:
            here, there = await payloads(journal), await payloads(journal, OTHER)
            assert here == there == [n.to_bytes(16, "big") for n in range(len(here))]
