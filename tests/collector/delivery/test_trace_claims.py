"""Two clients send the same trace id into two experiments: both sides stay apart, and neither is lost."""

import asyncio

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.mlflow.forward import Forwarded
from collector.delivery.mlflow.turns import Turns
from collector.model.batch import Route
from tests.support.fake_mlflow import error
from tests.support.otlp import all_spans, new_trace_id
from tests.support.stage import ONE, TWO, Stage, named, until
from tests.support.timing import patient, within

T = new_trace_id()
OWNER, STRANGER = ("owner", ONE), ("stranger", TWO)
SIDES = [OWNER, STRANGER]


@pytest.fixture
async def stage(stage: Stage) -> Stage:
    """With clients that are told apart."""
    stage.check_owners = True
    return stage


def side(name: str) -> ExportTraceServiceRequest:
    request = named(name, spans=2)
    for span in all_spans(request):
        span.trace_id = T
    return request


async def send(stage: Stage, who: tuple[str, Route]) -> None:
    client, route = who
    await stage.append(side(client), route, client=client)


async def letters_of(stage: Stage) -> dict[str, tuple[str, int]]:
    """Reason and spans by client."""
    return {letter.client: (letter.reason, letter.span_count) for letter in await stage.letters()}


def failing(stage: Stage, route: Route) -> None:
    """MLflow takes nothing for this experiment."""
    stage.mlflow.fault = lambda request, spans: (
        error(503) if request.headers["x-mlflow-experiment-id"] == route.experiment_id else None
    )


async def is_apart(stage: Stage) -> tuple[str, str]:
    """Who has the trace in MLflow, and who is in the dead letters; both whole, and nothing mixed."""
    letters = await letters_of(stage)
    ((parked, (reason, count)),) = letters.items()
    (stored,) = {"owner", "stranger"} - {parked}
    assert (reason, count) == ("foreign_trace", 2)
    assert stage.mlflow.names == {f"{stored}-0", f"{stored}-1"}
    assert stage.mlflow.homes == {T: dict(SIDES)[stored].experiment_id}
    return stored, parked


@pytest.mark.parametrize("first", SIDES, ids=["owner_first", "stranger_first"])
async def test_who_is_delivered_first_has_the_trace_id(stage: Stage, first: tuple[str, Route]) -> None:
    await stage.start()
    (second,) = [each for each in SIDES if each != first]
    await send(stage, first)
    await stage.drained()
    await send(stage, second)
    await stage.drained()
    assert await is_apart(stage) == (first[0], second[0])


@pytest.mark.parametrize("first", SIDES, ids=["owner_first", "stranger_first"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same_process", "restarted"])
async def test_a_claim_of_which_nothing_is_delivered_keeps_nobody_out(
    stage: Stage, first: tuple[str, Route], restarted: bool
) -> None:
    (second,) = [each for each in SIDES if each != first]
    failing(stage, first[1])
    await stage.start()
    stage.target.turns = Turns(doubt_seconds=0.1)
    await send(stage, first)
    await until(lambda: stage.waits())
    if restarted:
        await stage.restart()
    await send(stage, second)
    await until(lambda: _has(stage, second[0]))
    stage.mlflow.fault = None
    await stage.drained()
    assert await is_apart(stage) == (second[0], first[0])


async def _has(stage: Stage, name: str) -> bool:
    return f"{name}-0" in stage.mlflow.names


@pytest.mark.parametrize("first", SIDES, ids=["owner_first", "stranger_first"])
async def test_what_mlflow_refuses_of_one_is_the_others(stage: Stage, first: tuple[str, Route]) -> None:
    (second,) = [each for each in SIDES if each != first]

    def refuses(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        return error(415) if any(span.name.startswith(first[0]) for span in spans) else None

    stage.mlflow.fault = refuses
    await stage.start()
    await send(stage, first)
    await stage.drained()
    await send(stage, second)
    await stage.drained()
    assert {letter.reason for letter in await stage.letters()} == {"refused"}
    assert stage.mlflow.names == {f"{second[0]}-0", f"{second[0]}-1"}


@pytest.mark.parametrize("order", [SIDES, SIDES[::-1]], ids=["owner_first", "stranger_first"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same_process", "restarted"])
async def test_both_wait_while_mlflow_is_away_and_stay_apart_when_it_returns(
    stage: Stage, order: list[tuple[str, Route]], restarted: bool
) -> None:
    await stage.start()
    await stage.append(named("warm"), ONE)
    await stage.append(named("up"), TWO)
    await stage.drained()
    stage.mlflow.stored.clear()
    stage.mlflow.homes.clear()
    await stage.mlflow_goes()
    for each in order:
        await send(stage, each)
    await until(lambda: stage.waits())
    assert await stage.letters() == []
    assert await stage.pending() == 4
    if restarted:
        await stage.restart()
    else:
        await stage.mlflow_comes()
    await stage.drained()
    await is_apart(stage)


async def test_an_answer_that_was_lost_doesnt_give_the_trace_id_to_both(stage: Stage) -> None:
    def stores_and_fails(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        if request.headers["x-mlflow-experiment-id"] == "1":
            return None
        stage.mlflow.store(spans, "2")
        return error(503)

    stage.mlflow.fault = stores_and_fails
    await stage.start()
    await send(stage, STRANGER)
    await until(lambda: stage.waits())
    await stage.restart()
    await send(stage, OWNER)
    await until(lambda: stage.has_letters(1))
    stage.mlflow.fault = None
    await stage.drained()
    assert await is_apart(stage) == ("stranger", "owner")


async def test_who_comes_second_waits_while_the_first_is_being_sent(stage: Stage) -> None:
    stage.mlflow.delay_of = lambda experiment_id: 0.5 if experiment_id == "2" else 0.0
    await stage.start()
    await send(stage, STRANGER)
    await stage.until_requests(1)
    await send(stage, OWNER)
    await stage.append(named("other"), Route(experiment_id="1", run_id=None, workspace="w"), client="third")
    await until(lambda: _has(stage, "other"))
    assert len(stage.mlflow.requests) == 2, "a third client waits for nobody"
    await stage.drained()
    stage.mlflow.stored = {key: name for key, name in stage.mlflow.stored.items() if key[0] == T}
    stage.mlflow.homes = {T: stage.mlflow.homes[T]}
    assert await is_apart(stage) == ("stranger", "owner")


async def test_a_client_that_sends_an_id_into_two_experiments_keeps_its_first_claim(stage: Stage) -> None:
    failing(stage, ONE)
    await stage.start()
    await stage.append(side("a"), ONE, client="owner")
    await until(lambda: stage.waits())
    await stage.append(side("b"), TWO, client="owner")
    await until(lambda: stage.has_letters(1))
    stage.mlflow.fault = None
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "a-1"}


async def test_what_the_settings_leave_out_claims_nothing(stage: Stage) -> None:
    def forward(payload: bytes, *_: object) -> Forwarded:
        kept = b"stranger" not in payload
        return Forwarded(body=payload if kept else b"", withheld_spans=0 if kept else 2)

    stage.forward = forward
    await stage.start()
    await send(stage, STRANGER)
    await stage.drained()
    await send(stage, OWNER)
    await stage.drained()
    assert await stage.letters() == []
    assert stage.mlflow.names == {"owner-0", "owner-1"}


async def test_a_retry_delivers_once_the_others_trace_is_gone(stage: Stage) -> None:
    await stage.start()
    await send(stage, STRANGER)
    await stage.drained()
    await send(stage, OWNER)
    await until(lambda: stage.has_letters(1))
    await stage.journal.dead_letters(stage.consumer.name).retry(None)
    await until(lambda: stage.has_letters(1))
    await stage.drained()
    assert await is_apart(stage) == ("stranger", "owner")
    stage.mlflow.homes.clear()
    stage.mlflow.stored.clear()
    await stage.journal.dead_letters(stage.consumer.name).retry(None)
    await stage.drained()
    assert await stage.letters() == []
    assert stage.mlflow.homes == {T: "1"}


async def test_where_nobody_is_told_apart_the_first_claim_holds(stage: Stage) -> None:
    stage.check_owners = False
    failing(stage, TWO)
    await stage.start()
    await stage.append(side("a"), TWO)
    await until(lambda: stage.waits())
    await stage.append(side("b"), ONE)
    await until(lambda: stage.has_letters(1))
    stage.mlflow.fault = None
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "a-1"}


# turns


async def test_turns_are_taken_in_the_order_of_asking() -> None:
    turns, seen = Turns(), []

    async def window(owner: str, name: str, ids: set[bytes]) -> None:
        async with turns.take(owner, ids):
            seen.append(f"{name} begins")
            await asyncio.sleep(0.02)
            seen.append(f"{name} ends")

    async with asyncio.TaskGroup() as group:
        for owner, name, ids in [
            ("s", "s1", {b"1", b"2"}),
            ("o", "o", {b"2", b"3"}),
            ("s", "s2", {b"2"}),
            ("t", "t", {b"9"}),
        ]:
            group.create_task(window(owner, name, ids))
            await asyncio.sleep(0)
    order = [each for each in seen if not each.startswith("t")]
    assert order == ["s1 begins", "s1 ends", "o begins", "o ends", "s2 begins", "s2 ends"]
    assert seen.index("t begins") < seen.index("s1 ends")


@patient
async def test_after_a_turn_in_doubt_others_wait_longer_and_its_owner_doesnt() -> None:
    turns = Turns(doubt_seconds=0.2)
    loop = asyncio.get_running_loop()
    async with turns.take("s", {b"1"}) as turn:
        turn.in_doubt = True
    ended = loop.time()
    with within(0.1):
        async with turns.take("s", {b"1"}):
            pass
    async with turns.take("o", {b"1"}):
        assert loop.time() - ended >= 0.19


async def test_who_stops_waiting_lets_the_next_one_in() -> None:
    turns = Turns()
    async with turns.take("s", {b"1"}):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), turns.take("o", {b"1"}):
                raise AssertionError("it was not free")
    async with asyncio.timeout(60), turns.take("t", {b"1"}):
        pass
