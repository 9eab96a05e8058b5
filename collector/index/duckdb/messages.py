"""What the service and the process of the index say to each other: values to JSON, and back. Pure.

    POST /take     lanes, limit_spans     IndexedBatch       422 BatchRefused
    POST /ask      IndexQuery             JSON, or a file    400 BadParameter, 404 None, 503 QueryTimedOut
    POST /trace    TraceQuery             JSON               404 None, 503 QueryTimedOut
    POST /owners   {"trace_id"}           {"experiments"}
    GET  /state                           IndexState
    POST /put      traces (?id=, ?name=, and Delivered)    StoredTraces       502 UnreadableTraces
    POST /label    trace infos (?Delivered)                {"traces"}         502 UnreadableTraces
    POST /scores   {"trace_id", "experiment_ids"}          a JSON list
    POST /labels   {"experiment_id", "trace_ids"}    TraceLabels by trace id
    POST /name     ExperimentReference    {}
    POST /forget   {}                     {}
    POST /changes  ChangesQuery           Changes            400 BadParameter, 503 QueryTimedOut
    POST /mirror/hold      {"gone", and rows by table}       {}
    POST /mirror/pull      {"file", "trace_ids", "gone", "experiments"}    {"held"} or {"away"}
    POST /mirror/clear     {"experiment"}                    {}
    POST /mirror/measure   MetricQuestion                    {"rows"} or {"doubt"}
    POST /mirror/find      SearchQuestion                    {"rows"} or {"doubt"}

An error has the form {"error": {"parameter", "value", "message"}}; any other status is a bug.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from collector.index.protocol import (
    BatchRefused,
    ChangedTrace,
    Changes,
    ChangesQuery,
    Delivered,
    ExperimentCounts,
    IndexedBatch,
    IndexQuery,
    IndexState,
    Lane,
    Look,
    QueryKind,
    QueryTimedOut,
    TraceQuery,
    UnreadableTraces,
)
from collector.model.experiment import ExperimentReference
from collector.model.parameters import BadParameter
from collector.spans.labels import TraceLabels

Json = dict[str, Any]

NOT_FOUND = 404
# what is raised on one side is raised on the other
STATUS: Mapping[type[Exception], int] = {
    BadParameter: 400,
    BatchRefused: 422,
    UnreadableTraces: 502,
    QueryTimedOut: 503,
}
_ERRORS: Mapping[int, Callable[[Json], Exception]] = {
    400: lambda error: BadParameter(**error),
    422: lambda error: BatchRefused(error["message"]),
    502: lambda error: UnreadableTraces(error["message"]),
    503: lambda error: QueryTimedOut(**error),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessArguments:
    """What the service says to its index at the start."""

    folder: str
    journal: str
    socket: str
    memory_bytes: int
    processes: int
    preview_characters: int
    max_age_seconds: float
    max_bytes: int
    log_level: str
    log_format: str


def error_to_json(error: Exception) -> Json:
    """The body of an answer that says so."""
    document = {"parameter": None, "value": None, "message": str(error)}
    return {"error": getattr(error, "document", document)}


def error_from_json(status: int, body: bytes) -> Exception | None:
    """What the other side has raised; None: the answer doesn't tell."""
    try:
        return _ERRORS[status](json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return None


def lanes_to_json(lanes: Sequence[Lane]) -> list[Json]:
    """`lanes` as JSON."""
    return [asdict(lane) for lane in lanes]


def lanes_from_json(document: Sequence[Json]) -> list[Lane]:
    """Back."""
    return [
        Lane(lane=lane["lane"], experiment=ExperimentReference(**lane["experiment"])) for lane in document
    ]


def batch_from_json(document: Json) -> IndexedBatch:
    """An IndexedBatch from what asdict makes of it."""
    unnamed = [ExperimentReference(**experiment) for experiment in document["unnamed"]]
    return IndexedBatch(**document | {"unnamed": unnamed})


def query_to_json(query: IndexQuery) -> Json:
    """`query` as JSON."""
    return {
        "kind": query.kind,
        "parameters": query.parameters,
        "experiment_ids": _listed(query.experiment_ids),
        "session": query.session,
    }


def query_from_json(document: Json) -> IndexQuery:
    """Back."""
    allowed = _unlisted(document["experiment_ids"])
    return IndexQuery(**document | {"kind": QueryKind(document["kind"]), "experiment_ids": allowed})


def trace_query_to_json(query: TraceQuery) -> Json:
    """`query` as JSON."""
    return asdict(query) | {"experiment_ids": _listed(query.experiment_ids)}


def trace_query_from_json(document: Json) -> TraceQuery:
    """Back."""
    return TraceQuery(**document | {"experiment_ids": _unlisted(document["experiment_ids"])})


def state_from_json(document: Json) -> IndexState:
    """An IndexState from what asdict makes of it."""
    experiments = [ExperimentCounts(**experiment) for experiment in document["experiments"]]
    return IndexState(**document | {"experiments": experiments})


def labels_from_json(document: Json) -> Mapping[str, TraceLabels]:
    """Labels by trace id, from what asdict makes of them."""
    return {
        trace_id: TraceLabels(**each | {"tags": tuple((name, value) for name, value in each["tags"])})
        for trace_id, each in document.items()
    }


def delivered_to_query(delivered: Delivered) -> dict[str, str]:
    """As parameters of a request."""
    return {"before_unix_ns": str(delivered.before_unix_ns), "but": ",".join(sorted(delivered.but))}


def delivered_from_query(query: Mapping[str, str]) -> Delivered:
    """Back."""
    but = frozenset(filter(None, query["but"].split(",")))
    return Delivered(before_unix_ns=int(query["before_unix_ns"]), but=but)


def changes_query_to_json(query: ChangesQuery) -> Json:
    """`query` as JSON."""
    looks = [
        {"parameters": look.parameters, "experiment_ids": _listed(look.experiment_ids)}
        for look in query.looks
    ]
    return {"after": query.after, "until": query.until, "most": query.most, "looks": looks}


def changes_query_from_json(document: Json) -> ChangesQuery:
    """Back."""
    looks = [
        Look(parameters=look["parameters"], experiment_ids=_unlisted(look["experiment_ids"]))
        for look in document["looks"]
    ]
    return ChangesQuery(**document | {"looks": looks})


def changes_from_json(document: Json) -> Changes:
    """Changes from what asdict makes of them."""
    return Changes(**document | {"traces": [ChangedTrace(**each) for each in document["traces"]]})


def experiments_from_json(ids: Sequence[str] | None) -> frozenset[str] | None:
    """What a client may see; None: everything."""
    return _unlisted(ids)


def _listed(ids: frozenset[str] | None) -> list[str] | None:
    return None if ids is None else sorted(ids)


def _unlisted(ids: Sequence[str] | None) -> frozenset[str] | None:
    return None if ids is None else frozenset(ids)
