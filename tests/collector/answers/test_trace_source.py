"""One trace from the journal and from MLflow, whichever has it: over a real MLflow and over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as HttpRoute

from collector.answers.trace_source import FoundTrace, Pending, TraceSource, Unanswered
from collector.answers.traces import parse_trace_id
from collector.api.traces import ROUTES
from collector.journal import CannotTell
from collector.mlflow.client import MAX_ANSWER_BYTES, MAX_CONTENT_BYTES, Mlflow, MlflowAnswer, open_mlflow
from collector.model.batch import Route
from collector.settings import MlflowSettings
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.facts import export_facts
from collector.spans.mlflow_trace import read_trace
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceSummary
from tests.support.answers import own_app_with, traces_from
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, new_span_id, new_trace_id
from tests.support.ports import free_port
from tests.support.serve import serve
from tests.support.spans import TRACE_ID, otlp_span, payload, spanfacts

PAYLOADS = [
    "benchmark_trace",
    "pydantic_ai_v2_openinference",
    "pydantic_ai_v5_openinference",
    "pydantic_ai_v5_plain",
    "pydantic_ai_v5_tool_error",
    "pydantic_ai_v5_tool_retry",
]


def holding(*requests: ExportTraceServiceRequest) -> Pending:
    """A journal that holds these requests."""

    async def pending(trace_id: bytes) -> Sequence[bytes]:
        return [
            request.SerializeToString()
            for request in requests
            if any(span.trace_id == trace_id for span in all_spans(request))
        ]

    return pending


@dataclass
class Answering:
    """An MLflow that says the same to everything."""

    status: int
    body: bytes

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        is_cut = len(self.body) > max_bytes
        return MlflowAnswer(status=self.status, body=self.body[:max_bytes], headers={}, is_cut=is_cut)


UNKNOWN = Answering(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}')


def with_new_ids(request: ExportTraceServiceRequest) -> str:
    """Give the export's one trace new ids; returns the trace's."""
    trace_id = new_trace_id()
    span_ids: dict[bytes, bytes] = {}
    for span in all_spans(request):
        span.trace_id = trace_id
        span.span_id = span_ids.setdefault(span.span_id, new_span_id())
        if span.parent_span_id:
            span.parent_span_id = span_ids.setdefault(span.parent_span_id, new_span_id())
    return trace_id.hex()


@asynccontextmanager
async def mlflow_at(url: str) -> AsyncIterator[Mlflow]:
    """The service's own client of MLflow."""
    async with open_mlflow(MlflowSettings(url=url), max_connections=4) as client:
        yield client


async def post(server: MlflowServer, request: ExportTraceServiceRequest) -> None:
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
    body = request.SerializeToString()
    async with mlflow_at(server.url) as mlflow:
        answer = await mlflow.post("/v1/traces", body=body, headers=headers)
    assert answer.status == 200, answer.error


def summary_of(found: FoundTrace | Unanswered | None) -> TraceSummary:
    assert isinstance(found, FoundTrace)
    return summarise(
        found.spans,
        trace_id=found.trace_id,
        experiment_id=found.experiment_id,
        experiment_name=found.experiment_name,
        incomplete=found.incomplete,
    )


@pytest.mark.parametrize("name", PAYLOADS)
async def test_read_back_from_mlflow_every_number_is_that_of_the_payload(
    name: str, mlflow_server: MlflowServer
) -> None:
    request = payload(name)
    trace_id = with_new_ids(request)
    original = summarise(export_facts(request), trace_id=trace_id)
    await post(mlflow_server, request)
    async with mlflow_at(mlflow_server.url) as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow)
        stored = summary_of(await source.read(trace_id))
    assert (stored.experiment.id, stored.experiment.name) == ("0", "Default")
    assert stored.mlflow_path == f"/#/experiments/0/traces?selectedEvaluationId=tr-{trace_id}"
    assert replace(stored, experiment=original.experiment, mlflow_path=None) == original


OTHER_CONVENTIONS: list[Any] = [
    pytest.param({"gen_ai.conversation.id": "42", "gen_ai.agent.name": "7"}, id="digits_as_text"),
    pytest.param(
        {"ai.operationId": "ai.generateText", "ai.usage.inputTokens": 5, "ai.model.id": "m"}, id="vercel"
    ),
    pytest.param(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 5, "output": 2}',
            "langfuse.observation.cost_details": '{"total": 0.25}',
        },
        id="langfuse_json_text",
    ),
    pytest.param(
        {"mlflow.chat.tokenUsage": '{"input_tokens": 5, "output_tokens": 2}'}, id="mlflow_json_text"
    ),
    pytest.param(
        {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": ["stop", "length"]}, id="list"
    ),
    pytest.param({"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "retrieval"}, id="unknown"),
    pytest.param({"traceloop.span.kind": "task", "traceloop.entity.name": "step"}, id="traceloop"),
]


@pytest.mark.parametrize("attributes", OTHER_CONVENTIONS)
async def test_other_conventions_read_the_same_after_mlflow(
    attributes: dict[str, Any], mlflow_server: MlflowServer
) -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(otlp_span(attributes))
    trace_id = with_new_ids(request)
    [original] = export_facts(request)
    await post(mlflow_server, request)
    async with mlflow_at(mlflow_server.url) as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow)
        found = await source.read(trace_id)
    assert isinstance(found, FoundTrace)
    [stored] = found.spans
    # MLflow adds prices of its own for the models that it knows; these aren't among them
    assert stored == original


async def test_spans_of_both_places_make_one_trace(mlflow_server: MlflowServer) -> None:
    request = payload("pydantic_ai_v5_plain")
    trace_id = with_new_ids(request)
    whole = summarise(export_facts(request), trace_id=trace_id)
    delivered, waiting = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    for part in (delivered, waiting):
        part.CopyFrom(request)
    # two spans are in both places: delivered, and not yet deleted from the journal
    del delivered.resource_spans[0].scope_spans[0].spans[4:]
    del waiting.resource_spans[0].scope_spans[0].spans[:2]
    await post(mlflow_server, delivered)
    async with mlflow_at(mlflow_server.url) as mlflow:
        source = TraceSource(pending=holding(waiting), mlflow=mlflow)
        found = summary_of(await source.read(trace_id))
    assert (found.span_count, found.tokens, found.cost) == (6, whole.tokens, whole.cost)
    assert found.incomplete is None


async def test_a_trace_whose_root_mlflow_has_not_seen_is_answered_at_once(
    mlflow_server: MlflowServer,
) -> None:
    request = payload("pydantic_ai_v5_plain")
    trace_id = with_new_ids(request)
    del request.resource_spans[0].scope_spans[0].spans[-1]
    await post(mlflow_server, request)
    async with mlflow_at(mlflow_server.url) as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow, timeout_seconds=2)
        found = summary_of(await source.read(trace_id))
    assert (found.complete, found.missing_parents, found.span_count) == (False, 1, 5)


async def test_a_trace_that_nobody_knows_is_none(mlflow_server: MlflowServer) -> None:
    async with mlflow_at(mlflow_server.url) as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow)
        assert await source.read(new_trace_id().hex()) is None


# ---- MLflow away, slow, or strange


async def test_while_mlflow_is_away_the_journal_answers_and_says_so() -> None:
    request = payload("pydantic_ai_v5_plain")
    trace_id = with_new_ids(request)

    async def route_of(_: bytes) -> Route:
        return Route(experiment_name="weather")

    async with mlflow_at(f"http://127.0.0.1:{free_port()}") as mlflow:
        source = TraceSource(pending=holding(request), mlflow=mlflow, route_of=route_of)
        found = summary_of(await source.read(trace_id))
    assert (found.span_count, found.tokens.input) == (6, 829)
    assert found.incomplete == "MLflow could not be queried: no connection"
    assert (found.experiment.id, found.experiment.name) == (None, "weather")


async def test_while_mlflow_is_away_an_unknown_trace_is_not_called_unknown() -> None:
    async with mlflow_at(f"http://127.0.0.1:{free_port()}") as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow)
        assert await source.read(TRACE_ID) == Unanswered(reason="no connection")


async def test_mlflow_is_not_waited_for_longer_than_the_bound() -> None:
    async def slow(_: Request) -> Response:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.05)

        return StreamingResponse(endless())

    app = Starlette(routes=[HttpRoute("/{path:path}", slow)])
    async with serve(app) as url, mlflow_at(url) as mlflow:
        source = TraceSource(pending=holding(), mlflow=mlflow, timeout_seconds=0.3)
        assert await source.read(TRACE_ID) == Unanswered(reason="no response within 0.3 s")


STRANGE = {
    "server_error": (500, b"oops", "it responded with status 500"),
    "forbidden": (403, b"{}", "it responded with status 403"),
    "moved": (302, b"", "it responded with status 302"),
    "another_404": (404, b"<html>", "it responded with status 404"),
    "no_json": (200, b"<html>", "its response is unreadable"),
    "no_trace": (200, b'{"trace": []}', "its response is unreadable"),
    "null": (200, b"null", "its response is unreadable"),
    "deep": (200, b"[" * 100_000, "its response is unreadable"),
    "cut_at_the_bound": (
        200,
        b" " * (MAX_CONTENT_BYTES + 1),
        f"its response is larger than {MAX_CONTENT_BYTES} bytes",
    ),
}


@pytest.mark.parametrize(("status", "body", "reason"), STRANGE.values(), ids=STRANGE.keys())
async def test_a_strange_answer_is_no_answer(status: int, body: bytes, reason: str) -> None:
    source = TraceSource(pending=holding(), mlflow=Answering(status, body))
    assert await source.read(TRACE_ID) == Unanswered(reason=reason)


async def cannot_tell(_: bytes) -> CannotTell:
    return CannotTell(reason="this log keeps no index of traces")


NOT_KNOWN = "what waits for delivery is not known: this log keeps no index of traces"


async def test_a_log_that_cant_tell_what_waits_makes_an_answer_incomplete() -> None:
    source = TraceSource(pending=cannot_tell, mlflow=Answering(200, mlflow_document()))
    found = await source.read("0" * 31 + "1")
    assert isinstance(found, FoundTrace)
    assert (len(found.spans), found.incomplete) == (1, NOT_KNOWN)


async def test_a_log_that_cant_tell_makes_a_trace_that_mlflow_lacks_no_unknown_one() -> None:
    source = TraceSource(pending=cannot_tell, mlflow=UNKNOWN)
    assert await source.read(TRACE_ID) == Unanswered(reason=NOT_KNOWN)
    assert await source.export(TRACE_ID) == Unanswered(reason=NOT_KNOWN)


async def test_other_traces_in_the_same_payload_stay_out() -> None:
    request = payload("pydantic_ai_v5_plain")
    trace_id = with_new_ids(request)
    request.resource_spans[0].scope_spans[0].spans.append(otlp_span({}, trace_id=b"\x09" * 16))
    found = summary_of(await TraceSource(pending=holding(request), mlflow=UNKNOWN).read(trace_id))
    assert (found.span_count, found.incomplete) == (6, None)


def mlflow_document(*attributes: dict[str, Any], **fields: Any) -> bytes:
    span = {"trace_id": "AAAAAAAAAAAAAAAAAAAAAQ==", "span_id": "AAAAAAAAAAE=", "name": "chat"} | fields
    info = {"trace_location": {"mlflow_experiment": {"experiment_id": "3"}}, "tags": {"service.name": "shop"}}
    return json.dumps({"trace": {"trace_info": info, "spans": [span | {"attributes": attributes}]}}).encode()


def test_the_resource_is_read_from_the_traces_tags() -> None:
    [span] = read_trace(mlflow_document()).spans
    assert (span.service, span.trace_id, span.span_id) == ("shop", "0" * 31 + "1", "0" * 15 + "1")


def test_an_attribute_that_does_not_fit_is_left_out_and_the_rest_is_read() -> None:
    body = mlflow_document(
        {"key": "gen_ai.agent.name", "value": {"string_value": "\ud800"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"int_value": 10**30}},
        {"key": "gen_ai.usage.input_tokens", "value": {"int_value": "5"}},
        {"key": "user.id", "value": {"unheard_of": 1}},
        {"key": "session.id"},
    )
    [span] = read_trace(body).spans
    assert (span.agent, span.tokens.input, span.tokens.output) == (None, 5, None)


def test_a_price_that_mlflow_worked_out_is_called_mlflows() -> None:
    cost = {"key": "total_cost", "value": {"double_value": 0.5}}
    body = mlflow_document({"key": "mlflow.llm.cost", "value": {"kvlist_value": {"values": [cost]}}})
    [span] = read_trace(body).spans
    assert (span.cost_usd, span.cost_source) == (0.5, CostSource.MLFLOW)


# ---- over HTTP


@dataclass
class Finding:
    """A source that finds the same whatever it is asked for."""

    found: FoundTrace | Unanswered | None

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        assert len(trace_id) == 32 and trace_id == trace_id.lower()
        return self.found


async def asked(path: str, found: FoundTrace | Unanswered | None = None) -> tuple[int, Any, Any]:
    app = own_app_with(ROUTES, traces=traces_from(Finding(found)))
    async with serve(app) as url, mlflow_at(url) as client:
        answer = await client.get(path)
        return answer.status, answer.json(), answer.headers


async def test_the_api_answers_with_the_summary() -> None:
    found = FoundTrace(trace_id=TRACE_ID, spans=[spanfacts("a", kind=ObservationKind.LLM, usage=(5, 2))])
    for given in (TRACE_ID, TRACE_ID.upper(), f"tr-{TRACE_ID}", f"TR-{TRACE_ID}"):
        status, body, _ = await asked(f"/-/traces/{given}", found)
        assert (status, body["trace_id"], body["tokens"]["input"]) == (200, TRACE_ID, 5)


async def test_the_number_of_spans_is_the_callers_choice_within_bounds() -> None:
    found = FoundTrace(trace_id=TRACE_ID, spans=[spanfacts("a"), spanfacts("b", "a")])
    status, body, _ = await asked(f"/-/traces/{TRACE_ID}?max_spans=1", found)
    assert (status, len(body["spans"]), body["spans_omitted"]) == (200, 1, 1)
    for wrong in ("-1", "1e3", "", "30001", "٣"):
        status, body, _ = await asked(f"/-/traces/{TRACE_ID}?max_spans={wrong}", found)
        assert (status, body["error"]["parameter"]) == (400, "max_spans")


@pytest.mark.parametrize("given", ["stats!", "abc", "g" * 32, TRACE_ID + "0", f"tr-tr-{TRACE_ID}"])
async def test_an_id_that_is_none_is_refused_with_what_is_allowed(given: str) -> None:
    status, body, _ = await asked(f"/-/traces/{given}")
    assert status == 400
    assert body["error"]["parameter"] == "trace_id"
    assert body["error"]["value"] == given
    assert "32 hex digits" in body["error"]["message"]


async def test_an_unknown_trace_is_404_and_an_unanswered_question_503() -> None:
    status, body, _ = await asked(f"/-/traces/{TRACE_ID}", None)
    assert (status, body["error"]["value"]) == (404, TRACE_ID)
    status, body, headers = await asked(f"/-/traces/{TRACE_ID}", Unanswered(reason="no connection"))
    assert (status, headers["retry-after"]) == (503, "2")
    assert "no connection" in body["error"]["message"]


def test_only_ascii_hex_is_a_trace_id() -> None:
    assert parse_trace_id("٠" * 32) is None
    assert parse_trace_id(f" tr-{TRACE_ID.upper()}\n") == TRACE_ID
