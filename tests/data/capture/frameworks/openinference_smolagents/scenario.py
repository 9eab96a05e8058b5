"""smolagents with OpenInference; the answer that is cut off is streamed.

A run that fails never ends its span, so its trace would have no root: this scenario has none.
"""

from openinference.instrumentation import using_attributes
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from scene import (
    AGENT,
    CUT_OFF,
    INSTRUCTIONS,
    QUESTION,
    SESSION,
    USER,
    ask,
    attempt,
    tracer_provider,
    weather,
)
from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

provider = tracer_provider("smolagents-agent")
SmolagentsInstrumentor().instrument(tracer_provider=provider)


class Weather(Tool):
    name = "weather"
    description = "The weather of a city."
    inputs = {"city": {"type": "string", "description": "The city."}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return weather(city)


def run(question: str, *, stream: bool = False) -> None:
    agent = ToolCallingAgent(
        tools=[Weather()],
        model=OpenAIServerModel("gpt-4o-mini"),
        name=AGENT,
        description="Tells the weather.",
        max_steps=3,
        stream_outputs=stream,
        verbosity_level=0,
    )
    agent.prompt_templates["system_prompt"] = INSTRUCTIONS
    agent.run(question)


with using_attributes(session_id=SESSION, user_id=USER):
    run(QUESTION)
    run(ask("Nowhere"))
    attempt(run, CUT_OFF, stream=True)
provider.shutdown()
