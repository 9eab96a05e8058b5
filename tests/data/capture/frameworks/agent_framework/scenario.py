"""Microsoft's Agent Framework with its own spans; the answer that is cut off is streamed."""

import asyncio

from agent_framework import Agent
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient
from scene import AGENT, CUT_OFF, FAILING, INSTRUCTIONS, QUESTION, ask, attempt, tracer_provider, weather

provider = tracer_provider("agent-framework-agent")
enable_instrumentation(enable_sensitive_data=True)


def agent() -> Agent:
    return Agent(
        client=OpenAIChatCompletionClient(model="gpt-4o-mini"),
        name=AGENT,
        instructions=INSTRUCTIONS,
        tools=[weather],
    )


async def run(question: str) -> None:
    made = agent()
    await made.run(question, session=made.create_session())


async def stream(question: str) -> None:
    async for _ in agent().run(question, stream=True):
        pass


asyncio.run(run(QUESTION))
asyncio.run(run(ask("Nowhere")))
asyncio.run(stream(CUT_OFF))
attempt(lambda: asyncio.run(run(FAILING)))
provider.shutdown()
