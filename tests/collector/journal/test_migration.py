"""A data folder of version 0.1.0, killed in the middle of its work: everything in it is there afterwards.

How it was made: tests/data/capture/journal_0_1_0.py.
"""

import gzip
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from collector.journal.sqlite import ownership, salvage, schema
from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Draft, Position, Route
from collector.settings import JournalSettings

DATA = Path(__file__).parents[2] / "data/journal_0.1.0"
ONE, TWO = Route(experiment_id="1"), Route(experiment_name="two", run_id="r")
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
ALL = 2**30

T = TypeVar("T")


def as_0_1_0_left_it(file: Path) -> None:
    """Schema 2."""


def before_notes(file: Path) -> None:
    """Schema 1."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript("DROP TABLE notes; PRAGMA user_version = 1;")


def before_letters_had_a_consumer(file: Path) -> None:
    """Schema 3."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript(f"{ownership.SINCE_3} PRAGMA user_version = 3;")


def before_logs(file: Path) -> None:
    """Schema 4."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript(f"{ownership.SINCE_3} {schema.MIGRATIONS[3]} PRAGMA user_version = 4;")


SCHEMAS = [before_notes, as_0_1_0_left_it, before_letters_had_a_consumer, before_logs]


@pytest.fixture(params=SCHEMAS, ids=["schema_1", "schema_2_of_0.1.0", "schema_3", "schema_4"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    change: Callable[[Path], None] = request.param
    return unpacked(tmp_path, change)


def unpacked(folder: Path, change: Callable[[Path], None] = as_0_1_0_left_it) -> Path:
    for packed in DATA.glob("*.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    change(folder / FILE_NAME)
    return folder


def read_from(folder: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        return read(db)


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteJournal]:
    settings = JournalSettings(min_free_disk_bytes=0)
    async with open_journal(folder, settings=settings, consumers=("delivery",), keep_claims=9) as journal:
        yield journal


async def test_entries_and_cursors_are_there(folder: Path) -> None:
    async with opened(folder) as journal:
        delivery, index = journal.consumer("delivery"), journal.consumer("index")
        assert {lane.lane: lane.first.token for lane in await delivery.pending()} == {
            ONE.lane: 2,
            TWO.lane: 3,
        }
        assert [lane.lane for lane in await index.pending()] == [ONE.lane]
        everything = await index.read(ONE.lane, limit_bytes=ALL)
        assert [(e.position.token, e.payload, e.span_count, e.trace_ids) for e in everything] == [
            (1, b"done", 1, {A}),
            (2, b"waits", 1, {B}),
            (4, b"behind", 1, {B}),
            (5, b"again", 2, {B}),
        ]
        assert {entry.client for entry in everything} == {"team"}
        (theirs,) = await delivery.read(TWO.lane, limit_bytes=ALL)
        assert (theirs.payload, theirs.trace_ids, theirs.attempts) == (b"theirs", {C}, 0)
        assert (await delivery.state()).pending_entries == 4


async def test_attempts_and_the_mark_of_the_last_crash_are_deliverys(folder: Path) -> None:
    async with opened(folder) as journal:
        (suspect,) = await journal.consumer("delivery").read(ONE.lane, limit_bytes=ALL)
        assert (suspect.payload, suspect.attempts) == (b"waits", 2), "one from before, one from the mark"
        theirs = await journal.consumer("index").read(ONE.lane, limit_bytes=ALL)
        assert {entry.attempts for entry in theirs} == {0}
        await journal.consumer("delivery").commit(ONE.lane, through=suspect.position)
    async with opened(folder) as journal:
        others = await journal.consumer("delivery").read(ONE.lane, limit_bytes=ALL)
        assert [(entry.payload, entry.attempts) for entry in others] == [(b"behind", 0), (b"again", 0)]


async def test_dead_letters_are_deliverys_and_are_retried_for_it(folder: Path) -> None:
    async with opened(folder) as journal:
        assert await journal.dead_letters("index").list() == []
        letters = journal.dead_letters("delivery")
        (listed,) = await letters.list()
        letter = await letters.one(listed.id)
        assert letter is not None
        assert (letter.id, letter.consumer, letter.reason) == (1, "delivery", "poison")
        assert (letter.payload, letter.span_count, letter.client) == (b"bad", 2, "team")
        assert (letter.lane, letter.trace_ids, letter.received_unix_ns) == (ONE.lane, {B}, 7)
        assert await letters.retry(None) == 1
        assert (await journal.consumer("delivery").state()).pending_entries == 5
        assert (await journal.consumer("index").state()).pending_entries == 4


async def test_claims_hold(folder: Path) -> None:
    async with opened(folder) as journal:
        claims = {A: "/2", B: "/2", C: "/2"}
        assert await journal.traces.claim(claims) == {A: "/1", B: "/1", C: "/2"}


async def test_notes_are_there_and_new_ones_are_taken(folder: Path) -> None:
    notes_are_known = read_from(folder, version) > 1
    async with opened(folder) as journal:
        expected = {A: b"note"} if notes_are_known else {}
        assert await journal.traces.recall("delivery", [A, B]) == expected
        delivery = journal.consumer("delivery")
        await delivery.commit(ONE.lane, through=Position(2), remember={B: b"new"})
        assert await journal.traces.recall("delivery", [B]) == {B: b"new"}


async def test_it_is_the_same_journal_and_goes_on(folder: Path) -> None:
    async with opened(folder) as journal:
        name = read_from(folder, schema.identity)
        content = Draft(lane=TWO.lane, payload=b"new", span_count=1, trace_ids=frozenset({C}))
        assert await journal.log.append([content]) == Position(6)
    async with opened(folder) as journal:
        assert read_from(folder, schema.identity) == name
        assert read_from(folder, version) == schema.SCHEMA_VERSION
        entries = await journal.consumer("delivery").read(TWO.lane, limit_bytes=ALL)
        assert [entry.payload for entry in entries] == [b"theirs", b"new"]


@pytest.mark.parametrize("known", sorted(schema.MIGRATIONS))
def test_a_start_that_was_killed_between_two_steps_goes_on_with_the_next(tmp_path: Path, known: int) -> None:
    file = unpacked(tmp_path, before_notes) / FILE_NAME
    with closing(sqlite.connect(file)) as db:
        for version in range(1, known):
            db.executescript(f"{schema.MIGRATIONS[version]} PRAGMA user_version = {version + 1}")
        schema.create_or_check(db, thorough=True)
        assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (5,)


def test_a_migrated_file_has_the_columns_and_indexes_of_a_new_one(tmp_path: Path) -> None:
    def described(file: Path) -> dict[str, set[str]]:
        with closing(sqlite.connect(file)) as db:
            schema.create_or_check(db, thorough=True)
            names = db.execute("SELECT type || ' ' || name FROM sqlite_master").fetchall()
            tables = [name.removeprefix("table ") for (name,) in names if name.startswith("table ")]
            columns = {
                table: {row[1] for row in db.execute(f"PRAGMA table_info({table})")} for table in tables
            }
            return columns | {"all": {name for (name,) in names}}

    migrated, new = described(unpacked(tmp_path) / FILE_NAME), described(tmp_path / "new")
    migrated["entries"].discard("attempts")
    assert migrated == new


@pytest.mark.parametrize("change", SCHEMAS, ids=["schema_1", "schema_2_of_0.1.0", "schema_3", "schema_4"])
async def test_a_broken_file_of_an_earlier_version_is_salvaged(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = unpacked(tmp_path, change)
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 0")
    async with opened(folder) as journal:
        suspects = await journal.consumer("delivery").read(ONE.lane, limit_bytes=ALL)
        assert [entry.payload for entry in suspects] == [b"done", b"waits", b"behind", b"again"]
        assert [entry.attempts for entry in suspects] == [0, 1, 0, 0]
        assert [letter.id for letter in await journal.dead_letters("delivery").list()] == [1]


async def test_salvage_keeps_whose_an_entry_a_letter_and_an_attempt_are(tmp_path: Path) -> None:
    async with opened(unpacked(tmp_path)) as journal:
        await journal.dead_letters("delivery").retry(None)
        await journal.consumer("index").mark(ONE.lane, through=Position(2))
        shutil.copytree(tmp_path, tmp_path / "copy")
    async with opened(tmp_path / "copy"):
        pass
    with closing(sqlite.connect(tmp_path / "new")) as db:
        schema.create_or_check(db, thorough=False)
        assert salvage.salvage(tmp_path / "copy" / FILE_NAME, db) == 6
        found = db.execute("SELECT sequence, consumer FROM entries WHERE consumer IS NOT NULL").fetchall()
        assert found == [(6, "delivery")]
        attempts = db.execute("SELECT consumer, sequence, count FROM attempts ORDER BY 1, 2").fetchall()
        assert attempts == [("delivery", 2, 2), ("index", 1, 1), ("index", 2, 1)]
