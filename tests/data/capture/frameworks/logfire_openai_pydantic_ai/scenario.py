"""logfire, which instruments pydantic-ai and openai at once: each call is two spans. A log is among them."""

import asyncio

import logfire
import scene
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel


async def main() -> None:
    agent = Agent(
        OpenAIChatModel("gpt-4o-mini"),
        name=scene.AGENT,
        instructions=scene.INSTRUCTIONS,
        tools=[scene.weather],
    )
    with logfire.span("ask"):
        logfire.info("asking", session=scene.SESSION)
        await agent.run(scene.QUESTION, conversation_id=scene.SESSION)
    async with agent.run_stream(scene.ask("Oslo"), conversation_id=scene.SESSION) as run:
        await run.get_output()
    await scene.failing(agent.run(scene.FAILING, conversation_id=scene.SESSION))


logfire.configure(send_to_logfire=False, service_name="logfire", service_version="3.1", console=False)
logfire.instrument_pydantic_ai()
logfire.instrument_openai()
asyncio.run(main())
logfire.force_flush()
logfire.shutdown()
