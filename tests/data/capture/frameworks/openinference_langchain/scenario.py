"""LangChain's agent with OpenInference. A tool that fails ends the run."""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor
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

provider = tracer_provider("langchain-agent")
LangChainInstrumentor().instrument(tracer_provider=provider)


def run(question: str, *, stream: bool = False) -> None:
    model = ChatOpenAI(model="gpt-4o-mini", streaming=stream, stream_usage=True)
    agent = create_agent(model, [weather], system_prompt=INSTRUCTIONS, name=AGENT)
    agent.invoke({"messages": [{"role": "user", "content": question}]})


with using_attributes(session_id=SESSION, user_id=USER, tags=["beta"], metadata={"plan": "gold"}):
    run(QUESTION)
    attempt(run, ask("Nowhere"))
    run(CUT_OFF, stream=True)
    attempt(run, FAILING)
provider.shutdown()
