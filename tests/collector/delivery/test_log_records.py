"""What log records come to, without MLflow: sorting, assessments, content onto spans."""

import base64
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.delivery.logs.assessments import KEY, assessment_of, keys_of
from collector.delivery.logs.join import join
from collector.delivery.logs.sorting import RecordKind, by_entry, export_of, sort_records
from collector.model.batch import Entry, Position, Route, Signal
from collector.spans.facts import decode_attributes
from collector.spans.scores import Judge, Score
from tests.support.logs import all_records, logs, record, result
from tests.support.otlp import all_spans

TRACE, SPAN = bytes(range(16)), bytes(range(8))
PLACE: dict[str, Any] = {"trace_id": TRACE, "span_id": SPAN}
DETAILS = "gen_ai.client.inference.operation.details"


def entry_of(*records: LogRecord, position: int = 1) -> Entry:
    return Entry(
        position=Position(position),
        received_unix_ns=position,
        lane=Route(experiment_id="1").lane_of(Signal.LOGS),
        payload=logs(*records).SerializeToString(),
        span_count=len(records),
        trace_ids=frozenset({TRACE}),
    )


def flagged(flags: int) -> LogRecord:
    found = record("gen_ai.choice", **PLACE)
    found.flags = flags
    return found


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(result("a", value=1.0, **PLACE), RecordKind.SCORE, id="evaluation"),
        pytest.param(result("a", value=1.0), RecordKind.SCORE, id="evaluation_without_a_trace"),
        pytest.param(result("a", **PLACE), RecordKind.OTHER, id="evaluation_that_says_nothing"),
        pytest.param(record(DETAILS, **PLACE), RecordKind.CONTENT, id="details"),
        pytest.param(record("gen_ai.system.message", **PLACE), RecordKind.CONTENT, id="system_message"),
        pytest.param(record("gen_ai.tool.message", **PLACE), RecordKind.CONTENT, id="tool_message"),
        pytest.param(record("gen_ai.choice", **PLACE), RecordKind.CONTENT, id="choice"),
        pytest.param(record("gen_ai.choice", trace_id=TRACE), RecordKind.OTHER, id="content_of_no_span"),
        pytest.param(flagged(0x01), RecordKind.CONTENT, id="content_of_a_sampled_span"),
        pytest.param(flagged(0x100), RecordKind.UNSAMPLED, id="content_of_a_span_that_is_not_recorded"),
        pytest.param(record("app.started", **PLACE), RecordKind.OTHER, id="another_event"),
        pytest.param(record("", body="text", **PLACE), RecordKind.OTHER, id="plain_log"),
        pytest.param(record("", event__name="gen_ai.choice", **PLACE), RecordKind.CONTENT, id="older_sdk"),
    ],
)
def test_a_record_is_sorted_by_what_it_is_for(given: LogRecord, kind: RecordKind) -> None:
    (found,) = sort_records([entry_of(given)])
    assert found.kind is kind


def test_records_that_go_on_keep_their_resource_and_their_entry() -> None:
    entries = [entry_of(record("a"), record("b")), entry_of(record("c"), position=2)]
    items = sort_records(entries)
    (first, of_first), (second, of_second) = by_entry([items[1], items[2]])
    assert (first, second) == (entries[0], entries[1])
    written = ExportLogsServiceRequest.FromString(export_of([*of_first, *of_second]))
    assert [each.event_name for each in all_records(written)] == ["b", "c"]
    names = [each.resource.attributes[0].value.string_value for each in written.resource_logs]
    assert names == ["tests", "tests"]


def test_an_assessment_is_found_again_by_its_key() -> None:
    score = Score(name="a", value=0.5, trace_id=TRACE.hex(), judge=Judge.HUMAN, source="ann", time_unix_ns=1)
    written = assessment_of(score, trace_id=TRACE.hex(), span_id=None, received_unix_ns=5)["assessment"]
    on_span = {"metadata": {KEY: "other"}, "span_id": "00000000000000ab"}
    info = {"assessments": [written, on_span, {"metadata": {KEY: 7}}, {}, None]}
    assert keys_of(info) == {score.key: None, "other": "00000000000000ab"}
    assert "span_id" not in written


def test_a_long_explanation_is_cut() -> None:
    score = Score(name="a", explanation="x" * 20)
    given = {"trace_id": "0" * 32, "span_id": None, "received_unix_ns": 1}
    assert assessment_of(score, max_characters=5, **given)["assessment"]["rationale"] == "xxxx…"


def test_an_assessment_without_a_time_has_that_of_its_arrival() -> None:
    score = Score(name="a", value=0.5)
    at = 1_700_000_000_000_000_000
    written = assessment_of(score, trace_id="0" * 32, span_id=None, received_unix_ns=at)["assessment"]
    assert written["create_time"] == "2023-11-14T22:13:20.000Z"


def stored(*events: dict[str, Any], **attributes: Any) -> bytes:
    """A trace of one span as MLflow answers it."""
    span = {
        "trace_id": base64.b64encode(TRACE).decode(),
        "span_id": base64.b64encode(SPAN).decode(),
        "name": "chat",
        "start_time_unix_nano": 1,
        "end_time_unix_nano": 2,
        "attributes": [{"key": key.replace("__", "."), "value": value} for key, value in attributes.items()],
        "events": list(events),
    }
    info = {"trace_location": {"mlflow_experiment": {"experiment_id": "1"}}, "tags": {"service.name": "s"}}
    return json.dumps({"trace": {"trace_info": info, "spans": [span]}}).encode()


def test_content_becomes_an_event_of_its_span_with_its_body_as_attributes() -> None:
    said = record(
        "gen_ai.choice", time_unix_nano=5, body={"index": 0, "message": {"content": "Yes."}}, index=1, **PLACE
    )
    joined = join(stored(), {SPAN.hex(): [said]})
    (span,) = all_spans(ExportTraceServiceRequest.FromString(joined.payload))
    (event,) = span.events
    assert (event.name, event.time_unix_nano) == ("gen_ai.choice", 5)
    assert decode_attributes(event.attributes) == {"index": 1, "message": '{"content": "Yes."}'}
    assert joined.found == {SPAN.hex()}


def test_content_that_is_there_already_changes_nothing() -> None:
    said = record("gen_ai.user.message", time_unix_nano=5, body={"content": "12"}, **PLACE)
    once = join(stored(), {SPAN.hex(): [said, said]})
    assert once.span_count == 1
    # MLflow gives a text that is a number back as a number
    event = {
        "name": "gen_ai.user.message",
        "time_unix_nano": 5,
        "attributes": [{"key": "content", "value": {"int_value": 12}}],
    }
    again = join(stored(event), {SPAN.hex(): [said]})
    assert (again.payload, again.found) == (b"", {SPAN.hex()})


def test_content_of_a_span_that_is_not_there_is_not_found() -> None:
    joined = join(stored(), {"ff" * 8: [record("gen_ai.choice", **PLACE)]})
    assert (joined.payload, joined.found) == (b"", frozenset())


def test_a_joined_span_is_the_clients_own_again() -> None:
    listed = {"array_value": {"values": [{"string_value": "mlflow.spanType"}]}}
    objects = {"kvlist_value": {"values": [{"key": "a", "value": {"int_value": 1}}]}}
    reasons = {"array_value": {"values": [{"string_value": "stop"}]}}
    body = stored(
        mlflow__spanType={"string_value": "LLM"},
        sidespan__added=listed,
        session__id={"string_value": "cut"},
        sidespan__replaced={
            "kvlist_value": {"values": [{"key": "session.id", "value": {"string_value": "whole"}}]}
        },
        gen_ai__tool__call__arguments=objects,
        gen_ai__response__finish_reasons=reasons,
    )
    joined = join(body, {SPAN.hex(): [record("gen_ai.choice", **PLACE)]})
    export = ExportTraceServiceRequest.FromString(joined.payload)
    (span,) = all_spans(export)
    assert decode_attributes(span.attributes) == {
        "session.id": "whole",
        "gen_ai.tool.call.arguments": '{"a": 1}',
        "gen_ai.response.finish_reasons": ["stop"],
    }
    assert decode_attributes(export.resource_spans[0].resource.attributes) == {"service.name": "s"}
