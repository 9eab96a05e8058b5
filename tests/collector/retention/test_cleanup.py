"""A run of the rules, cut short at every step that it takes, and what the next one makes of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collector.delivery.mlflow.turns import Turns
from collector.model.errors import Reason, Unavailable
from collector.model.experiment import ExperimentReference
from collector.retention.archive import Archive, open_archive_of
from collector.retention.catalogue import ArchiveState, Catalogue, open_catalogue
from collector.retention.cleaner import Cleaner, Deletion
from collector.retention.cleanup import Cleanup
from collector.retention.completing import Completion
from collector.retention.frames import count_spans
from collector.retention.keeper import Keeper
from collector.retention.marks import Marks
from collector.retention.restore import CannotRestore, Restorer
from collector.retention.rules import Protected, RetainedTrace, read_stored
from collector.retention.source import StoreTrouble
from collector.retention.store import FolderFiles
from collector.settings import CleanupSettings, RetentionSettings
from tests.collector.retention.test_archive import trace

RULE = RetentionSettings(name="old", older_than_seconds=0.0)
FEW = RetentionSettings(name="few", max_traces=2, action="delete")
NOW_UNIX_NS = 1_800_000_000_000_000_000


class Crash(BaseException):
    """The process is killed here."""


@dataclass
class Steps:
    """Counts what is done to MLflow, to the archive's files and to the catalogue; ends it at one of them."""

    last: int = 10_000
    taken: int = 0

    def take(self) -> None:
        self.taken += 1
        if self.taken > self.last:
            raise Crash


@dataclass
class FakeStore:
    """MLflow with traces of one experiment. Each verb can be cut short before and after its effect."""

    traces: dict[str, dict[str, Any]]
    steps: Steps = field(default_factory=Steps)
    in_runs: frozenset[str] = frozenset()
    linked_seconds: float = 0.0
    is_proving: bool = False

    def forget(self) -> None:
        """Nothing is remembered."""

    async def experiments(self) -> list[ExperimentReference]:
        return [ExperimentReference(id="7", name="checkout")]

    async def count(self, experiment_id: str, rule: RetentionSettings, *, now_unix_ms: int) -> int:
        return len(self.traces)

    async def oldest_first(
        self, experiment_id: str, rule: RetentionSettings, *, before_unix_ms: int
    ) -> AsyncIterator[list[RetainedTrace]]:
        yield [read_stored(each["trace_info"]) for each in self.traces.values()]

    async def infos(self, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        self.steps.take()
        return {id: read_stored(self.traces[id]["trace_info"]) for id in ids if id in self.traces}

    async def look_again(self, experiment_id: str, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        return await self.infos(ids)

    async def whole(self, traces: Sequence[RetainedTrace]) -> AsyncIterator[list[dict[str, Any]]]:
        for id in [each.id for each in traces]:
            self.steps.take()
            yield [self.traces[id]] if id in self.traces else []

    def deleted_at_once(self) -> int:
        return 2

    async def delete(self, experiment_id: str, ids: Sequence[str]) -> int:
        self.steps.take()
        for id in ids:
            self.traces.pop(id, None)
        self.steps.take()
        return len(ids)

    async def protected(self, experiment_ids: Sequence[str], *, runs: bool, datasets: bool) -> Protected:
        return Protected(in_runs=self.in_runs)

    async def linked(
        self, experiment_id: str, ids: Sequence[str], *, runs: bool, datasets: bool
    ) -> Protected:
        return Protected(in_runs=self.in_runs if runs else frozenset())


class CutFiles(FolderFiles):
    """A folder whose writes can be cut short: before, in the middle, and after."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        super().__init__(folder)
        self.steps = steps

    def append(self, name: str, data: bytes, *, at: int) -> None:
        self.steps.take()
        try:
            self.steps.take()
        except Crash:
            super().append(name, data[: len(data) // 2], at=at)
            raise
        super().append(name, data, at=at)
        self.steps.take()


class CutCatalogue(Catalogue):
    """A catalogue whose changes can be cut short before and after the commit."""

    steps = Steps()

    def move(self, *values: Any, **named: Any) -> None:
        self.steps.take()
        super().move(*values, **named)
        self.steps.take()

    def add(self, *values: Any, **named: Any) -> None:
        self.steps.take()
        super().add(*values, **named)
        self.steps.take()


@dataclass
class Scene:
    """One life of the service over a folder."""

    store: FakeStore
    archive: Archive
    cleanup: Cleanup
    told: list[Deletion]

    def archived(self) -> dict[str, int]:
        """Spans that can be read of each archived trace."""
        catalogue = self.archive.catalogue
        found = catalogue.find([id for id, _ in catalogue.ids(ArchiveState.ARCHIVED)])
        return {
            f"tr-{id}": sum(count_spans(self.archive.read(each)[-1]).values()) for id, each in found.items()
        }


def scene(folder: Path, store: FakeStore, steps: Steps, rules: Sequence[RetentionSettings]) -> Scene:
    opened = open_catalogue(folder)
    catalogue = CutCatalogue(opened._db)
    catalogue.steps = steps
    store.steps = steps
    archive = open_archive_of(CutFiles(folder / "archive", steps), catalogue, where="here")
    archive.catch_up()
    told: list[Deletion] = []
    cleaner = Cleaner(
        store=store,  # type: ignore[arg-type]
        archive=archive,
        marks=Marks(index=None),
        turns=Turns(),
        waiting=(),
        settings=CleanupSettings(batch_traces=2),
        tell=told.append,
        now_unix_ns=lambda: NOW_UNIX_NS,
    )
    cleanup = Cleanup(rules=rules, cleaner=cleaner, now_unix_ns=lambda: NOW_UNIX_NS)
    return Scene(store, archive, cleanup, told)


def some_traces() -> dict[str, dict[str, Any]]:
    return {each["trace_info"]["trace_id"]: each for each in map(trace, range(1, 6))}


@pytest.fixture
def store() -> Iterator[FakeStore]:
    yield FakeStore(some_traces())


async def life(folder: Path, store: FakeStore, *, last: int = 10_000) -> Scene:
    """A start of the service and a run, until a step."""
    steps = Steps()
    found = scene(folder, store, steps, [RULE])
    steps.last = last
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        steps.last = 10_000
        assert found.archived() == dict.fromkeys(some_traces(), 2)
    return found


async def test_a_kill_at_any_step_loses_nothing_and_the_next_run_goes_on(tmp_path: Path) -> None:
    whole = await life(tmp_path / "whole", FakeStore(some_traces()))
    count = whole.store.steps.taken
    assert count > 30
    for last in range(count):
        folder, store = tmp_path / str(last), FakeStore(some_traces())
        with pytest.raises(Crash):
            await life(folder, store, last=last)
        with closing(open_catalogue(folder)) as catalogue:
            archive = open_archive_of(FolderFiles(folder / "archive"), catalogue, where="here")
            archive.catch_up()
            gone = some_traces().keys() - store.traces.keys()
            known = archive.known([id.removeprefix("tr-") for id in gone])
            assert {f"tr-{id}" for id in known} == gone
            assert all(sum(count_spans(archive.read(each)[0]).values()) == 2 for each in known.values())
        await life(folder, store)
        assert store.traces == {}


async def test_a_trace_that_changes_while_it_is_archived_stays(tmp_path: Path, store: FakeStore) -> None:
    first = next(iter(store.traces))
    read = store.whole

    async def whole(traces: Sequence[RetainedTrace]) -> AsyncIterator[list[dict[str, Any]]]:
        async for found in read(traces):
            yield found
        if first in {each.id for each in traces}:
            changed = {**store.traces[first], "trace_info": {**store.traces[first]["trace_info"], "x": 1}}
            store.traces[first] = changed

    store.whole = whole  # type: ignore[method-assign]
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        (report,) = await found.cleanup.run(progress=lambda _: None)
    assert store.traces.keys() == {first}
    assert (report.traces, report.kept) == (4, {"changed": 1})


async def test_what_is_protected_meanwhile_stays(tmp_path: Path, store: FakeStore) -> None:
    first = next(iter(store.traces))
    found = scene(tmp_path, store, Steps(), [RULE])
    told = store.look_again

    async def look_again(experiment_id: str, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        if first in ids:
            store.traces[first]["trace_info"]["assessments"] = [{"assessment_id": "a"}]
        return await told(experiment_id, ids)

    store.look_again = look_again  # type: ignore[method-assign]
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
    assert store.traces.keys() == {first}


async def test_a_plan_tells_of_a_trace_once_and_by_its_first_rule(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [FEW, RULE])
    with closing(found.archive.catalogue):
        few, old = await found.cleanup.plan(listed=10)
    assert (few.traces, old.traces) == (3, 2)
    assert not set(few.trace_ids) & set(old.trace_ids)
    assert len(store.traces) == 5


async def test_what_was_restored_lately_is_left_alone(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        store.traces |= some_traces()
        ids = [id.removeprefix("tr-") for id in store.traces]
        catalogue = found.archive.catalogue
        catalogue.move(ids[:2], ArchiveState.RESTORED, now_unix_ns=NOW_UNIX_NS - 1)
        catalogue.move(ids[2:4], ArchiveState.RETURNED, now_unix_ns=NOW_UNIX_NS - 10**18)
        catalogue.move(ids[4:], ArchiveState.RESTORED, now_unix_ns=NOW_UNIX_NS - 10**18)  # not wholly yet
        await found.cleanup.run(progress=lambda _: None)
    assert store.traces.keys() == {f"tr-{id}" for id in (*ids[:2], *ids[4:])}


async def test_each_deletion_is_told(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
    assert [len(each.trace_ids) for each in found.told] == [2, 2, 1]
    assert {each.rule for each in found.told} == {"old"}


async def test_what_was_restored_lately_is_counted_as_kept(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        store.traces |= some_traces()
        ids = [id.removeprefix("tr-") for id in store.traces]
        found.archive.catalogue.move(ids[:2], ArchiveState.RESTORED, now_unix_ns=NOW_UNIX_NS - 1)
        (plan,) = await found.cleanup.plan()
        (done,) = await found.cleanup.run(progress=lambda _: None)
    assert (plan.traces, plan.kept) == (done.traces, done.kept) == (3, {"restored": 2})


async def test_a_trace_that_mlflow_did_not_delete_is_not_counted_as_gone(
    tmp_path: Path, store: FakeStore
) -> None:
    first = next(iter(store.traces))
    delete = store.delete

    async def but_the_first(experiment_id: str, ids: Sequence[str]) -> int:
        return await delete(experiment_id, [id for id in ids if id != first])

    store.delete = but_the_first  # type: ignore[method-assign]
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        (report,) = await found.cleanup.run(progress=lambda _: None)
        (known,) = found.archive.known([first.removeprefix("tr-")]).values()
    assert (report.traces, report.kept) == (4, {"not_deleted": 1})
    assert known.state is ArchiveState.WRITTEN
    assert first.removeprefix("tr-") not in {id for each in found.told for id in each.trace_ids}


async def test_a_deletion_without_an_answer_is_told_too(tmp_path: Path, store: FakeStore) -> None:
    delete = store.delete

    async def in_vain(experiment_id: str, ids: Sequence[str]) -> int:
        await delete(experiment_id, ids)
        raise StoreTrouble("MLflow did not answer in time")

    store.delete = in_vain  # type: ignore[method-assign]
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        with pytest.raises(StoreTrouble):
            await found.cleanup.run(progress=lambda _: None)
        assert [(len(each.trace_ids), each.is_sure) for each in found.told] == [(2, False)]
        store.delete = delete  # type: ignore[method-assign]
        await found.cleanup.run(progress=lambda _: None)
        assert found.archived() == dict.fromkeys(some_traces(), 2)


async def test_a_trace_that_mlflow_deletes_after_a_restart_is_known_to_be_gone(
    tmp_path: Path, store: FakeStore
) -> None:
    whole = some_traces()
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        store.traces |= whole  # MLflow still works on it
        ids = [id.removeprefix("tr-") for id in whole]
        found.archive.catalogue.move(ids, ArchiveState.DELETING)
        await found.cleanup.cleaner.settle()
        assert found.archived() == {}
        store.traces.clear()
        await found.cleanup.cleaner.settle()
        assert found.archived() == dict.fromkeys(whole, 2)


async def test_what_is_restored_while_it_is_deleted_stays_restored(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    restored = next(iter(store.traces)).removeprefix("tr-")
    delete = store.delete

    async def meanwhile(experiment_id: str, ids: Sequence[str]) -> int:
        if f"tr-{restored}" in ids:
            found.archive.catalogue.move([restored], ArchiveState.RESTORED, now_unix_ns=NOW_UNIX_NS)
        return await delete(experiment_id, ids)

    store.delete = meanwhile  # type: ignore[method-assign]
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        (known,) = found.archive.known([restored]).values()
    assert known.state is ArchiveState.RESTORED


async def test_a_trace_with_spans_of_another_stays_and_the_rules_go_on(
    tmp_path: Path, store: FakeStore
) -> None:
    first, second = list(store.traces)[:2]
    store.traces[first]["spans"][0]["trace_id"] = store.traces[second]["spans"][0]["trace_id"]
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        (report,) = await found.cleanup.run(progress=lambda _: None)
    assert store.traces.keys() == {first}
    assert (report.traces, report.kept) == (4, {"unreadable": 1})


@pytest.mark.parametrize("before", [ArchiveState.WRITTEN, ArchiveState.ARCHIVED, ArchiveState.RESTORED])
@pytest.mark.parametrize("trouble", [Unavailable(Reason.JOURNAL_FULL, "full"), Crash()])
async def test_a_trace_that_the_journal_did_not_take_is_in_the_archive_as_before(
    tmp_path: Path, store: FakeStore, before: ArchiveState, trouble: BaseException
) -> None:
    class Refusing:
        async def append(self, drafts: Any) -> None:
            raise trouble

    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        id = next(iter(some_traces())).removeprefix("tr-")
        found.archive.catalogue.move([id], before)
        log: Any = Refusing()
        restorer = Restorer(
            archive=found.archive, log=log, marks=Marks(index=None), now_unix_ns=lambda: NOW_UNIX_NS
        )
        with pytest.raises((CannotRestore, Crash)):
            await restorer.restore([id])
        (known,) = found.archive.known([id]).values()
    assert (known.state, known.restored_unix_ns) == (before, None)


async def test_what_was_deleted_right_before_a_crash_is_in_the_audit_log_after_it(
    tmp_path: Path, store: FakeStore
) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    delete = store.delete

    async def and_crash(experiment_id: str, ids: Sequence[str]) -> int:
        await delete(experiment_id, ids)
        raise Crash

    store.delete = and_crash  # type: ignore[method-assign]
    with closing(found.archive.catalogue), pytest.raises(Crash):
        await found.cleanup.run(progress=lambda _: None)
    gone = {id.removeprefix("tr-") for id in some_traces().keys() - store.traces.keys()}
    again = scene(tmp_path, store, Steps(), [RULE])
    with closing(again.archive.catalogue):
        await again.cleanup.cleaner.settle()
        await again.cleanup.cleaner.settle()
    assert [set(each.trace_ids) for each in again.told] == [gone]


def keeper_of(found: Scene) -> Keeper:
    log: Any = None
    restorer = Restorer(
        archive=found.archive, log=log, marks=Marks(index=None), now_unix_ns=lambda: NOW_UNIX_NS
    )
    return Keeper(
        cleanup=found.cleanup,
        restorer=restorer,
        completion=Completion(archive=found.archive, store=found.cleanup.cleaner.store, waiting=()),
        archive=found.archive,
        every_seconds=None,
        retry_seconds=0.001,
    )


async def test_what_a_crash_left_is_settled_as_soon_as_mlflow_answers(
    tmp_path: Path, store: FakeStore
) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])
    infos, troubles, settled = store.infos, [1, 2, 3], asyncio.Event()

    async def away(ids: Sequence[str]) -> dict[str, RetainedTrace]:
        if troubles:
            raise StoreTrouble(f"MLflow can't be asked: {troubles.pop()}")
        settled.set()
        return await infos(ids)

    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        ids = [id.removeprefix("tr-") for id in some_traces()]
        found.archive.catalogue.move(ids, ArchiveState.DELETING)
        store.infos = away  # type: ignore[method-assign]
        running = asyncio.create_task(keeper_of(found).run())
        async with asyncio.timeout(60):
            while found.archived() != dict.fromkeys(some_traces(), 2):
                await settled.wait()
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_nothing_is_restored_into_a_deleted_experiment(tmp_path: Path, store: FakeStore) -> None:
    found = scene(tmp_path, store, Steps(), [RULE])

    async def none() -> list[ExperimentReference]:
        return []

    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        store.experiments = none  # type: ignore[method-assign]
        keeper = keeper_of(found)
        with pytest.raises(CannotRestore, match="experiment 7"):
            await keeper.restore_experiment("7")
        with pytest.raises(CannotRestore, match="experiment 7"):
            await keeper.restore_trace(next(iter(some_traces())).removeprefix("tr-"))
        assert found.archived() == dict.fromkeys(some_traces(), 2)


async def test_little_is_held_in_memory_before_it_is_archived(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.retention.cleaner.MAX_HELD_BYTES", 1)
    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        (plan,) = await found.cleanup.plan()
        (done,) = await found.cleanup.run(progress=lambda _: None)
        assert found.archived() == dict.fromkeys(some_traces(), 2)
        ids = [id.removeprefix("tr-") for id in some_traces()]
        places = [each.places[0].offset for each in found.archive.known(ids).values()]
    assert len(set(places)) == 5
    assert (done.traces, done.spans, done.bytes) == (5, 10, plan.bytes)


@pytest.mark.parametrize(("even_if", "stays"), [((), True), (("run",), False)])
async def test_a_trace_that_is_linked_while_it_is_archived_stays(
    tmp_path: Path, store: FakeStore, even_if: Any, stays: bool
) -> None:
    first = next(iter(store.traces))
    read = store.whole

    async def whole(traces: Sequence[RetainedTrace]) -> AsyncIterator[list[dict[str, Any]]]:
        async for found in read(traces):
            yield found
        store.in_runs = frozenset({first})

    store.whole = whole  # type: ignore[method-assign]
    found = scene(tmp_path, store, Steps(), [RULE.model_copy(update={"even_if": even_if})])
    with closing(found.archive.catalogue):
        (report,) = await found.cleanup.run(progress=lambda _: None)
    assert (first in store.traces, report.kept) == (stays, {"run": 1} if stays else {})


@pytest.mark.parametrize(("even_if", "stays"), [((), True), (("attachments",), False)])
async def test_a_trace_whose_files_the_archive_does_not_hold_stays(
    tmp_path: Path, store: FakeStore, even_if: Any, stays: bool
) -> None:
    first = next(iter(store.traces))
    image = '{"image": "mlflow-attachment://6f1c?content_type=image%2Fpng&trace_id=tr-1"}'
    store.traces[first]["spans"][0]["attributes"].append({"key": "in", "value": {"string_value": image}})
    found = scene(tmp_path, store, Steps(), [RULE.model_copy(update={"even_if": even_if})])
    with closing(found.archive.catalogue):
        (report,) = await found.cleanup.run(progress=lambda _: None)
        assert (first in found.archived()) is not stays
    assert (first in store.traces, report.kept) == (stays, {"attachments": 1} if stays else {})


async def test_more_go_together_where_it_takes_long_to_find_out_what_is_linked(
    tmp_path: Path, store: FakeStore
) -> None:
    store.linked_seconds = 1.5
    found = scene(tmp_path, store, Steps(), [RULE])
    store.deleted_at_once = lambda: 100  # type: ignore[method-assign]
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
    assert [len(each.trace_ids) for each in found.told] == [4, 1]


async def test_a_damaged_frame_keeps_back_its_own_traces_only(tmp_path: Path, store: FakeStore) -> None:
    class Taking:
        async def append(self, drafts: Any) -> None:
            pass

    found = scene(tmp_path, store, Steps(), [RULE])
    with closing(found.archive.catalogue):
        await found.cleanup.run(progress=lambda _: None)
        (data,) = (tmp_path / "archive").rglob("*.zst")
        data.write_bytes(b"\0" + data.read_bytes()[1:])  # of the first frame, with two traces
        log: Any = Taking()
        restorer = Restorer(
            archive=found.archive, log=log, marks=Marks(index=None), now_unix_ns=lambda: NOW_UNIX_NS
        )
        assert await restorer.experiment("7") == (3, 2)
        with pytest.raises(CannotRestore, match="checksum"):
            await restorer.experiment("7")
