"""One way of tracing an agent of 20 calls: python -m … VARIANT ENDPOINT RUNS; milliseconds as JSON.

What it waited while others had the processors doesn't count.
"""

import json
import statistics
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.timing import held_up_seconds

TOOL_CALLS = 10
WARM_UP = 5
TEXT = "It is sunny in Paris, 22 degrees, and the wind is light. " * 6


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
    if returned >= TOOL_CALLS:
        return ModelResponse(parts=[TextPart(TEXT)])
    return ModelResponse(parts=[ToolCallPart("weather", {"city": f"Paris {returned}"})])


def none(endpoint: str) -> None: ...


def bare(endpoint: str) -> None:
    """What pydantic-ai's documentation shows for plain OpenTelemetry."""
    _open_telemetry(endpoint, [])


def openinference(endpoint: str) -> None:
    """What OpenInference's documentation shows."""
    from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor

    _open_telemetry(endpoint, [OpenInferenceSpanProcessor()])


def _open_telemetry(endpoint: str, processors: list) -> None:  # type: ignore[type-arg]
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import set_tracer_provider

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip)
    for processor in (*processors, BatchSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    set_tracer_provider(provider)
    Agent.instrument_all()


def autolog(endpoint: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(endpoint)
    mlflow.set_experiment("overhead")
    mlflow.pydantic_ai.autolog()


def sidespan(endpoint: str) -> None:
    import instrumentation

    instrumentation.configure(endpoint=endpoint)


def sidespan_plain(endpoint: str) -> None:
    import instrumentation

    instrumentation.configure(endpoint=endpoint, openinference=False)


VARIANTS = {each.__name__: each for each in (none, bare, openinference, autolog, sidespan, sidespan_plain)}


def main() -> None:
    variant, endpoint, runs = sys.argv[1:]
    VARIANTS[variant](endpoint)
    agent = Agent(FunctionModel(answer, model_name="gpt-4o"), name="weather")

    @agent.tool_plain
    def weather(city: str) -> str:
        return TEXT

    times = []
    for _ in range(WARM_UP + int(runs)):
        started, before = time.perf_counter(), held_up_seconds(all_threads=True)
        agent.run_sync("What is the weather in Paris?")
        took, held_up = time.perf_counter() - started, held_up_seconds(all_threads=True) - before
        times.append((took - held_up) * 1000)
    print(json.dumps({"median_ms": statistics.median(times[WARM_UP:]), "traces": len(times)}))


if __name__ == "__main__":
    main()
