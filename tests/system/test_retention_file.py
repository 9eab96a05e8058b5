"""Spans read from MLflow's SQLite file, and those that its API tells; for each supported MLflow."""

import sqlite3
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from collector.mlflow.client import open_mlflow
from collector.retention.frames import export_of
from collector.retention.rules import RetainedTrace, says_the_same
from collector.retention.source import TraceStore
from collector.retention.spans_file import SpansFile
from collector.settings import MlflowSettings, RetentionSettings
from collector.spans.mlflow_trace import stored_span
from collector.spans.stored_content import told
from tests.data.capture import files
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import DATA, all_spans, export, trace_ids_of
from tests.support.retained import V3, call

pytestmark = pytest.mark.slow

TEXTS = [
    "",
    "plain",
    "5",
    "5.0",
    "null",
    "true",
    "[]",
    "{}",
    '{"a": null}',
    "[null, [1]]",
    '"x"',
    "NaN",
    "-1e999",
]
TEXTS += ["\u00e9\u4e2d\U0001f600", '"\\ud800"', "\x00\x1f", '{"": 1}', " 1"]
VALUES = [
    AnyValue(),
    AnyValue(bool_value=False),
    AnyValue(int_value=-(2**63)),
    AnyValue(int_value=2**63 - 1),
    AnyValue(double_value=float("nan")),
    AnyValue(double_value=float("-inf")),
    AnyValue(double_value=1.0),
    AnyValue(double_value=1e300),
    AnyValue(bytes_value=b"\x00\xff"),
    AnyValue(array_value=ArrayValue()),
    AnyValue(kvlist_value=KeyValueList()),
    AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(), AnyValue(string_value="1")])),
    AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="a", value=AnyValue()), KeyValue(key="b")])),
]


def odd_trace(value: AnyValue) -> ExportTraceServiceRequest:
    """One with this value wherever a span has values, and with what few spans have."""
    request = export(spans=4)
    server, failed, passed, running = all_spans(request)
    server.attributes.add(key="odd").value.CopyFrom(value)
    server.kind, server.trace_state, server.flags = server.SPAN_KIND_SERVER, "a=b", 1
    event = server.events.add(name="odd", time_unix_nano=7)
    event.attributes.add(key="odd").value.CopyFrom(value)
    link = server.links.add(trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\2")
    link.attributes.add(key="odd").value.CopyFrom(value)
    failed.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="é"))
    passed.status.CopyFrom(Status(code=Status.STATUS_CODE_OK, message="lost"))
    running.end_time_unix_nano, running.name = 0, ""
    return request


def odd_traces() -> Iterator[ExportTraceServiceRequest]:
    yield from map(odd_trace, VALUES)
    yield from (odd_trace(AnyValue(string_value=text)) for text in TEXTS)


def captured() -> Iterator[ExportTraceServiceRequest]:
    for path in sorted(DATA.glob("*.binpb")):
        yield ExportTraceServiceRequest.FromString(path.read_bytes())
    for capture in sorted((DATA / "capture" / "frameworks").glob(f"*/{files.CAPTURE}")):
        yield from files.requests(capture.parent)


def send(mlflow: MlflowServer, requests: Iterable[ExportTraceServiceRequest], experiment_id: str) -> None:
    """Straight to MLflow: spans as others send them, which lack what Sidespan adds."""
    headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment_id}
    for request in requests:
        asked = urllib.request.Request(
            f"{mlflow.url}/v1/traces", data=request.SerializeToString(), headers=headers
        )
        urllib.request.urlopen(asked, timeout=60).close()


def told_by_file(mlflow: MlflowServer, experiment_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By trace and span."""
    with closing(sqlite3.connect(f"file:{mlflow.database}?mode=ro", uri=True)) as db:
        wanted = "SELECT trace_id, content FROM spans WHERE experiment_id = ?"
        rows = db.execute(wanted, [int(experiment_id)]).fetchall()
    spans = [(trace_id, told(content)) for trace_id, content in rows]
    return {(trace_id, span["span_id"]): span for trace_id, span in spans}


def told_by_api(mlflow: MlflowServer, trace_ids: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for trace_id in trace_ids:
        answer = call(mlflow.url, "GET", f"{V3}/traces/batchGet?trace_ids={trace_id}")
        spans = [span for trace in answer["traces"] for span in trace["spans"]]
        found |= {(trace_id, span["span_id"]): span for span in spans}
    return found


def without_the_type(span: dict[str, Any]) -> dict[str, Any]:
    """MLflow works it out when it shows a span that it stored without one."""
    attributes = [each for each in span["attributes"] if each["key"] != "mlflow.spanType"]
    return span | {"attributes": attributes}


@pytest.mark.parametrize("requests", [odd_traces, captured])
def test_the_file_holds_each_span_as_the_api_tells_it(mlflow_server: MlflowServer, requests: Any) -> None:
    id = mlflow_server.create_experiment(f"file {requests.__name__}")
    sent = list(requests())
    send(mlflow_server, sent, id)
    ids = sorted({f"tr-{id.hex()}" for request in sent for id in trace_ids_of(request)})
    by_file, by_api = told_by_file(mlflow_server, id), told_by_api(mlflow_server, ids)
    assert len(by_file) > 50
    assert by_file.keys() == by_api.keys()
    for key, span in by_file.items():
        assert without_the_type(span) == without_the_type(by_api[key])
        assert stored_span(without_the_type(span)) == stored_span(without_the_type(by_api[key]))


async def read_by(store: TraceStore, traces: list[RetainedTrace]) -> dict[str, Any]:
    """Each trace as it would be archived, without what MLflow only shows."""
    found = {each["trace_info"]["trace_id"]: each async for some in store.whole(traces) for each in some}
    return {id: each | {"spans": list(map(without_the_type, each["spans"]))} for id, each in found.items()}


async def test_a_trace_is_archived_the_same_from_the_file_and_from_the_api(
    mlflow_server: MlflowServer,
) -> None:
    id = mlflow_server.create_experiment("archived both ways")
    send(mlflow_server, (export(spans=3) for _ in range(30)), id)
    send(mlflow_server, odd_traces(), id)
    rule = RetentionSettings(name="all", max_traces=0)
    settings = MlflowSettings(url=mlflow_server.url)
    async with open_mlflow(settings, max_connections=1) as mlflow:
        store = TraceStore(mlflow=mlflow, share=1.0, file=SpansFile(mlflow_server.database))
        asked = TraceStore(mlflow=mlflow, share=1.0)
        pages = store.oldest_first(id, rule, before_unix_ms=1 << 50)
        first, *traces = [trace async for page in pages for trace in page]
        assert store.file is not None
        assert await store.file.spans(traces) == {}, "before it was seen that MLflow deletes in it"
        assert await store.delete(id, [first.id]) == 1
        assert (await store.file.spans(traces)).keys() == {trace.id for trace in traces}
        by_file, by_api = await read_by(store, traces), await read_by(asked, traces)
    assert len(traces) > 50
    assert by_file.keys() == by_api.keys() == {trace.id for trace in traces}
    for trace_id, trace in by_file.items():
        assert export_of(trace) == export_of(by_api[trace_id])
        assert says_the_same(trace["trace_info"], by_api[trace_id]["trace_info"])
