"""What MLflow says of a restored trace, brought back where it lacks something."""

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.retention.archive import Archive, open_archive_of
from collector.retention.catalogue import ArchiveState, open_catalogue
from collector.retention.completing import Completion, lacks
from collector.retention.rules import RetainedTrace, read_stored
from collector.retention.source import TraceRefused
from collector.retention.store import open_files
from tests.collector.retention.test_archive import DAY, trace

BEFORE: dict[str, Any] = {
    "trace_id": "tr-1",
    "state": "OK",
    "request_time": "2026-01-31T00:00:00Z",
    "tags": {"team": "a", "mlflow.artifactLocation": "x"},
    "trace_metadata": {"user": "ann"},
    "assessments": [{"assessment_id": "a"}],
}


@pytest.mark.parametrize(
    ("change", "is_lacking"),
    [
        ({}, False),
        ({"tags": {"team": "a", "mlflow.artifactLocation": "y", "new": "b"}}, False),
        ({"tags": {"team": "b"}}, True),
        ({"tags": {}}, True),
        ({"trace_metadata": {}}, True),
        ({"assessments": []}, True),
        ({"assessments": [{"assessment_id": "b"}, {"assessment_id": "a"}]}, False),
        ({"state": "IN_PROGRESS"}, True),
        ({"request_preview": "new"}, False),
    ],
)
def test_what_mlflow_no_longer_says_is_lacking(change: dict[str, Any], is_lacking: bool) -> None:
    assert lacks(BEFORE | change, BEFORE) is is_lacking


class Described:
    """MLflow with some traces as their spans alone make them."""

    def __init__(self, *numbers: int) -> None:
        self.infos_by_id = {
            info["trace_id"]: info | {"tags": {}} for info in (trace(n)["trace_info"] for n in numbers)
        }
        self.refuses = False

    async def infos(self, ids: Sequence[str]) -> dict[str, RetainedTrace]:
        return {id: read_stored(self.infos_by_id[id]) for id in ids if id in self.infos_by_id}

    async def describe(self, info: dict[str, Any]) -> None:
        if self.refuses:
            raise TraceRefused("MLflow answered with status 400")
        self.infos_by_id[info["trace_id"]] = info


class Carrying:
    """A consumer that has not brought some traces yet."""

    def __init__(self) -> None:
        self.busy: frozenset[bytes] = frozenset()

    async def awaiting(self, trace_ids: Collection[bytes]) -> frozenset[bytes]:
        return self.busy & frozenset(trace_ids)


def restored(folder: Path, *numbers: int) -> Archive:
    archive = open_archive_of(open_files(None, folder / "a"), open_catalogue(folder), where="here")
    archive.write("7", DAY, [trace(number) for number in numbers], rule="r", now_unix_ns=1)
    archive.catalogue.move([f"{n:032x}" for n in numbers], ArchiveState.RESTORED, now_unix_ns=2)
    return archive


async def test_a_trace_is_complete_once_its_spans_have_arrived(tmp_path: Path) -> None:
    archive, store, consumer = restored(tmp_path, 1, 2), Described(1, 2), Carrying()
    completion = Completion(archive=archive, store=store, waiting=[consumer])  # type: ignore[arg-type, list-item]
    consumer.busy = frozenset({bytes.fromhex(f"{2:032x}")})
    with closing(archive.catalogue):
        assert await completion.complete() == 1
        assert [each["tags"] for each in store.infos_by_id.values()] == [{"team": "a"}, {}]
        consumer.busy = frozenset()
        assert await completion.complete() == 0
        assert [each["tags"] for each in store.infos_by_id.values()] == [{"team": "a"}] * 2
        assert archive.catalogue.counts() == {"7": {"returned": 2}}


@pytest.mark.parametrize("refuses", [True, False])
async def test_what_mlflow_does_not_take_or_has_deleted_holds_up_nothing(
    tmp_path: Path, refuses: bool
) -> None:
    archive, store = restored(tmp_path, 1, 2), Described(1)
    store.refuses = refuses
    completion = Completion(archive=archive, store=store, waiting=())  # type: ignore[arg-type]
    with closing(archive.catalogue):
        assert await completion.complete() == 0
        assert archive.catalogue.counts() == {"7": {"returned": 2}}
