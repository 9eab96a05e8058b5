"""LiteLLM's callback for OpenTelemetry: one call, one with session and user, a stream, one that fails."""

import time

import litellm
import scene

litellm.callbacks = ["otel"]


def ask(question: str, **named: object) -> object:
    return litellm.completion(
        model="openai/gpt-4o-mini", messages=[{"role": "user", "content": question}], num_retries=0, **named
    )


ask(scene.QUESTION, user=scene.USER, metadata={"session_id": scene.SESSION, "tags": ["beta"]})
for _ in ask(scene.ask("Oslo"), stream=True, stream_options={"include_usage": True}):
    pass
ask(scene.CUT_OFF)
scene.attempt(ask, scene.FAILING)
litellm.embedding(model="openai/text-embedding-3-small", input=[scene.ask("Rome")])
time.sleep(2)  # its callbacks run in threads, which it doesn't wait for

from opentelemetry import trace  # noqa: E402

trace.get_tracer_provider().shutdown()
