"""MLflow's own SDK, exported by OpenTelemetry's exporter: autolog of openai within traced functions.

The autolog of openai, `@mlflow.trace` around an agent's loop and its tool, and update_current_trace.
"""

import json

import mlflow
import scene
from mlflow.entities import SpanType
from openai import OpenAI

client = OpenAI()
TOOLS = scene.OPENAI_TOOLS


@mlflow.trace(span_type=SpanType.TOOL)
def weather(city: str) -> str:
    return scene.weather(city)


@mlflow.trace(name=scene.AGENT, span_type=SpanType.AGENT)
def run(question: str, *, stream: bool = False) -> str:
    if not stream:
        mlflow.update_current_trace(
            tags={"plan": "gold"},
            metadata={"mlflow.trace.session": scene.SESSION, "mlflow.trace.user": scene.USER},
        )
    messages = [{"role": "system", "content": scene.INSTRUCTIONS}, {"role": "user", "content": question}]
    while True:
        answer = complete(messages, stream=stream)
        if not answer["tool_calls"]:
            return answer["content"]
        messages.append(answer)
        for call in answer["tool_calls"]:
            found = weather(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": found})


def complete(messages: list, *, stream: bool) -> dict:
    named = {"model": "gpt-4o-mini", "messages": messages, "tools": TOOLS}
    if not stream:
        message = client.chat.completions.create(**named).choices[0].message.model_dump()
        return {key: message.get(key) for key in ("role", "content", "tool_calls")}
    whole: dict = {"role": "assistant", "content": "", "tool_calls": []}
    chunks = client.chat.completions.create(**named, stream=True, stream_options={"include_usage": True})
    for delta in (chunk.choices[0].delta for chunk in chunks if chunk.choices):
        whole["content"] += delta.content or ""
        whole["tool_calls"] += [call.model_dump() for call in delta.tool_calls or ()]
    return whole


mlflow.openai.autolog()
run(scene.QUESTION)
run(scene.ask("Oslo"), stream=True)
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": scene.CUT_OFF}])
scene.attempt(
    client.chat.completions.create,
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": scene.FAILING}],
)
mlflow.flush_trace_async_logging(terminate=True)
