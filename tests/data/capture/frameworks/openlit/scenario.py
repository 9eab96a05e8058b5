"""OpenLIT with openai: calls in a span of the application's own, a stream, one cut off, one that fails."""

import os

import openlit
import scene
from openai import OpenAI
from opentelemetry import trace

openlit.init(
    otlp_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
    application_name="openlit",
    environment="test",
    disable_metrics=True,
)
client = OpenAI()
MODEL = "gpt-4o-mini"


def ask(question: str, **named: object) -> object:
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], **named
    )


with trace.get_tracer("app").start_as_current_span("ask", attributes={"session.id": scene.SESSION}):
    ask(scene.QUESTION)
    client.embeddings.create(model="text-embedding-3-small", input=[scene.QUESTION])
for _ in ask(scene.ask("Oslo"), stream=True, stream_options={"include_usage": True}):
    pass
ask(scene.CUT_OFF)
scene.attempt(ask, scene.FAILING)
trace.get_tracer_provider().shutdown()
