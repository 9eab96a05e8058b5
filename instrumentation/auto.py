"""`opentelemetry-instrument python agent.py`: the same without a line of code.

Registered as an `opentelemetry_instrumentor`. Where a distribution has set up a provider that exports
already, its agents are traced and labelled on it, and nothing is sent twice; else this does what
`configure` does.
"""

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]


class SidespanInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What the entry point names."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        from instrumentation import configure
        from instrumentation.provider import existing_provider, has_processors

        joined = existing_provider()
        if joined is None or not has_processors(joined):
            configure()
            return
        from instrumentation import pydantic_ai
        from instrumentation.handle import content_is_wanted
        from instrumentation.labels import LabelProcessor

        joined.add_span_processor(LabelProcessor())
        if pydantic_ai.is_installed():
            pydantic_ai.instrument(joined, include_content=content_is_wanted())

    def _uninstrument(self, **kwargs: Any) -> None:
        from instrumentation import pydantic_ai

        if pydantic_ai.is_installed():
            pydantic_ai.stop()
