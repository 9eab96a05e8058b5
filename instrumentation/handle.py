"""`configure` and the handle it returns."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # imported by `configure`: importing this package must stay cheap
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from instrumentation.export import Pipeline
    from instrumentation.logs import LogPipeline
    from instrumentation.mend import Mending, Redact
    from instrumentation.settings import Destination
    from instrumentation.wire import Wire

_log = logging.getLogger("instrumentation")


@dataclass(slots=True)
class Instrumentation:
    """What `configure` has set up; the same one for every call in a process."""

    provider: "TracerProvider"
    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    _pipeline: "Pipeline" = field(repr=False)
    _owns_provider: bool = field(repr=False)
    logger_provider: "LoggerProvider | None" = field(default=None, repr=False)
    _log_pipeline: "LogPipeline | None" = field(default=None, repr=False)
    _owns_logger_provider: bool = field(default=False, repr=False)

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send the spans that have ended so far, and log records. True if all was taken within the time.

        False also if any were lost in the background since the last flush, and after `shutdown`. What
        did not go in time is still being sent. Call it at the end of a serverless invocation.
        """
        deadline = time.monotonic() + timeout_seconds
        done = self._pipeline.flush(timeout_seconds)
        if self._log_pipeline is None:
            return done
        return self._log_pipeline.flush(max(0.0, deadline - time.monotonic())) and done

    def shutdown(self, timeout_seconds: float = 10.0) -> None:
        """Send what is left and stop exporting; give up what did not go within the time.

        A provider that was joined goes on for the others. Twice is harmless. `configure` starts anew
        afterwards, on the same provider; then the end of the process flushes nothing, call this again.
        """
        if self._log_pipeline is not None and not self._log_pipeline.is_closed:
            self._log_pipeline.end(timeout_seconds)
            if self._owns_logger_provider and self.logger_provider is not None:
                self.logger_provider.shutdown()
        if not self._pipeline.is_closed:
            self._pipeline.end(timeout_seconds)
            if self._owns_provider:
                self.provider.shutdown()


_lock = threading.Lock()
# the tracer provider is the process's; so is what was added to it
_current: Instrumentation | None = None


def configure(
    *,
    endpoint: str | None = None,
    experiment: str | None = None,
    service_name: str | None = None,
    service_version: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    include_content: bool | None = None,
    hide_inputs: bool | None = None,
    hide_outputs: bool | None = None,
    redact: "Redact | None" = None,
    sampling_ratio: float | None = None,
    batch: bool | None = None,
    logs: bool | None = None,
    compression: Literal["gzip", "none"] | None = None,
    openinference: bool | None = None,
    repeat_content: bool | None = None,
) -> Instrumentation:
    """Trace this process's agents and send the spans to Sidespan.

    Where to: `endpoint` is the base URL of Sidespan or of any OTLP/HTTP receiver (`/v1/traces` is added),
    `experiment` an MLflow experiment, by id (digits) or name, `token` a bearer token, `headers` more headers.
    Who: `service_name`, `service_version`.
    What: `include_content` whether prompts, completions and tool arguments are recorded at all; `hide_inputs`
    and `hide_outputs` leave one side out of what is sent, with the words of errors; `redact(key, value)`
    returns what is sent in a value's place, None for nothing. `sampling_ratio` (0 to 1): of how many traces.
    How: `batch` False sends each span as it ends, in the agent's own thread; `compression`; `logs` False
    exports no log records, `openinference` False leaves its attributes out; `repeat_content` True sends its
    flattened copies of messages too, for backends that read nothing else.
    Everything has its environment variable (settings.py), the standard OTEL_ ones are honoured. Calling it
    again changes nothing and returns the same handle. A tracer provider that is already set is joined, not
    replaced. Raises ValueError, naming what can't be right.
    """
    global _current
    with _lock:
        if _current is None or _current._pipeline.is_closed:
            from instrumentation.settings import destination, switches

            _current = _set_up(
                destination(endpoint=endpoint, experiment=experiment, environment=os.environ),
                switches(
                    {
                        "include_content": include_content,
                        "hide_inputs": hide_inputs,
                        "hide_outputs": hide_outputs,
                        "batch": batch,
                        "logs": logs,
                        "openinference": openinference,
                        "repeat_content": repeat_content,
                    },
                    os.environ,
                ),
                who={"service.name": service_name, "service.version": service_version},
                credentials=(headers, token),
                redact=redact,
                sampling_ratio=_checked_ratio(sampling_ratio),
                compression=compression,
            )
        return _current


def content_is_wanted() -> bool:
    """Whether the environment wants prompts and completions recorded."""
    from instrumentation.settings import switches

    return switches({}, os.environ)["include_content"]


def current() -> Instrumentation:
    """The handle of this process. Raises RuntimeError before `configure`."""
    if _current is None:
        raise RuntimeError("call instrumentation.configure() first")
    return _current


def _set_up(
    to: "Destination",
    chosen: Mapping[str, bool],
    *,
    who: Mapping[str, str | None],
    credentials: tuple[Mapping[str, str] | None, str | None],
    redact: "Redact | None",
    sampling_ratio: float | None,
    compression: str | None,
) -> Instrumentation:
    from instrumentation import provider as providers
    from instrumentation import pydantic_ai
    from instrumentation.export import Pipeline, bounds_of, end_on_termination
    from instrumentation.mend_logs import log_mending
    from instrumentation.settings import export_headers

    joined = providers.existing_provider()
    wanted = {key: value for key, value in who.items() if value}
    _warn_of_what_will_not_hold(wanted if joined else {}, sampling_ratio if joined else None, to)
    headers = export_headers(
        to, joins=joined is not None, environment=os.environ, headers=credentials[0], token=credentials[1]
    )
    has_agents = pydantic_ai.is_installed()
    pipeline = Pipeline(
        wire=open_wire(to.url, headers, compression),
        mend=_mending(chosen, redact, has_agents=has_agents).mend,
        bounds=bounds_of(os.environ),
        batch=chosen["batch"],
    )
    provider = joined or providers.make_provider(wanted, to.resource_attributes, sampling_ratio)
    provider.add_span_processor(pipeline)
    if has_agents:
        pydantic_ai.instrument(provider, include_content=chosen["include_content"])
    else:
        _log.info("pydantic-ai is not installed; only spans that the program creates itself are sent")
    handle = Instrumentation(provider, to.url, headers or {}, pipeline, joined is None)
    if chosen["logs"]:
        mend = log_mending(chosen, redact).mend
        _add_logs(handle, to, credentials, compression, batch=chosen["batch"], mend=mend)
    end_on_termination(*(each for each in (pipeline, handle._log_pipeline) if each is not None))
    return handle


def _add_logs(
    handle: Instrumentation,
    to: "Destination",
    credentials: tuple[Mapping[str, str] | None, str | None],
    compression: str | None,
    *,
    batch: bool,
    mend: Callable[[Any], Any],
) -> None:
    from instrumentation import logs
    from instrumentation.export import bounds_of
    from instrumentation.settings import export_headers, logs_url

    if (url := logs_url(to, os.environ)) is None:
        return
    joined = logs.existing_logger_provider()
    headers = export_headers(
        to,
        joins=joined is not None or not handle._owns_provider,
        environment=os.environ,
        headers=credentials[0],
        token=credentials[1],
        signal="LOGS",
    )
    pipeline = logs.LogPipeline(
        wire=logs.open_log_wire(url, headers, _compression(compression, "LOGS")),
        bounds=bounds_of(os.environ),
        batch=batch,
        mend=mend,
    )
    provider = joined or logs.make_logger_provider(handle.provider.resource)
    provider.add_log_record_processor(pipeline)
    handle.logger_provider, handle._log_pipeline = provider, pipeline
    handle._owns_logger_provider = joined is None


def _compression(chosen: str | None, signal: str) -> "Compression | None":
    """What the exporter is told; None: it reads the standard variables."""
    from opentelemetry.exporter.otlp.proto.http import Compression

    if chosen is None and _is_set("OTEL_EXPORTER_OTLP", "COMPRESSION", signal):
        return None
    return Compression.NoCompression if chosen == "none" else Compression.Gzip


def open_wire(url: str, headers: Mapping[str, str] | None, compression: str | None) -> "Wire[ReadableSpan]":
    """An exporter of the SDK's to `url`, which honours the standard variables for TLS and time-outs."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from instrumentation.wire import RunSession, Wire

    session = RunSession()
    exporter = OTLPSpanExporter(
        endpoint=url,
        headers=dict(headers) if headers else None,
        compression=_compression(compression, "TRACES"),
        session=session,
    )
    return Wire(exporter, session)


def _mending(chosen: Mapping[str, bool], redact: "Redact | None", *, has_agents: bool) -> "Mending":
    from instrumentation import pydantic_ai
    from instrumentation.mend import Mending

    return Mending(
        translate=pydantic_ai.openinference() if has_agents and chosen["openinference"] else None,
        repeat_content=chosen["repeat_content"],
        hide_inputs=chosen["hide_inputs"],
        hide_outputs=chosen["hide_outputs"],
        redact=redact,
    )


def _checked_ratio(ratio: float | None) -> float | None:
    if ratio is not None and not 0 <= ratio <= 1:
        raise ValueError(f"sampling_ratio: {ratio!r} is not between 0 and 1")
    return ratio


def _warn_of_what_will_not_hold(who: Mapping[str, str], ratio: float | None, to: "Destination") -> None:
    from instrumentation.settings import ID_HEADER, NAME_HEADER, standard_headers

    for key, value in who.items():
        _log.warning("a tracer provider is already set; its %s stays, not %r", key, value)
    if ratio is not None:
        _log.warning("a tracer provider is already set; its sampling stays, not sampling_ratio %r", ratio)
    if NAME_HEADER in to.headers and ID_HEADER in standard_headers(os.environ):
        # the exporter adds the variables' headers itself, and Sidespan follows an id before a name
        _log.warning(
            "OTEL_EXPORTER_OTLP_HEADERS holds %s; it takes precedence over the experiment name: "
            "remove it there, or give the experiment by id",
            ID_HEADER,
        )


def _is_set(prefix: str, name: str, signal: str) -> bool:
    return f"{prefix}_{name}" in os.environ or f"{prefix}_{signal}_{name}" in os.environ
