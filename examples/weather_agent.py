"""An agent with two tools, traced with one added line.

    python examples/weather_agent.py "What should I wear in Lisbon?"

It runs offline: its model is a function that reads the conversation and decides as a model would. If
OPENAI_API_KEY or ANTHROPIC_API_KEY is set, it uses a real model (WEATHER_AGENT_MODEL chooses it).

Look at: the added line, `instrumentation.configure(...)`; the trace in MLflow (experiment "Default", or the
one in SIDESPAN_EXPERIMENT) with the agent, three model calls and two tool calls; and
`sidespan summary trace <the id it prints>`.
"""

import argparse
import json
import os
import sys

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

import instrumentation

PLACES = {"Lisbon": (38.7, -9.1), "Oslo": (59.9, 10.8), "Nairobi": (-1.3, 36.8)}
QUESTION = "What should I wear in Lisbon today?"


class LastTrace(SpanProcessor):
    """Remembers the trace of the span that ended last: the agent's own."""

    trace_id = ""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None:
            self.trace_id = f"{span.context.trace_id:032x}"


def model() -> Model | str:
    """A real model if there is a key for one, else one that works offline."""
    if os.environ.get("OPENAI_API_KEY"):
        return os.environ.get("WEATHER_AGENT_MODEL", "openai:gpt-5-mini")
    if os.environ.get("ANTHROPIC_API_KEY"):
        return os.environ.get("WEATHER_AGENT_MODEL", "anthropic:claude-haiku-4-5")
    return FunctionModel(offline_model, model_name="offline-weather-1")


def offline_model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Ask for the coordinates, then for the forecast, then answer from what the tools returned."""
    returned = {
        part.tool_name: part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
    if "geocode" not in returned:
        part: TextPart | ToolCallPart = ToolCallPart("geocode", {"city": _city(messages)})
    elif "forecast" not in returned:
        latitude, longitude = returned["geocode"]
        part = ToolCallPart("forecast", {"latitude": latitude, "longitude": longitude})
    else:
        part = TextPart(_advice(str(returned["forecast"])))
    read = sum(len(str(message)) for message in messages) // 4
    return ModelResponse(
        parts=[part],
        usage=RequestUsage(input_tokens=read, output_tokens=len(str(part)) // 4),
        model_name="offline-weather-1",
    )


def _city(messages: list[ModelMessage]) -> str:
    asked = " ".join(
        str(part.content)
        for message in messages
        for part in message.parts
        if isinstance(part, UserPromptPart)
    )
    return next((city for city in PLACES if city.lower() in asked.lower()), "Lisbon")


def _advice(forecast: str) -> str:
    if "rain" in forecast:
        return f"Take a raincoat: {forecast}."
    return f"A light jacket will do: {forecast}."


agent = Agent(
    model(),
    name="weather",
    instructions="Advise on clothes. Use the tools to learn the weather; answer in one sentence.",
)


@agent.tool_plain
def geocode(city: str) -> tuple[float, float]:
    """Latitude and longitude of a city."""
    if city not in PLACES:
        raise ModelRetry(f"I don't know {city}; I know {', '.join(PLACES)}")
    return PLACES[city]


@agent.tool_plain
def forecast(latitude: float, longitude: float) -> str:
    """Today's weather at a place."""
    degrees = round(30 - abs(latitude) / 3)
    return f"{degrees} °C and {'rain' if longitude > 0 else 'sun'}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a weather agent.")
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--json", action="store_true", help="print the answer and the trace id as JSON")
    arguments = parser.parse_args()

    tracing = instrumentation.configure(service_name="weather-agent")
    last = LastTrace()
    tracing.provider.add_span_processor(last)

    answer = agent.run_sync(arguments.question).output
    if arguments.json:
        print(json.dumps({"answer": answer, "trace_id": last.trace_id}))
    else:
        print(f"{answer}\ntrace {last.trace_id}")
    if not tracing.flush():
        print(f"The trace could not be sent to {tracing.endpoint}. Is Sidespan running?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
