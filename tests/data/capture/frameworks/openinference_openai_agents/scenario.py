"""OpenAI's Agents SDK by OpenInference: a run with a tool, one that streams, one cut off, one that fails."""

import asyncio

import scene
from agents import Agent, Runner, function_tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor


async def main() -> None:
    agent = Agent(
        name=scene.AGENT,
        instructions=scene.INSTRUCTIONS,
        model="gpt-4o-mini",
        tools=[function_tool(scene.weather)],
    )
    with using_attributes(session_id=scene.SESSION, user_id=scene.USER):
        await Runner.run(agent, scene.QUESTION)
    async for _ in Runner.run_streamed(agent, scene.ask("Oslo")).stream_events():
        pass
    await scene.failing(Runner.run(agent, scene.CUT_OFF))  # which this SDK takes for a failure
    await scene.failing(Runner.run(agent, scene.FAILING))


provider = scene.tracer_provider("openai-agents")
OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
asyncio.run(main())
provider.shutdown()
