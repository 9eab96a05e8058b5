"""Google's client with OpenInference: it calls the tool itself, streams, and embeds."""

from typing import Any

from google import genai
from google.genai.types import GenerateContentConfig
from openinference.instrumentation import using_attributes
from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor
from scene import (
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

provider = tracer_provider("genai-client")
GoogleGenAIInstrumentor().instrument(tracer_provider=provider)
client = genai.Client()


def asking() -> dict[str, Any]:
    config = GenerateContentConfig(system_instruction=INSTRUCTIONS, tools=[weather])
    return {"model": "gemini-2.5-flash", "config": config}


with using_attributes(session_id=SESSION, user_id=USER):
    client.models.generate_content(contents=QUESTION, **asking())
    client.models.generate_content(contents=ask("Nowhere"), **asking())
    list(client.models.generate_content_stream(contents=CUT_OFF, **asking()))
    attempt(client.models.generate_content, contents=FAILING, **asking())
    client.models.embed_content(model="gemini-embedding-001", contents=ask("London"))
provider.shutdown()
