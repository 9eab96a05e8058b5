"""From the entries of a window to requests, without the spans that its traces can't take. Pure."""

from collections.abc import Sequence

from collector.delivery.bisect import fit, split
from collector.delivery.group import MAX_LINKED_TRACES, Request, group
from collector.delivery.settle import RefusedRequest
from collector.model.batch import ARCHIVED_TRACE, FOREIGN_TRACE, Entry, Route

_FOREIGN = (
    FOREIGN_TRACE,
    "another experiment had this trace id first; MLflow would merge these spans into its trace",
)
_ARCHIVED = (
    ARCHIVED_TRACE,
    "the trace is in the archive: `sidespan archive restore` brings it back, then retry this dead letter",
)


def prepare(
    entries: Sequence[Entry],
    foreign: frozenset[bytes],
    archived: frozenset[bytes],
    route: Route,
    request_bytes: int,
) -> tuple[list[Request], tuple[RefusedRequest, ...]]:
    """The requests of a window, and what can't be sent to its traces. Pure but slow: a thread."""
    max_traces = MAX_LINKED_TRACES if route.run_id is not None else None
    requests: list[Request] = []
    refusals: list[RefusedRequest] = []
    for request in group(entries, request_bytes=request_bytes, max_traces=max_traces):
        ours: Request | None = request
        for trace_ids, (reason, message) in ((foreign, _FOREIGN), (archived, _ARCHIVED)):
            if ours is None or not trace_ids:
                continue
            theirs, ours = split(ours, trace_ids.__contains__)
            if theirs is not None:
                refusals.append(RefusedRequest(request=theirs, reason=reason, message=message))
        if ours is not None:
            requests += fit(ours, request_bytes=request_bytes, max_traces=max_traces)
    return requests, tuple(refusals)
