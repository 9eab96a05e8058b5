"""From an ended span to the wire, as one processor that can be closed and flushed within a bound.

    span ended -> enrich (OpenInference) -> batches -> exporter -> POST /v1/traces

The SDK has no way to take a processor out again: after `close` ours lies still, so that a provider that we
joined goes on as if we had never been there. The SDK's own flush knows no bound (opentelemetry-python#4568)
and says True whatever happened: ours keeps its time and says what was lost.
"""

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class RememberingExporter(SpanExporter):
    """Passes everything to `exporter` until shut down, and counts the spans that were not taken."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_shut_down = False
        self.failed_spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            if not self._is_shut_down:
                result = self._exporter.export(spans)
            return result
        finally:
            if result is not SpanExportResult.SUCCESS:
                self.failed_spans += len(spans)

    def shutdown(self) -> None:
        if not self._is_shut_down:
            self._is_shut_down = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Pipeline(SpanProcessor):
    """What `configure` adds to a provider: `enrich` in this order, then batches to `exporter`."""

    def __init__(
        self,
        *,
        enrich: Sequence[SpanProcessor],
        exporter: SpanExporter,
        delay_milliseconds: int | None,
    ) -> None:
        self._enrich = tuple(enrich)
        self._exporter = RememberingExporter(exporter)
        self._batches = BatchSpanProcessor(self._exporter, schedule_delay_millis=delay_milliseconds)
        self._flushing: threading.Thread | None = None
        self._failures_told = 0
        self.is_closed = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.is_closed:
            return
        for processor in self._enrich:
            processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.is_closed:
            return
        for processor in self._enrich:
            processor.on_end(span)
        self._batches.on_end(span)

    def flush(self, timeout_seconds: float) -> bool:
        """Send what has ended; False if that took longer, or if any span was lost since the last flush."""
        if self.is_closed:
            return False
        deadline = time.monotonic() + timeout_seconds
        if _finished(self._flushing, deadline):  # one at a time, however often a slow endpoint is flushed
            self._flushing = _in_background(self._batches.force_flush)
        in_time = _finished(self._flushing, deadline)
        failed = self._exporter.failed_spans
        lost, self._failures_told = failed - self._failures_told, failed
        return in_time and lost == 0

    def close(self) -> None:
        """Take no more spans; those taken stay until `shutdown` has sent them."""
        self.is_closed = True

    def end(self, shutdown: Callable[[], object], timeout_seconds: float) -> None:
        """Close, `shutdown` (this pipeline or its whole provider) within the time, give up what is left."""
        self.close()
        deadline = time.monotonic() + timeout_seconds
        if not _finished(_in_background(shutdown), deadline):
            self._exporter.shutdown()  # wakes an exporter that waits for its next try

    def shutdown(self) -> None:
        self.close()
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush(timeout_millis / 1000)


def _in_background(work: Callable[[], object]) -> threading.Thread | None:
    """`work` in a thread that no exit waits for; None if it is done already."""
    thread = threading.Thread(target=work, name="sidespan-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # an interpreter that is going down starts no threads
        work()
        return None
    return thread


def _finished(thread: threading.Thread | None, deadline: float) -> bool:
    if thread is None:
        return True
    thread.join(max(0.0, deadline - time.monotonic()))
    return not thread.is_alive()
