"""Strands Agents with its own spans: messages in span events, as GenAI conventions 1.36 had them."""

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
from strands import Agent, tool
from strands.models.openai import OpenAIModel

provider = tracer_provider("strands-agent")


def agent() -> Agent:
    return Agent(
        model=OpenAIModel(model_id="gpt-4o-mini"),
        tools=[tool(weather)],
        name=AGENT,
        system_prompt=INSTRUCTIONS,
        callback_handler=None,
        trace_attributes={"session.id": SESSION, "user.id": USER},
    )


agent()(QUESTION)
agent()(ask("Nowhere"))
attempt(agent(), CUT_OFF)
attempt(agent(), FAILING)
provider.shutdown()
