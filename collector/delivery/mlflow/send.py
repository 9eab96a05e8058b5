"""One delivery request to MLflow's /v1/traces, and the reading back of what it stored."""

import asyncio
import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from collector.delivery.mlflow.answers import Sent, Verdict, retry_after, verdict_of
from collector.mlflow.client import Mlflow, MlflowAnswer, MlflowUnreachable
from collector.mlflow.headers import EXPERIMENT_ID, RUN_ID, WORKSPACE
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Route
from collector.otlp.media import Encoding, compress_gzip
from collector.telemetry.metrics import Metrics

READ_BACK_TRACES = 10


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
        return Sent(verdict=Verdict.PASSING, message=str(error))
    metrics.delivery.observe(time.monotonic() - started)
    sent = read_answer(answer, now=datetime.now(UTC))
    metrics.delivery_requests.labels(outcome=sent.verdict.name.lower()).inc()
    return sent


def read_answer(answer: MlflowAnswer, *, now: datetime) -> Sent:
    """What MLflow's answer means."""
    code = answer.json().get("error_code") if answer.status == 400 else None
    verdict = verdict_of(answer.status, code)
    said = "" if verdict is Verdict.TAKEN else f": {answer.error}"
    return Sent(
        verdict=verdict,
        message=f"MLflow answered {answer.status}{said}",
        status=answer.status,
        retry_after_seconds=retry_after(answer.headers.get("retry-after"), now=now),
    )


def headers_for(route: Route, experiment_id: str) -> dict[str, str]:
    """The headers that tell MLflow where spans go."""
    headers = {EXPERIMENT_ID: experiment_id}
    if route.run_id is not None:
        headers[RUN_ID] = route.run_id
    if route.workspace is not None:
        headers[WORKSPACE] = route.workspace
    return headers


async def missing_spans(
    expected: Mapping[bytes, frozenset[bytes]], mlflow: Mlflow, *, workspace: str | None
) -> set[tuple[bytes, bytes]]:
    """(trace id, span id) of what MLflow doesn't return of `expected` (span ids by trace id).

    Source: GET /api/3.0/mlflow/traces/batchGet. Raises MlflowUnreachable, also when it answers no 200.
    """
    missing: set[tuple[bytes, bytes]] = set()
    api = MlflowApi(connection=mlflow, workspace=workspace)
    trace_ids = list(expected)
    for start in range(0, len(trace_ids), READ_BACK_TRACES):
        asked = trace_ids[start : start + READ_BACK_TRACES]
        answer = await api.traces([f"tr-{trace_id.hex()}" for trace_id in asked])
        if answer.status != 200:
            raise MlflowUnreachable(f"MLflow answered {answer.status} to a read-back: {answer.error}")
        stored = set(_stored(answer.json().get("traces", [])))
        missing |= {
            (trace_id, span_id)
            for trace_id in asked
            for span_id in expected[trace_id]
            if (trace_id, span_id) not in stored
        }
    return missing


def _stored(traces: Iterable[Mapping[str, object]]) -> Iterable[tuple[bytes, bytes]]:
    for trace in traces:
        spans = trace.get("spans")
        for span in spans if isinstance(spans, list) else ():
            try:
                yield base64.b64decode(span["trace_id"]), base64.b64decode(span["span_id"])
            except (KeyError, TypeError, binascii.Error):
                continue
