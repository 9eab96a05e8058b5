"""One delivery request to MLflow's /v1/traces, and the reading back of what it stored."""

import asyncio
import base64
import binascii
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.delivery.mlflow.answers import verdict_of
from collector.delivery.verdicts import Sent, Verdict, retry_after
from collector.mlflow.client import (
    MAX_CONTENT_BYTES,
    MAX_ERROR_BYTES,
    Mlflow,
    MlflowAnswer,
    MlflowTimeout,
    MlflowUnreachable,
)
from collector.mlflow.headers import EXPERIMENT_ID, RUN_ID, WORKSPACE
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Route
from collector.otlp.media import Encoding, compress_gzip
from collector.telemetry.metrics import Metrics

READ_BACK_TRACES = 10
MAX_SAID_CHARACTERS = 500


async def send(
    body: bytes, mlflow: Mlflow, *, headers: Mapping[str, str], compress: bool, metrics: Metrics
) -> Sent:
    """POST `body` once. Never raises for what a network or a server can do."""
    headers = {"content-type": Encoding.PROTOBUF.value, **headers}
    if compress:
        body = await asyncio.to_thread(compress_gzip, body)
        headers["content-encoding"] = "gzip"
    started = time.monotonic()
    try:
        answer = await MlflowApi(connection=mlflow).export(body, headers)
    except MlflowUnreachable as error:
        metrics.delivery_requests.labels(outcome="unreachable").inc()
        return no_answer(error)
    metrics.delivery.observe(time.monotonic() - started)
    sent = read_answer(answer, now=datetime.now(UTC))
    metrics.delivery_requests.labels(outcome=sent.verdict.name.lower()).inc()
    return sent


def no_answer(error: MlflowUnreachable) -> Sent:
    """What it means that none came."""
    is_slow = isinstance(error, MlflowTimeout)
    return Sent(verdict=Verdict.PASSING, message=str(error), timed_out=is_slow)


def read_answer(answer: MlflowAnswer, *, now: datetime) -> Sent:
    """What MLflow's answer means."""
    code = answer.error_code if answer.status == 400 else None
    verdict = verdict_of(answer.status, code)
    said = "" if verdict is Verdict.TAKEN else f": {answer.error}"
    rejected = 0
    if verdict is Verdict.TAKEN and (partial := partial_success(answer)).rejected_spans > 0:
        verdict, rejected = Verdict.PARTLY, partial.rejected_spans
        said = f" and rejected {rejected} spans: {partial.error_message[:MAX_SAID_CHARACTERS]}"
    return Sent(
        verdict=verdict,
        message=f"MLflow answered {answer.status}{said}",
        status=answer.status,
        rejected_spans=rejected,
        retry_after_seconds=retry_after(answer.headers.get("retry-after"), now=now),
    )


def partial_success(answer: MlflowAnswer) -> ExportTracePartialSuccess:
    """What a 2xx says of spans that it has not taken; empty if it can't be read: then all were accepted.

    An answer that can't be parsed is a success all the same.
    Source: https://opentelemetry.io/docs/specs/otlp/#partial-success-1.
    """
    none = ExportTracePartialSuccess()
    if not answer.body or answer.is_cut:
        return none
    if answer.headers.get("content-type", "").partition(";")[0].strip().lower() == Encoding.JSON.value:
        return _from_json(answer) if len(answer.body) <= MAX_ERROR_BYTES else none
    try:
        return ExportTraceServiceResponse.FromString(answer.body).partial_success
    except DecodeError:
        return none


def _from_json(answer: MlflowAnswer) -> ExportTracePartialSuccess:
    said = answer.json().get("partialSuccess")
    try:
        return ParseDict(said or {}, ExportTracePartialSuccess(), ignore_unknown_fields=True)
    except ParseError:
        return ExportTracePartialSuccess()


def headers_for(route: Route, experiment_id: str) -> dict[str, str]:
    """The headers that tell MLflow where spans go."""
    headers = {EXPERIMENT_ID: experiment_id}
    if route.run_id is not None:
        headers[RUN_ID] = route.run_id
    if route.workspace is not None:
        headers[WORKSPACE] = route.workspace
    return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """(trace id, span id) of what MLflow doesn't return, and of what is too large to be looked at."""

    missing: frozenset[tuple[bytes, bytes]] = frozenset()
    unseen: frozenset[tuple[bytes, bytes]] = frozenset()


async def read_back(
    expected: Mapping[bytes, frozenset[bytes]], mlflow: Mlflow, *, workspace: str | None
) -> ReadBack:
    """Whether MLflow returns `expected` (span ids by trace id).

    Source: GET /api/3.0/mlflow/traces/batchGet. Raises MlflowUnreachable, also when it answers no 200.
    """
    found = []
    trace_ids = list(expected)
    for start in range(0, len(trace_ids), READ_BACK_TRACES):
        part = {id: expected[id] for id in trace_ids[start : start + READ_BACK_TRACES]}
        found.append(await _read_back(part, mlflow, workspace))
    return _join(found)


async def _read_back(
    expected: Mapping[bytes, frozenset[bytes]], mlflow: Mlflow, workspace: str | None
) -> ReadBack:
    api = MlflowApi(connection=mlflow, workspace=workspace, max_bytes=MAX_CONTENT_BYTES)
    answer = await api.traces([f"tr-{trace_id.hex()}" for trace_id in expected])
    if answer.status != 200:
        raise MlflowUnreachable(f"MLflow answered {answer.status} to a read-back: {answer.error}")
    wanted = frozenset((trace_id, span_id) for trace_id, ids in expected.items() for span_id in ids)
    if not answer.is_cut:
        return ReadBack(missing=wanted - set(_stored(answer.json().get("traces", []))))
    if len(expected) == 1:
        return ReadBack(unseen=wanted)
    each = [{trace_id: ids} for trace_id, ids in expected.items()]
    return _join([await _read_back(one, mlflow, workspace) for one in each])


def _join(parts: Sequence[ReadBack]) -> ReadBack:
    return ReadBack(
        missing=frozenset().union(*(part.missing for part in parts)),
        unseen=frozenset().union(*(part.unseen for part in parts)),
    )


def _stored(traces: Iterable[Mapping[str, object]]) -> Iterable[tuple[bytes, bytes]]:
    for trace in traces:
        spans = trace.get("spans")
        for span in spans if isinstance(spans, list) else ():
            try:
                yield base64.b64decode(span["trace_id"]), base64.b64decode(span["span_id"])
            except (KeyError, TypeError, binascii.Error):
                continue


def span_ids_of(body: bytes) -> dict[bytes, frozenset[bytes]]:
    """The spans of an export, by trace id."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                found[span.trace_id].add(span.span_id)
    return {trace_id: frozenset(ids) for trace_id, ids in found.items()}
