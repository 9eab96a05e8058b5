"""The process's tracer provider: the one that is there is joined, otherwise one is made."""

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider


def existing_provider() -> TracerProvider | None:
    """The SDK provider that the application (or Logfire, or MLflow) has set, or None."""
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    # Logfire wraps the SDK's provider and hands processors on
    inner = getattr(current, "provider", None)
    return inner if isinstance(inner, TracerProvider) else None


def make_provider(service_name: str | None, attributes: Mapping[str, str]) -> TracerProvider:
    """A provider set as the process's own. The SDK reads the standard OTEL_ variables itself."""
    named = {SERVICE_NAME: service_name} if service_name else {}
    provider = TracerProvider(resource=Resource.create({**attributes, **named}))
    trace.set_tracer_provider(provider)
    return provider


def add(provider: TracerProvider, processors: Sequence[SpanProcessor]) -> None:
    """Add `processors` in this order: what changes spans comes before what exports them."""
    for processor in processors:
        provider.add_span_processor(processor)
