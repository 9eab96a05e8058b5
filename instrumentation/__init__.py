"""Tracing for an agent process, in one call.

    import instrumentation

    instrumentation.configure(service_name="weather-agent")

    with instrumentation.session("chat-17"), instrumentation.user("ann"):
        agent.run_sync("What should I wear in Lisbon?")

From then on every pydantic-ai agent of the process is traced, and its spans go to Sidespan (or to any OTLP
endpoint) in the background. An endpoint that is away never slows or breaks the agent. Importing this
package imports nothing heavy; what is needed is imported on its first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instrumentation.calls import Check, check, feedback, trace_url
    from instrumentation.context import current_trace_id, metadata, run, session, tags, user
    from instrumentation.handle import Instrumentation, configure

__all__ = [
    "Check",
    "Instrumentation",
    "check",
    "configure",
    "current_trace_id",
    "feedback",
    "metadata",
    "run",
    "session",
    "tags",
    "trace_url",
    "user",
]

_HOMES = {
    "instrumentation.calls": ("Check", "check", "feedback", "trace_url"),
    "instrumentation.context": ("current_trace_id", "metadata", "run", "session", "tags", "user"),
    "instrumentation.handle": ("Instrumentation", "configure"),
}


def __getattr__(name: str) -> Any:
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
