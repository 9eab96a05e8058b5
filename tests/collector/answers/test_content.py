"""What spans were given and returned, whatever convention wrote it."""

import base64
import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.answers.content import MAX_SPANS, Extract, content
from collector.spans.mlflow_trace import read_export
from tests.support.otlp import agent_export, all_spans, export
from tests.support.spans import otlp_span

TRACE_ID = b"\x01" * 16


def holding(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    for number, span in enumerate(spans, 1):
        span.trace_id, span.span_id = TRACE_ID, number.to_bytes(8)
        scope_spans.spans.append(span)
    return request


@pytest.mark.parametrize(
    "attributes",
    [
        {"input.value": "hello", "output.value": "bye", "openinference.span.kind": "CHAIN"},
        {"mlflow.spanInputs": "hello", "mlflow.spanOutputs": "bye"},
        {"traceloop.entity.input": "hello", "traceloop.entity.output": "bye"},
    ],
    ids=["openinference", "mlflow", "openllmetry"],
)
def test_inputs_and_outputs_are_read_from_any_convention(attributes: dict[str, str]) -> None:
    (span,) = content(holding(otlp_span(attributes)), TRACE_ID, Extract())["spans"]
    assert "hello" in span["input"]["text"]
    assert "bye" in span["output"]["text"]


def test_an_agents_run_has_the_content_of_its_model_and_tool_calls() -> None:
    request = agent_export()
    trace_id = all_spans(request)[0].trace_id
    spans = content(request, trace_id, Extract(max_characters=100_000))["spans"]
    assert len(spans) == len(all_spans(request))
    assert all(span["input"] and span["output"] for span in spans)


def test_a_part_of_a_text_says_how_long_all_of_it_is() -> None:
    request = holding(otlp_span({"mlflow.spanInputs": "0123456789"}))
    (span,) = content(request, TRACE_ID, Extract(from_character=3, max_characters=4))["spans"]
    assert span["input"] == {"text": "3456", "characters": 10}
    assert span["output"] is None


def test_values_that_are_no_text_are_json() -> None:
    (span,) = content(holding(otlp_span({"mlflow.spanInputs": ["a", "b"]})), TRACE_ID, Extract())["spans"]
    assert json.loads(span["input"]["text"]) == ["a", "b"]


def test_of_a_stack_trace_the_end_comes_first() -> None:
    span = otlp_span({})
    event = span.events.add(name="exception")
    for part, text in (("type", "ValueError"), ("message", "no"), ("stacktrace", "outer\ninner\nraise")):
        event.attributes.add(key=f"exception.{part}").value.string_value = text
    (found,) = content(holding(span), TRACE_ID, Extract(max_characters=5))["spans"]
    (exception,) = found["exceptions"]
    assert exception["type"] == "ValueError"
    assert exception["stacktrace"] == {"text": "raise", "characters": 17}
    (found,) = content(holding(span), TRACE_ID, Extract(from_character=6, max_characters=5))["spans"]
    assert found["exceptions"][0]["stacktrace"]["text"] == "inner"


def test_only_the_spans_that_are_wanted_of_this_trace_in_the_order_of_their_start() -> None:
    spans = [otlp_span({}, start_time_unix_nano=100 - number) for number in range(3)]
    request = holding(*spans)
    request.MergeFrom(export(spans=2))
    ids = [span["span_id"] for span in content(request, TRACE_ID, Extract())["spans"]]
    assert ids == [number.to_bytes(8).hex() for number in (3, 2, 1)]
    wanted = Extract(span_ids=frozenset(ids[:1]))
    assert [span["span_id"] for span in content(request, TRACE_ID, wanted)["spans"]] == ids[:1]


def test_many_spans_are_bounded() -> None:
    request = holding(*(otlp_span({}) for _ in range(MAX_SPANS + 5)))
    found = content(request, TRACE_ID, Extract())
    assert (len(found["spans"]), found["spans_omitted"]) == (MAX_SPANS, 5)


def test_a_stack_trace_comes_back_from_mlflow_too() -> None:
    said = {"type": "ValueError", "message": "no", "stacktrace": "line 1\nraise"}
    attributes = [
        {"key": f"exception.{name}", "value": {"string_value": text}} for name, text in said.items()
    ]
    span = {
        "trace_id": base64.b64encode(TRACE_ID).decode(),
        "span_id": base64.b64encode(b"\x02" * 8).decode(),
        "name": "tool",
        "events": [{"name": "exception", "time_unix_nano": "5", "attributes": attributes}],
    }
    body = {"trace": {"trace_info": {"tags": {}}, "spans": [span]}}
    (found,) = content(read_export(json.dumps(body).encode()), TRACE_ID, Extract())["spans"]
    assert found["exceptions"][0]["stacktrace"]["text"] == "line 1\nraise"
