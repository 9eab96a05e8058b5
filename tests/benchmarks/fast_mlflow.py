"""MLflow's own questions about many traces: asked of MLflow, and answered by Sidespan in its place."""

import json
import statistics
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.benchmarks.multiply import multiply_mlflow
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import new_span_id, new_trace_id
from tests.support.sidespan import Sidespan

TRACES, COPIES, SPANS_A_TRACE = 100, 1000, 6
ASKED = 20
METRICS = "/ajax-api/3.0/mlflow/traces/metrics"
SETTINGS = {"SIDESPAN_PROXY__ANSWER_FROM_INDEX": "auto", "SIDESPAN_MLFLOW__DATABASE": "sqlite"}
BAR_MS = 150
SUM = [{"aggregation_type": "SUM"}]
P95 = [{"aggregation_type": "PERCENTILE", "percentile_value": 95}]
COUNT = [{"aggregation_type": "COUNT"}]
QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    "cost by model": {
        "view_type": "SPANS",
        "metric_name": "total_cost",
        "aggregations": SUM,
        "dimensions": ["span_model_name"],
    },
    "p95 latency by span name": {
        "view_type": "SPANS",
        "metric_name": "latency",
        "aggregations": P95,
        "dimensions": ["span_name"],
    },
    "spans by type": {
        "view_type": "SPANS",
        "metric_name": "span_count",
        "aggregations": COUNT,
        "dimensions": ["span_type"],
    },
    "tokens by trace name": {
        "view_type": "TRACES",
        "metric_name": "total_tokens",
        "aggregations": SUM,
        "dimensions": ["trace_name"],
    },
}


def run(directory: Path) -> None:
    print("== fast_mlflow")
    folder = directory / "fast-mlflow"
    folder.mkdir()
    server = MlflowServer(directory=folder)
    fill(server)
    service = Sidespan(data_dir=directory / "fast", mlflow_url=server.url, environment=SETTINGS)
    server.start()
    service.start()
    try:
        copy(service)
        ask(service, server)
    finally:
        service.stop()
        server.stop()


def fill(server: MlflowServer) -> None:
    """Put the traces into a stopped server's database."""
    server.start()
    request = urllib.request.Request(
        f"{server.url}/v1/traces",
        _traces().SerializeToString(),
        {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"},
    )
    urllib.request.urlopen(request, timeout=120).close()
    server.stop()
    traces, spans = multiply_mlflow(server.database, COPIES)
    print(f"   {traces:,} traces with {spans:,} spans")


def copy(service: Sidespan) -> None:
    """Have them copied."""
    service.wait_index()
    began = time.monotonic()
    while post(service.url, QUESTIONS["cost by model"])[1] is None:
        time.sleep(0.5)
    print(f"   copied in {time.monotonic() - began:,.0f} s")


def ask(service: Sidespan, server: MlflowServer) -> None:
    """Each question to both."""
    for name, question in QUESTIONS.items():
        theirs, _, theirs_ms = _timed(server.url, question)
        while post(service.url, question)[1] is None:  # types of spans are proven first
            time.sleep(0.5)
        times = []
        for _ in range(ASKED):
            ours, mark, ours_ms = _timed(service.url, question)
            assert mark == "index" and _rounded(ours) == _rounded(theirs)
            times.append(ours_ms)
        middle = statistics.median(times)
        print(f"   {name}: {middle:.0f} ms, the slowest {max(times):.0f} ms (bar {BAR_MS}); ", end="")
        print(f"MLflow {theirs_ms:,.0f} ms, {theirs_ms / middle:,.0f} x")


def _timed(url: str, question: Mapping[str, Any]) -> tuple[Any, str | None, float]:
    began = time.monotonic()
    answer, mark = post(url, question)
    return answer, mark, (time.monotonic() - began) * 1000


def post(url: str, question: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The answer, and who says so."""
    document = json.dumps({"experiment_ids": ["0"], "max_results": 1000, **question}).encode()
    request = urllib.request.Request(url + METRICS, document, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read()), answer.headers.get("sidespan-answered-by")


def _rounded(answer: Mapping[str, Any]) -> list[Any]:
    """What is compared: sums of 600,000 doubles depend on their order."""
    return [
        (each["dimensions"], {name: f"{value:.9g}" for name, value in each["values"].items()})
        for each in answer["data_points"]
    ]


def _traces() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scope, now_ns = request.resource_spans.add().scope_spans.add(), time.time_ns()
    for trace in range(TRACES):
        trace_id, root = new_trace_id(), new_span_id()
        for number in range(SPANS_A_TRACE):
            span = scope.spans.add(
                trace_id=trace_id,
                span_id=new_span_id() if number else root,
                parent_span_id=root if number else b"",
                name=f"step {number}" if number else f"agent {trace % 7}",
                start_time_unix_nano=now_ns - trace * 60_000_000_000,
            )
            span.end_time_unix_nano = span.start_time_unix_nano + (trace * 37 + number * 11) * 1_000_000
            said = {"mlflow.spanType": "TOOL" if number % 2 else "LLM", "mlflow.llm.model": f"m{trace % 5}"}
            said["mlflow.llm.cost"] = json.dumps({"total_cost": 0.001 * trace, "input_cost": 0.0005})
            said["mlflow.chat.tokenUsage"] = json.dumps({"input_tokens": trace, "total_tokens": 2 * trace})
            for key, value in said.items():
                span.attributes.add(key=key).value.string_value = value
    return request
