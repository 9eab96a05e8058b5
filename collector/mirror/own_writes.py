"""What this service itself writes to MLflow, noticed where its requests leave."""

import json
import re
import zlib
from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.mirror.writes import Writes
from collector.mlflow.headers import EXPERIMENT_ID
from collector.mlflow.rest import (
    CREATE_EXPERIMENT,
    DELETE_TRACES,
    START_TRACE,
    TRACE_WRITES,
    TRACES_ENDPOINT,
)

_TRACE = re.compile(TRACE_WRITES)

# whether MLflow has answered
Ended = Callable[[bool], None]


def noticed(writes: Writes, path: str, body: bytes | None, headers: Mapping[str, str]) -> Ended | None:
    """What is to be called when a POST has its answer; None: it writes nothing."""
    if path == TRACES_ENDPOINT:
        return _spans(writes, body or b"", headers)
    if path == CREATE_EXPERIMENT:
        ended = writes.other_begins()
        return lambda _answered: ended()
    if path == DELETE_TRACES:
        return _deleted(writes, body or b"")
    if path == START_TRACE:
        return _of_one(writes, str(json.loads(body or b"")["trace"]["trace_info"]["trace_id"]))
    found = _TRACE.match(path)
    return None if found is None else _of_one(writes, found[1])


def _of_one(writes: Writes, trace_id: str) -> Ended:
    write = writes.begins()
    return lambda answered: write.ended([trace_id], answered=answered)


def _deleted(writes: Writes, body: bytes) -> Ended:
    document = json.loads(body)
    experiment_id, ids = str(document["experiment_id"]), tuple(document.get("request_ids", ()))
    write = writes.begins(experiment_id)
    return lambda answered: write.ended(
        ids, all_known=bool(ids), answered=answered, experiment_id=experiment_id
    )


def _spans(writes: Writes, body: bytes, headers: Mapping[str, str]) -> Ended:
    experiment_id = headers.get(EXPERIMENT_ID)
    write = writes.begins(experiment_id)

    def ended(answered: bool) -> None:
        needed = not answered or writes.matters(experiment_id)
        ids = _trace_ids(body, headers) if needed else frozenset()
        write.ended(ids or (), all_known=ids is not None, answered=answered, experiment_id=experiment_id)

    return ended


def _trace_ids(body: bytes, headers: Mapping[str, str]) -> frozenset[str] | None:
    """MLflow's ids of the traces in an export of ours; None: it can't be read."""
    try:
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, wbits=31)
        export = ExportTraceServiceRequest.FromString(body)
    except (zlib.error, DecodeError):
        return None
    spans = (
        span for resource in export.resource_spans for scope in resource.scope_spans for span in scope.spans
    )
    return frozenset(f"tr-{span.trace_id.hex()}" for span in spans)
