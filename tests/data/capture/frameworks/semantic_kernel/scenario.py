"""Semantic Kernel with its own spans; the answer that is cut off is streamed."""

import asyncio
import os

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE"] = "true"

from scene import AGENT, CUT_OFF, FAILING, INSTRUCTIONS, QUESTION, ask, attempt, tracer_provider, weather
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

provider = tracer_provider("semantic-kernel-agent")


class Sky:
    @kernel_function(name="weather", description="The weather of a city.")
    def weather(self, city: str) -> str:
        return weather(city)


def agent() -> ChatCompletionAgent:
    return ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"),
        name=AGENT,
        instructions=INSTRUCTIONS,
        plugins=[Sky()],
    )


async def run(question: str) -> None:
    await agent().get_response(messages=question)


async def stream(question: str) -> None:
    async for _ in agent().invoke_stream(messages=question):
        pass


asyncio.run(run(QUESTION))
asyncio.run(run(ask("Nowhere")))
asyncio.run(stream(CUT_OFF))
attempt(lambda: asyncio.run(run(FAILING)))
provider.shutdown()
