"""pydantic-ai alone: a run with a tool, a stream, one cut off, one that fails."""

import asyncio

import scene
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.openai import OpenAIChatModel


async def main() -> None:
    agent = Agent(
        OpenAIChatModel("gpt-4o-mini"),
        name=scene.AGENT,
        instructions=scene.INSTRUCTIONS,
        tools=[scene.weather],
        capabilities=[Instrumentation()],
    )
    await agent.run(scene.QUESTION, conversation_id=scene.SESSION)
    async with agent.run_stream(scene.ask("Oslo"), conversation_id=scene.SESSION) as run:
        await run.get_output()
    await agent.run(scene.CUT_OFF, conversation_id=scene.SESSION)
    await scene.failing(agent.run(scene.FAILING, conversation_id=scene.SESSION))


provider = scene.tracer_provider("pydantic-ai")
asyncio.run(main())
provider.shutdown()
