"""The process's tracer provider: the one that is there is joined, otherwise one is made."""

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider

from instrumentation.settings import EXPERIMENT_ATTRIBUTES


def existing_provider() -> TracerProvider | None:
    """The SDK provider that the application (or Logfire, or MLflow) has set, or None."""
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    # Logfire wraps the SDK's provider and hands processors on
    inner = getattr(current, "provider", None)
    return inner if isinstance(inner, TracerProvider) else None


def make_provider(service_name: str | None, experiment: Mapping[str, str]) -> TracerProvider:
    """A provider set as the process's own. The SDK reads the standard OTEL_ variables itself.

    `experiment` are the resource attributes that name one; they replace those of OTEL_RESOURCE_ATTRIBUTES,
    an id there would come before a name here.
    """
    resource = Resource.create({SERVICE_NAME: service_name} if service_name else {})
    if experiment:
        others = {k: v for k, v in resource.attributes.items() if k not in EXPERIMENT_ATTRIBUTES}
        resource = Resource({**others, **experiment}, resource.schema_url)
    provider = TracerProvider(resource=resource)
    trace.set_tracer_provider(provider)
    return provider
