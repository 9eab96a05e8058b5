"""pydantic-ai with OpenInference's processor of spans: its older names (format 2), and those of today."""

import asyncio

import scene
from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.openai import OpenAIChatModel


def agent(settings: InstrumentationSettings) -> Agent:
    return Agent(
        OpenAIChatModel("gpt-4o-mini"),
        name=scene.AGENT,
        instructions=scene.INSTRUCTIONS,
        tools=[scene.weather],
        capabilities=[Instrumentation(settings=settings)],
    )


async def main() -> None:
    await agent(InstrumentationSettings(version=2)).run(scene.QUESTION, conversation_id=scene.SESSION)
    await agent(InstrumentationSettings()).run(scene.ask("Oslo"), conversation_id=scene.SESSION)
    await agent(InstrumentationSettings()).run(scene.CUT_OFF, conversation_id=scene.SESSION)


provider = scene.tracer_provider("pydantic-ai-openinference", OpenInferenceSpanProcessor)
asyncio.run(main())
provider.shutdown()
