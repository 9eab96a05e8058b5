"""Session, user and tags on spans that somebody else's exporter sends."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

from instrumentation.context import put_labels


class LabelProcessor(SpanProcessor):
    """Writes what holds in a block (context.py) on each span that starts in it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        put_labels(span, parent_context)
