"""CrewAI with OpenInference, which leaves the model calls to its instrumentation of the OpenAI client."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
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

provider = tracer_provider("crewai-agent")
CrewAIInstrumentor().instrument(tracer_provider=provider)
OpenAIInstrumentor().instrument(tracer_provider=provider)


def run(question: str, *, stream: bool = False) -> None:
    agent = Agent(
        role=AGENT,
        goal="Answer.",
        backstory=INSTRUCTIONS,
        tools=[tool("weather")(weather)],
        llm=LLM(model="gpt-4o-mini", stream=stream),
        max_iter=3,
        max_retry_limit=0,
    )
    task = Task(description=question, expected_output="One sentence.", agent=agent)
    Crew(name="weather_crew", agents=[agent], tasks=[task]).kickoff()


with using_attributes(session_id=SESSION, user_id=USER):
    run(QUESTION)
    attempt(run, ask("Nowhere"))
    attempt(run, CUT_OFF, stream=True)
    attempt(run, FAILING)
provider.shutdown()
