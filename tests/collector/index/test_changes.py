"""What an index says of its changes, in each of its forms."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from collector.index.clickhouse import changes as clickhouse_changes
from collector.index.protocol import Changes, ChangesQuery, Look, TellsChanges
from collector.index.queries.models import ChangedTraceEvent
from collector.model.experiment import ExperimentReference
from collector.model.parameters import BadParameter
from tests.collector.index.test_index_contract import Stage, part_of, session_export, stage, trace_id_of
from tests.support.otlp import agent_export, all_spans

__all__ = ["stage"]
ALL = Look()


@pytest.fixture(autouse=True)
def _told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ClickHouse what was noted is told a second later: test_clickhouse_changes.py."""
    monkeypatch.setattr(clickhouse_changes, "SETTLED_NS", 0)


async def changes(
    stage: Stage,
    after: int | None,
    *looks: Look,
    most: int = 50,
    until: int | None = None,
) -> Changes:
    assert isinstance(stage.index, TellsChanges)
    return await stage.index.changes(ChangesQuery(after=after, until=until, looks=looks, most=most))


def bodies(found: Changes) -> Sequence[dict[str, Any]]:
    return [json.loads(each.body) for each in found.traces]


async def test_a_new_trace_comes_with_its_row_and_its_spans(stage: Stage) -> None:
    start = (await changes(stage, None)).newest
    request = agent_export()
    await stage.indexed(request)
    found = await changes(stage, start, ALL)
    (body,) = bodies(found)
    ChangedTraceEvent.model_validate(body)
    assert body["trace"]["trace_id"] == trace_id_of(request)
    assert {span["span_id"] for span in body["spans"]} == {each.span_id.hex() for each in all_spans(request)}
    assert found.traces[0].position == found.newest > start


async def test_late_spans_come_alone_with_the_row_of_the_whole(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(part_of(request, slice(1, None)))
    middle = (await changes(stage, None)).newest
    await stage.indexed(request)
    (body,) = bodies(await changes(stage, middle, ALL))
    assert [span["span_id"] for span in body["spans"]] == [all_spans(request)[0].span_id.hex()]
    assert (body["trace"]["span_count"], body["trace"]["complete"]) == (len(all_spans(request)), True)


async def test_what_comes_again_is_no_change(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request)
    newest = (await changes(stage, None)).newest
    await stage.indexed(request)
    found = await changes(stage, newest, ALL)
    assert (list(found.traces), found.newest) == ([], newest)


async def test_each_look_gets_its_own(stage: Stage) -> None:
    start = (await changes(stage, None)).newest
    chat, other = session_export(), agent_export()
    await stage.indexed(chat)
    await stage.append(other, experiment_id="2")
    await stage.take(ExperimentReference(id="2", name="desk"))
    looks = (
        ALL,
        Look(parameters={"session": ["s-1"]}),
        Look(experiment_ids=frozenset({"2"})),
        Look(parameters={"experiment_name": ["desk"]}, experiment_ids=frozenset({"1"})),
        Look(parameters={"trace_id": [f"tr-{trace_id_of(chat)}"]}),
        Look(parameters={"score": ["helpful"]}),
        Look(parameters={"since": ["now"]}),
    )
    found = await changes(stage, start, *looks)
    to = {json.loads(each.body)["trace"]["trace_id"]: list(each.to) for each in found.traces}
    assert to == {trace_id_of(chat): [0, 1, 4], trace_id_of(other): [0, 2]}


async def test_the_newest_come_and_the_others_are_counted(stage: Stage) -> None:
    start = (await changes(stage, None)).newest
    requests = [agent_export() for _ in range(5)]
    for request in requests:
        await stage.indexed(request)
    found = await changes(stage, start, ALL, Look(parameters={"session": ["none"]}), most=2)
    assert [each["trace"]["trace_id"] for each in bodies(found)] == list(map(trace_id_of, requests[-2:]))
    assert list(found.left_out) == [3, 0]


async def test_positions_bound_what_is_told(stage: Stage) -> None:
    requests = [agent_export() for _ in range(3)]
    await stage.indexed(requests[0])
    first = (await changes(stage, None)).newest
    await stage.indexed(requests[1])
    second = (await changes(stage, None)).newest
    await stage.indexed(requests[2])
    found = await changes(stage, first, ALL, until=second)
    assert [each["trace"]["trace_id"] for each in bodies(found)] == [trace_id_of(requests[1])]
    assert found.oldest < first < second < found.newest


@pytest.mark.parametrize("parameters", [{"sesion": ["a"]}, {"trace_id": ["a"]}, {"since": ["yesterday"]}])
async def test_a_look_that_cannot_be_right_is_refused(stage: Stage, parameters: dict[str, list[str]]) -> None:
    with pytest.raises(BadParameter):
        await changes(stage, 0, Look(parameters=parameters))
