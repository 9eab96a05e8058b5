"""Log records on their way to Sidespan: evaluations and the messages that instrumentations put into events.

They go as spans do: through a queue of their own, in the background, again while the endpoint is away. The
process's logger provider is joined, otherwise one is made with the resource of its tracer provider.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord

from instrumentation.export import Outbox
from instrumentation.wire import RunSession, Wire, rough_text

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

_log = logging.getLogger("instrumentation")

NO_LOGS_THERE = 404


class LogPipeline(Outbox[Any], LogRecordProcessor):
    """What `configure` adds to a logger provider. After `end` it lies still."""

    noun = "log records"
    _is_told = False

    def __init__(self, *, mend: Callable[[Any], Any], **given: Any) -> None:
        super().__init__(**given)
        self._mend = mend

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if not self.is_closed:
            self.put(log_record)

    def _ready(self, item: Any) -> Any:
        return self._mend(item)

    def _size_of(self, item: Any) -> int:
        return rough_bytes_of(item)

    def _tell_refused(self, count: int) -> None:
        if self._wire.status != NO_LOGS_THERE:
            super()._tell_refused(count)
        elif not self._is_told:  # MLflow, say: it is no fault of this program
            self._is_told = True
            _log.warning("the endpoint takes no log records (/v1/logs is 404); evaluations are not recorded")


def existing_logger_provider() -> LoggerProvider | None:
    """The SDK provider that the application (or Logfire) has set, or None."""
    current = _logs.get_logger_provider()
    if isinstance(current, LoggerProvider):
        return current
    inner = getattr(current, "provider", None)
    return inner if isinstance(inner, LoggerProvider) else None


def make_logger_provider(resource: "Resource") -> LoggerProvider:
    """A provider set as the process's own."""
    provider = LoggerProvider(resource=resource)
    _logs.set_logger_provider(provider)
    return provider


def open_log_wire(url: str, headers: Mapping[str, str] | None, compression: Any) -> "Wire[ReadableLogRecord]":
    """An exporter of the SDK's to `url`; `compression` None: as the standard variables say."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    session = RunSession()
    exporter = OTLPLogExporter(
        endpoint=url, headers=dict(headers) if headers else None, compression=compression, session=session
    )
    return Wire(exporter, session, size_of=rough_bytes_of, run_of=lambda record: None)


def rough_bytes_of(record: Any) -> int:
    """The size of a log record's text, near enough to bound a request by it."""
    body = record.log_record.body
    return rough_text(record.log_record.attributes) + len(body if isinstance(body, str) else str(body))
