"""Tracing for an agent process, in one call.

    import instrumentation

    instrumentation.configure(service_name="weather-agent")

From then on every pydantic-ai agent of the process is traced, and its spans go to Sidespan (or to any OTLP
endpoint) in the background. An endpoint that is away never slows or breaks the agent. Importing this package
imports nothing heavy; what is needed is imported by `configure`.
"""

from instrumentation.handle import Instrumentation, configure

__all__ = ["Instrumentation", "configure"]
