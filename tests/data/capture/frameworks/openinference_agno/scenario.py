"""agno with OpenInference; the answer that is cut off is streamed."""

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from openinference.instrumentation.agno import AgnoInstrumentor
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

provider = tracer_provider("agno-agent")
AgnoInstrumentor().instrument(tracer_provider=provider)


def agent() -> Agent:
    return Agent(
        name=AGENT,
        model=OpenAIChat(id="gpt-4o-mini"),
        instructions=INSTRUCTIONS,
        tools=[weather],
        session_id=SESSION,
        user_id=USER,
        telemetry=False,
    )


agent().run(QUESTION)
agent().run(ask("Nowhere"))
list(agent().run(CUT_OFF, stream=True))
attempt(agent().run, FAILING)
provider.shutdown()
