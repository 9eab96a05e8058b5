"""When MLflow's SQLite file is believed, and what is left to its API."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.retention.rules import RetainedTrace
from collector.retention.spans_file import SpansFile

HERE = {"mlflow.trace.spansLocation": "TRACKING_STORE"}


def content(number: int, **more: Any) -> str:
    """A span as MLflow stores it."""
    span = {
        "trace_id": "AAAAEApv91DVDvWbbYIlrg==",
        "span_id": f"oO5sBp8P5a{'ABCDEFGH'[number]}=",
        "parent_span_id": None,
        "name": "a",
        "start_time_unix_nano": 1,
        "end_time_unix_nano": 2,
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {"mlflow.traceRequestId": '"tr-1"'},
    }
    return json.dumps(span | more)


def put(file: Path, trace_id: str, *contents: str) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("INSERT INTO trace_info VALUES (?)", [trace_id])
        rows = [(trace_id, each, None, number) for number, each in enumerate(contents)]
        db.executemany("INSERT INTO spans VALUES (?, ?, ?, ?)", rows)


def delete(file: Path, trace_id: str) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DELETE FROM trace_info WHERE request_id = ?", [trace_id])
        db.execute("DELETE FROM spans WHERE trace_id = ?", [trace_id])


def trace(id: str, **info: Any) -> RetainedTrace:
    return RetainedTrace(id=id, started_unix_ms=1, size_bytes=0, info={"tags": HERE} | info)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE trace_info (request_id TEXT)")
        columns = "trace_id TEXT, content TEXT, parent_span_id TEXT, start_time_unix_nano INTEGER"
        db.execute(f"CREATE TABLE spans ({columns})")
    put(file, "tr-1", content(1))
    put(file, "tr-2", content(2), content(3))
    return file


async def proven(file: Path, *, deletes_in: Path | None = None) -> SpansFile:
    """What is thought of the file after a deletion in MLflow, whose database is `deletes_in`."""
    spans = SpansFile(file)
    held = await spans.held(["tr-1"])
    delete(deletes_in or file, "tr-1")
    await spans.deleted(["tr-1"], held)
    return spans


async def test_the_file_is_believed_once_it_shows_what_mlflow_has_deleted(file: Path) -> None:
    spans = SpansFile(file)
    assert await spans.spans([trace("tr-2")]) == {}
    spans = await proven(file)
    found = await spans.spans([trace("tr-2"), trace("tr-3")])
    assert {id: [span["span_id"] for span in each] for id, each in found.items()} == {
        "tr-2": ["oO5sBp8P5aC=", "oO5sBp8P5aD="]
    }
    spans.doubt()
    assert await spans.spans([trace("tr-2")]) == {}


@pytest.mark.parametrize("held", [True, False], ids=["a_copy", "a_file_that_never_held_the_trace"])
async def test_a_file_in_which_mlflow_does_not_delete_is_not_believed(file: Path, held: bool) -> None:
    other = file.with_name("copy.db")
    shutil.copy(file, other)
    if not held:
        delete(other, "tr-1")
    spans = await proven(other, deletes_in=file)
    assert await spans.spans([trace("tr-2")]) == {}
    assert not spans.is_untried


async def test_a_file_that_was_put_in_its_place_is_not_believed(file: Path) -> None:
    spans = await proven(file)
    shutil.copy(file, file.with_name("other.db"))
    file.with_name("other.db").replace(file)
    assert await spans.spans([trace("tr-2")]) == {}


async def test_a_deletion_that_the_file_does_not_show_ends_the_belief(file: Path) -> None:
    spans = await proven(file)
    await spans.deleted(["tr-2"], await spans.held(["tr-2"]))
    assert await spans.spans([trace("tr-2")]) == {}


async def test_a_file_that_is_gone_tells_nothing(file: Path) -> None:
    spans = await proven(file)
    file.unlink()
    assert await spans.spans([trace("tr-2")]) == {}


@pytest.mark.parametrize(
    ("info", "stored"),
    [
        pytest.param({"tags": {}}, content(1), id="spans_as_an_artifact"),
        pytest.param({}, "", id="spans_that_mlflow_has_archived"),
        pytest.param({}, content(1, status={"code": "OK"}), id="the_form_of_an_old_version"),
        pytest.param({}, content(1, trace_id="00ff"), id="ids_in_another_form"),
        pytest.param(
            {}, content(1, attributes={"mlflow.traceRequestId": '"tr-1"', "n": "9" * 30}), id="a_large_number"
        ),
        pytest.param(
            {"trace_metadata": {"mlflow.trace.sizeStats": '{"num_spans": 2}'}},
            content(1),
            id="fewer_spans_than_mlflow_waits_for",
        ),
    ],
)
async def test_what_only_the_api_tells_is_left_to_it(file: Path, info: dict[str, Any], stored: str) -> None:
    spans = await proven(file)
    put(file, "tr-4", stored)
    assert (await spans.spans([trace("tr-2"), trace("tr-4", **info)])).keys() == {"tr-2"}


async def test_what_is_too_large_is_left_to_the_api(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.retention.spans_file.MAX_CONTENT_BYTES", 1_000)
    monkeypatch.setattr("collector.retention.spans_file.AT_ONCE", 1)
    spans = await proven(file)
    put(file, "tr-4", content(1, name="x" * 1_000))
    assert (await spans.spans([trace("tr-4"), trace("tr-2")])).keys() == {"tr-2"}
