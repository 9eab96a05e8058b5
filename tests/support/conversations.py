"""Sessions, hostile content and large traces, sent as agents send them."""

import asyncio
import base64
import json
import struct
import zlib
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.capabilities.instrumentation import Instrumentation
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

from tests.support.otlp import export, new_trace_id
from tests.support.spans import any_value

TABLE = "| city | sky |\n| --- | --- |\n| Paris | sunny |\n| Oslo | **snow** |"
ANSWERS = {
    "Paris": "It is **sunny** in Paris, 21 °C.\n\n- bring *sunglasses*\n- no umbrella\n\n"
    "See the [forecast](https://example.com/paris).",
    "Oslo": f"Here are both:\n\n{TABLE}\n",
    "code": "This asks for it:\n\n```python\nimport weather\n\nprint(weather.of('Paris'))\n```\n\n"
    "Is that enough?",
}
QUESTIONS = (
    "What is the weather in Paris?",
    "And in Oslo? Compare the two in a table.",
    "Show me the code for that.",
)


class Labels(SpanProcessor):
    """Puts the same attributes on every span."""

    def __init__(self, **attributes: str) -> None:
        self.attributes = attributes

    def on_start(self, span: SdkSpan, parent_context: Any = None) -> None:
        span.set_attributes(self.attributes)

    def on_end(self, span: ReadableSpan) -> None:
        pass


async def have_conversation(url: str, headers: dict[str, str], *, session: str) -> None:
    """A session of a pydantic-ai agent with a tool: three turns, each a trace, sent to the service."""
    provider = TracerProvider()
    provider.add_span_processor(Labels(**{"session.id": session, "user.id": "mira"}))
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", headers=headers)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent = Agent(
        FunctionModel(_answer, model_name="gpt-4o-mini"),
        name="weather_agent",
        instructions="You are brief.",
        capabilities=[Instrumentation(settings=InstrumentationSettings(tracer_provider=provider))],
    )

    @agent.tool_plain
    async def weather(city: str, days: list[str]) -> dict[str, Any]:
        """The weather of a city."""
        await asyncio.sleep(0.01)
        return {"city": city, "sky": "sunny", "days": {day: {"celsius": 21} for day in days}}

    history: list[ModelMessage] = []
    for question in QUESTIONS:
        history = (await agent.run(question, message_history=history)).all_messages()
    await asyncio.to_thread(provider.shutdown)


def _answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    asked = next(
        str(part.content)
        for message in reversed(messages)
        for part in reversed(message.parts)
        if part.part_kind == "user-prompt"
    )
    subject = next(each for each in ANSWERS if each in asked)
    returned = any(isinstance(part, ToolReturnPart) for part in messages[-1].parts)
    if subject == "code" or returned:
        return ModelResponse(parts=[TextPart(content=ANSWERS[subject])])
    call = ToolCallPart("weather", {"city": subject, "days": ["today", "tomorrow"]})
    return ModelResponse(parts=[TextPart(content="Let me look."), call])


def picture(width: int = 48, height: int = 24) -> str:
    """A PNG in base64: an orange square."""
    row = b"\x00" + b"\xf0\x90\x20" * width

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * height)), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def said(messages: list[dict[str, Any]]) -> str:
    return json.dumps(messages)


def message(role: str, *parts: str | dict[str, Any]) -> dict[str, Any]:
    """A message in OpenTelemetry's form."""
    listed = [{"type": "text", "content": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "parts": listed}


def model_call(
    given: list[dict[str, Any]], returned: list[dict[str, Any]], *, session: str, name: str = "chat"
) -> ExportTraceServiceRequest:
    """A trace of one model call."""
    request = export()
    (span,) = request.resource_spans[0].scope_spans[0].spans
    span.name = name
    put(span, {"gen_ai.operation.name": "chat", "session.id": session, "gen_ai.request.model": "gpt-4o-mini"})
    put(span, {"gen_ai.input.messages": said(given), "gen_ai.output.messages": said(returned)})
    return request


def put(span: Span, attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        span.attributes.add(key=key, value=any_value(value))


def large_trace(count: int) -> ExportTraceServiceRequest:
    """One trace of `count` spans: a root, agents under it, and calls of models and tools under each."""
    trace_id = new_trace_id()
    request = export(spans=count, trace_ids=[trace_id])
    spans = request.resource_spans[0].scope_spans[0].spans
    start, step = spans[0].start_time_unix_nano - count * 1_000_000, 1_000_000
    for number, span in enumerate(spans):
        span.start_time_unix_nano = start + number * step
        span.end_time_unix_nano = span.start_time_unix_nano + step
        if number and number % 20 != 1:
            span.parent_span_id = spans[number - (number - 1) % 20].span_id
            kind = "TOOL" if number % 3 == 0 else "LLM"
            span.name = f"{'look' if kind == 'TOOL' else 'chat'} {number}"
            put(span, {"openinference.span.kind": kind})
        elif number:
            span.name = f"agent {number // 20}"
            span.end_time_unix_nano += 19 * step
            put(span, {"openinference.span.kind": "AGENT"})
        if number % 97 == 96:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=f"no such place: {number}"))
    spans[0].end_time_unix_nano = start + count * step
    return request
