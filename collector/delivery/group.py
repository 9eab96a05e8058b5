"""Entries of one lane into requests, of either signal. Pure.

MLflow takes large requests 2.7 times faster than one trace each, and needs a trace's spans in order. So
entries that share a trace stay together, and different requests never share one: they may be in flight at
the same time. Messages are merged as bytes: a repeated field's serialized messages concatenate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from collector.model.batch import Entry, Signal, signal_of
from collector.model.connected import connected

# MLflow links at most that many traces to a run in one call, and only logs when there are more
MAX_LINKED_TRACES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Spans or log records that go together: one serialized export of their signal.

    `span_count` counts either.
    """

    payload: bytes
    span_count: int
    trace_ids: frozenset[bytes]
    received_unix_ns: int
    client: str = ""
    signal: Signal = Signal.TRACES


def group(entries: Sequence[Entry], *, request_bytes: int, max_traces: int | None = None) -> list[Request]:
    """Requests of up to `request_bytes` and `max_traces`, in the order of the entries.

    A set of entries that share traces is never torn apart, also when it is larger than the bounds
    (bisect.fit does that, by trace).
    """
    requests: list[list[Entry]] = []
    size = traces = 0
    for part in connected(entries, lambda entry: entry.trace_ids):
        part_size = sum(len(entry.payload) for entry in part)
        part_traces = len(frozenset().union(*(entry.trace_ids for entry in part)))
        fits = size + part_size <= request_bytes and (
            max_traces is None or traces + part_traces <= max_traces
        )
        if requests and fits:
            requests[-1] += part
            size, traces = size + part_size, traces + part_traces
        else:
            requests.append(list(part))
            size, traces = part_size, part_traces
    return [merged(part) for part in requests]


def merged(entries: Sequence[Entry]) -> Request:
    """All of the entries, of one lane, as one request."""
    clients = {entry.client for entry in entries}
    return Request(
        payload=b"".join(entry.payload for entry in entries) if len(entries) > 1 else entries[0].payload,
        span_count=sum(entry.span_count for entry in entries),
        trace_ids=frozenset().union(*(entry.trace_ids for entry in entries)),
        received_unix_ns=min(entry.received_unix_ns for entry in entries),
        client=clients.pop() if len(clients) == 1 else "",
        signal=signal_of(entries[0].lane),
    )
