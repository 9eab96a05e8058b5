"""Agents in the situations that the table asserts, in one process; prints {situation: trace id}.

Runs under pydantic-ai 1.x and 2.x, offline. SIDESPAN_ENDPOINT and SIDESPAN_EXPERIMENT say where traces go.
"""

import asyncio
import contextvars
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCalls, FunctionModel
from pydantic_ai.usage import RequestUsage

import instrumentation

QUESTION = "What is the weather in Paris?"
ANSWER = "It is sunny in Paris."
USED = {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400}


def returned(messages: list[ModelMessage]) -> int:
    """How many tools have answered."""
    return sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)


def tried(messages: list[ModelMessage]) -> int:
    """How many model answers there were."""
    return sum(isinstance(message, ModelResponse) for message in messages)


def say(*parts: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), usage=RequestUsage(**USED))


def calls_then_answers(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if returned(messages):
        return say(TextPart(ANSWER))
    return say(ToolCallPart(info.function_tools[0].name, {"city": "Paris"}))


def model(function: Callable[..., ModelResponse] = calls_then_answers) -> FunctionModel:
    return FunctionModel(function, model_name="gpt-4o")


def weather_agent(**settings: Any) -> Agent[None, Any]:
    agent: Agent[None, Any] = Agent(model(), name="weather", **settings)

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"sunny in {city}"

    return agent


def synchronous() -> None:
    weather_agent().run_sync(QUESTION)


def asynchronous() -> None:
    async def both() -> None:
        await weather_agent().run(QUESTION)

    asyncio.run(both())


def streaming() -> None:
    async def words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        for word in ANSWER.split(" "):
            yield f"{word} "

    async def stream() -> None:
        agent = Agent(FunctionModel(stream_function=words, model_name="gpt-4o"), name="weather")
        async with agent.run_stream(QUESTION) as result:
            async for _ in result.stream_text():
                pass

    asyncio.run(stream())


def retried_tool() -> None:
    tries = []

    def ask_again(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return (
            say(TextPart(ANSWER)) if tried(messages) == 2 else say(ToolCallPart("weather", {"city": "paris"}))
        )

    agent = Agent(model(ask_again), name="weather")

    @agent.tool_plain(retries=2)
    def weather(city: str) -> str:
        tries.append(city)
        if len(tries) == 1:
            raise ModelRetry("write the city with a capital")
        return f"sunny in {city}"

    agent.run_sync(QUESTION)


def failing_tool() -> None:
    agent = Agent(model(), name="weather")

    @agent.tool_plain
    def weather(city: str) -> str:
        raise RuntimeError("the station is offline")

    try:
        agent.run_sync(QUESTION)
    except RuntimeError:
        return
    raise AssertionError("the failure did not come through")


def hand_off() -> None:
    expert = weather_agent()
    front = Agent(model(), name="front desk")

    @front.tool
    async def ask_expert(context: RunContext[None], city: str) -> str:
        return str((await expert.run(f"Weather in {city}?", usage=context.usage)).output)

    front.run_sync(QUESTION)


class Report(BaseModel):
    city: str
    degrees: int


def structured(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return say(ToolCallPart(info.output_tools[0].name, {"city": "Paris", "degrees": 15 + tried(messages)}))


def output_validator() -> None:
    agent = Agent(model(structured), name="weather", output_type=Report, retries=2)

    @agent.output_validator
    def check(report: Report) -> Report:
        if report.degrees < 16:
            raise ModelRetry("too cold to be true")
        return report

    agent.run_sync(QUESTION)


def labelled() -> None:
    with (
        instrumentation.session("chat-17"),
        instrumentation.user("ann"),
        instrumentation.tags("beta", plan="gold"),
    ):
        weather_agent().run_sync(QUESTION)


def labelled_across_threads_and_tasks() -> None:
    @instrumentation.session("thread-session")
    async def work() -> None:
        await asyncio.gather(asyncio.to_thread(weather_agent().run_sync, QUESTION))

    def run() -> None:
        asyncio.run(work())

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()


def mcp_tools() -> None:
    from fastmcp.client.transports import PythonStdioTransport
    from pydantic_ai.mcp import MCPToolset

    server = PythonStdioTransport(Path(__file__).with_name("mcp_server.py"))
    agent = Agent(model(), name="weather", toolsets=[MCPToolset(server, init_timeout=60)])
    agent.run_sync(QUESTION)


SITUATIONS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        synchronous,
        asynchronous,
        streaming,
        retried_tool,
        failing_tool,
        hand_off,
        output_validator,
        labelled,
        labelled_across_threads_and_tasks,
        mcp_tools,
    )
}


def main() -> None:
    names = sys.argv[1:] or list(SITUATIONS)
    handle = instrumentation.configure(service_name="situations", service_version="1.2.3")
    seen: list[str] = []

    class Roots(SpanProcessor):
        """Collects the trace ids of roots as they start."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.parent is None:
                seen.append(f"{span.get_span_context().trace_id:032x}")

    handle.provider.add_span_processor(Roots())
    found = {}
    for name in names:
        seen.clear()
        SITUATIONS[name]()
        (found[name],) = seen
    assert handle.flush(30), "not everything was sent"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
