"""pydantic-ai, and OpenInference's instrumentation of Anthropic's client below it: each call is two spans."""

import asyncio

import scene
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.anthropic import AnthropicModel


async def main() -> None:
    agent = Agent(
        AnthropicModel("claude-sonnet-4-5", settings={"max_tokens": 1000}),
        name=scene.AGENT,
        instructions=scene.INSTRUCTIONS,
        tools=[scene.weather],
        capabilities=[Instrumentation()],
    )
    await agent.run(scene.QUESTION, conversation_id=scene.SESSION)
    await agent.run(scene.CUT_OFF, conversation_id=scene.SESSION)
    await scene.failing(agent.run(scene.FAILING, conversation_id=scene.SESSION))


provider = scene.tracer_provider("pydantic-ai-anthropic")
AnthropicInstrumentor().instrument(tracer_provider=provider)
asyncio.run(main())
provider.shutdown()
