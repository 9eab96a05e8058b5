"""What real frameworks sent, sent again: MLflow, the trace summary and the statistics show what happened.

The captures and their truths are in tests/data/capture, the ways of sending in framework_replay.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.data.capture.truth import TraceTruth, truths
from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan
from tests.system import framework_cells as cells
from tests.system.framework_replay import WAYS, Replay, replay

pytestmark = pytest.mark.timeout(600)  # the first test sends everything, which takes long on a busy machine
SENDERS = 4
DELIVERY_SECONDS = 300
# each entry is a window of its own, so that spans of one trace reach MLflow in several requests
ONE_BY_ONE = {"SIDESPAN_DELIVERY__REQUEST_BYTES": "1", "SIDESPAN_DELIVERY__LINGER_SECONDS": "0"}
ALL = {truth.name: truth for truth in truths()}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A cell as a place shows it; `trace` is what was asked in it, or nothing for all of a capture."""

    place: str
    way: str
    trace: str
    cell: str
    found: Any
    expected: Any

    @property
    def is_right(self) -> bool:
        return cells.same(self.cell, self.found, self.expected)

    def __str__(self) -> str:
        where = f"{self.cell} of {self.trace or 'all'} in {self.place}, {self.way}"
        return f"{where}: {self.found!r}, not {self.expected!r}"


@dataclass(frozen=True, kw_only=True)
class Results:
    """By capture: what is shown through Sidespan, and by MLflow alone."""

    through: Mapping[str, Sequence[Shown]]
    alone: Mapping[str, Sequence[Shown]]


@pytest.fixture(scope="module")
def results(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Every capture in every way, through Sidespan and to MLflow directly."""
    service = Sidespan(
        data_dir=tmp_path_factory.mktemp("frameworks") / "data",
        mlflow_url=mlflow_server.url,
        environment=ONE_BY_ONE,
    )
    service.start()
    try:
        with ThreadPoolExecutor(SENDERS) as pool:
            through = _sent(pool, mlflow_server, service.port, WAYS)
            alone = _sent(pool, mlflow_server, mlflow_server.port, WAYS[:1])
            service.wait_delivered(DELIVERY_SECONDS)
            service.wait_records(DELIVERY_SECONDS)
            service.wait_index()
            seen = list(pool.map(lambda sent: _through(mlflow_server, service.url, sent), through))
            bare = list(pool.map(lambda sent: _mlflow(mlflow_server, sent), alone))
        yield Results(through=_by_name(through, seen), alone=_by_name(alone, bare))
    finally:
        service.kill()


def _sent(pool: ThreadPoolExecutor, server: MlflowServer, port: int, ways: Sequence[str]) -> list[Replay]:
    pairs = [(name, way) for name in ALL for way in ways]
    return list(pool.map(lambda pair: replay(*pair, server, port), pairs))


def _by_name(sent: Sequence[Replay], seen: Sequence[Sequence[Shown]]) -> dict[str, list[Shown]]:
    found: dict[str, list[Shown]] = {name: [] for name in ALL}
    for replayed, shown in zip(sent, seen, strict=True):
        found[replayed.name] += shown
    return found


def _through(server: MlflowServer, url: str, sent: Replay) -> list[Shown]:
    rows = cells.rows(url, sent)
    whole = ALL[sent.name].whole
    return [
        *_mlflow(server, sent),
        *(
            shown
            for trace, trace_id in _traces(sent)
            for place, found in (("summary", cells.summary(url, trace_id)), ("list", rows[trace_id]))
            for shown in _shown(place, sent.way, trace, found)
        ),
        *_shown("statistics", sent.way, whole, cells.statistics(url, sent)),
    ]


def _mlflow(server: MlflowServer, sent: Replay) -> list[Shown]:
    found = cells.mlflow_traces(server, sent)
    assert found.keys() == set(sent.trace_ids)
    return [
        *(each for trace, id in _traces(sent) for each in _shown("MLflow", sent.way, trace, found[id])),
        *_shown("MLflow", sent.way, ALL[sent.name].whole, cells.mlflow_capture(server, sent)),
    ]


def _traces(sent: Replay) -> Iterator[tuple[TraceTruth, str]]:
    return zip(ALL[sent.name].traces, sent.trace_ids, strict=True)


def _shown(place: str, way: str, truth: TraceTruth, found: cells.Cells) -> Iterator[Shown]:
    for cell, value in found.items():
        expected = cells.expected_of(truth, cell)
        yield Shown(place=place, way=way, trace=truth.asks, cell=cell, found=value, expected=expected)


@pytest.mark.parametrize("name", ALL)
def test_every_cell_is_right_or_a_gap_of_the_sender(name: str, results: Results) -> None:
    wrong = [each for each in results.through[name] if not each.is_right and each.cell not in ALL[name].wrong]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("name", ALL)
def test_every_way_of_sending_shows_the_same(name: str, results: Results) -> None:
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in results.through[name]:
        if each.cell not in ALL[name].wrong:
            seen.setdefault((each.place, each.trace, each.cell), {})[each.way] = each.found
    different = {
        key: ways
        for key, ways in seen.items()
        if not all(cells.same(key[2], found, ways["whole"]) for found in ways.values())
    }
    assert not different


@pytest.mark.parametrize("name", ALL)
def test_what_is_called_wrong_is_still_wrong(name: str, results: Results) -> None:
    """Take a line out of the truth as soon as its cell is right."""
    wrong = {each.cell for each in results.through[name] if not each.is_right}
    right = ALL[name].wrong - wrong
    assert not right, f"take {sorted(right)} out of [pending] or [limits] in {name}/truth.toml"


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_worse_than_in_mlflow_alone(name: str, results: Results) -> None:
    right = {(each.trace, each.cell) for each in results.alone[name] if each.is_right}
    worse = [
        each
        for each in results.through[name]
        if each.place == "MLflow" and (each.trace, each.cell) in right and not each.is_right
    ]
    assert not [each for each in worse if each.cell not in ALL[name].wrong]
