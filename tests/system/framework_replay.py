"""Captures of frameworks sent again, each in several ways, and what is shown of them, cell by cell.

    whole      the requests as the framework sent them
    split      span by span, in the order in which they were sent
    shuffled   span by span, in another order
    doubled    the requests as sent, each twice

What MLflow's SDK writes to MLflow's API, and the log records of others, come after the spans, but before them
where they are shuffled. MLflow itself takes no log records.
Each way has trace ids and an experiment of its own. The cells are those of tests/data/capture/truth.py.
"""

import json
import os
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli import remote
from tests.data.capture.environments import FRAMEWORKS
from tests.data.capture.files import logs, requests, written
from tests.support.logs import all_records
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans
from tests.support.senders import post

WAYS = ("whole", "split", "shuffled", "doubled")
SEED = 14


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One capture, sent in one way to one place; `trace_ids` are in the order in which the traces began."""

    name: str
    way: str
    experiment_id: str
    trace_ids: Sequence[str]


def replay(name: str, way: str, server: MlflowServer, port: int) -> Replay:
    """Send the capture `name` to `port`, which is the MLflow's own or a service's in front of it."""
    experiment_id = server.create_experiment(f"{name}-{way}-{uuid.uuid4().hex[:12]}")
    sent, ids, shift = _renewed(FRAMEWORKS / name)
    bodies = [request.SerializeToString() for request in _in_way(sent, way)]
    records = _records(FRAMEWORKS / name, ids, shift) if port != server.port else []
    if way == "doubled":
        records = [body for body in records for _ in range(2)]
    if way == "shuffled":
        _write(FRAMEWORKS / name, port, experiment_id, ids)
        _post(port, records, "/v1/logs", experiment_id)
    _post(port, bodies, "/v1/traces", experiment_id)
    if way != "shuffled":
        _write(FRAMEWORKS / name, port, experiment_id, ids)
        _post(port, records, "/v1/logs", experiment_id)
    trace_ids = [new.hex() for new in ids.values()]
    return Replay(name=name, way=way, experiment_id=experiment_id, trace_ids=trace_ids)


def _post(port: int, bodies: Sequence[bytes], path: str, experiment_id: str) -> None:
    for body in bodies:
        status, _, answer = post(port, body, {"x-mlflow-experiment-id": experiment_id}, path=path)
        assert status == 200, f"{path}: {status} {answer[:500]!r}"


def _write(folder: Path, port: int, experiment_id: str, ids: Mapping[bytes, bytes]) -> None:
    """What MLflow's SDK wrote of its traces to MLflow's API, for those of this replay."""
    for request in written(folder):
        body = request["body"]
        for old, new in ids.items():
            body = body.replace(old.hex(), new.hex())
        told = json.loads(body)
        info = told["trace"]["trace_info"]
        info["trace_location"]["mlflow_experiment"]["experiment_id"] = experiment_id
        info["request_time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        remote.post_json(f"http://127.0.0.1:{port}", request["path"], told)


def _renewed(folder: Path) -> tuple[list[ExportTraceServiceRequest], dict[bytes, bytes], int]:
    """The capture with trace ids of its own, ending now; the new id for each old one; by how much it is later
    (nanoseconds).
    """
    kept = requests(folder)
    spans = [span for request in kept for span in all_spans(request)]
    began: dict[bytes, int] = {}
    for span in spans:
        began[span.trace_id] = min(began.get(span.trace_id, 2**63), span.start_time_unix_nano)
    ids = {trace_id: os.urandom(16) for trace_id in sorted(began, key=lambda each: began[each])}
    shift = time.time_ns() - max(span.end_time_unix_nano for span in spans)
    return [_moved(request, ids, shift) for request in kept], ids, shift


def _records(folder: Path, ids: Mapping[bytes, bytes], shift: int) -> list[bytes]:
    """The log records of the capture, likewise."""
    bodies = []
    for request in logs(folder):
        moved = ExportLogsServiceRequest.FromString(_with_ids(request.SerializeToString(), ids))
        for record in all_records(moved):
            record.time_unix_nano += shift if record.time_unix_nano else 0
            record.observed_time_unix_nano += shift if record.observed_time_unix_nano else 0
        bodies.append(moved.SerializeToString())
    return bodies


def _with_ids(body: bytes, ids: Mapping[bytes, bytes]) -> bytes:
    """They are in attributes too; as long as before, so the message stays whole."""
    for old, new in ids.items():
        body = body.replace(old, new).replace(old.hex().encode(), new.hex().encode())
    return body


def _moved(
    request: ExportTraceServiceRequest, ids: Mapping[bytes, bytes], shift: int
) -> ExportTraceServiceRequest:
    moved = ExportTraceServiceRequest.FromString(_with_ids(request.SerializeToString(), ids))
    for span in all_spans(moved):
        span.start_time_unix_nano += shift
        span.end_time_unix_nano += shift
        for event in span.events:
            event.time_unix_nano += shift
    return moved


def _in_way(sent: Sequence[ExportTraceServiceRequest], way: str) -> list[ExportTraceServiceRequest]:
    match way:
        case "whole":
            return list(sent)
        case "doubled":
            return [request for request in sent for _ in range(2)]
        case "split":
            return list(_single_spans(sent))
        case _:
            single = list(_single_spans(sent))
            random.Random(SEED).shuffle(single)
            return single


def _single_spans(sent: Sequence[ExportTraceServiceRequest]) -> Iterator[ExportTraceServiceRequest]:
    """A request for each span, with its resource and scope."""
    for request in sent:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    single = ExportTraceServiceRequest()
                    resource = single.resource_spans.add(schema_url=resource_spans.schema_url)
                    resource.resource.CopyFrom(resource_spans.resource)
                    scope = resource.scope_spans.add(schema_url=scope_spans.schema_url)
                    scope.scope.CopyFrom(scope_spans.scope)
                    scope.spans.append(span)
                    yield single
