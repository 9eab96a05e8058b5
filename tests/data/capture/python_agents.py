"""One run of a Python agent, exported to model.py: python python_agents.py langchain|openllmetry."""

import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MODEL = "http://127.0.0.1:5056/v1"
QUESTION = "What is the weather in Paris?"


def langchain(provider: TracerProvider) -> None:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.langchain import LangChainInstrumentor

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    LangChainInstrumentor().instrument(tracer_provider=provider)
    agent = create_agent(
        ChatOpenAI(model="gpt-4o", base_url=MODEL, api_key="none"), [weather], name="weather"
    )
    with using_attributes(
        session_id="langchain-session", user_id="langchain-user", tags=["beta"], metadata={"plan": "gold"}
    ):
        agent.invoke({"messages": [{"role": "user", "content": QUESTION}]})


def openllmetry(provider: TracerProvider) -> None:
    from openai import OpenAI
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)
    served = {"http.request.method": "POST", "http.route": "/ask"}
    caller = {"session.id": "web-session", "enduser.id": "web-user"}
    with provider.get_tracer("app").start_as_current_span(
        "POST /ask", kind=trace.SpanKind.SERVER, attributes={**served, **caller}
    ):
        messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": QUESTION}]
        OpenAI(base_url=MODEL, api_key="none").chat.completions.create(model="gpt-4o", messages=messages)


provider = TracerProvider(
    resource=Resource({"service.name": f"{sys.argv[1]}-agent", "service.version": "3.1"})
)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{MODEL}/traces")))
{"langchain": langchain, "openllmetry": openllmetry}[sys.argv[1]](provider)
provider.shutdown()
