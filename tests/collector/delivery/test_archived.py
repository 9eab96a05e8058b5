"""Spans of archived traces, and spans that come back from the archive."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from collector.delivery.mlflow.forward import forwarder
from collector.model.batch import Draft, Route, Signal, is_verbatim, is_waiting, signal_of
from collector.settings import HarmoniseSettings
from collector.spans.conventions import ADDED
from tests.support.otlp import agent_export, all_spans, trace_ids_of
from tests.support.stage import ONE, Stage, named


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, forward=forwarder(HarmoniseSettings()))
    await stage.open()
    yield stage
    await stage.close()


async def test_spans_of_an_archived_trace_are_dead_letters_and_others_are_delivered(stage: Stage) -> None:
    late, other = named("late"), named("other")
    archived = trace_ids_of(late)

    async def are_archived(trace_ids: Collection[bytes]) -> Collection[bytes]:
        return archived & set(trace_ids)

    await stage.append(late)
    await stage.append(other)
    await stage.start()
    stage.target.archived = are_archived
    await stage.drained()
    (letter,) = await stage.letters()
    assert (letter.reason, letter.trace_ids, letter.span_count) == ("archived_trace", archived, 1)
    assert stage.mlflow.names == {"other-0"}


async def test_restored_spans_are_never_late(stage: Stage) -> None:
    async def are_archived(trace_ids: Collection[bytes]) -> Collection[bytes]:
        return trace_ids

    export = named("restored")
    draft = Draft(
        lane=ONE.verbatim_lane,
        payload=export.SerializeToString(),
        span_count=1,
        trace_ids=frozenset(trace_ids_of(export)),
    )
    await stage.journal.log.append([draft])
    await stage.start()
    stage.target.archived = are_archived
    await stage.drained()
    assert await stage.letters() == []
    assert stage.mlflow.names == {"restored-0"}


async def test_restored_spans_go_to_mlflow_as_they_are(stage: Stage) -> None:
    export = agent_export()
    # what a client can't say of itself
    all_spans(export)[0].attributes.add(key=ADDED).value.array_value.values.add(
        string_value="mlflow.spanType"
    )
    draft = Draft(
        lane=ONE.verbatim_lane,
        payload=export.SerializeToString(),
        span_count=len(all_spans(export)),
        trace_ids=frozenset(trace_ids_of(export)),
    )
    await stage.journal.log.append([draft])
    await stage.append(named("new"))
    await stage.start()
    await stage.drained()
    sent = {span.span_id: span for _, spans, _ in stage.mlflow.requests for span in spans}
    for span in all_spans(export):
        assert sent[span.span_id] == span
    (new,) = (span for span in sent.values() if span.name == "new-0")
    assert new.attributes  # what harmonise adds


def test_the_lane_of_restored_spans_is_a_lane_of_spans() -> None:
    route = Route(experiment_id="7")
    lane = route.verbatim_lane
    assert is_verbatim(lane)
    assert not any(is_verbatim(each) for each in (route.lane, route.lane_of(Signal.LOGS)))
    assert (signal_of(lane), is_waiting(lane), Route.from_lane(lane)) == (Signal.TRACES, False, route)
