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
from strands.memory import MemoryEntry, MemoryManager, SearchOptions
from strands.models.openai import OpenAIModel

provider = tracer_provider("strands-agent")


class Notes:
    """A store of memories that strands asks before each call of a model."""

    name, description, max_search_results, writable, extraction = "notes", "Notes.", 1, False, None

    async def search(self, query: str, options: SearchOptions | None = None) -> list[MemoryEntry]:
        return [MemoryEntry(content="The user likes short answers.")]


def agent(memory: MemoryManager | None = None) -> Agent:
    return Agent(
        model=OpenAIModel(model_id="gpt-4o-mini"),
        tools=[tool(weather)],
        name=AGENT,
        system_prompt=INSTRUCTIONS,
        callback_handler=None,
        memory_manager=memory,
        trace_attributes={"session.id": SESSION, "user.id": USER},
    )


agent()(QUESTION)
agent()(ask("Nowhere"))
attempt(agent(), CUT_OFF)
attempt(agent(), FAILING)
agent(MemoryManager(stores=[Notes()], search_tool_config=False))(ask("Oslo"))
provider.shutdown()
