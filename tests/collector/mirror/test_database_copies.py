"""Copies where MLflow's database is at hand, beside a real SQLite file and a store of the test's own."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from collector.mirror import copies as copies_module
from collector.mirror.copies import Copies
from collector.mirror.question import MetricQuestion, NotAnswered, PassOnReason
from collector.mirror.watched import WatchedDatabase
from collector.mlflow.client import MlflowAnswer

CREATED_MS = 1_790_000_000_000


class Api:
    """MLflow's API, which is asked for an experiment and its count of traces alone."""

    created_ms = CREATED_MS

    def __init__(self, file: Path) -> None:
        self.file = file

    async def experiment(self, experiment_id: str) -> MlflowAnswer:
        found = {"creation_time": str(self.created_ms), "artifact_location": f"files:/{experiment_id}"}
        return MlflowAnswer(status=200, body=json.dumps({"experiment": found}).encode(), headers={})

    async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
        [(count,)] = rows(self.file, "SELECT count(*) FROM trace_info WHERE experiment_id = 1")
        found = {"data_points": [{"values": {"COUNT": float(count)}}]}
        return MlflowAnswer(status=200, body=json.dumps(found).encode(), headers={})


class Rows:
    """A store that keeps names of traces, and counts how often each was read."""

    life = 1

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.reads = Counter[str]()

    async def pull(self, document: Mapping[str, Any]) -> Mapping[str, str]:
        for id in document["gone"]:
            self.names.pop(id, None)
        found = dict(rows(Path(document["file"]), "SELECT request_id, name FROM trace_info"))
        held = {id: found[id] for id in document["trace_ids"] if id in found}
        self.names |= held
        self.reads.update(list(held))
        return dict.fromkeys(held, "1")

    async def hold(self, document: Mapping[str, Any]) -> None:
        raise AssertionError("the API is not read")

    async def clear(self, experiment_id: str) -> None:
        self.names.clear()

    async def measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        assert question.view == "ASSESSMENTS"
        return {"rows": [[0]]}


def rows(file: Path, sql: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(file)) as db:
        found = db.execute(sql, values).fetchall()
        db.commit()
    return found


def rename(file: Path, id: str, name: str) -> None:
    rows(file, "UPDATE trace_info SET name = ? WHERE request_id = ?", name, id)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(copies_module, "LOOK_SECONDS", 0.01)
    made = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(made)) as db:
        db.executescript(
            f"""
            CREATE TABLE trace_info (request_id TEXT, experiment_id INTEGER, timestamp_ms BIGINT, name TEXT);
            CREATE TABLE assessments (experiment_id INTEGER, valid BOOLEAN);
            CREATE TABLE experiments (experiment_id INTEGER, creation_time BIGINT, artifact_location TEXT);
            INSERT INTO experiments VALUES (1, {CREATED_MS}, 'files:/1');
            INSERT INTO trace_info VALUES ('tr-1', 1, 5, 'old'), ('tr-2', 1, 6, 'old');
            """
        )
    return made


@asynccontextmanager
async def copied(file: Path, store: Rows, api: Any = None) -> AsyncIterator[Copies]:
    copies = Copies(api or Api(file), store, max_traces=1000, database=WatchedDatabase(file))
    running = asyncio.create_task(copies.run())
    yield copies
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def covered(copies: Copies) -> list[PassOnReason]:
    """The reasons why it wasn't before."""
    reasons: list[PassOnReason] = []
    async with asyncio.timeout(10):
        while True:
            try:
                await copies.cover(["1"])
                return reasons
            except NotAnswered as why:
                reasons.append(why.reason)
                await asyncio.sleep(0.01)


async def test_a_change_by_somebody_else_is_read_before_an_answer(file: Path) -> None:
    store = Rows()
    async with copied(file, store) as copies:
        assert set(await covered(copies)) == {PassOnReason.NOT_HELD}
        assert store.names == {"tr-1": "old", "tr-2": "old"}
        rename(file, "tr-1", "new")
        assert set(await covered(copies)) == {PassOnReason.CHANGED_ELSEWHERE}
        assert store.names == {"tr-1": "new", "tr-2": "old"}


async def test_a_write_of_ours_has_only_its_traces_read_again(file: Path) -> None:
    store = Rows()
    async with copied(file, store) as copies:
        await covered(copies)
        write = copies.writes.begins("1")
        rename(file, "tr-1", "new")
        write.ended(["tr-1"])
        assert await covered(copies) == []
        assert store.names == {"tr-1": "new", "tr-2": "old"}
        assert store.reads == {"tr-1": 2, "tr-2": 1}


async def test_an_answer_waits_for_no_write_that_was_not_committed(file: Path) -> None:
    async with copied(file, Rows()) as copies:
        await covered(copies)
        copies.writes.begins("1")
        async with asyncio.timeout(5):
            await copies.cover(["1"])


async def test_what_somebody_else_changed_while_we_wrote_is_found_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(copies_module, "REST_AFTER_CHECK", 0.0)
    store = Rows()
    async with copied(file, store) as copies:
        await covered(copies)
        write = copies.writes.begins("1")
        rename(file, "tr-1", "new")
        rename(file, "tr-2", "new")
        write.ended(["tr-1"])
        await covered(copies)
        async with asyncio.timeout(10):
            while store.names != {"tr-1": "new", "tr-2": "new"}:
                await asyncio.sleep(0.01)


async def test_more_traces_than_are_held_are_listed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "LIST_AGAIN_SECONDS", 0.0)
    store = Rows()
    async with copied(file, store) as copies:
        await covered(copies)
        write = copies.writes.begins("1")
        rows(file, "INSERT INTO trace_info VALUES ('tr-3', 1, 7, 'by somebody else')")
        write.ended(["tr-1"])
        assert PassOnReason.COUNTS_DIFFER in await covered(copies)
        assert store.names["tr-3"] == "by somebody else"


async def test_the_database_of_another_mlflow_is_no_answer(file: Path) -> None:
    api = Api(file)
    api.created_ms += 1
    async with copied(file, Rows(), api) as copies:
        with pytest.raises(NotAnswered) as why:
            await copies.cover(["1"])
        assert why.value.reason is PassOnReason.OTHER_DATABASE


async def test_a_copy_of_the_database_that_mlflow_has_left_behind_is_no_answer(
    file: Path, tmp_path: Path
) -> None:
    left_behind = tmp_path / "backup.db"
    left_behind.write_bytes(file.read_bytes())
    rows(file, "INSERT INTO trace_info VALUES ('tr-3', 1, 7, 'new')")
    async with copied(left_behind, Rows(), Api(file)) as copies:
        with pytest.raises(NotAnswered) as why:
            await copies.cover(["1"])
        assert why.value.reason is PassOnReason.OTHER_DATABASE


async def test_a_copy_of_the_database_is_found_by_the_first_write_that_it_lacks(
    file: Path, tmp_path: Path
) -> None:
    left_behind = tmp_path / "backup.db"
    left_behind.write_bytes(file.read_bytes())
    async with copied(left_behind, Rows(), Api(file)) as copies:
        await covered(copies)
        write = copies.writes.begins("1")
        rows(file, "INSERT INTO trace_info VALUES ('tr-3', 1, 7, 'new')")
        write.ended(["tr-3"])
        with pytest.raises(NotAnswered) as why:
            await copies.cover(["1"])
        assert why.value.reason is PassOnReason.OTHER_DATABASE


async def test_a_copy_of_the_database_to_which_nobody_writes_is_found_in_the_end(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind = tmp_path / "backup.db"
    left_behind.write_bytes(file.read_bytes())
    async with copied(left_behind, Rows(), Api(file)) as copies:
        await covered(copies)
        rows(file, "INSERT INTO trace_info VALUES ('tr-3', 1, 7, 'new')")
        await copies.cover(["1"])
        monkeypatch.setattr(copies_module, "PROVE_AGAIN_SECONDS", 0.0)
        copies._source.doubt()
        with pytest.raises(NotAnswered) as why:
            await copies.cover(["1"])
        assert why.value.reason is PassOnReason.OTHER_DATABASE


async def test_a_database_that_is_written_while_mlflow_counts_is_taken_for_its_own(file: Path) -> None:
    class Busy(Api):
        async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
            told = await super().trace_metrics(document)
            rows(file, "INSERT INTO trace_info VALUES ('tr-3', 1, 7, 'new')")
            return told

    store = Rows()
    async with copied(file, store, Busy(file)) as copies:
        await covered(copies)
        assert store.names["tr-3"] == "new"


async def test_a_file_in_the_place_of_mlflows_is_no_write_of_ours(file: Path, tmp_path: Path) -> None:
    store = Rows()
    async with copied(file, store) as copies:
        await covered(copies)
        write = copies.writes.begins("1")
        other = tmp_path / "other.db"
        other.write_bytes(file.read_bytes())
        rename(other, "tr-1", "new")
        other.replace(file)
        write.ended([])
        assert PassOnReason.CHANGED_ELSEWHERE in await covered(copies)
        assert store.names["tr-1"] == "new"


async def test_listings_are_told_of(file: Path) -> None:
    told: list[Any] = []
    async with copied(file, Rows()) as copies:
        copies.listed = lambda *said: told.append(said)
        await covered(copies)
    assert told == [("1", {"tr-1": 5, "tr-2": 6})]
