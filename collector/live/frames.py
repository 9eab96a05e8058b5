"""Server-sent events as bytes. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import re
from collections.abc import Iterable

from collector.index.protocol import ChangedTrace

# so long a client waits before it connects again
RETRY_MILLISECONDS = 1000
# more is no position of ours
_POSITION = re.compile(r"[0-9]{1,18}[0-9]?")


def opening(position: int) -> bytes:
    """What a stream begins with: where it begins, so that a client that is cut off at once can resume."""
    return f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n".encode()


def heartbeat(position: int) -> bytes:
    """A sign of life, and how far the client is: it is no event."""
    return f": heartbeat\nid: {position}\n\n".encode()


def trace_events(traces: Iterable[ChangedTrace]) -> bytes:
    """An event for each trace."""
    return "".join(f"event: trace\nid: {each.position}\ndata: {each.body}\n\n" for each in traces).encode()


def missed_event(count: int | None) -> bytes:
    """Events that the client doesn't get; None: nobody knows how many."""
    return f'event: missed\ndata: {{"missed": {"null" if count is None else count}}}\n\n'.encode()


def parse_position(text: str | None) -> int | None:
    """The position that a client names in Last-Event-ID; 0 where it is none of ours, None without one."""
    if not text:
        return None
    return int(text) if _POSITION.fullmatch(text) else 0
