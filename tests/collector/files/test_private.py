"""What is stored is one user's alone, whatever his umask, and what an earlier version left open is closed."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.cli.doctor import examine
from collector.files.private import make_socket, mend, too_open
from collector.journal.sqlite.journal import open_journal
from collector.journal.sqlite.lock import only_process
from collector.settings import JournalSettings, Settings
from proxy.logs import RequestLog
from proxy.tokens import create_token
from tests.proxy.test_logs import line

UMASKS = [0o000, 0o022, 0o077]


@pytest.fixture(params=UMASKS, ids=lambda umask: f"umask_{umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Of the folder and of everything in it."""
    paths = [folder, *folder.rglob("*")]
    return {
        str(path.relative_to(folder.parent)): f"{stat.S_IMODE(path.lstat().st_mode):04o}" for path in paths
    }


def open_ones(folder: Path) -> dict[str, str]:
    return {name: mode for name, mode in modes(folder).items() if int(mode, 8) & 0o077}


@pytest.mark.usefixtures("umask")
async def test_the_journal_is_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "data"
    settings = JournalSettings(min_free_disk_bytes=0)
    async with open_journal(folder, settings=settings, consumers=("delivery",), keep_claims=9) as journal:
        await journal.sweep()
        found = modes(folder)
    assert {"data", "data/lock", "data/journal.sqlite3", "data/journal.sqlite3-wal"} <= found.keys()
    assert "data/journal.sqlite3-shm" in found
    assert not {name: mode for name, mode in found.items() if int(mode, 8) & 0o077}


@pytest.mark.usefixtures("umask")
async def test_logs_and_their_rotations_are_their_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = RequestLog(access=folder / "access.jsonl", audit=folder / "audit.jsonl", max_bytes=300, max_files=3)
    for _ in range(9):
        log.write(line(action="write"))
    log.close()
    assert len(modes(folder)) == 7
    assert open_ones(folder) == {}


@pytest.mark.usefixtures("umask")
def test_tokens_are_their_users_alone(tmp_path: Path) -> None:
    create_token(tmp_path / "data" / "tokens.json", "anna")
    assert modes(tmp_path / "data").keys() == {"data", "data/tokens.json", "data/tokens.lock"}
    assert open_ones(tmp_path / "data") == {}


@pytest.mark.usefixtures("umask")
def test_a_socket_and_the_lock_are_their_users_alone(tmp_path: Path) -> None:
    with only_process(tmp_path / "data"):
        make_socket(tmp_path / "data" / "index.sock")
        make_socket(tmp_path / "data" / "index.sock")
    assert modes(tmp_path / "data").keys() == {"data", "data/lock", "data/index.sock"}
    assert open_ones(tmp_path / "data") == {}


def left_by_an_earlier_version(folder: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("logs", "index/temp", "mlflow/artifacts/7", "mine"):
            (folder / name).mkdir(parents=True)
        for name in (
            "journal.sqlite3",
            "journal.sqlite3-wal",
            "journal.sqlite3.corrupt-1",
            "lock",
            "tokens.json",
            "logs/access.jsonl.1",
            "index/index.duckdb",
            "mlflow/mlflow.db",
            "mlflow/artifacts/7/model.bin",
            "mine/notes.txt",
            "thesis.md",
        ):
            (folder / name).touch(mode=0o666)
        with socket.socket(socket.AF_UNIX) as place:
            place.bind(str(folder / "index" / "index.sock"))
        (folder / "logs" / "link").symlink_to("/etc/hostname")
    finally:
        os.umask(before)


def test_what_was_left_open_is_closed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    left_by_an_earlier_version(folder)
    hostname = Path("/etc/hostname").stat().st_mode
    assert len(too_open(folder)) == 17
    assert mend(folder) == []
    found = open_ones(folder)
    assert found.pop("data/logs/link") == "0777"
    assert found == {"data/mine": "0777", "data/mine/notes.txt": "0666", "data/thesis.md": "0666"}
    assert modes(folder)["data/mlflow"] == "0700"
    assert Path("/etc/hostname").stat().st_mode == hostname


def test_a_folder_that_many_share_stays_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "lock").touch(mode=0o666)
    (left,) = mend(folder)
    assert (left.path, left.mode, left.is_ours) == (folder, 0o1777, False)
    assert modes(folder)["shared/lock"] == "0600"


def test_a_file_of_tokens_elsewhere_is_closed_too(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"tokens": []}')
    tokens.chmod(0o644)
    assert mend(tmp_path / "data", tokens) == []
    assert modes(tokens) == {"tokens.json": "0600"}


def test_a_folder_that_isnt_there_is_no_trouble(tmp_path: Path) -> None:
    assert mend(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("mode", "ok", "said"),
    [
        (0o755, False, "chmod -R go= "),
        (0o700, True, ""),
        (0o1777, True, "choose your own folder"),
    ],
    ids=["open", "closed", "shared"],
)
async def test_doctor_says_when_a_data_folder_is_too_open(
    tmp_path: Path, mode: int, ok: bool, said: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    checks = examine(Settings(data_dir=folder), url="http://127.0.0.1:9")
    check = await anext(checks)
    await checks.aclose()
    assert (check.name, check.ok) == ("privacy", ok)
    assert said in check.way_out
    assert bool(check.way_out) == bool(said)
