"""OpenLLMetry with openai: a workflow with a tool, a stream, one cut off, one that fails."""

import json
import os

import scene
from openai import OpenAI
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, tool, workflow

Traceloop.init(
    app_name="openllmetry",
    api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
    api_key="none",
    disable_batch=False,
    telemetry_enabled=False,
)
client = OpenAI()
TOOLS = scene.OPENAI_TOOLS


@tool(name="weather")
def weather(city: str) -> str:
    return scene.weather(city)


@agent(name=scene.AGENT)
def run(question: str) -> str:
    messages = [{"role": "system", "content": scene.INSTRUCTIONS}, {"role": "user", "content": question}]
    while True:
        made = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS)
        message = made.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            found = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})


@workflow(name="ask")
def ask(question: str) -> str:
    Traceloop.set_association_properties({"session_id": scene.SESSION, "user_id": scene.USER})
    return run(question)


def complete(question: str, **named: object) -> object:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}], **named
    )


for _ in complete(scene.ask("Oslo"), stream=True, stream_options={"include_usage": True}):
    pass
complete(scene.CUT_OFF)
scene.attempt(complete, scene.FAILING)
ask(scene.QUESTION)

from opentelemetry import trace  # noqa: E402

trace.get_tracer_provider().shutdown()
