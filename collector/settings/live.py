"""Traces as they come: `[live]`."""

from pydantic import Field

from collector.settings.section import Section


class LiveSettings(Section):
    """Readers of `GET /-/traces/live`."""

    max_readers: int = Field(100, ge=0, le=10_000)
    """Readers at a time; a further one is answered 503. 0 switches live traces off."""
    max_waiting_events: int = Field(1000, ge=1)
    """Events that wait for a slow reader; beyond it, the oldest are dropped, and it is told how many."""
    max_waiting_bytes: int = Field(4 * 1024 * 1024, ge=64 * 1024)
    """Bytes of these events."""
    heartbeat_seconds: float = Field(15.0, gt=0, le=3600)
    """Longest silence on a stream: proxies on the way close a connection that is silent for longer."""
    max_stream_seconds: float = Field(600.0, gt=0)
    """How long a stream lasts before its client has to connect again, with its rights as they are then."""
