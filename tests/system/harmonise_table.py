"""What MLflow's API says of one trace, and the README's table: MLflow alone beside through Sidespan."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from collector.cli import remote
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans
from tests.support.spans import otlp_span, payload

HEAD = (
    "| trace of | span types | name | tokens in / out (cached) | US dollars | session, user |"
    " request, response |"
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One trace in MLflow's API. `types` counts spans as its metrics group them."""

    types: Mapping[str, int]
    name: str | None
    request: str | None
    response: str | None
    tokens: Mapping[str, int]
    cost_usd: float | None
    session: str | None
    user: str | None
    named_in_metrics: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        """As the README shows it."""
        types = " ".join(name for name in sorted(self.types)) or "none"
        cached = self.tokens.get("cache_read_input_tokens", 0)
        used = f"{self.tokens.get('input_tokens', 0)} / {self.tokens.get('output_tokens', 0)} ({cached})"
        texts = ", ".join("yes" if text else "no" for text in (self.request, self.response))
        return [
            types,
            self.name or "none",
            used if self.tokens else "none",
            "none" if self.cost_usd is None else f"{self.cost_usd:.7f}".rstrip("0"),
            f"{'yes' if self.session else 'no'}, {'yes' if self.user else 'no'}",
            texts,
        ]


def claude_code() -> ExportTraceServiceRequest:
    """A prompt, a model request and a tool, in the names that Claude Code's documentation gives."""
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "claude-code"
    common = {"session.id": "claude-session", "user.id": "claude-user"}
    request = {
        "model": "claude-sonnet-4-5",
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_tokens": 900,
        "cache_creation_tokens": 0,
        "ttft_ms": 400,
    }
    rows: list[tuple[str, int, int, dict[str, Any]]] = [
        ("llm_request", 2, 1, request),
        ("tool", 3, 1, {"tool_name": "Bash", "full_command": "ls"}),
        ("interaction", 1, 0, {"user_prompt": "List the files."}),
    ]
    spans = resource_spans.scope_spans.add().spans
    for name, number, parent, attributes in rows:
        spans.append(
            otlp_span(
                {"span.type": name, **common, **attributes},
                name=f"claude_code.{name}",
                span_id=bytes([number] * 8),
                parent_span_id=bytes([parent] * 8) if parent else b"",
            )
        )
    return export


def cached_run() -> ExportTraceServiceRequest:
    """A run of the installed pydantic-ai and OpenInference: 400 of 1,000 tokens come from the cache."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(OpenInferenceSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    used = RequestUsage(
        input_tokens=1000,
        output_tokens=100,
        cache_read_tokens=400,
        details={"reasoning_tokens": 30},
    )

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("It is sunny in Paris.")], usage=used)

    agent = Agent(
        FunctionModel(answer, model_name="gpt-4o"),
        name="weather",
        capabilities=[Instrumentation(settings=InstrumentationSettings(tracer_provider=provider))],
    )
    asyncio.run(agent.run("What is the weather in Paris?"))  # run_sync leaves its event loop open
    provider.shutdown()
    return encode_spans(exporter.get_finished_spans())


MADE = {"claude_code": claude_code, "pydantic_ai_cached": cached_run}


def fresh(name: str) -> tuple[bytes, ExportTraceServiceRequest]:
    """The payload of that name under a new trace id, begun now; the id."""
    export = MADE[name]() if name in MADE else payload(name)
    trace_id = os.urandom(16)
    spans = all_spans(export)
    shift = time.time_ns() - max(span.end_time_unix_nano for span in spans)
    for span in spans:
        span.trace_id = trace_id
        span.start_time_unix_nano += shift
        span.end_time_unix_nano += shift
    return trace_id, export


def shown(server: MlflowServer, experiment_id: str, trace_id: bytes) -> Shown:
    """What MLflow makes of the only trace in an experiment."""
    info = remote.get_json(server.url, f"/api/3.0/mlflow/traces/tr-{trace_id.hex()}")["trace"]["trace_info"]
    tags, metadata = info.get("tags", {}), info.get("trace_metadata", {})
    cost = json.loads(metadata.get("mlflow.trace.cost", "{}"))
    return Shown(
        types=grouped(server, experiment_id, "SPANS", "span_count", "span_type"),
        name=tags.get("mlflow.traceName"),
        request=info.get("request_preview"),
        response=info.get("response_preview"),
        tokens=json.loads(metadata.get("mlflow.trace.tokenUsage", "{}")),
        cost_usd=cost.get("total_cost"),
        session=metadata.get("mlflow.trace.session"),
        user=metadata.get("mlflow.trace.user"),
        named_in_metrics=tuple(grouped(server, experiment_id, "TRACES", "trace_count", "trace_name")),
    )


def grouped(server: MlflowServer, experiment_id: str, view: str, metric: str, by: str) -> dict[str, int]:
    """MLflow's own metrics (POST /api/3.0/mlflow/traces/metrics): a count by dimension."""
    answer = remote.post_json(
        server.url,
        "/api/3.0/mlflow/traces/metrics",
        {
            "experiment_ids": [experiment_id],
            "view_type": view,
            "metric_name": metric,
            "aggregations": [{"aggregation_type": "COUNT"}],
            "dimensions": [by],
            "max_results": 100,
        },
    )
    return {
        point["dimensions"][by]: int(point["values"]["COUNT"])
        for point in answer.get("data_points", [])
        if point.get("dimensions", {}).get(by)
    }


def span_contents(server: MlflowServer, trace_id: bytes) -> list[tuple[str, dict[str, Any]]]:
    """(type, attributes) of each span as stored, by start."""
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True, timeout=30)) as db:
        rows = db.execute(
            "SELECT type, content FROM spans WHERE trace_id = ? ORDER BY start_time_unix_nano",
            (f"tr-{trace_id.hex()}",),
        )
        return [(type, json.loads(content)["attributes"]) for type, content in rows]


def render(rows: Mapping[str, tuple[Shown, Shown]]) -> str:
    """The README's table: MLflow alone, an arrow, and through Sidespan; once where they agree."""
    lines = [HEAD, "|" + " --- |" * 7]
    for title, (alone, through) in rows.items():
        pairs = zip(alone.cells(), through.cells(), strict=True)
        cells = [old if old == new else f"{old} → **{new}**" for old, new in pairs]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
