"""MLflow's own questions about many traces: asked of MLflow, and answered by Sidespan in its place."""

import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.async_api import Response, async_playwright

from tests.benchmarks.multiply import multiply_mlflow
from tests.collector.api.test_page import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import new_span_id, new_trace_id
from tests.support.sidespan import Sidespan

TRACES, COPIES, SPANS_A_TRACE = 100, 1000, 6
ASKED = 20
METRICS = "/ajax-api/3.0/mlflow/traces/metrics"
SEARCH = "/ajax-api/3.0/mlflow/traces/search"
# copies of a trace lie so far from each other: ten days in all
APART_MS = 15 * 60 * 1000
SETTINGS = {"SIDESPAN_PROXY__ANSWER_FROM_INDEX": "auto", "SIDESPAN_MLFLOW__DATABASE": "sqlite"}
BAR_MS = 150
PAGE_BAR_SECONDS = 3
# after the last answer: the page asks for no more
QUIET_SECONDS = 2.0
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
    "tokens in all": {
        "view_type": "TRACES",
        "metric_name": "total_tokens",
        "aggregations": SUM,
    },
}


FOUND = {
    "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}],
    "filter": "span.name = 'step 3'",
    "order_by": ["timestamp_ms DESC"],
    "max_results": 100,
}
# MLflow finds the first soon, and looks at every span for the second
SEARCHES = {
    "traces by a span name that each has": FOUND,
    "traces by a span name that none has": {**FOUND, "filter": "span.name = 'nowhere'"},
}


def run(directory: Path) -> None:
    print("== fast_mlflow")
    folder = directory / "fast-mlflow"
    folder.mkdir()
    server = MlflowServer(directory=folder)
    fill(server)
    settings = SETTINGS | {"SIDESPAN_MLFLOW__DATABASE_FILE": str(server.database)}
    service = Sidespan(data_dir=directory / "fast", mlflow_url=server.url, environment=settings)
    server.start()
    service.start()
    try:
        copy(service)
        ask(service, server)
        search(service, server)
        asyncio.run(open_overview(service))
        change(service, server)
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
    began = time.monotonic()
    traces, spans = multiply_mlflow(server.database, COPIES, apart_ms=APART_MS)
    print(f"   {traces:,} traces with {spans:,} spans, made in {time.monotonic() - began:,.0f} s")


def copy(service: Sidespan) -> None:
    """Have them copied."""
    service.wait_index()
    seconds = _until_answered(service)
    print(f"   copied in {seconds:,.1f} s")


def _until_answered(service: Sidespan) -> float:
    """How long it takes; MLflow answers meanwhile, and so is asked something easy."""
    question = {"view_type": "TRACES", "metric_name": "trace_count", "aggregations": COUNT}
    began = time.monotonic()
    while post(service.url + METRICS, _about(question))[1] is None:
        time.sleep(0.2)
    return time.monotonic() - began


def ask(service: Sidespan, server: MlflowServer) -> None:
    """Each question to both."""
    for name, question in QUESTIONS.items():
        theirs, _, theirs_ms = _timed(server.url + METRICS, _about(question))
        times = []
        for _ in range(ASKED):
            ours, mark, ours_ms = _timed(service.url + METRICS, _about(question))
            assert mark == "index" and _rounded(ours) == _rounded(theirs)
            times.append(ours_ms)
        _print(name, times, theirs_ms)


def search(service: Sidespan, server: MlflowServer) -> None:
    """Pages of traces, by the name of a span."""
    for name, question in SEARCHES.items():
        theirs, _, theirs_ms = _timed(server.url + SEARCH, question)
        times = []
        for _ in range(ASKED):
            ours, mark, ours_ms = _timed(service.url + SEARCH, question)
            assert mark == "index" and ours == theirs
            times.append(ours_ms)
        _print(name, times, theirs_ms)


def _print(name: str, times: Sequence[float], theirs_ms: float) -> None:
    middle = statistics.median(times)
    print(f"   {name}: {middle:.0f} ms, the slowest {max(times):.0f} ms (bar {BAR_MS}); ", end="")
    print(f"MLflow {theirs_ms:,.0f} ms, {theirs_ms / middle:,.0f} x")


async def open_overview(service: Sidespan) -> None:
    """MLflow's Overview page through the proxy, twice: the second time the browser has the scripts."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        context = await browser.new_context()
        for visit in ("first", "second"):
            page = await context.new_page()
            answers: list[tuple[float, Response]] = []
            page.on("response", lambda each: answers.append((time.monotonic(), each)))  # noqa: B023
            began = time.monotonic()
            await page.goto(f"{service.url}/#/experiments/0/overview/usage?startTimeLabel=ALL")
            while not (charts := _charts(answers)) or time.monotonic() - answers[-1][0] < QUIET_SECONDS:
                await asyncio.sleep(0.05)
            marked = sum("sidespan-answered-by" in each.headers for each in charts)
            print(f"   the Overview page, {visit} visit: {answers[-1][0] - began:.1f} s ", end="")
            print(f"(bar {PAGE_BAR_SECONDS}), {marked} of {len(charts)} questions answered by the index")
            await page.close()
        await browser.close()


def _charts(answers: Sequence[tuple[float, Response]]) -> list[Response]:
    return [each for _, each in answers if each.url.endswith(METRICS)]


def change(service: Sidespan, server: MlflowServer) -> None:
    """A tag set without Sidespan: how long until it answers again."""
    [trace] = post(server.url + SEARCH, {**FOUND, "filter": "", "max_results": 1})[0]["traces"]
    tag = json.dumps({"key": "place", "value": "outside"}).encode()
    url = f"{server.url}/api/3.0/mlflow/traces/{trace['trace_id']}/tags"
    headers = {"content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, tag, headers, method="PATCH"), timeout=60).close()
    seconds = _until_answered(service)
    print(f"   after a change without Sidespan: answered again after {seconds:,.1f} s")


def _about(question: Mapping[str, Any]) -> dict[str, Any]:
    return {"experiment_ids": ["0"], "max_results": 1000, **question}


def _timed(url: str, document: Mapping[str, Any]) -> tuple[Any, str | None, float]:
    began = time.monotonic()
    answer, mark = post(url, document)
    return answer, mark, (time.monotonic() - began) * 1000


def post(url: str, document: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The answer, and who says so."""
    body, headers = json.dumps(document).encode(), {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=300) as answer:
        return json.loads(answer.read()), answer.headers.get("sidespan-answered-by")


def _rounded(answer: Mapping[str, Any]) -> list[Any]:
    """What is compared: sums of 600,000 doubles depend on their order."""
    return [
        (each.get("dimensions", {}), {name: f"{value:.9g}" for name, value in each["values"].items()})
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
            said["mlflow.chat.tokenUsage"] = json.dumps(
                {"input_tokens": trace, "output_tokens": trace, "total_tokens": 2 * trace}
            )
            for key, value in said.items():
                span.attributes.add(key=key).value.string_value = value
    return request
