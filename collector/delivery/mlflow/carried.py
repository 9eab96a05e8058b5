"""Judgements that spans carry, as log records for the consumer of those.

They are appended when the spans' own entry is passed, in the same transaction: so each is taken up exactly
once for each time that its span is delivered, and what was taken up before is found by its key.
"""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.mlflow.claims import Window
from collector.delivery.settle import Settled
from collector.model.batch import Draft, Entry, FollowUp, Route, Signal
from collector.spans.scores import Score, carries_scores, result_record, span_scores


async def carried(window: Window, outcome: Settled, *, to: str | None) -> Sequence[FollowUp]:
    """The judgements that the window's spans carry, but for the traces of which MLflow refused any.

    `to` is the consumer that takes them up; None: nobody does.
    """
    if to is None or not may_carry(window.entries):
        return ()
    refused = frozenset().union(*(refusal.request.trace_ids for refusal in outcome.refusals))
    find = partial(carried_scores, without=refused, route=window.route, consumer=to)
    return await asyncio.to_thread(find, window.entries)


def may_carry(entries: Sequence[Entry]) -> bool:
    """Whether any span may carry a judgement: the cheap no, which nearly every window gets."""
    return any(carries_scores(entry.payload) for entry in entries)


def carried_scores(
    entries: Sequence[Entry], *, without: Collection[bytes], route: Route, consumer: str
) -> list[FollowUp]:
    """A follow-up for each entry whose spans carry judgements, but for the traces in `without`."""
    lane = route.lane_of(Signal.LOGS)
    return [
        FollowUp(
            consumer=consumer,
            draft=_draft(scores, lane, entry.client),
            received_unix_ns=entry.received_unix_ns,
        )
        for entry in entries
        if may_carry([entry]) and (scores := _scores(entry.payload, without))
    ]


def _scores(payload: bytes, without: Collection[bytes]) -> list[Score]:
    return [
        score
        for resource_spans in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
        if span.trace_id not in without
        for score in span_scores(span)
    ]


def _draft(scores: Sequence[Score], lane: str, client: str) -> Draft:
    export = ExportLogsServiceRequest()
    export.resource_logs.add().scope_logs.add().log_records.extend(map(result_record, scores))
    return Draft(
        lane=lane,
        payload=export.SerializeToString(),
        span_count=len(scores),
        trace_ids=frozenset(bytes.fromhex(score.trace_id) for score in scores if score.trace_id),
        client=client,
    )
