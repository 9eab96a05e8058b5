"""Langfuse's SDK with its wrapper of openai: an agent's loop, a call cut off, one that fails."""

import json
import os

os.environ |= {
    "LANGFUSE_HOST": os.environ["PROVIDER_URL"],
    "LANGFUSE_BASE_URL": os.environ["PROVIDER_URL"],
    "LANGFUSE_PUBLIC_KEY": "pk-lf-capture",
    "LANGFUSE_SECRET_KEY": "sk-lf-capture",
    "LANGFUSE_RELEASE": "3.1",
}

import scene
from langfuse import get_client, observe, propagate_attributes
from langfuse.openai import OpenAI

client = OpenAI()
TOOLS = scene.OPENAI_TOOLS
langfuse = get_client()


@observe(as_type="tool")
def weather(city: str) -> str:
    return scene.weather(city)


@observe(name=scene.AGENT, as_type="agent")
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


with propagate_attributes(
    session_id=scene.SESSION, user_id=scene.USER, tags=["beta", "gold"], trace_name="weather run"
):
    run(scene.QUESTION)
client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": scene.CUT_OFF}], name="cut off"
)
scene.attempt(
    client.chat.completions.create,
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": scene.FAILING}],
)
# as its integrations of other libraries tell usage: the members add up, none is a part of another
with langfuse.start_as_current_observation(
    as_type="generation", name="by hand", model="gpt-4o-mini", input=scene.ask("Oslo")
) as generation:
    made = scene.complete(scene.ask("Oslo"))
    used = made["usage"]
    cached = used["prompt_tokens_details"]["cached_tokens"]
    reasoning = used["completion_tokens_details"]["reasoning_tokens"]
    generation.update(
        output=made["choices"][0]["message"]["content"],
        usage_details={
            "input": used["prompt_tokens"] - cached,
            "input_cache_read": cached,
            "output": used["completion_tokens"] - reasoning,
            "output_reasoning": reasoning,
            "total": used["total_tokens"],
        },
        cost_details={"input": 0.000015, "output": 0.000012, "total": 0.000027},
    )
langfuse.flush()
langfuse.shutdown()
