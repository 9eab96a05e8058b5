"""Google's client with OpenTelemetry's instrumentation: it calls the tool itself, streams, and embeds."""

import os
from typing import Any

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"

from google import genai
from google.genai.types import GenerateContentConfig
from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor
from scene import CUT_OFF, FAILING, INSTRUCTIONS, QUESTION, ask, attempt, tracer_provider, weather

provider = tracer_provider("genai-client")
GoogleGenAiSdkInstrumentor().instrument(tracer_provider=provider)
client = genai.Client()


def asking() -> dict[str, Any]:
    config = GenerateContentConfig(system_instruction=INSTRUCTIONS, tools=[weather])
    return {"model": "gemini-2.5-flash", "config": config}


client.models.generate_content(contents=QUESTION, **asking())
client.models.generate_content(contents=ask("Nowhere"), **asking())
list(client.models.generate_content_stream(contents=CUT_OFF, **asking()))
attempt(client.models.generate_content, contents=FAILING, **asking())
client.models.embed_content(model="gemini-embedding-001", contents=ask("London"))
provider.shutdown()
