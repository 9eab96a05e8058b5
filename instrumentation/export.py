"""The exporter, with a memory of what it could not send: the SDK's own flush says True whatever happened."""

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class RememberingExporter(SpanExporter):
    """Passes everything to `exporter` and counts the spans that it gave up on."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed_spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.failed_spans += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
