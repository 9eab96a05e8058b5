"""Log records with real parts: judgements become MLflow's assessments, content reaches its span."""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.cli import remote
from tests.support.forked import sidespan_command
from tests.support.logs import any_value, logs, record, result
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export, new_span_id, new_trace_id
from tests.support.senders import post
from tests.support.sidespan import Sidespan

T = TypeVar("T")
SECONDS = 60


@pytest.fixture(scope="module")
def service(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """One for all tests that don't stop it."""
    data_dir = tmp_path_factory.mktemp("logs") / "data"
    service = Sidespan(data_dir=data_dir, mlflow_url=mlflow_server.url)
    service.start()
    yield service
    service.kill()


def until(found: Callable[[], T | None]) -> T:
    """What `found` returns, once it is something."""
    deadline = time.monotonic() + SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return value


def send_spans(service: Sidespan, experiment_id: str, *spans: Span) -> None:
    request = export(trace_ids=[spans[0].trace_id])
    del request.resource_spans[0].scope_spans[0].spans[:]
    request.resource_spans[0].scope_spans[0].spans.extend(spans)
    headers = {"x-mlflow-experiment-id": experiment_id}
    assert post(service.port, request.SerializeToString(), headers)[0] == 200


def send_logs(service: Sidespan, experiment_id: str, *records: LogRecord) -> None:
    request = urllib.request.Request(
        f"{service.url}/v1/logs",
        data=logs(*records).SerializeToString(),
        headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment_id},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def span_of(trace_id: bytes, **attributes: Any) -> Span:
    span = all_spans(export(trace_ids=[trace_id]))[0]
    for key, value in attributes.items():
        span.attributes.add(key=key.replace("__", ".")).value.CopyFrom(any_value(value))
    return span


def trace_in(mlflow: MlflowServer, trace_id: bytes) -> dict[str, Any]:
    """The trace as MLflow has it; empty if it has none."""
    url = f"{mlflow.url}/api/3.0/mlflow/traces/get?trace_id=tr-{trace_id.hex()}&allow_partial=true"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())["trace"]
            return found
    except urllib.error.HTTPError:
        return {}


def assessments(mlflow: MlflowServer, trace_id: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = trace_in(mlflow, trace_id).get("trace_info", {}).get("assessments", [])
    return found


def wait_processed(service: Sidespan) -> None:
    until(lambda: service.health()["parts"]["logs"]["pending_records"] == 0 or None)


@pytest.mark.parametrize("comes_first", ["the_trace", "the_evaluation"])
def test_an_evaluation_becomes_an_assessment_of_its_span(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str, comes_first: str
) -> None:
    trace_id = new_trace_id()
    span = span_of(trace_id)
    said = result(
        "relevance",
        trace_id=trace_id,
        span_id=span.span_id,
        value=0.75,
        label="so so",
        explanation="It names the city.",
        time_unix_nano=1_700_000_000_123_000_000,
    )
    if comes_first == "the_evaluation":
        send_logs(service, experiment_id, said)
        until(lambda: service.health()["parts"]["logs"]["reason"].startswith("processing") or None)
    send_spans(service, experiment_id, span)
    if comes_first == "the_trace":
        until(lambda: trace_in(mlflow_server, trace_id) or None)
        send_logs(service, experiment_id, said)
    (found,) = until(lambda: assessments(mlflow_server, trace_id) or None)
    assert found["assessment_name"] == "relevance"
    assert found["feedback"]["value"] == 0.75
    assert found["rationale"] == "It names the city."
    assert found["source"] == {"source_type": "CODE", "source_id": "relevance"}
    assert found["span_id"] == span.span_id.hex()
    assert found["create_time"].startswith("2023-11-14T22:13:20.123")
    assert found["metadata"]["sidespan.label"] == "so so"


VALUES = [
    pytest.param({"value": 1.0, "label": "pass"}, {"value": True}, id="pass"),
    pytest.param({"value": 0.0, "label": "fail"}, {"value": False}, id="fail"),
    pytest.param({"label": "good"}, {"value": "good"}, id="label"),
    pytest.param({"value": 3}, {"value": 3.0}, id="number"),
    pytest.param({"explanation": "only words"}, {"value": "only words"}, id="words"),
    pytest.param({"sidespan__evaluation__value": '{"a": [1]}'}, {"value": {"a": [1]}}, id="object"),
    pytest.param(
        {"error__type": "TimeoutError", "explanation": "took long"},
        {"value": None, "error": {"error_code": "TimeoutError", "error_message": "took long"}},
        id="failed_evaluator",
    ),
]


def test_each_kind_of_value_is_what_mlflow_shows(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id = new_trace_id()
    send_spans(service, experiment_id, span_of(trace_id))
    given = {str(case.id): case.values for case in VALUES}
    records = [result(name, trace_id=trace_id, **said) for name, (said, _) in given.items()]  # type: ignore[misc]
    send_logs(service, experiment_id, *records)
    wait_processed(service)
    found = {each["assessment_name"]: each["feedback"] for each in assessments(mlflow_server, trace_id)}
    assert found == {name: expected for name, (_, expected) in given.items()}


def test_a_repeated_evaluation_is_one_assessment(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id = new_trace_id()
    said = result("relevance", trace_id=trace_id, value=1.0)
    send_logs(service, experiment_id, said, said)
    send_logs(service, experiment_id, said)
    send_spans(service, experiment_id, span_of(trace_id))
    wait_processed(service)
    send_logs(service, experiment_id, said)
    wait_processed(service)
    assert len(assessments(mlflow_server, trace_id)) == 1


def test_an_evaluation_finds_its_span_by_the_response_it_names(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id = new_trace_id()
    other = span_of(new_trace_id(), gen_ai__response__id="resp_10")
    span = span_of(trace_id, gen_ai__response__id="resp_1")
    send_spans(service, experiment_id, span)
    send_spans(service, experiment_id, other)
    send_logs(service, experiment_id, result("relevance", value=1.0, gen_ai__response__id="resp_1"))
    wait_processed(service)
    (found,) = assessments(mlflow_server, trace_id)
    assert found["span_id"] == span.span_id.hex()
    assert assessments(mlflow_server, other.trace_id) == []


def test_a_score_of_a_session_goes_to_its_last_trace(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    first, last = (span_of(new_trace_id(), session__id="chat '7'") for _ in range(2))
    last.start_time_unix_nano += 10**9
    last.end_time_unix_nano += 10**9
    for span in (last, first):
        send_spans(service, experiment_id, span)
    until(lambda: trace_in(mlflow_server, first.trace_id) and trace_in(mlflow_server, last.trace_id) or None)
    send_logs(service, experiment_id, result("helped", value=1.0, session__id="chat '7'"))
    wait_processed(service)
    (found,) = assessments(mlflow_server, last.trace_id)
    assert found["metadata"]["mlflow.trace.session"] == "chat '7'"
    assert assessments(mlflow_server, first.trace_id) == []


@pytest.mark.parametrize(
    "named",
    [
        pytest.param({"session__id": "chat-8"}, id="session"),
        pytest.param({"gen_ai__response__id": "resp_twice"}, id="response"),
    ],
)
def test_an_evaluation_stays_where_it_is_when_it_comes_again_later(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str, named: dict[str, Any]
) -> None:
    """The session has gone on by then, or another span has the same response."""
    first, last = (span_of(new_trace_id(), **named) for _ in range(2))
    last.start_time_unix_nano += 10**9
    last.end_time_unix_nano += 10**9
    said = result("helped", value=1.0, **named)
    newer = result("harmless", value=1.0, **named)
    send_spans(service, experiment_id, first)
    send_logs(service, experiment_id, said)
    wait_processed(service)
    (before,) = assessments(mlflow_server, first.trace_id)
    send_spans(service, experiment_id, last)
    until(lambda: trace_in(mlflow_server, last.trace_id) or None)
    send_logs(service, experiment_id, said, newer)
    wait_processed(service)
    assert assessments(mlflow_server, first.trace_id) == [before]
    assert [each["assessment_name"] for each in assessments(mlflow_server, last.trace_id)] == ["harmless"]


def test_judgements_on_spans_become_assessments(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id = new_trace_id()
    said = {"annotations.0.annotation.name": "tone", "annotations.0.annotation.label": "kind"}
    span = span_of(trace_id, **said | {"annotations.0.annotation.annotator_kind": "HUMAN"})
    event = Span.Event(name="gen_ai.evaluation.result", time_unix_nano=7)
    event.attributes.add(key="gen_ai.evaluation.name").value.string_value = "relevance"
    event.attributes.add(key="gen_ai.evaluation.score.value").value.double_value = 0.5
    span.events.append(event)
    for _ in range(2):  # a client sends a request again whose answer was lost
        send_spans(service, experiment_id, span)
        until(lambda: assessments(mlflow_server, trace_id) or None)
        service.wait_delivered(120)
        wait_processed(service)
    found = {each["assessment_name"]: each for each in assessments(mlflow_server, trace_id)}
    assert len(assessments(mlflow_server, trace_id)) == 2
    assert found["tone"]["feedback"] == {"value": "kind"}
    assert found["tone"]["source"]["source_type"] == "HUMAN"
    assert found["relevance"]["feedback"] == {"value": 0.5}
    assert found["relevance"]["span_id"] == span.span_id.hex()


def messages_of(trace: dict[str, Any]) -> list[str]:
    return [event["name"] for span in trace.get("spans", []) for event in span.get("events", [])]


@pytest.mark.parametrize("comes_first", ["the_span", "the_content"])
def test_content_of_log_records_reaches_its_span(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str, comes_first: str
) -> None:
    trace_id, span_id = new_trace_id(), new_span_id()
    span = span_of(trace_id, gen_ai__operation__name="chat", gen_ai__request__model="gpt-5")
    span.span_id = span_id
    question = record("gen_ai.user.message", trace_id=trace_id, span_id=span_id, body={"content": "Sunny?"})
    choice = record(
        "gen_ai.choice",
        trace_id=trace_id,
        span_id=span_id,
        body={"index": 0, "message": {"role": "assistant", "content": "Yes."}},
    )
    if comes_first == "the_content":
        send_logs(service, experiment_id, question)
        send_logs(service, experiment_id, choice)
        send_spans(service, experiment_id, span)
    else:
        send_spans(service, experiment_id, span)
        until(lambda: trace_in(mlflow_server, trace_id) or None)
        send_logs(service, experiment_id, question)
        wait_processed(service)
        send_logs(service, experiment_id, choice, question)
    wait_processed(service)
    trace = trace_in(mlflow_server, trace_id)
    assert sorted(messages_of(trace)) == ["gen_ai.choice", "gen_ai.user.message"]
    (found,) = trace["spans"]
    attributes = {each["key"]: each["value"] for each in found["attributes"]}
    assert attributes["gen_ai.request.model"] == {"string_value": "gpt-5"}
    assert attributes["mlflow.spanType"] == {"string_value": "CHAT_MODEL"}
    assert "Sunny?" in trace["trace_info"]["request_preview"]
    assert "Yes." in trace["trace_info"]["response_preview"]


@pytest.mark.parametrize("comes_first", ["the_span", "the_content"])
def test_details_of_an_inference_are_the_request_and_the_response(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str, comes_first: str
) -> None:
    trace_id, span_id = new_trace_id(), new_span_id()
    span = span_of(trace_id, gen_ai__operation__name="chat", gen_ai__request__model="gpt-5")
    span.span_id = span_id
    said = [{"role": "user", "parts": [{"type": "text", "content": "Sunny?"}]}]
    answered = [
        {"role": "assistant", "parts": [{"type": "text", "content": "Yes."}], "finish_reason": "stop"}
    ]
    details = record(
        "gen_ai.client.inference.operation.details",
        trace_id=trace_id,
        span_id=span_id,
        gen_ai__input__messages=said,
        gen_ai__output__messages=answered,
    )
    if comes_first == "the_content":
        send_logs(service, experiment_id, details)
        send_spans(service, experiment_id, span)
    else:
        send_spans(service, experiment_id, span)
        until(lambda: trace_in(mlflow_server, trace_id) or None)
        send_logs(service, experiment_id, details)
    wait_processed(service)
    info = trace_in(mlflow_server, trace_id)["trace_info"]
    assert "Sunny?" in info["request_preview"]
    assert "Yes." in info["response_preview"]


REPEATS: dict[str, Callable[[Span], None]] = {
    "as_it_was": lambda span: None,
    "with_more_attributes": lambda span: span.attributes.add(key="late").value.CopyFrom(any_value(1)),
    "with_an_event_of_its_own": lambda span: span.events.add(name="exception").ClearField("attributes"),
}


def send_with_content(
    service: Sidespan, mlflow: MlflowServer, experiment_id: str, **attributes: Any
) -> tuple[Span, bytes]:
    """A model call that is in MLflow with what log records said of it."""
    trace_id, span_id = new_trace_id(), new_span_id()
    span = span_of(trace_id, gen_ai__operation__name="chat", gen_ai__request__model="gpt-5", **attributes)
    span.span_id = span_id
    send_spans(service, experiment_id, span)
    until(lambda: trace_in(mlflow, trace_id) or None)
    said = {"index": 0, "message": {"role": "assistant", "content": "Yes."}}
    question = record("gen_ai.user.message", trace_id=trace_id, span_id=span_id, body={"content": "Sunny?"})
    send_logs(
        service,
        experiment_id,
        question,
        record("gen_ai.choice", trace_id=trace_id, span_id=span_id, body=said),
    )
    wait_processed(service)
    assert sorted(messages_of(trace_in(mlflow, trace_id))) == ["gen_ai.choice", "gen_ai.user.message"]
    return span, trace_id


def assert_content_is_there(mlflow: MlflowServer, trace_id: bytes, span_id: bytes) -> dict[str, Any]:
    """The span as MLflow has it."""
    trace = trace_in(mlflow, trace_id)
    assert {"gen_ai.choice", "gen_ai.user.message"} <= set(messages_of(trace))
    assert "Sunny?" in trace["trace_info"]["request_preview"]
    assert "Yes." in trace["trace_info"]["response_preview"]
    (found,) = (span for span in trace["spans"] if base64.b64decode(span["span_id"]) == span_id)
    return {each["key"]: each["value"] for each in found["attributes"]}


@pytest.mark.parametrize("change", REPEATS.values(), ids=REPEATS)
def test_a_span_that_is_sent_again_keeps_its_content(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str, change: Callable[[Span], None]
) -> None:
    span, trace_id = send_with_content(service, mlflow_server, experiment_id)
    change(span)
    span.attributes.add(key="again").value.CopyFrom(any_value(True))
    for _ in range(2):
        send_spans(service, experiment_id, span)
        service.wait_delivered(120)
        attributes = assert_content_is_there(mlflow_server, trace_id, span.span_id)
        assert "again" in attributes, "the client's newest word"
    names = [event["name"] for each in trace_in(mlflow_server, trace_id)["spans"] for event in each["events"]]
    assert len(names) == len(set(names)), "each event once"


def test_a_span_of_which_a_later_one_tells_more_keeps_its_content(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    """Two instrumentations tell of one call, so MLflow is told of the inner span once more."""
    above = new_span_id()
    call, trace_id = send_with_content(
        service, mlflow_server, experiment_id, gen_ai__usage__input_tokens=9, gen_ai__usage__output_tokens=2
    )
    call.parent_span_id = above
    send_spans(service, experiment_id, call)
    service.wait_delivered(120)
    outer = span_of(
        trace_id,
        gen_ai__operation__name="chat",
        gen_ai__request__model="gpt-5",
        gen_ai__usage__input_tokens=9,
        gen_ai__usage__output_tokens=2,
        gen_ai__usage__cache_read__input_tokens=4,
    )
    outer.span_id = above
    send_spans(service, experiment_id, outer)
    service.wait_delivered(120)
    trace = trace_in(mlflow_server, trace_id)
    assert {"gen_ai.choice", "gen_ai.user.message"} <= set(messages_of(trace))


def test_after_a_kill_a_span_that_is_sent_again_keeps_its_content(
    mlflow_server: MlflowServer, experiment_id: str, tmp_path: Path
) -> None:
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    service.start()
    try:
        span, trace_id = send_with_content(service, mlflow_server, experiment_id)
        service.kill()
        service.start()
        send_spans(service, experiment_id, span)
        service.wait_delivered(120)
        assert_content_is_there(mlflow_server, trace_id, span.span_id)
    finally:
        service.kill()


def test_records_that_say_nothing_of_traces_are_dropped_and_counted(
    service: Sidespan, experiment_id: str
) -> None:
    send_logs(service, experiment_id, record("app.started"), record("", body="plain text"))
    until(lambda: _counted(service, 'outcome="other"') == 2 or None)
    assert service.health()["parts"]["logs"]["dead_letters"] == 0


def _counted(service: Sidespan, labels: str) -> float:
    with urllib.request.urlopen(f"{service.url}/-/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    name = f"sidespan_log_records_delivered_total{{{labels}}} "
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_an_evaluation_whose_trace_never_comes_becomes_a_dead_letter(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.environment = {"SIDESPAN_DELIVERY__LOG_WAIT_SECONDS": "0.5"}
    sidespan.start()
    trace_id = new_trace_id()
    send_logs(sidespan, experiment_id, result("relevance", trace_id=trace_id, value=1.0))
    part = until(lambda: (part := sidespan.health()["parts"]["logs"])["dead_letters"] and part or None)
    assert (part["dead_letter_records"], part["pending_records"], part["ok"]) == (1, 0, True)
    listed = cli(sidespan, "dead-letters", "list")
    assert "1 log records  logs  no_trace" in listed
    assert f"no trace with the id {trace_id.hex()} has arrived within 0.5 seconds" in listed
    (letter,) = remote.get_json(sidespan.url, "/-/dead-letters")["dead_letters"]
    shown = json.loads(cli(sidespan, "dead-letters", "show", str(letter["id"])))
    (found,) = shown["export"]["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert (found["traceId"], found["eventName"]) == (trace_id.hex(), "gen_ai.evaluation.result")

    send_spans(sidespan, experiment_id, span_of(trace_id))
    sidespan.wait_delivered(60)
    assert "1 dead letters retried" in cli(sidespan, "dead-letters", "retry", "--all")
    until(lambda: assessments(mlflow_server, trace_id) or None)
    assert sidespan.health()["parts"]["logs"]["dead_letters"] == 0


def cli(service: Sidespan, *command: str) -> str:
    done = sidespan_command(*command, "--url", service.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_evaluations_are_there_once_after_kills(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    trace_ids = [new_trace_id() for _ in range(20)]
    sidespan.start()
    for trace_id in trace_ids:
        send_spans(sidespan, experiment_id, span_of(trace_id))
    for number in range(3):
        names = [f"score {number}.{n}" for n in range(4)]
        records = [result(name, trace_id=id, value=1.0) for id in trace_ids for name in names]
        send_logs(sidespan, experiment_id, *records)
        before = 4 * len(_some(trace_ids)) * number
        until(lambda least=before: _count(mlflow_server, trace_ids) > least or None)  # type: ignore[misc]
        sidespan.kill()
        sidespan.start()
    wait_processed(sidespan)
    found = [[each["assessment_name"] for each in assessments(mlflow_server, id)] for id in trace_ids]
    assert all(len(set(names)) == 12 for names in found)
    assert all(len(names) == 12 for names in found), "one of each"
    assert sidespan.health()["parts"]["logs"]["dead_letters"] == 0


def _count(mlflow: MlflowServer, trace_ids: list[bytes]) -> int:
    return sum(len(assessments(mlflow, trace_id)) for trace_id in _some(trace_ids))


def _some(trace_ids: list[bytes]) -> list[bytes]:
    return trace_ids[:3] + trace_ids[-3:]
