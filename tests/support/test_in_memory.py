"""The files of a run are in memory where there is room, and go with the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import in_memory


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(in_memory, "MEMORY", tmp_path)
    monkeypatch.setattr(in_memory, "FREE_BYTES", 1)
    monkeypatch.setattr(in_memory, "AVAILABLE_BYTES", 1)
    return tmp_path


def test_what_a_run_that_is_no_more_has_left_is_removed(memory: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {"left": ended.pid, "running": os.getppid()}
    folders = {name: memory / f"{in_memory.PREFIX}{number}" for name, number in names.items()}
    for folder in (*folders.values(), memory / "of somebody else"):
        folder.mkdir()
        (folder / "file").touch()
    assert in_memory.folder_in_memory() == memory / f"{in_memory.PREFIX}{os.getpid()}"
    assert {path.name for path in memory.iterdir()} == {folders["running"].name, "of somebody else"}


@pytest.mark.parametrize("name", ["FREE_BYTES", "AVAILABLE_BYTES"])
def test_without_room_they_are_where_pytest_puts_them(
    memory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(in_memory, name, 2**62)
    assert in_memory.folder_in_memory() is None


def test_without_such_a_file_system_too(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "MEMORY", memory / "none")
    assert in_memory.folder_in_memory() is None


@pytest.mark.parametrize(
    ("allowed", "room"),
    [
        pytest.param("max", True, id="as_much_as_there_is"),
        pytest.param("1001", True, id="enough"),
        pytest.param("1000", False, id="too_little"),
    ],
)
def test_what_a_container_may_take_counts(
    memory: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, room: bool
) -> None:
    monkeypatch.setattr(in_memory, "CONTAINER", memory)
    (memory / "memory.max").write_text(f"{allowed}\n")
    (memory / "memory.current").write_text("1000\n")
    assert (in_memory.folder_in_memory() is not None) is room
