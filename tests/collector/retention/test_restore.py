"""Traces on their way back from an archive of which a part is damaged, and those that MLflow has already."""

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.delivery.mlflow.turns import Turns
from collector.model.errors import Reason, Unavailable
from collector.model.experiment import ExperimentReference
from collector.retention.archive import Archive, open_archive_of
from collector.retention.catalogue import ArchiveState, open_catalogue
from collector.retention.cleaner import ArchiveTrouble, Cleaner
from collector.retention.frames import DATA, MANIFEST, ArchiveDamaged
from collector.retention.keeper import Keeper
from collector.retention.marks import Marks
from collector.retention.opening import open_archive
from collector.retention.restore import RESTORED_AT_ONCE, CannotRestore, Restorer
from collector.retention.rules import RetainedTrace, read_stored
from collector.retention.source import StoreTrouble
from collector.retention.store import RemoteFiles, open_files
from collector.settings import CleanupSettings, Settings
from tests.collector.retention.test_archive import DAY, trace

LATER = "2026-02-01"


@dataclass
class Taking:
    """A journal that takes entries, or has no room."""

    has_room: bool = True
    tried: int = 0
    taken: list[bytes] = field(default_factory=list)

    async def append(self, drafts: Sequence[Any]) -> None:
        self.tried += 1
        if not self.has_room:
            raise Unavailable(Reason.JOURNAL_FULL, "full")
        self.taken += [id for draft in drafts for id in draft.trace_ids]


@dataclass
class Having:
    """MLflow with some traces; `away`: it can't be asked."""

    numbers: Collection[int] = ()
    away: bool = False

    async def infos(self, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        if self.away:
            raise StoreTrouble("MLflow can't be asked")
        infos = [trace(number)["trace_info"] for number in self.numbers]
        return {info["trace_id"]: read_stored(info) for info in infos if info["trace_id"] in ids}

    async def experiments(self) -> list[ExperimentReference]:
        return [ExperimentReference(id="7", name="checkout")]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(open_catalogue(tmp_path / "data")) as catalogue:
        yield open_archive_of(open_files(None, tmp_path / "archive"), catalogue, where="here")


def archived(archive: Archive, *numbers: int, day: str = DAY, state: str = "archived") -> None:
    archive.write("7", day, [trace(number) for number in numbers], rule="r", now_unix_ns=1)
    archive.catalogue.move([f"{number:032x}" for number in numbers], ArchiveState(state))


def restorer(archive: Archive, log: Any) -> Restorer:
    return Restorer(archive=archive, log=log, marks=Marks(index=None), now_unix_ns=lambda: 2)


def keeper(archive: Archive, log: Any, store: Any) -> Keeper:
    cleanup: Any = SimpleNamespace(cleaner=SimpleNamespace(store=store))
    completion: Any = None
    return Keeper(
        cleanup=cleanup,
        restorer=restorer(archive, log),
        completion=completion,
        archive=archive,
        every_seconds=None,
    )


@pytest.mark.parametrize("harm", ["damaged", "missing"])
async def test_many_damaged_traces_keep_back_no_others(archive: Archive, tmp_path: Path, harm: str) -> None:
    harmed = range(RESTORED_AT_ONCE + 5)
    archived(archive, *harmed)
    archived(archive, 100, 101, day=LATER)
    file = tmp_path / "archive" / "7" / f"{DAY}{DATA}"
    file.unlink() if harm == "missing" else file.write_bytes(b"\0" * file.stat().st_size)
    log = Taking()
    assert await restorer(archive, log).experiment("7") == (2, len(harmed))
    assert sorted(log.taken) == [number.to_bytes(16) for number in (100, 101)]
    with pytest.raises(CannotRestore):
        await restorer(archive, log).experiment("7")


async def test_a_full_journal_is_not_asked_for_every_trace(archive: Archive) -> None:
    archived(archive, *range(2 * RESTORED_AT_ONCE))
    log = Taking(has_room=False)
    with pytest.raises(CannotRestore, match="journal"):
        await restorer(archive, log).experiment("7")
    assert log.tried <= RESTORED_AT_ONCE + 1


@pytest.mark.parametrize("state", [ArchiveState.WRITTEN, ArchiveState.RETURNED])
async def test_what_people_changed_in_mlflow_is_not_overwritten_from_the_archive(
    archive: Archive, state: ArchiveState
) -> None:
    archived(archive, 1, state=state)
    log = Taking()
    with pytest.raises(CannotRestore, match="MLflow has this trace"):
        await keeper(archive, log, Having([1])).restore_trace(f"{1:032x}")
    assert (log.taken, archive.catalogue.counts()) == ([], {"7": {state: 1}})
    with pytest.raises(CannotRestore, match="can't be asked"):
        await keeper(archive, log, Having(away=True)).restore_trace(f"{1:032x}")


@pytest.mark.parametrize("state", list(ArchiveState))
async def test_what_mlflow_has_no_longer_is_restored_again(archive: Archive, state: ArchiveState) -> None:
    archived(archive, 1, state=state)
    log = Taking()
    await keeper(archive, log, Having()).restore_trace(f"{1:032x}")
    assert (len(log.taken), archive.catalogue.counts()) == (1, {"7": {"restored": 1}})


async def test_an_archive_that_is_away_at_the_start_keeps_no_spans_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanup = CleanupSettings(archive_url=f"memory://{uuid.uuid4().hex}/archive")
    settings = Settings(data_dir=tmp_path / "data", cleanup=cleanup)
    async with open_archive(settings) as found:
        assert found is not None
        archived(found, 1)
    other = Settings(data_dir=tmp_path / "other", cleanup=cleanup)
    with monkeypatch.context() as away:
        away.setattr(RemoteFiles, "names", _away)
        opening = open_archive(other)
        again = await opening.__aenter__()
        assert again is not None
        with pytest.raises(ArchiveTrouble, match="can't be read"):
            await cleaner(again, Having()).settle()
    assert again.catalogue.counts() == {}
    with pytest.raises(CannotRestore, match="was away"):
        await keeper(again, Taking(), Having()).restore_trace(f"{1:032x}")
    await cleaner(again, Having()).settle()
    assert again.catalogue.counts() == {"7": {"archived": 1}}
    await opening.__aexit__(None, None, None)


def _away(*_: Any) -> Iterator[str]:
    raise ConnectionError("the object store is away")


def cleaner(archive: Archive, store: Any) -> Cleaner:
    return Cleaner(
        store=store,
        archive=archive,
        marks=Marks(index=None),
        turns=Turns(),
        waiting=(),
        settings=CleanupSettings(),
        tell=lambda _: None,
        now_unix_ns=lambda: 2,
    )


@pytest.mark.parametrize(
    ("what", "by"),
    [
        pytest.param(b'"offset":0', b'"offset":"0"', id="a place that is no number"),
        pytest.param(b'"offset":0', b'"offset":-1', id="a place before the file"),
        pytest.param(b'"bytes":', b'"bytes":1e300,"x":', id="a size that is no size"),
        pytest.param(b'"trace_id":"0', b'"trace_id":"../0', id="an id that is a path"),
        pytest.param(b'"trace_id":"0', b'"trace_id":"A', id="an id that is no id"),
        pytest.param(b'"tr-0', b'"tr-1', id="what is said of another trace"),
        pytest.param(b'"request_time":"2026', b'"request_time":"x', id="a time that is none"),
        pytest.param(b'"info":{', b'"info":[],"x":{', id="nothing said of a trace"),
    ],
)
def test_a_manifest_that_somebody_else_wrote_is_damaged(
    archive: Archive, tmp_path: Path, what: bytes, by: bytes
) -> None:
    archived(archive, 1)
    (manifest,) = (tmp_path / "archive").rglob(f"*{MANIFEST}")
    text = manifest.read_bytes()
    assert what in text
    manifest.write_bytes(text.replace(what, by, 1))
    with closing(open_catalogue(tmp_path / "other")) as catalogue:
        other = open_archive_of(open_files(None, tmp_path / "archive"), catalogue, where="there")
        with pytest.raises(ArchiveDamaged, match="manifest"):
            other.catch_up()
