"""`configure` and the handle it returns."""

import logging
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported by `configure`: importing this package must stay cheap
    from opentelemetry.sdk.trace import TracerProvider

    from instrumentation.export import Pipeline
    from instrumentation.settings import Destination

_log = logging.getLogger("instrumentation")

# spans are seen soon after they end, and still travel in batches
EXPORT_DELAY_MILLISECONDS = 1000


@dataclass(slots=True)
class Instrumentation:
    """What `configure` has set up; the same one for every call in a process."""

    provider: "TracerProvider"
    endpoint: str
    _pipeline: "Pipeline" = field(repr=False)
    _owns_provider: bool = field(repr=False)

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send what has ended so far. True if all of it was taken within the time.

        False also if spans were lost in the background since the last flush, and after `shutdown`. What
        did not go in time is still being sent.
        """
        return self._pipeline.flush(timeout_seconds)

    def shutdown(self, timeout_seconds: float = 10.0) -> None:
        """Send what is left and stop exporting; give up what did not go within the time.

        A provider that was joined goes on for the others. Twice is harmless. `configure` starts anew
        afterwards, on the same provider; then the end of the process flushes nothing, call this again.
        """
        if not self._pipeline.is_closed:
            ours = self.provider if self._owns_provider else self._pipeline
            self._pipeline.end(ours.shutdown, timeout_seconds)


_lock = threading.Lock()
# the tracer provider is the process's; so is what was added to it
_current: Instrumentation | None = None


def configure(
    *,
    endpoint: str | None = None,
    experiment: str | None = None,
    service_name: str | None = None,
    include_content: bool = True,
) -> Instrumentation:
    """Trace this process's agents and send the spans to Sidespan.

    `endpoint`: base URL of Sidespan or of any OTLP/HTTP receiver, `/v1/traces` is added.
    `experiment`: MLflow experiment, by id (digits) or name. `service_name`: who this is.
    `include_content`: whether prompts, completions and tool arguments are recorded.
    All but the last have their environment variables (settings.py). Calling it again changes nothing and
    returns the same handle. A tracer provider that is already set is joined, not replaced.
    Raises ValueError for an endpoint that is no http URL.
    """
    global _current
    with _lock:
        if _current is None or _current._pipeline.is_closed:
            _current = _set_up(endpoint, experiment, service_name, include_content)
        return _current


def _set_up(
    endpoint: str | None, experiment: str | None, service_name: str | None, include_content: bool
) -> Instrumentation:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from instrumentation import provider as providers
    from instrumentation import pydantic_ai
    from instrumentation.export import Pipeline
    from instrumentation.settings import destination, export_headers

    to = destination(endpoint=endpoint, experiment=experiment, environment=os.environ)
    joined = providers.existing_provider()
    _warn_of_what_will_not_hold(service_name if joined else None, to)
    exporter = OTLPSpanExporter(
        endpoint=to.url,
        headers=export_headers(to, joins=joined is not None, environment=os.environ),
        compression=None if _is_set("OTEL_EXPORTER_OTLP", "COMPRESSION") else Compression.Gzip,
    )
    has_agents = pydantic_ai.is_installed()
    pipeline = Pipeline(
        enrich=pydantic_ai.processors() if has_agents else [],
        exporter=exporter,
        delay_milliseconds=None if "OTEL_BSP_SCHEDULE_DELAY" in os.environ else EXPORT_DELAY_MILLISECONDS,
    )
    provider = joined or providers.make_provider(service_name, to.resource_attributes)
    provider.add_span_processor(pipeline)
    if has_agents:
        pydantic_ai.instrument(provider, include_content=include_content)
    else:
        _log.info("pydantic-ai is not installed; only spans that the program makes itself are sent")
    return Instrumentation(provider, to.url, pipeline, joined is None)


def _warn_of_what_will_not_hold(service_name: str | None, to: "Destination") -> None:
    from instrumentation.settings import ID_HEADER, NAME_HEADER, standard_headers

    if service_name:
        _log.warning("a tracer provider is set already; its service.name stays, not %r", service_name)
    if NAME_HEADER in to.headers and ID_HEADER in standard_headers(os.environ):
        # the exporter adds the variables' headers itself, and Sidespan follows an id before a name
        _log.warning(
            "OTEL_EXPORTER_OTLP_HEADERS holds %s; it comes before the experiment name that was given: "
            "remove it there, or give the experiment by id",
            ID_HEADER,
        )


def _is_set(prefix: str, name: str) -> bool:
    return f"{prefix}_{name}" in os.environ or f"{prefix}_TRACES_{name}" in os.environ
