"""Lanes don't wait for each other, and inside a lane a trace keeps its order."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable

import pytest
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.model.batch import Route
from collector.settings import DeliverySettings
from tests.support.fake_mlflow import error
from tests.support.otlp import all_spans, export, new_trace_id
from tests.support.stage import ONE, TWO, Stage, delivers_soon, named, poison, until


async def test_slow_requests_of_one_lane_dont_hold_up_another(stage: Stage) -> None:
    """Lane 1 has minutes of work; what lane 2 waits for is a turn, not the end of that."""
    stage.mlflow.delay_of = lambda experiment_id: 0.8 if experiment_id == "1" else 0.0
    for _ in range(60):
        await stage.append(export(), ONE)
    await stage.start(request_bytes=200)
    await until(lambda: stage.has_requests(2))
    await delivers_soon(stage, TWO)
    assert await stage.pending() > 0


async def test_a_flood_of_poison_in_one_lane_doesnt_hold_up_another(stage: Stage) -> None:
    """Each poison span costs re-sends with pauses between them; nobody else may pay for the pauses."""
    stage.mlflow.fault = poison(lambda: error(500))
    for _ in range(60):
        await stage.append(named("poison"), ONE)
    resends = DeliverySettings().suspect_resends
    await stage.start(request_bytes=200, suspect_resends=resends)
    await until(lambda: stage.has_requests(2))
    await delivers_soon(stage, TWO)
    assert await stage.pending() > 0


async def test_a_lane_that_waits_for_a_lookup_doesnt_hold_up_another(stage: Stage) -> None:
    def hang(request: web.Request) -> web.StreamResponse | None:
        return error(503) if request.query.get("experiment_name") == "never" else None

    stage.mlflow.lookup = hang
    await stage.start()
    await stage.append(named("never"), Route(experiment_name="never"))
    await until(lambda: stage.waits())
    await delivers_soon(stage, TWO)
    assert await stage.letters() == []


async def test_lanes_of_one_experiment_are_lanes_too(stage: Stage) -> None:
    """A run that MLflow doesn't know yet waits for nobody, and nobody for it."""
    stage.mlflow.lookup = lambda request: error(503) if "run_id" in request.query else None
    await stage.start()
    await stage.append(named("run"), Route(experiment_id="1", run_id="r"))
    await until(lambda: stage.waits())
    await delivers_soon(stage, ONE)


async def test_more_lanes_than_are_served_at_once_all_have_their_turn(stage: Stage) -> None:
    stage.mlflow.delay_seconds = 0.01
    stage.mlflow.experiments |= {str(n): f"e{n}" for n in range(20, 40)}
    await stage.start(max_lanes=2)
    for number in range(20, 40):
        for _ in range(3):
            await stage.append(named(f"lane {number}"), Route(experiment_id=str(number)))
    await stage.drained()
    assert stage.mlflow.names == {f"lane {number}-0" for number in range(20, 40)}
    assert len(stage.mlflow.stored) == 60


async def test_lanes_that_wait_take_no_turns(stage: Stage) -> None:
    stage.mlflow.fault = lambda request, spans: (
        error(503) if request.headers["x-mlflow-experiment-id"] != "2" else None
    )
    stage.mlflow.experiments |= {str(n): f"e{n}" for n in range(20, 30)}
    await stage.start(max_lanes=1)
    for number in range(20, 30):
        await stage.append(export(), Route(experiment_id=str(number)))
    await until(lambda: stage.waits())
    await delivers_soon(stage, TWO)


async def test_the_spans_of_a_trace_arrive_in_the_order_they_came(stage: Stage) -> None:
    """Thirty traces grow at the same time, over many windows with several requests in flight."""
    traces = [new_trace_id() for _ in range(30)]
    await stage.start(request_bytes=400, max_in_flight=4)

    def shuffle(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        stage.mlflow.delay_seconds = 0.02 if len(stage.mlflow.requests) % 3 else 0.0
        return error(503) if len(stage.mlflow.requests) % 7 == 0 else None

    stage.mlflow.fault = shuffle
    for number in range(12):
        for trace_id in traces:
            request = export(trace_ids=[trace_id])
            all_spans(request)[0].name = f"{number:02}"
            await stage.append(request)
        await asyncio.sleep(0.01)
    await stage.drained()
    arrived: defaultdict[bytes, list[str]] = defaultdict(list)
    for trace_id, name in stage.mlflow.arrivals:
        if name not in arrived[trace_id]:  # a re-send repeats, it doesn't overtake
            arrived[trace_id].append(name)
    assert dict(arrived) == {trace_id: [f"{n:02}" for n in range(12)] for trace_id in traces}


async def test_a_replay_in_the_middle_of_a_request_sends_everything_again(stage: Stage) -> None:
    stage.retention_seconds = 3600
    await stage.stack.aclose()
    await stage.server.aclose()
    await stage.open()
    await stage.start()
    await stage.append(named("done"))
    await stage.drained()
    stage.mlflow.delay_seconds = 0.3
    await stage.append(named("in flight"))
    await until(lambda: stage.has_requests(2))
    stage.mlflow.stored.clear()
    assert await stage.consumer.replay(since_unix_ns=0) == 1
    stage.mlflow.delay_seconds = 0
    await stage.drained()
    assert stage.mlflow.names == {"done-0", "in flight-0"}


@pytest.mark.parametrize("wish", [lambda: "1", lambda: http_date(2)], ids=["seconds", "date"])
async def test_the_servers_wish_is_granted(stage: Stage, wish: Callable[[], str]) -> None:
    at: list[float] = []

    def busy(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        at.append(time.monotonic())
        return error(429, **{"Retry-After": wish()}) if len(at) == 1 else None

    stage.mlflow.fault = busy
    await stage.start()
    await stage.append(named("a"))
    await stage.drained()
    assert len(at) == 2
    assert at[1] - at[0] >= 0.95


def http_date(seconds: int) -> str:
    from email.utils import formatdate

    return formatdate(time.time() + seconds, usegmt=True)
