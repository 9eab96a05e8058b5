"""What the API, the health and the metrics say of alerts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.alerts.alerting import Alerting
from collector.answers.errors import AnswerUnavailable
from collector.answers.many_traces import ManyTraces
from collector.answers.rights import EVERYTHING, ReadRights
from collector.index.duckdb.store import Store
from collector.model.parameters import BadParameter
from tests.collector.alerts.test_evaluator import END, calls
from tests.support.alerting import Clock, IndexedAnswers, alert, counted, evaluator_over, store_in
from tests.support.indexed import put
from tests.support.indexed import store_in as index_in


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Store]:
    with index_in(tmp_path / "index") as store:
        put(store, calls(0, 3, user="ann"))
        yield store


def alerting(tmp_path: Path, many_traces: Any, *alerts: Any, clock: Clock) -> Alerting:
    store = store_in(tmp_path)
    evaluator = evaluator_over(store, many_traces, *alerts, clock=clock)
    return Alerting(evaluator=evaluator, couriers={}, store=store, many_traces=many_traces)


async def test_an_alert_is_shown_with_its_state_and_groups(tmp_path: Path, index: Store) -> None:
    clock = Clock(END)
    busy = alert(name="busy", by=["user"], above=2, labels={"severity": "page"})
    found = alerting(tmp_path, IndexedAnswers(index), busy, clock=clock)
    (before,) = (await found.page())["alerts"]
    assert (before["status"], before["evaluated_unix_ns"]) == ("unknown", None)
    await found.evaluator.look()
    (shown,) = (await found.page())["alerts"]
    assert shown["status"] == "firing"
    assert shown["summary"] == "count of traces by user above 2"
    assert shown["definition"]["labels"] == {"severity": "page"}
    (group,) = shown["groups"]
    assert (group["group"], group["status"], group["value"]) == ({"user": "ann"}, "firing", 3)
    assert group["told"] == ["ops"]
    assert group["filters"]["user"] == "ann"
    assert len(group["example_trace_ids"]) == 3
    for name in group["filters"]:
        assert f"{name}=" in group["link"]
    health = found.health()
    assert health is not None
    assert (health["ok"], health["firing_groups"]) == (True, 1)


async def test_an_alert_in_trouble_is_unknown_and_no_part_of_a_sound_service(tmp_path: Path) -> None:
    answers = IndexedAnswers(None, failing=AnswerUnavailable("index", 1, "it takes too long"))
    found = alerting(tmp_path, answers, alert(name="busy"), clock=Clock(END))
    await found.evaluator.look()
    (shown,) = (await found.page())["alerts"]
    assert (shown["status"], shown["trouble"]) == ("unknown", "it takes too long")
    health = found.health()
    assert health is not None
    assert (health["ok"], health["cannot_be_evaluated"]) == (False, 1)
    assert health["reason"] == "alerts that can't be evaluated: 1 (see /-/alerts)"


async def test_a_service_without_alerts_has_no_part_for_them(tmp_path: Path) -> None:
    found = alerting(tmp_path, IndexedAnswers(None), clock=Clock(END))
    await found.evaluator.look()
    assert found.health() is None


@pytest.mark.parametrize(
    ("given", "since", "parameter"),
    [
        ({"metric": "cots"}, "-1h", "alert.metric"),
        ({"filters": {"toool": "x"}}, "-1h", "alert.filters.toool"),
        ({}, "tomorrow", "since"),
        ({}, "now", "since"),
    ],
)
async def test_what_cannot_be_tried_out_is_named(
    tmp_path: Path, given: dict[str, Any], since: str, parameter: str
) -> None:
    found = alerting(tmp_path, IndexedAnswers(None), clock=Clock(END))
    with pytest.raises(BadParameter) as error:
        await found.test(alert(**given), since=since, until="now", rights=EVERYTHING)
    assert error.value.document["parameter"] == parameter


async def test_a_replay_sees_only_what_its_client_may_see(tmp_path: Path, index: Store) -> None:
    found = alerting(tmp_path, IndexedAnswers(index), clock=Clock(END))
    counts = []
    for experiments in (None, frozenset({"1"}), frozenset({"2"}), frozenset[str]()):
        rights = ReadRights(experiments=experiments)
        answer = await found.test(alert(above=0), since="-1m", until="now", rights=rights)
        counts.append(len(answer["events"]))
    assert counts == [1, 1, 0, 0]


async def test_without_an_index_nothing_can_be_tried_out(tmp_path: Path) -> None:
    found = alerting(tmp_path, ManyTraces(index=None), clock=Clock(END))
    with pytest.raises(AnswerUnavailable):
        await found.test(alert(), since="-1h", until="now", rights=EVERYTHING)


async def test_an_unknown_alert_cannot_be_silenced(tmp_path: Path) -> None:
    found = alerting(tmp_path, IndexedAnswers(None, answer=counted(1)), alert(name="busy"), clock=Clock(END))
    with pytest.raises(BadParameter, match="there are: busy"):
        await found.snooze("quiet", seconds=60)
    assert (await found.snooze("busy", seconds=0))["asleep_until_unix_ns"] is None
