"""The process's tracer provider: the one that is there is joined, otherwise one is made."""

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from instrumentation.settings import EXPERIMENT_ATTRIBUTES


def existing_provider() -> TracerProvider | None:
    """The SDK provider that the application (or Logfire, or MLflow) has set, or None."""
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    # Logfire wraps the SDK's provider and hands processors on
    inner = getattr(current, "provider", None)
    return inner if isinstance(inner, TracerProvider) else None


def has_processors(provider: TracerProvider) -> bool:
    """Whether anything listens to the provider's spans, an exporter say."""
    active = getattr(provider, "_active_span_processor", None)
    return bool(getattr(active, "_span_processors", ()))


def make_provider(
    who: Mapping[str, str], experiment: Mapping[str, str], sampling_ratio: float | None = None
) -> TracerProvider:
    """A provider set as the process's own. The SDK reads the standard OTEL_ variables itself.

    `who` names the service; `sampling_ratio` is of the traces that begin here. `experiment` are the resource
    attributes that name one; they replace those of OTEL_RESOURCE_ATTRIBUTES: an id there would come before a
    name here.
    """
    resource = Resource.create(dict(who))
    if experiment:
        others = {k: v for k, v in resource.attributes.items() if k not in EXPERIMENT_ATTRIBUTES}
        resource = Resource({**others, **experiment}, resource.schema_url)
    sampler = None if sampling_ratio is None else ParentBased(TraceIdRatioBased(sampling_ratio))
    provider = TracerProvider(resource=resource, sampler=sampler)
    trace.set_tracer_provider(provider)
    return provider
