"""What a request to MLflow is like, and how it gets smaller."""

import random
from collections.abc import Callable

import pytest
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.model.batch import Route
from tests.support.fake_mlflow import error, mlflow_error
from tests.support.otlp import all_spans, export, trace_ids_of
from tests.support.stage import ONE, TWO, Stage, named, until


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "identity"])
async def test_a_body_is_compressed_if_it_shall_be(stage: Stage, compress: bool) -> None:
    stage.compress = compress
    await stage.start()
    await stage.append(named("a", spans=3))
    await stage.drained()
    (_, _, headers) = stage.mlflow.requests[-1]
    assert headers.get("content-encoding") == ("gzip" if compress else None)
    assert headers["content-type"] == "application/x-protobuf"
    assert len(stage.mlflow.stored) == 3


async def test_spans_arrive_as_they_were(stage: Stage) -> None:
    request = named("a", spans=2)
    all_spans(request)[0].attributes.add(key="k").value.array_value.values.add().bytes_value = b"\x00\xff"
    request.resource_spans[0].resource.attributes.add(key="r").value.double_value = 0.1
    await stage.start()
    await stage.append(request)
    await stage.drained()
    (_, spans, _) = stage.mlflow.requests[-1]
    assert spans == all_spans(request)


async def test_what_is_too_large_for_mlflow_is_sent_in_parts(stage: Stage) -> None:
    def at_most_4_spans(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        return error(413) if len(spans) > 4 else None

    stage.mlflow.fault = at_most_4_spans
    for number in range(10):
        await stage.append(named(f"t{number}", spans=3))
    await stage.start()
    await stage.drained()
    assert len(stage.mlflow.stored) == 30
    assert await stage.letters() == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda: mlflow_error(400, "BAD_REQUEST", "(sqlite3.IntegrityError) UNIQUE constraint failed"),
        lambda: error(500),
        lambda: error(422, "Failed to log"),
    ],
    ids=["400", "500", "422"],
)
async def test_a_race_inside_mlflow_costs_a_resend_and_nothing_else(
    stage: Stage, answer: Callable[[], web.Response]
) -> None:
    stage.mlflow.fault = lambda request, spans: answer() if len(stage.mlflow.requests) <= 1 else None
    await stage.start()
    await stage.append(named("a", spans=4))
    await stage.drained()
    assert len(stage.mlflow.stored) == 4
    assert [len(spans) for _, spans, _ in stage.mlflow.requests] == [4, 4]
    assert await stage.letters() == []


async def test_a_connection_cut_in_the_middle_of_the_answer_is_a_resend(stage: Stage) -> None:
    def cut(request: web.Request, spans: list[Span]) -> web.StreamResponse | None:
        if len(stage.mlflow.requests) <= 2:
            assert request.transport is not None
            request.transport.abort()
        return None

    stage.mlflow.fault = cut
    await stage.start()
    await stage.append(named("a"))
    await stage.drained()
    assert stage.mlflow.names == {"a-0"}
    assert len(stage.mlflow.requests) >= 3
    assert await stage.letters() == []


async def test_one_large_export_is_cut_by_trace_when_mlflow_is_too_slow_for_it(stage: Stage) -> None:
    """A client may send in one request more than MLflow can store before the time is over."""
    stage.upstream = {"request_timeout_seconds": 0.3}
    stage.mlflow.delay_of_spans = lambda spans: 1.0 if len(spans) > 60 else 0.0
    request = export(traces=40, spans=5)
    for span in all_spans(request):
        span.attributes.add(key="pad").value.string_value = "x" * 2000
    await stage.append(request)
    await stage.start(request_bytes=2**20)
    await stage.drained()
    assert len(stage.mlflow.stored) == 200
    seen = [{span.trace_id for span in spans} for _, spans, _ in stage.mlflow.requests if len(spans) <= 60]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 40, "no trace went in two of them"


async def test_a_busy_mlflow_that_speaks_of_time_gets_no_smaller_requests(stage: Stage) -> None:
    answers = [error(503, "the database did not answer in time") for _ in range(2)]
    stage.mlflow.fault = lambda request, spans: answers.pop() if answers else None
    for number in range(400):
        await stage.append(named("x" * 1000 + str(number)))
    await stage.start(request_bytes=2**20, linger_seconds=0.0)
    await stage.drained()
    assert {len(spans) for _, spans, _ in stage.mlflow.requests} == {400}


async def test_a_request_keeps_to_its_bound_though_the_export_was_larger(stage: Stage) -> None:
    await stage.append(export(traces=100, spans=3))
    await stage.start(request_bytes=4000)
    await stage.drained()
    assert len(stage.mlflow.stored) == 300
    assert max(len(spans) for _, spans, _ in stage.mlflow.requests) < 60


async def test_requests_of_a_run_keep_to_100_traces_and_to_the_bytes(stage: Stage) -> None:
    stage.mlflow.runs = {"abc"}
    for _ in range(130):
        await stage.append(export(traces=2), Route(experiment_id="1", run_id="abc"))
    await stage.start()
    await stage.drained()
    sizes = [len({span.trace_id for span in spans}) for _, spans, _ in stage.mlflow.requests]
    assert sum(sizes) == 260
    assert max(sizes) <= 100


async def test_the_workspace_goes_with_every_request(stage: Stage) -> None:
    stage.mlflow.runs = {"abc"}
    await stage.start(verify="all")
    await stage.append(named("a"), Route(experiment_name="new", run_id="abc", workspace="team"))
    await stage.drained()
    asked = {path.rsplit("/", 1)[-1]: headers for path, _, headers in stage.mlflow.lookups}
    assert set(asked) == {"get-by-name", "create", "get", "batchGet"}
    assert {headers.get("x-mlflow-workspace") for headers in asked.values()} == {"team"}


async def test_a_workspace_where_mlflow_has_none_is_a_dead_letter_and_no_wait_for_ever(
    stage: Stage,
) -> None:
    stage.mlflow.lookup = lambda request: (
        mlflow_error(500, "FEATURE_DISABLED", "workspaces are not enabled on this server")
        if "x-mlflow-workspace" in request.headers
        else None
    )
    await stage.start()
    await stage.append(named("a"), Route(experiment_id="1", workspace="team"))
    await until(lambda: stage.has_letters(1))
    (letter,) = await stage.letters()
    assert "workspaces are not enabled" in letter.message


async def test_two_workspaces_may_have_the_same_experiment_id_but_not_the_same_trace(stage: Stage) -> None:
    await stage.start()
    request = named("a")
    await stage.append(request, Route(experiment_id="1", workspace="here"))
    await stage.drained()
    await stage.append(export(trace_ids=trace_ids_of(request)), Route(experiment_id="1", workspace="there"))
    await stage.drained()
    (letter,) = await stage.letters()
    assert letter.reason == "foreign_trace"


async def test_without_verify_nothing_is_read_back(stage: Stage) -> None:
    await stage.start(verify="off")
    await stage.append(export())
    await stage.drained()
    assert [path for path, _, _ in stage.mlflow.lookups if path.endswith("batchGet")] == []


async def test_a_sample_is_read_back(stage: Stage) -> None:
    await stage.start(verify="sample", verify_sample_ratio=0.5)
    stage.target.sample = random.Random(3)
    for _ in range(30):
        await stage.append(export())
        await stage.drained()
    read_back = [path for path, _, _ in stage.mlflow.lookups if path.endswith("batchGet")]
    assert 5 <= len(read_back) <= 25


async def test_a_read_back_that_fails_parks_nothing(stage: Stage) -> None:
    stage.mlflow.lookup = lambda request: error(500) if request.path.endswith("batchGet") else None
    await stage.start(verify="all")
    await stage.append(named("a"))
    await until(lambda: stage.waits())
    assert await stage.pending() == 1
    assert await stage.letters() == []
    stage.mlflow.lookup = None
    await stage.drained()
    assert stage.mlflow.names == {"a-0"}


async def test_an_experiment_that_goes_away_is_asked_for_again(stage: Stage) -> None:
    await stage.start()
    await stage.append(named("before"))
    await stage.drained()
    del stage.mlflow.experiments["1"]
    await stage.append(named("after"))
    await until(lambda: stage.has_letters(1))
    (letter,) = await stage.letters()
    assert letter.reason == "unknown_experiment"


async def test_what_a_dead_letter_was_is_delivered_by_retry_with_all_its_spans(stage: Stage) -> None:
    stage.mlflow.fault = lambda request, spans: error(415)
    await stage.start()
    await stage.append(named("a", spans=3), ONE)
    await stage.append(named("b", spans=2), TWO)
    await until(lambda: stage.has_letters(5))
    stage.mlflow.fault = None
    assert await stage.journal.dead_letters(stage.consumer.name).retry(None) == 5
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "a-1", "a-2", "b-0", "b-1"}
    assert await stage.letters() == []


async def test_a_stop_while_mlflow_is_away_is_quick(stage: Stage) -> None:
    await stage.mlflow_goes()
    await stage.start(backoff_initial_seconds=60.0, backoff_max_seconds=60.0)
    await stage.append(named("a"))
    await until(lambda: stage.waits())
    await stage.stop()
    assert await stage.pending() == 1


async def test_metrics_count_what_became_of_spans(stage: Stage) -> None:
    stage.mlflow.fault = lambda request, spans: (
        error(415) if any(span.name == "bad-0" for span in spans) else None
    )
    await stage.start()
    await stage.append(named("good", spans=3))
    await stage.append(named("bad"), TWO)
    await stage.drained()
    registry = stage.metrics.registry
    assert registry.get_sample_value("sidespan_spans_delivered_total") == 3
    labels = {"reason": "refused"}
    assert registry.get_sample_value("sidespan_spans_dead_lettered_total", labels) == 1
