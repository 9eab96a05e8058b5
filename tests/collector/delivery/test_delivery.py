"""Delivery as a whole: the real worker, the real journal, a real socket, an MLflow with switchable faults."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.mlflow.window import CONSUMER
from collector.model.batch import Route
from collector.settings import DeliverySettings
from tests.support.fake_mlflow import error, mlflow_error
from tests.support.otlp import all_spans, export, trace_ids_of
from tests.support.stage import ONE, TWO, Stage, delivers_soon, named, poison, until


async def test_appended_spans_arrive_and_are_deleted_from_the_journal(stage: Stage) -> None:
    await stage.start()
    await stage.append(named("a", spans=3))
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "a-1", "a-2"}
    assert (await stage.consumer.state()).pending_entries == 0


async def test_many_entries_travel_in_few_requests(stage: Stage) -> None:
    for _ in range(50):
        await stage.append(export(spans=2))
    await stage.start()
    await stage.drained()
    assert len(stage.mlflow.stored) == 100
    assert len(stage.mlflow.requests) == 1


async def test_the_spans_of_one_trace_go_together_and_in_order(stage: Stage) -> None:
    first = named("first")
    (trace_id,) = trace_ids_of(first)
    await stage.append(first)
    await stage.append(export())
    later = export(trace_ids=[trace_id])
    all_spans(later)[0].name = "later"
    await stage.append(later)
    await stage.start(request_bytes=300)
    await stage.drained()
    holding = [spans for _, spans, _ in stage.mlflow.requests if any(s.trace_id == trace_id for s in spans)]
    assert len(holding) == 1
    assert [span.name for span in holding[0] if span.trace_id == trace_id] == ["first-0", "later"]


async def test_no_more_requests_are_in_flight_than_allowed(stage: Stage) -> None:
    stage.mlflow.delay_seconds = 0.05
    for _ in range(12):
        await stage.append(export())
    await stage.start(request_bytes=150, max_in_flight=3)
    await stage.drained()
    assert stage.mlflow.most_at_once == 3


async def test_mlflow_away_loses_nothing_and_says_so(stage: Stage) -> None:
    await stage.mlflow_goes()
    worker = await stage.start()
    await stage.append(named("kept"))
    await until(lambda: _is(worker.trouble is not None))
    assert "can't be reached" in str(worker.trouble)
    assert await stage.pending() == 1
    await stage.mlflow_comes()
    await stage.drained()
    assert stage.mlflow.names == {"kept-0"}
    await until(lambda: _is(worker.trouble is None))


async def _is(value: bool) -> bool:
    return value


@pytest.mark.parametrize(
    "answer",
    [
        lambda: error(503, **{"Retry-After": "0"}),
        lambda: error(429, **{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        lambda: error(500),
        lambda: error(502),
        lambda: error(408),
        lambda: error(401),
        lambda: error(403),
        lambda: web.Response(status=302, headers={"Location": "/login"}),
        lambda: error(422),
        lambda: mlflow_error(400, "BAD_REQUEST", "(sqlite3.IntegrityError) UNIQUE constraint failed"),
    ],
    ids=["503", "429_date", "500", "502", "408", "401", "403", "302", "422", "400_race"],
)
async def test_trouble_of_the_whole_server_parks_nothing_and_passes(
    stage: Stage, answer: Callable[[], web.Response]
) -> None:
    stage.mlflow.fault = lambda request, spans: answer()
    worker = await stage.start()
    await stage.append(named("a"))
    await stage.append(named("b"))
    await until(lambda: _is(worker.trouble is not None))
    assert await stage.letters() == []
    assert await stage.pending() == 2
    stage.mlflow.fault = None
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "b-0"}
    assert await stage.letters() == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: error(500), "poison"),
        (lambda: error(422), "poison"),
        (lambda: mlflow_error(400, "BAD_REQUEST"), "poison"),
        (lambda: mlflow_error(400, "INVALID_PARAMETER_VALUE"), "refused"),
        (lambda: error(413), "too_large"),
        (lambda: error(415), "refused"),
    ],
    ids=["500", "422", "400", "400_invalid", "413", "415"],
)
async def test_a_poison_span_is_parked_alone_and_its_neighbours_arrive(
    stage: Stage, answer: Callable[[], web.Response], reason: str
) -> None:
    stage.mlflow.fault = poison(answer, "poison-1")
    for number in range(7):
        await stage.append(named(f"n{number}", spans=2))
    await stage.append(named("poison", spans=3))
    await stage.start()
    await stage.drained()
    expected = {f"n{number}-{i}" for number in range(7) for i in range(2)} | {"poison-0", "poison-2"}
    assert stage.mlflow.names == expected
    (letter,) = await stage.letters()
    assert (letter.reason, letter.span_count) == (reason, 1)
    shown = await stage.journal.dead_letters(CONSUMER).one(letter.id)
    assert shown is not None
    (span,) = all_spans(ExportTraceServiceRequest.FromString(shown.payload))
    assert span.name == "poison-1"


async def test_a_lone_poison_span_waits_until_mlflow_is_proven_well(stage: Stage) -> None:
    stage.mlflow.fault = poison(lambda: error(500))
    worker = await stage.start()
    await stage.append(named("poison"))
    await until(lambda: _is(worker.trouble is not None))
    assert await stage.letters() == []
    await stage.append(named("healthy"), TWO)
    await until(lambda: _has_letters(stage, 1))
    assert await stage.pending() == 0


async def _has_letters(stage: Stage, count: int) -> bool:
    return len(await stage.letters()) == count


async def test_a_later_lone_poison_is_proven_by_the_control(stage: Stage) -> None:
    await stage.start()
    await stage.append(named("healthy"))
    await stage.drained()
    stage.mlflow.fault = poison(lambda: error(500))
    await stage.append(named("poison"), TWO)
    await until(lambda: _has_letters(stage, 1))


@pytest.mark.parametrize(
    "fault",
    [lambda: error(503), lambda: error(500), lambda: error(404)],
    ids=["503", "500", "404"],
)
async def test_one_lanes_trouble_does_not_hold_up_another(
    stage: Stage, fault: Callable[[], web.Response]
) -> None:
    stage.mlflow.fault = lambda request, spans: (
        fault() if request.headers["x-mlflow-experiment-id"] == "1" else None
    )
    await stage.start()
    for _ in range(20):
        await stage.append(export(), ONE)
    await delivers_soon(stage, TWO)


async def test_a_flood_in_one_lane_does_not_hold_up_another(stage: Stage) -> None:
    stage.mlflow.delay_seconds = 0.02
    for _ in range(200):
        await stage.append(export(), ONE)
    await stage.start(request_bytes=300)
    await until(lambda: _is(len(stage.mlflow.requests) > 5))
    await delivers_soon(stage, TWO)
    assert await stage.pending() > 0


async def test_an_unknown_experiment_is_parked_with_its_reason(stage: Stage) -> None:
    await stage.start()
    await stage.append(named("lost"), Route(experiment_id="77"))
    await until(lambda: _has_letters(stage, 1))
    (letter,) = await stage.letters()
    assert letter.reason == "unknown_experiment"
    assert "no such experiment" in letter.message


async def test_a_named_experiment_is_made_and_a_deleted_one_is_not_used(stage: Stage) -> None:
    stage.mlflow.experiments["9"] = "deleted once"
    await stage.start()
    await stage.append(named("new"), Route(experiment_name="fresh"))
    await stage.append(named("gone"), Route(experiment_name="deleted once"))
    await stage.drained()
    assert "fresh" in stage.mlflow.experiments.values()
    assert stage.mlflow.names == {"new-0"}
    (letter,) = await stage.letters()
    assert "is deleted" in letter.message


async def test_a_retried_dead_letter_is_delivered(stage: Stage) -> None:
    await stage.start()
    await stage.append(named("lost"), Route(experiment_id="77"))
    await until(lambda: _has_letters(stage, 1))
    stage.mlflow.experiments["77"] = "there now"

    async def retried_until_known() -> bool:
        await stage.journal.dead_letters(stage.consumer.name).retry(None)
        return "lost-0" in stage.mlflow.names

    await until(retried_until_known)


async def test_a_trace_of_another_experiment_is_refused(stage: Stage) -> None:
    await stage.start()
    mine = named("mine")
    await stage.append(mine, ONE)
    await stage.drained()
    theirs = named("theirs", spans=2)
    all_spans(theirs)[1].trace_id = trace_ids_of(mine).pop()
    await stage.append(theirs, TWO)
    await stage.drained()
    assert stage.mlflow.names == {"mine-0", "theirs-0"}
    (letter,) = await stage.letters()
    assert (letter.reason, letter.span_count) == ("foreign_trace", 1)


async def test_a_trace_of_another_experiment_may_be_allowed(stage: Stage) -> None:
    await stage.start(foreign_trace="allow")
    mine = named("mine")
    await stage.append(mine, ONE)
    await stage.drained()
    await stage.append(export(trace_ids=[trace_ids_of(mine).pop()]), TWO)
    await stage.drained()
    assert await stage.letters() == []
    assert len(stage.mlflow.stored) == 2


async def test_a_run_is_checked_and_passed_on_with_the_workspace(stage: Stage) -> None:
    stage.mlflow.runs = {"abc"}
    await stage.start()
    await stage.append(named("linked"), Route(experiment_id="1", run_id="abc", workspace="team"))
    await stage.drained()
    (_, _, headers) = stage.mlflow.requests[-1]
    assert headers["x-mlflow-run-id"] == "abc"
    assert headers["x-mlflow-workspace"] == "team"


async def test_an_unknown_run_is_a_dead_letter_or_delivered_without_link(stage: Stage) -> None:
    route = Route(experiment_id="1", run_id="nope")
    await stage.start()
    await stage.append(named("a"), route)
    await until(lambda: _has_letters(stage, 1))
    (letter,) = await stage.letters()
    assert letter.reason == "unknown_run"
    assert "nope" in letter.message
    await stage.stop()

    await stage.start(unknown_run="deliver-without-link")
    await stage.append(named("b"), route)
    await stage.drained()
    assert stage.mlflow.names == {"b-0"}
    assert "x-mlflow-run-id" not in stage.mlflow.requests[-1][2]


async def test_a_request_with_a_run_holds_100_traces_at_the_most(stage: Stage) -> None:
    stage.mlflow.runs = {"abc"}
    await stage.append(export(traces=250), Route(experiment_id="1", run_id="abc"))
    await stage.start()
    await stage.drained()
    sizes = [len({span.trace_id for span in spans}) for _, spans, _ in stage.mlflow.requests]
    assert sum(sizes) == 250
    assert max(sizes) <= 100
    assert len(stage.mlflow.stored) == 250


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ({"token": "t0ken"}, "Bearer t0ken"),
        ({"username": "me", "password": "pw"}, "Basic bWU6cHc="),
    ],
    ids=["bearer", "basic"],
)
async def test_mlflow_gets_our_credentials(stage: Stage, upstream: dict[str, str], expected: str) -> None:
    stage.upstream = upstream
    await stage.start()
    await stage.append(export())
    await stage.drained()
    assert stage.mlflow.requests[-1][2]["authorization"] == expected


async def test_verify_sends_again_what_mlflow_lost(stage: Stage) -> None:
    request = named("seen", spans=3)
    stage.mlflow.loses = {all_spans(request)[1].span_id}
    await stage.start(verify="all")
    await stage.append(request)
    await stage.drained()
    assert stage.mlflow.names == {"seen-0", "seen-1", "seen-2"}
    assert len(stage.mlflow.requests) == 2


async def test_verify_parks_what_mlflow_never_returns(stage: Stage) -> None:
    request = named("seen", spans=2)
    never = all_spans(request)[1].span_id

    def forget(_: web.Request, spans: list[Span]) -> None:
        stage.mlflow.loses.add(never)

    stage.mlflow.fault = forget
    await stage.start(verify="all")
    await stage.append(request)
    await stage.drained()
    (letter,) = await stage.letters()
    assert "does not return 1 spans" in letter.message
    assert stage.mlflow.names == {"seen-0"}


async def test_a_stop_ends_what_is_in_flight_at_a_clean_cursor(stage: Stage) -> None:
    stage.mlflow.delay_seconds = 0.3
    await stage.start()
    await stage.append(named("inflight"))
    await until(lambda: _is(bool(stage.mlflow.requests)))
    await stage.stop()
    assert await stage.pending() == 0
    assert stage.mlflow.names == {"inflight-0"}


async def test_cancelling_in_the_middle_of_a_request_keeps_the_entry(stage: Stage) -> None:
    stage.mlflow.delay_seconds = 5
    await stage.start()
    await stage.append(named("kept"))
    await until(lambda: _is(bool(stage.mlflow.requests)))
    await stage.cancel()
    assert await stage.pending() == 1


async def test_a_failed_send_and_a_stop_keep_the_entry(stage: Stage) -> None:
    await stage.mlflow_goes()
    worker = await stage.start()
    await stage.append(named("kept"))
    await until(lambda: _is(worker.trouble is not None))
    await stage.stop()
    assert await stage.pending() == 1
    await stage.mlflow_comes()
    await stage.start()
    await stage.drained()
    assert stage.mlflow.names == {"kept-0"}


async def test_a_bug_in_sending_keeps_the_entry(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from collector.delivery.mlflow import window

    real = window.send
    broken = True

    async def send(*args: Any, **kwargs: Any) -> Any:
        if broken:
            raise RuntimeError("nobody foresaw this")
        return await real(*args, **kwargs)

    monkeypatch.setattr(window, "send", send)
    worker = await stage.start()
    await stage.append(named("kept"))
    await until(lambda: _is("RuntimeError" in str(worker.trouble)))
    assert await stage.pending() == 1
    broken = False
    await stage.drained()
    assert stage.mlflow.names == {"kept-0"}


async def test_an_entry_that_killed_the_process_three_times_is_quarantined(stage: Stage) -> None:
    await stage.append(named("killer"))
    await stage.append(named("neighbour"))
    for _ in range(3):
        entries = await stage.consumer.read(ONE.lane, limit_bytes=2**20)
        await stage.consumer.mark(ONE.lane, through=entries[-1].position)
        await stage.stack.aclose()
        await stage.server.aclose()
        await stage.open()
    await stage.start()
    await stage.drained()
    (letter,) = await stage.letters()
    assert letter.reason == "quarantined"
    assert stage.mlflow.names == {"neighbour-0"}


async def test_requests_get_smaller_when_mlflow_does_not_answer_in_time(stage: Stage) -> None:
    stage.upstream = {"request_timeout_seconds": 0.3}

    def slow_for_many(_: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        stage.mlflow.delay_seconds = 1.0 if len(spans) > 60 else 0.0
        return None

    stage.mlflow.delay_seconds = 1.0
    stage.mlflow.fault = slow_for_many
    for _ in range(40):
        request = export(spans=3)
        all_spans(request)[0].attributes.add(key="pad").value.string_value = "x" * 10_000
        await stage.append(request)
    await stage.start(request_bytes=2**20)
    await stage.drained()
    assert len(stage.mlflow.stored) == 120


async def test_an_idle_trace_is_there_within_2_seconds_with_the_default_linger(stage: Stage) -> None:
    await stage.start(linger_seconds=DeliverySettings().linger_seconds)
    await asyncio.sleep(0.1)
    await delivers_soon(stage, ONE, seconds=2)
