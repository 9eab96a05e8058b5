"""Judgements on their way to MLflow: once, whatever MLflow answers, and never at another's cost."""

import asyncio
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.delivery.logs import lookup, window
from collector.delivery.mlflow import turns
from collector.delivery.mlflow.forward import forwarder
from collector.model.batch import Route, Signal
from collector.processors.keep import KeepReason, SamplingDecision, note_of
from collector.settings import HarmoniseSettings
from collector.spans.score_facts import record_fact
from tests.support.fake_mlflow import error, mlflow_error
from tests.support.logs import all_records, record, result
from tests.support.otlp import export, new_trace_id
from tests.support.stage import ONE, TWO, Stage, until


@pytest.fixture(autouse=True)
def _no_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write without an answer is looked for at once."""
    monkeypatch.setattr(window, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(turns, "DOUBT_SECONDS", 0.01)


async def with_trace(stage: Stage, **changes: Any) -> bytes:
    """Workers, and a trace that MLflow has in experiment 1."""
    await stage.start()
    await stage.start_logs(**changes)
    trace_id = new_trace_id()
    await stage.append(export(trace_ids=[trace_id]))
    await stage.drained()
    return trace_id


async def counts(stage: Stage, expected: float, metric: str, **labels: str) -> None:
    """A window is counted a moment after its commit."""

    async def is_counted() -> bool:
        return stage.counted(f"sidespan_log_records_{metric}_total", **labels) == expected

    await until(is_counted)


def names(stage: Stage) -> list[str]:
    return sorted(each["assessment_name"] for _, each in stage.mlflow.assessments)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: error(503), id="unavailable"),
        pytest.param(lambda _: mlflow_error(500, "INTERNAL_ERROR"), id="internal_error"),
        pytest.param(lambda _: error(401), id="unauthenticated"),
    ],
)
async def test_a_write_whose_answer_is_lost_is_not_written_again(stage: Stage, answer: Any) -> None:
    trace_id = await with_trace(stage)
    answers = [answer, answer]
    stage.mlflow.lost_answer = lambda said: answers.pop()(said) if answers else None
    await stage.append_logs(*[result(f"s{n}", trace_id=trace_id, value=1.0) for n in range(5)])
    await until(stage.logs_are_done)
    assert names(stage) == [f"s{n}" for n in range(5)]


async def test_a_write_that_times_out_is_not_written_again(stage: Stage) -> None:
    stage.upstream = {"request_timeout_seconds": 0.3}
    trace_id = await with_trace(stage)
    stage.mlflow.slow_answers = [1.0]
    await stage.append_logs(*[result(f"s{n}", trace_id=trace_id, value=1.0) for n in range(5)])
    await until(stage.logs_are_done)
    assert names(stage) == [f"s{n}" for n in range(5)]


async def test_a_judgement_that_mlflow_refuses_costs_itself_only(stage: Stage) -> None:
    trace_id = await with_trace(stage)
    refused = mlflow_error(400, "INVALID_PARAMETER_VALUE", "a bad name")
    stage.mlflow.refusal = lambda said: refused if said["assessment_name"] == "bad" else None
    await stage.append_logs(*[result(name, trace_id=trace_id, value=1.0) for name in ("a", "bad", "b")])
    await until(stage.logs_are_done)
    assert names(stage) == ["a", "b"]
    (letter,) = await stage.log_letters()
    assert (letter.reason, letter.span_count) == ("refused", 1)
    assert "a bad name" in letter.message
    await counts(stage, 2, "delivered", outcome="assessment")
    await counts(stage, 1, "dead_lettered", reason="refused")


async def test_a_judgement_at_which_mlflow_fails_again_and_again_is_poison(stage: Stage) -> None:
    trace_id = await with_trace(stage)
    stage.mlflow.refusal = lambda said: (
        mlflow_error(500, "INTERNAL_ERROR", "a bug") if said["assessment_name"] == "bad" else None
    )
    await stage.append_logs(*[result(name, trace_id=trace_id, value=1.0) for name in ("a", "bad", "b")])
    await until(stage.logs_are_done)
    assert names(stage) == ["a", "b"]
    assert [letter.reason for letter in await stage.log_letters()] == ["poison"]


async def test_nothing_is_given_up_while_mlflow_is_away(stage: Stage) -> None:
    trace_id = await with_trace(stage, log_wait_seconds=0.0)
    await stage.mlflow_goes()
    await stage.append_logs(result("a", trace_id=trace_id, value=1.0))

    async def waits() -> bool:
        return stage.log_worker.trouble is not None

    await until(waits)
    assert not await stage.logs_are_done()
    await stage.mlflow_comes()
    await until(stage.logs_are_done)
    assert names(stage) == ["a"]


async def test_what_waits_for_its_trace_holds_nobody_up(stage: Stage) -> None:
    trace_id = await with_trace(stage)
    never = new_trace_id()
    await stage.append_logs(result("early", trace_id=never, value=1.0))
    await stage.append_logs(result("a", trace_id=trace_id, value=1.0))

    async def one_waits() -> bool:
        return names(stage) == ["a"] and (await stage.logs.state()).pending_spans == 1

    await until(one_waits)
    assert stage.log_worker.trouble is None, "waiting for a trace is no trouble"
    await stage.append(export(trace_ids=[never]))
    await until(stage.logs_are_done)
    assert names(stage) == ["a", "early"]


async def test_the_bound_holds_only_once_the_spans_of_that_time_are_delivered(stage: Stage) -> None:
    await stage.start(linger_seconds=1.0)
    await stage.start_logs(log_wait_seconds=0.2)
    trace_id = new_trace_id()
    await stage.append(export(trace_ids=[trace_id]))
    await stage.append_logs(result("a", trace_id=trace_id, value=1.0))
    await until(stage.logs_are_done)
    assert names(stage) == ["a"]
    assert await stage.log_letters() == []


async def test_with_clients_a_judgement_stays_in_its_experiment(stage: Stage) -> None:
    stage.check_owners = True
    trace_id = await with_trace(stage)
    await stage.append_logs(result("foreign", trace_id=trace_id, value=1.0), route=TWO)
    await stage.append_logs(result("own", trace_id=trace_id, value=1.0), route=ONE)
    await until(stage.logs_are_done)
    assert names(stage) == ["own"]
    assert [letter.reason for letter in await stage.log_letters()] == ["foreign_experiment"]


async def test_the_index_is_told_where_mlflow_has_what_does_not_say_so_itself(stage: Stage) -> None:
    """Also where the first write of it had no answer; what names its own trace it reads by itself."""
    trace_id = await with_trace(stage)
    stage.log_target.scores_to = "index"
    answers = [lambda _: error(503)]
    stage.mlflow.lost_answer = lambda said: answers.pop()(said) if answers else None
    foreign = result("foreign", trace_id=trace_id, value=0.5)
    await stage.append_logs(foreign, route=TWO)
    await stage.append_logs(result("own", trace_id=trace_id, value=1.0))
    await until(stage.logs_are_done)
    assert names(stage) == ["foreign", "own"]
    told = await stage.journal.consumer("index").read(ONE.lane_of(Signal.LOGS), limit_bytes=2**20)
    facts = [
        record_fact(each, received_unix_ns=entry.received_unix_ns)
        for entry in told
        for each in all_records(ExportLogsServiceRequest.FromString(entry.payload))
    ]
    assert set(facts) == {record_fact(foreign, received_unix_ns=1)}


async def session_goes_on(stage: Stage, turns: int = 1) -> bytes:
    """One more trace of the session, or several; the last."""
    for _ in range(turns):
        trace_id = new_trace_id()
        stage.mlflow.sessions[trace_id] = "chat-7"
        await stage.append(export(trace_ids=[trace_id]))
        await stage.drained()
    return trace_id


async def sent_again(stage: Stage, said: LogRecord) -> None:
    await stage.append_logs(said)


async def replayed(stage: Stage, said: LogRecord) -> None:
    assert await stage.logs.replay(since_unix_ns=0) == 1


@pytest.mark.parametrize("turns", [1, 5], ids=["by_a_turn", "by_pages_of_turns"])
@pytest.mark.parametrize("comes_again", [sent_again, replayed])
async def test_a_judgement_that_comes_again_once_its_session_has_gone_on_is_written_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, comes_again: Any, turns: int
) -> None:
    monkeypatch.setattr(lookup, "TRACES_PER_PAGE", 2)
    stage.retention_seconds = 600.0
    await stage.close()
    await stage.open()
    await with_trace(stage)
    stage.log_target.scores_to = "index"
    first = await session_goes_on(stage)
    said = result("helped", value=1.0, session__id="chat-7")
    await stage.append_logs(said)
    await until(stage.logs_are_done)
    await session_goes_on(stage, turns)
    await comes_again(stage, said)
    await counts(stage, 1, "delivered", outcome="repeated")
    assert [trace_id for trace_id, _ in stage.mlflow.assessments] == [first]
    told = await stage.journal.consumer("index").read(ONE.lane_of(Signal.LOGS), limit_bytes=2**20)
    assert {trace_id for entry in told for trace_id in entry.trace_ids} == {first}


async def test_a_crash_before_the_commit_does_not_write_it_again_when_the_session_has_gone_on(
    stage: Stage,
) -> None:
    await with_trace(stage)
    first = await session_goes_on(stage)
    answers = [lambda _: error(503)]
    stage.mlflow.lost_answer = lambda said: answers.pop()(said) if answers else None
    stage.mlflow.slow_answers = [60.0]
    await stage.append_logs(result("helped", value=1.0, session__id="chat-7"))

    async def is_written() -> bool:
        return bool(stage.mlflow.assessments)

    await until(is_written)
    stage.log_task.cancel()
    await asyncio.gather(stage.log_task, return_exceptions=True)
    await session_goes_on(stage)
    await stage.start_logs()
    await until(stage.logs_are_done)
    assert [trace_id for trace_id, _ in stage.mlflow.assessments] == [first]


async def test_a_judgement_on_two_ways_at_once_is_written_once(stage: Stage) -> None:
    """The second looks for it once the first is written, wherever the session is by then."""
    await with_trace(stage)
    stage.mlflow.may_assess = asyncio.Event()
    stage.mlflow.runs.add("run")
    first = await session_goes_on(stage)
    said = result("helped", value=1.0, session__id="chat-7")
    await stage.append_logs(said)

    async def is_being_written() -> bool:
        return stage.mlflow.assessing > 0

    await until(is_being_written)
    await session_goes_on(stage)
    await stage.append_logs(said, route=Route(experiment_id="1", run_id="run"))
    await asyncio.sleep(0.3)  # it must not do anything now
    stage.mlflow.may_assess.set()
    await until(stage.logs_are_done)
    assert [trace_id for trace_id, _ in stage.mlflow.assessments] == [first]


async def test_a_judgement_of_a_trace_that_sampling_drops_is_dropped(stage: Stage) -> None:
    stage.behind, stage.forward = "sampling", forwarder(HarmoniseSettings())
    await stage.close()
    await stage.open()
    await stage.start()
    await stage.start_logs()
    trace_id = new_trace_id()
    await stage.append(export(trace_ids=[trace_id]))
    dropped = note_of(SamplingDecision(reason=KeepReason.NOT_SAMPLED))
    sampling = stage.journal.consumer("sampling")
    (entry,) = await sampling.read(ONE.lane, limit_bytes=2**20)
    await sampling.commit(ONE.lane, through=entry.position, remember={trace_id: dropped})
    await stage.append_logs(result("a", trace_id=trace_id, value=1.0))
    await until(stage.logs_are_done)
    assert stage.mlflow.assessments == []
    await counts(stage, 1, "delivered", outcome="sampled_out")


async def test_an_entry_that_kills_the_service_again_and_again_is_quarantined(stage: Stage) -> None:
    await stage.start()
    await stage.append_logs(result("a", trace_id=new_trace_id(), value=1.0))
    for _ in range(3):
        logs = stage.journal.consumer("logs")
        (entry,) = await logs.read(ONE.lane_of(_logs()), limit_bytes=2**20)
        await logs.mark(entry.lane, through=entry.position)
        await stage.restart()
    await stage.start_logs()
    await until(stage.logs_are_done)
    assert [letter.reason for letter in await stage.log_letters()] == ["quarantined"]


def _logs() -> Any:
    from collector.model.batch import Signal

    return Signal.LOGS


async def test_records_that_are_not_for_mlflow_ask_it_nothing(stage: Stage) -> None:
    await stage.start()
    await stage.start_logs()
    await stage.mlflow_goes()
    await stage.append_logs(record("app.started"), record("", body="text"))
    await until(stage.logs_are_done)
    await counts(stage, 2, "delivered", outcome="other")
