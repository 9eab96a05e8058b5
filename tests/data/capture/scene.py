"""What scenarios share. It runs in a framework's own environment, where nothing of Sidespan is installed."""

from __future__ import annotations

import json
import os
import urllib.request

QUESTION = "What is the weather in Paris?"
SESSION, USER = "capture-session", "capture-user"
AGENT = "weather_agent"
INSTRUCTIONS = "You are brief."


def ask(city: str) -> str:
    """A question that leads to a call of the tool; `Nowhere` makes the tool fail."""
    return f"What is the weather in {city}?"


# the answer to this is cut off by the limit of tokens, to that there is none but 400
CUT_OFF, FAILING = "Tell me all about the sea.", "Please fail."


def weather(city: str) -> str:
    """The weather of a city."""
    if city == "Nowhere":
        raise LookupError("there is no such city")
    return f"sunny in {city}"


# the tool as OpenAI's chat completions take it
OPENAI_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def tracer_provider(service: str, *processors):  # type: ignore[no-untyped-def]
    """OpenTelemetry's own SDK with its own exporter, for frameworks that bring no set-up.

    It is the global provider too, and `processors` come before the exporter. Call `shutdown()` at the end.
    """
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": "3.1"}))
    for processor in processors:
        provider.add_span_processor(processor())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def complete(question: str) -> dict:
    """One chat completion of the provider without any library, so that nothing traces it."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"{os.environ['PROVIDER_URL']}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def attempt(call, *arguments, **named):  # type: ignore[no-untyped-def]
    """`call`, which is meant to fail: whatever it raises has been traced by then."""
    try:
        call(*arguments, **named)
    except Exception as error:
        print(f"as expected: {type(error).__name__}")


async def failing(awaitable):  # type: ignore[no-untyped-def]
    """The same for what is awaited."""
    try:
        await awaitable
    except Exception as error:
        print(f"as expected: {type(error).__name__}")
