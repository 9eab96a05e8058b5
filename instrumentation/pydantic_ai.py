"""pydantic-ai: switch its own spans on, and find what makes OpenInference's attributes of them.

Both major versions have `Agent.instrument_all`; `Agent(instrument=…)` went with 2.0. The settings object is
given only what the installed version knows.
"""

import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger("instrumentation")

# the newest format that MLflow's chat view and our summaries both read, if the version has it
FORMAT_VERSION = 5


def is_installed() -> bool:
    """Whether the process can import pydantic-ai."""
    return importlib.util.find_spec("pydantic_ai") is not None


def openinference() -> Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]] | None:
    """What makes OpenInference's attributes of a pydantic-ai span's own; None where it isn't installed."""
    try:
        from openinference.instrumentation.pydantic_ai.semantic_conventions import get_attributes
    except ModuleNotFoundError:
        _log.warning("openinference-instrumentation-pydantic-ai is not installed; its attributes are missing")
        return None
    return get_attributes


def instrument(provider: TracerProvider, *, include_content: bool) -> None:
    """Trace all agents of this process, those that exist and those to come."""
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    known = inspect.signature(InstrumentationSettings.__init__).parameters
    wanted: dict[str, Any] = {
        "tracer_provider": provider,
        "include_content": include_content,
        "version": _format_version(known["version"].annotation if "version" in known else ""),
    }
    Agent.instrument_all(
        InstrumentationSettings(**{name: value for name, value in wanted.items() if name in known})
    )


def stop() -> None:
    """Trace agents no longer, unless they are told to by themselves."""
    from pydantic_ai import Agent

    Agent.instrument_all(False)


def _format_version(annotation: object) -> int:
    """The wanted format, or the highest below it that the installed version offers."""
    offered = [int(digit) for digit in str(annotation) if digit.isdigit()]
    return max((number for number in offered if number <= FORMAT_VERSION), default=FORMAT_VERSION)
