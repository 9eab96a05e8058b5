"""OpenTelemetry's own instrumentation of openai: the content is in log events, not on spans."""

import os

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"

import scene
from openai import OpenAI
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

provider = scene.tracer_provider("openai-v2")
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(logs)
OpenAIInstrumentor().instrument(tracer_provider=provider, logger_provider=logs)
client = OpenAI()


def ask(question: str, **named: object) -> object:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}], **named
    )


ask(scene.QUESTION)
for _ in ask(scene.ask("Oslo"), stream=True, stream_options={"include_usage": True}):
    pass
ask(scene.CUT_OFF)
scene.attempt(ask, scene.FAILING)
client.embeddings.create(model="text-embedding-3-small", input=[scene.ask("Rome")])
provider.shutdown()
logs.shutdown()
