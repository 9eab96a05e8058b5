"""MLflow's SQLite file: what was committed, and by whom."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.mirror.database import DatabaseAway
from collector.mirror.proof import DatabaseProof
from collector.mirror.question import NotAnswered, PassOnReason
from collector.mirror.watched import WatchedDatabase
from collector.mirror.writes import Writes

TABLES = """
CREATE TABLE trace_info (request_id TEXT PRIMARY KEY, experiment_id INTEGER, timestamp_ms BIGINT);
CREATE TABLE experiments (experiment_id INTEGER, creation_time BIGINT, artifact_location TEXT);
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(made)) as db:
        db.executescript(TABLES)
    return made


@pytest.fixture
def watched(file: Path) -> Iterator[WatchedDatabase]:
    made = WatchedDatabase(file)
    yield made
    made.close()


@pytest.fixture
def writes() -> Writes:
    return Writes(lambda _: True)


def commit(file: Path, *traces: str, experiment: int = 1) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.executemany("INSERT INTO trace_info VALUES (?, ?, 7)", [(id, experiment) for id in traces])
        db.commit()


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
async def test_each_commit_is_another_state(file: Path, watched: WatchedDatabase, mode: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        assert db.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
    first = await watched.look()
    assert await watched.look() == first
    commit(file, "tr-1")
    second = await watched.look()
    assert second != first
    assert await watched.look() == second


async def test_another_file_in_its_place_is_another_state(file: Path, watched: WatchedDatabase) -> None:
    first = await watched.look()
    other = file.with_name("other.db")
    other.write_bytes(file.read_bytes())
    other.replace(file)
    assert await watched.look() != first


async def test_a_link_to_another_file_is_another_state(file: Path) -> None:
    other, link = file.with_name("other.db"), file.with_name("link?mode=rwc#.db")
    other.write_bytes(file.read_bytes())
    link.symlink_to(file)
    watched = WatchedDatabase(link)
    first = await watched.look()
    commit(file, "tr-1")
    second = await watched.look()
    assert second != first
    assert await watched.count("1") == 1
    link.unlink()
    link.symlink_to(other)
    assert await watched.look() != second
    assert await watched.count("1") == 0
    watched.close()


async def test_a_database_with_a_log_that_nobody_else_holds_open_is_read(
    file: Path, watched: WatchedDatabase
) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = wal")
    commit(file, "tr-1")
    assert not file.with_name(f"{file.name}-wal").exists()
    assert await watched.count("1") == 1
    commit(file, "tr-2")
    assert await watched.count("1") == 2


async def test_a_file_that_is_not_there_is_away(tmp_path: Path) -> None:
    watched = WatchedDatabase(tmp_path / "none.db")
    with pytest.raises(DatabaseAway):
        await watched.look()
    watched.close()


async def test_nobody_is_kept_from_writing(file: Path, watched: WatchedDatabase) -> None:
    await watched.look()
    with closing(sqlite3.connect(file, timeout=0)) as db:
        db.execute("BEGIN EXCLUSIVE")
        db.rollback()


async def test_pages_hold_each_trace_of_the_experiment_once(
    file: Path, watched: WatchedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.mirror.watched.PAGE", 2)
    commit(file, *(f"tr-{number}" for number in range(5)))
    commit(file, "tr-other", experiment=2)
    found, after = await watched.page("1", "")
    while after:
        page, after = await watched.page("1", after)
        found = [*found, *page]
    assert sorted(found) == [f"tr-{number}" for number in range(5)]
    assert await watched.count("1") == 5


async def test_a_change_while_nothing_of_ours_was_written_is_somebody_elses(
    file: Path, watched: WatchedDatabase, writes: Writes
) -> None:
    proof = DatabaseProof(watched, writes)
    await proof.look()
    before = writes.number
    commit(file, "tr-1")
    await proof.look()
    assert (proof.ours, proof.elsewhere) == (0, 1)
    assert proof.elsewhere_at == writes.unknown_at > before


@pytest.mark.parametrize("is_other", [False, True], ids=["traces", "something_else"])
async def test_a_change_while_we_wrote_is_ours(
    file: Path, watched: WatchedDatabase, writes: Writes, is_other: bool
) -> None:
    proof = DatabaseProof(watched, writes)
    ended = writes.other_begins() if is_other else writes.begins()
    await proof.look()
    commit(file, "tr-1")
    ended() if callable(ended) else ended.ended(["tr-1"])
    await proof.look()
    assert (proof.ours, proof.elsewhere) == (1, 0)
    # the write was over when it was last looked
    await proof.look()
    commit(file, "tr-2")
    await proof.look()
    assert (proof.ours, proof.elsewhere) == (1, 1)


async def test_a_write_whose_answer_is_lost_may_come_later(
    file: Path, watched: WatchedDatabase, writes: Writes
) -> None:
    proof = DatabaseProof(watched, writes)
    writes.begins().ended(["tr-1"], answered=False)
    for _ in range(2):
        await proof.look()
    commit(file, "tr-1")
    await proof.look()
    assert (proof.ours, proof.elsewhere) == (1, 0)


async def test_without_the_file_nothing_is_proven(tmp_path: Path, writes: Writes) -> None:
    watched = WatchedDatabase(tmp_path / "none.db")
    with pytest.raises(NotAnswered) as why:
        await DatabaseProof(watched, writes).look()
    assert why.value.reason is PassOnReason.FAILED
    watched.close()


async def test_a_long_commit_is_waited_for(file: Path, watched: WatchedDatabase) -> None:
    await watched.look()
    with closing(sqlite3.connect(file)) as db:
        db.execute("BEGIN EXCLUSIVE")
        looking = asyncio.create_task(watched.look())
        await asyncio.sleep(0.05)
        assert not looking.done()
        db.rollback()
        await looking
