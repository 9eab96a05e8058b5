"""Sends a trace over gRPC with OpenTelemetry's own exporter, which takes port 4317 by default.

    pip install opentelemetry-exporter-otlp-proto-grpc
    python examples/grpc_exporter.py

Look at: the trace in MLflow, in the experiment that the metadata names, as HTTP's headers would
have. Send to an experiment id that doesn't exist, and read the exporter's error.
"""

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

exporter = OTLPSpanExporter(
    endpoint=os.environ.get("SIDESPAN_GRPC", "http://127.0.0.1:4317"),
    # metadata, where HTTP has headers; names in lower case
    headers={"x-mlflow-experiment-name": os.environ.get("SIDESPAN_EXPERIMENT_NAME", "examples")},
)
provider = TracerProvider(resource=Resource.create({"service.name": "over-grpc"}))
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)

tracer = trace.get_tracer("example")
with tracer.start_as_current_span("question") as root:
    root.set_attribute("session.id", "grpc-1")
    with tracer.start_as_current_span("look up the answer"):
        pass
provider.shutdown()
print(format(root.get_span_context().trace_id, "032x"))
