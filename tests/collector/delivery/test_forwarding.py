"""What is sent to MLflow in the place of what the client sent, and what stays of the original."""

import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.mlflow.forward import Forwarded, forwarder
from collector.delivery.mlflow.window import CONSUMER
from collector.harmonise.note import Note
from collector.model.batch import Route
from collector.processors.keep import KeepReason, SamplingDecision, note_of
from collector.settings import HarmoniseSettings
from collector.settings.processors import ConditionSettings, DropSettings
from collector.spans.facts import decode_attributes
from tests.support.fake_mlflow import error
from tests.support.otlp import all_spans, export, trace_ids_of
from tests.support.stage import ONE, Stage

OFF = HarmoniseSettings(enabled=False)
SAMPLING = "sampling"


def part(request: ExportTraceServiceRequest, *names: str) -> ExportTraceServiceRequest:
    """Only the spans of those names."""
    found = ExportTraceServiceRequest.FromString(request.SerializeToString())
    for scope_spans in found.resource_spans[0].scope_spans:
        kept = [span for span in scope_spans.spans if span.name in names]
        del scope_spans.spans[:]
        scope_spans.spans.extend(kept)
    return found


def now(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    for span in all_spans(request):
        span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
    return request


def sent_attributes(stage: Stage) -> list[dict[str, Any]]:
    return [decode_attributes(span.attributes) for _, spans, _ in stage.mlflow.requests for span in spans]


async def test_mlflow_gets_the_harmonised_copy_and_a_dead_letter_holds_the_original(stage: Stage) -> None:
    stage.forward = forwarder(HarmoniseSettings())
    stage.mlflow.fault = lambda _, spans: error(413) if any(s.name == "child 1" for s in spans) else None
    request = export(spans=2)
    await stage.append(request)
    await stage.start()
    await stage.drained()
    (letter,) = await stage.letters()
    whole = await stage.journal.dead_letters(CONSUMER).one(letter.id)
    assert whole is not None
    assert all_spans(ExportTraceServiceRequest.FromString(whole.payload)) == [all_spans(request)[1]]
    assert sent_attributes(stage)[-2]["mlflow.spanType"] == "UNKNOWN"


async def test_switched_off_mlflow_gets_what_the_client_sent(stage: Stage) -> None:
    stage.forward = forwarder(OFF)
    assert stage.forward is None
    request = export(spans=3)
    await stage.append(request)
    await stage.start()
    await stage.drained()
    assert [spans for _, spans, _ in stage.mlflow.requests] == [all_spans(request)]


def counting(stage: Stage) -> list[dict[bytes, bytes]]:
    """Forwards as it is and notes how often; the notes that each try was given."""
    given: list[dict[bytes, bytes]] = []

    def forward(payload: bytes, notes: Any, decisions: Any) -> Forwarded:
        given.append(dict(notes))
        ids = trace_ids_of(ExportTraceServiceRequest.FromString(payload))
        return Forwarded(body=payload, notes={id: b"%d" % len(given) for id in ids})

    stage.forward = forward
    return given


async def test_a_note_holds_for_the_next_window_and_the_next_process(stage: Stage) -> None:
    given = counting(stage)
    request = export(spans=2)
    (trace_id,) = trace_ids_of(request)
    await stage.append(part(request, "root"))
    await stage.start()
    await stage.drained()
    await stage.cancel()
    await stage.append(part(request, "child 1"))
    await stage.start()
    await stage.drained()
    assert given == [{}, {trace_id: b"1"}]


async def test_a_try_that_failed_has_told_mlflow_nothing_and_leaves_no_note(stage: Stage) -> None:
    given = counting(stage)
    stage.mlflow.fault = lambda *_: error(503)
    request = export()
    await stage.append(request)
    await stage.start()
    await stage.until_requests(3)
    stage.mlflow.fault = None
    await stage.drained()
    assert all(notes == {} for notes in given)
    assert await stage.journal.traces.recall(CONSUMER, trace_ids_of(request)) != {}


async def test_what_is_dropped_is_not_sent_and_not_counted_as_delivered(stage: Stage) -> None:
    stage.forward = forwarder(OFF, [DropSettings(type="drop", when=ConditionSettings(name="child *"))])
    await stage.append(export(spans=3))
    await stage.start()
    await stage.drained()
    assert [[span.name for span in spans] for _, spans, _ in stage.mlflow.requests] == [["root"]]
    assert stage.counted("sidespan_spans_delivered_total") == 1
    assert stage.counted("sidespan_processor_spans_total", processor="drop", outcome="dropped") == 2


async def test_a_request_that_is_dropped_whole_is_never_sent(stage: Stage) -> None:
    stage.forward = forwarder(OFF, [DropSettings(type="drop", when=ConditionSettings(name="*"))])
    await stage.append(export(spans=3))
    await stage.start()
    await stage.drained()
    assert stage.mlflow.requests == []
    assert stage.counted("sidespan_spans_delivered_total") == 0


async def test_what_is_dropped_whole_is_no_proof_that_mlflow_is_well(stage: Stage) -> None:
    """Else a sick MLflow would make dead letters of good spans."""
    stage.forward = forwarder(OFF, [DropSettings(type="drop", when=ConditionSettings(name="root"))])
    stage.mlflow.fault = lambda *_: error(500)
    good = export(spans=2)
    await stage.append(export(), Route(experiment_id="2"))
    await stage.append(good)
    await stage.start()
    await stage.until_requests(8)
    assert await stage.letters() == []
    stage.mlflow.fault = None
    await stage.drained()
    assert stage.mlflow.names == {"child 1"}


async def test_a_trace_that_sampling_dropped_is_not_sent_and_a_kept_one_says_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path, behind=SAMPLING, forward=forwarder(HarmoniseSettings()))
    await stage.open()
    kept, dropped = export(spans=2), export(spans=2)
    for request in (kept, dropped):
        await stage.append(request)
    decisions = {
        **{id: note_of(SamplingDecision(reason=KeepReason.SLOW)) for id in trace_ids_of(kept)},
        **{id: note_of(SamplingDecision(reason=KeepReason.NOT_SAMPLED)) for id in trace_ids_of(dropped)},
    }
    sampling = stage.journal.consumer(SAMPLING)
    last = (await sampling.read(ONE.lane, limit_bytes=2**20))[-1].position
    await sampling.commit(ONE.lane, through=last, remember=decisions)
    await stage.start()
    await stage.drained()
    assert {trace for trace, _ in stage.mlflow.stored} == trace_ids_of(kept)
    root = next(found for found in sent_attributes(stage) if "mlflow.traceTag.sidespan.kept" in found)
    assert root["mlflow.traceTag.sidespan.kept"] == "slow"
    assert stage.counted("sidespan_spans_delivered_total") == 2
    await stage.close()


async def test_verify_looks_for_what_was_sent_only(stage: Stage) -> None:
    stage.forward = forwarder(OFF, [DropSettings(type="drop", when=ConditionSettings(name="child *"))])
    await stage.append(export(spans=3))
    await stage.start(verify="all")
    await stage.drained()
    assert len(stage.mlflow.requests) == 1
    assert stage.counted("sidespan_spans_missing_total") == 0


@pytest.mark.parametrize("first", ["root", "child 1"])
async def test_a_trace_cut_in_two_is_named_right_by_the_service(first: str, stage: Stage) -> None:
    """The root of a web service, and the agent under it, in either order."""
    stage.forward = forwarder(HarmoniseSettings())
    request = now(export(spans=2))
    root, agent = all_spans(request)
    root.attributes.add(key="http.route").value.string_value = "/ask"
    agent.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    second = "child 1" if first == "root" else "root"
    await stage.start()
    for name in (first, second):
        await stage.append(part(request, name))
        await stage.drained()
    names = [a["mlflow.traceTag.mlflow.traceName"] for a in sent_attributes(stage) if "http.route" in a]
    assert names[-1] == "child 1"
    (trace_id,) = trace_ids_of(request)
    note = (await stage.journal.traces.recall(CONSUMER, [trace_id]))[trace_id]
    assert Note.from_bytes(note).root_seen
