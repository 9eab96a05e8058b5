"""The archive's files: what a crash leaves behind, what damage does, and other stores than a folder."""

import errno
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.model.errors import Misconfigured
from collector.retention.archive import Archive, open_archive_of
from collector.retention.catalogue import ArchiveState, open_catalogue
from collector.retention.frames import DATA, MANIFEST, ArchiveDamaged, count_spans
from collector.retention.lease import ArchiveTaken
from collector.retention.opening import open_archive
from collector.retention.restore import PORTION_BYTES, RESTORED_AT_ONCE, portions
from collector.retention.store import ArchiveFiles, RemoteFiles, open_files
from collector.settings import Settings
from tests.support.s3 import S3Server, s3_server

DAY = "2026-01-31"


def trace(number: int, *, spans: int = 2) -> dict[str, Any]:
    """A trace as MLflow's API has it."""
    id = f"{number:032x}"
    return {
        "trace_info": {"trace_id": f"tr-{id}", "request_time": f"{DAY}T00:00:00Z", "tags": {"team": "a"}},
        "spans": [
            {
                "trace_id": _base64(bytes.fromhex(id)),
                "span_id": _base64(bytes([number, 0, 0, 0, 0, 0, 0, span + 1])),
                "name": f"span {span}",
                "start_time_unix_nano": 1,
                "end_time_unix_nano": 2,
                "attributes": [{"key": "n", "value": {"int_value": span}}],
            }
            for span in range(spans)
        ],
    }


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield server


@pytest.fixture(params=["folder", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveFiles:
    if request.param == "folder":
        return open_files(None, tmp_path / "archive")
    if request.param == "memory":
        return open_files(f"memory://{uuid.uuid4().hex}/archive", tmp_path)
    server: S3Server = request.getfixturevalue("s3")
    return open_files(f"s3://{server.new_bucket()}/archive", tmp_path)


@pytest.fixture
def archive(files: ArchiveFiles, tmp_path: Path) -> Iterator[Archive]:
    with closing(open_catalogue(tmp_path / "data")) as catalogue:
        yield open_archive_of(files, catalogue, where="here")


def write(archive: Archive, *traces: dict[str, Any]) -> None:
    archive.write("7", DAY, traces, rule="old", now_unix_ns=1)


def ids(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def spans(archive: Archive, number: int) -> int:
    """How many spans the archive has of a trace."""
    (found,) = archive.known(ids(number)).values()
    return sum(sum(count_spans(export).values()) for export in archive.read(found))


def test_each_trace_comes_back_from_its_frame(archive: Archive) -> None:
    write(archive, trace(1), trace(2, spans=3))
    write(archive, trace(3))
    assert [spans(archive, number) for number in (1, 2, 3)] == [2, 3, 2]
    known = archive.known(ids(1, 2, 3, 4))
    assert {each.state for each in known.values()} == {ArchiveState.WRITTEN}
    assert archive.infos(list(known.values()))[ids(2)[0]]["tags"] == {"team": "a"}


@pytest.mark.parametrize("name", [DATA, MANIFEST])
def test_what_a_crash_cut_short_is_written_over(archive: Archive, name: str) -> None:
    write(archive, trace(1))
    file = f"7/{DAY}{name}"
    archive.files.append(file, b'{"half', at=archive.files.size(file))
    write(archive, trace(2))
    assert [spans(archive, number) for number in (1, 2)] == [2, 2]


def test_a_catalogue_that_is_lost_is_read_from_the_manifests_again(archive: Archive, tmp_path: Path) -> None:
    write(archive, trace(1), trace(2))
    write(archive, trace(3))
    archive.leave()
    with closing(open_catalogue(tmp_path / "other")) as catalogue:
        again = open_archive_of(archive.files, catalogue, where="here")
        again.catch_up()
        assert [spans(again, number) for number in (1, 2, 3)] == [2, 2, 2]
        # MLflow is asked whether it has them
        assert {state for (state,) in ((each.state,) for each in again.known(ids(1, 3)).values())} == {
            ArchiveState.DELETING
        }
        write(again, trace(4))
        assert spans(again, 4) == 2


def test_a_trace_that_was_archived_twice_has_both_its_parts(archive: Archive) -> None:
    write(archive, trace(1))
    write(archive, trace(1, spans=1))
    assert spans(archive, 1) == 3


def test_damage_is_found_before_anything_is_restored(archive: Archive) -> None:
    write(archive, trace(1))
    file = f"7/{DAY}{DATA}"
    whole = archive.files.read(file)
    archive.files.append(file, whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], at=0)
    with pytest.raises(ArchiveDamaged, match="checksum"):
        spans(archive, 1)


def test_a_write_that_is_not_what_is_read_back_is_no_archive(archive: Archive) -> None:
    class Lossy:
        url = "lossy"

        def __getattr__(self, name: str) -> Any:
            return getattr(archive.files, name)

        def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
            return archive.files.read(name, offset=offset, length=length)[:-1] + b"\0"

    lossy = open_archive_of(Lossy(), archive.catalogue, where="here")
    with pytest.raises(ArchiveDamaged):
        write(lossy, trace(1))
    assert archive.known(ids(1)) == {}


def test_a_url_without_its_package_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cleanup\.archive_url"):
        open_files("nosuch://bucket/prefix", tmp_path)


def test_two_services_with_one_archive_do_not_write_over_each_other(archive: Archive, tmp_path: Path) -> None:
    write(archive, trace(1))
    with closing(open_catalogue(tmp_path / "other")) as catalogue:
        other = open_archive_of(archive.files, catalogue, where="here")
        other.catch_up()
        write(archive, trace(2))
        with pytest.raises(ArchiveTaken, match=r"writes to the archive: here, until"):
            write(other, trace(3))
        archive.leave()
        write(other, trace(3))
        with pytest.raises(ArchiveTaken):
            write(archive, trace(4))
        other.leave()
        write(archive, trace(4))
        assert [spans(archive, number) for number in (1, 2, 3, 4)] == [2, 2, 2, 2]
        other.catch_up()
        assert [spans(other, number) for number in (1, 2, 3, 4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("name", [DATA, MANIFEST])
def test_nothing_is_written_behind_what_is_missing(archive: Archive, name: str) -> None:
    write(archive, trace(1))
    write(archive, trace(2))
    file = f"7/{DAY}{name}"
    archive.files.append(file, b"", at=archive.files.size(file) - 1)
    with pytest.raises(ArchiveDamaged, match="shorter"):
        write(archive, trace(3))
    assert archive.known(ids(3)) == {}


@pytest.mark.parametrize("day", [DAY, "2026-02-01"], ids=["a_day_that_was_begun", "a_new_day"])
def test_nothing_is_written_where_an_archive_is_not_mounted(
    archive: Archive, tmp_path: Path, day: str
) -> None:
    write(archive, trace(1))
    elsewhere = open_archive_of(open_files(None, tmp_path / "unmounted"), archive.catalogue, where="here")
    with pytest.raises(ArchiveDamaged, match="shorter"):
        elsewhere.write("7", day, [trace(2)], rule="old", now_unix_ns=1)
    assert archive.known(ids(2)) == {}


def test_a_manifest_that_is_not_what_is_read_back_is_no_archive(archive: Archive) -> None:
    class Lossy:
        def __getattr__(self, name: str) -> Any:
            return getattr(archive.files, name)

        def append(self, name: str, data: bytes, *, at: int) -> None:
            archive.files.append(name, data[:-9] if name.endswith(MANIFEST) else data, at=at)

    lossy = open_archive_of(Lossy(), archive.catalogue, where="here")  # type: ignore[arg-type]
    with pytest.raises(ArchiveDamaged, match="as written"):
        write(lossy, trace(1))
    assert archive.known(ids(1)) == {}


def test_a_file_that_a_killed_process_made_is_on_the_disk_with_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archive"
    open_files(None, folder).append("7/day", b"a", at=0)
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    open_files(None, folder).append("7/day", b"b", at=1)
    assert synced[:3] == [str(folder / "7" / "day"), str(folder / "7"), str(folder)]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://ann:secret@host:21/folder?key=secret", "ftp://host:21/folder"),
        ("ftp://ann:sec?ret@host/folder", "ftp://host/folder"),
        ("zip://x::ftp://ann:secret@host/folder", "zip://x::ftp://host/folder"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_a_password_in_the_url_is_not_told(url: str, told: str) -> None:
    system: Any = None
    assert RemoteFiles(url, system, "/folder").url == told


def test_an_unusable_url_does_not_tell_its_password(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as failed:
        open_files("nosuch://ann:secret@bucket/prefix", tmp_path)
    assert "secret" not in str(failed.value)


def test_a_frame_that_unpacks_to_more_than_is_ever_written_is_damage(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(archive, trace(1, spans=100))
    monkeypatch.setattr("collector.retention.frames.MAX_FRAME_BYTES", 1_000)
    with pytest.raises(ArchiveDamaged, match="at most 1000 bytes"):
        spans(archive, 1)
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        write(archive, trace(2, spans=100))
    write(archive, trace(3))
    assert spans(archive, 3) == 2


def test_traces_of_large_frames_are_restored_few_at_a_time(archive: Archive) -> None:
    for number in range(1, 5):
        write(archive, trace(number))
    small, one, two, last = archive.known(ids(1, 2, 3, 4)).values()
    large = [
        replace(each, places=(replace(each.places[0], bytes=PORTION_BYTES // 2 + 1),)) for each in (one, two)
    ]
    assert list(portions([small, *large, last])) == [[small, large[0]], [large[1], last]]
    assert [len(each) for each in portions([small] * (RESTORED_AT_ONCE + 1))] == [RESTORED_AT_ONCE, 1]


async def test_a_replica_does_not_start_beside_what_says_that_traces_are_archived(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    open_catalogue(folder).close()
    settings = Settings.model_validate(
        {
            "data_dir": str(folder),
            "journal": {"url": "kafka://127.0.0.1:1/x"},
            "index": {"enabled": False},
        }
    )
    with pytest.raises(Misconfigured, match="with Kafka as the journal no process can act on that"):
        async with open_archive(settings):
            pass


def test_a_file_that_is_there_is_not_made_again_whatever_the_store_calls_it(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files(f"s3://{s3.new_bucket()}/archive", tmp_path)
    assert isinstance(files, RemoteFiles)
    assert files.create("lease.json", b"a")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")

    # other stores than Amazon's don't say which condition it was
    monkeypatch.setattr(files._system, "pipe_file", refuse)
    assert not files.create("lease.json", b"b")
    assert files.read("lease.json") == b"a"
    with pytest.raises(OSError, match="pre-conditions"):
        files.create("other.json", b"b")


WRITER = """
import sys
from pathlib import Path
from collector.retention.archive import open_archive_of
from collector.retention.catalogue import open_catalogue
from collector.retention.store import open_files
from tests.collector.retention.test_archive import trace, write

url, folder, first = sys.argv[1:]
archive = open_archive_of(open_files(url, Path(folder)), open_catalogue(Path(folder)), where="a writer")
archive.catch_up()
for number in range(int(first), 250):
    write(archive, trace(number, spans=50))
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_an_archive_on_s3_that_is_read_and_written(
    s3: S3Server, tmp_path: Path
) -> None:
    url = f"s3://{s3.new_bucket()}/archive"
    folder = tmp_path / "data"
    told: set[int] = set()
    for after_seconds in (0.0, 0.02, 0.07):  # into the write that comes next
        first = max(told, default=0) + 10
        command = [sys.executable, "-c", WRITER, url, str(folder), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(2)]
            time.sleep(after_seconds)
            writer.kill()
            told |= {int(line) for line in (*lines, *writer.stdout)}
    with closing(open_catalogue(folder)) as catalogue:
        archive = open_archive_of(open_files(url, tmp_path), catalogue, where="here")
        archive.catch_up()
        assert {number: spans(archive, number) for number in told} == dict.fromkeys(told, 50)
        write(archive, trace(255, spans=3))
        assert spans(archive, 255) == 3
    with closing(open_catalogue(tmp_path / "other")) as catalogue:
        other = open_archive_of(open_files(url, tmp_path), catalogue, where="elsewhere")
        with pytest.raises(ArchiveTaken, match=r"writes to the archive: here, until"):
            write(other, trace(1))
