"""`configure` and the handle it returns."""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported by `configure`: importing this package must stay cheap
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from instrumentation.export import RememberingExporter

_log = logging.getLogger("instrumentation")

# spans are seen soon after they end, and still travel in batches
EXPORT_DELAY_MILLISECONDS = 1000


@dataclass(slots=True)
class Instrumentation:
    """What `configure` has set up; the same one for every call in a process."""

    provider: "TracerProvider"
    endpoint: str
    _batches: "BatchSpanProcessor" = field(repr=False)
    _exporter: "RememberingExporter" = field(repr=False)
    _owns_provider: bool = field(repr=False)
    _is_shut_down: bool = field(default=False, repr=False)

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send what has ended so far; whether it was taken, within the time the exporter gives itself."""
        failed_before = self._exporter.failed_spans
        in_time = self._batches.force_flush(int(timeout_seconds * 1000))
        return in_time and self._exporter.failed_spans == failed_before

    def shutdown(self) -> None:
        """Send what is left and stop exporting. Twice is harmless; `configure` starts anew afterwards."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        self.flush()
        if self._owns_provider:
            self.provider.shutdown()
        else:  # the others' processors go on
            self._exporter.shutdown()


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
    Each has its environment variable (settings.py). Calling it again changes nothing and returns the same
    handle. A tracer provider that is already set is joined, not replaced.
    Raises ValueError for an endpoint that is no http URL.
    """
    global _current
    with _lock:
        if _current is None or _current._is_shut_down:
            _current = _set_up(endpoint, experiment, service_name, include_content)
        return _current


def _set_up(
    endpoint: str | None, experiment: str | None, service_name: str | None, include_content: bool
) -> Instrumentation:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from instrumentation import provider as providers
    from instrumentation import pydantic_ai
    from instrumentation.export import RememberingExporter
    from instrumentation.settings import destination

    to = destination(endpoint=endpoint, experiment=experiment, environment=os.environ)
    joined = providers.existing_provider()
    exporter = RememberingExporter(
        OTLPSpanExporter(
            endpoint=to.url,
            headers=_headers(to.headers) if joined else None,
            compression=None if _is_set("OTEL_EXPORTER_OTLP", "COMPRESSION") else Compression.Gzip,
        )
    )
    delay = None if "OTEL_BSP_SCHEDULE_DELAY" in os.environ else EXPORT_DELAY_MILLISECONDS
    batches = BatchSpanProcessor(exporter, schedule_delay_millis=delay)
    if joined and service_name:
        _log.warning("a tracer provider is set already; its service.name stays, not %r", service_name)
    provider = joined or providers.make_provider(service_name, to.resource_attributes)
    if pydantic_ai.is_installed():
        providers.add(provider, [*pydantic_ai.processors(), batches])
        pydantic_ai.instrument(provider, include_content=include_content)
    else:
        providers.add(provider, [batches])
        _log.info("pydantic-ai is not installed; only spans that the program makes itself are sent")
    return Instrumentation(provider, to.url, batches, exporter, joined is None)


def _headers(ours: Mapping[str, str]) -> dict[str, str]:
    """The standard variables' headers and ours: the exporter reads the former only if it is given none."""
    from opentelemetry.util.re import parse_env_headers

    names = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    text = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return {**parse_env_headers(text, liberal=True), **ours}


def _is_set(prefix: str, name: str) -> bool:
    return f"{prefix}_{name}" in os.environ or f"{prefix}_TRACES_{name}" in os.environ
