"""AutoGen with its own spans, which know of agents and tools but not of model calls."""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from opentelemetry.trace import SpanKind
from scene import (
    AGENT,
    CUT_OFF,
    FAILING,
    INSTRUCTIONS,
    QUESTION,
    SESSION,
    USER,
    ask,
    attempt,
    tracer_provider,
    weather,
)

REQUEST = {
    "http.request.method": "POST",
    "http.route": "/ask",
    "session.id": SESSION,
    "user.id": USER,
}
provider = tracer_provider("autogen-agent")


async def run(question: str, *, stream: bool = False) -> None:
    """A web server's request: AutoGen makes the agent and runs it in spans of their own."""
    with provider.get_tracer("web").start_as_current_span(
        "POST /ask", kind=SpanKind.SERVER, attributes=REQUEST
    ):
        agent = AssistantAgent(
            AGENT,
            model_client=OpenAIChatCompletionClient(
                model="gpt-4o-mini", max_retries=0, include_name_in_message=False
            ),
            tools=[weather],
            system_message=INSTRUCTIONS,
            reflect_on_tool_use=True,
            model_client_stream=stream,
        )
        await agent.run(task=question)


asyncio.run(run(QUESTION))
asyncio.run(run(ask("Nowhere")))
asyncio.run(run(CUT_OFF, stream=True))
attempt(lambda: asyncio.run(run(FAILING)))
provider.shutdown()
