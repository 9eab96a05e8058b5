"""Content of log records to the spans that MLflow has: read, joined, and sent once more.

A span is joined when delivery has nothing more of its trace on the way: else a copy without the content, sent
again after a time-out, say, could take the place of the joined one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.delivery.logs.join import JoinedSpans, join
from collector.delivery.logs.lookup import Place, StoredTrace
from collector.delivery.logs.sorting import SortedRecord
from collector.delivery.logs.work import CONSUMER, LogTarget, LogWindow, MlflowSilent, NoAnswer, is_guilty
from collector.delivery.mlflow.forward import Forwarded, unchanged
from collector.delivery.mlflow.joined import noted
from collector.delivery.mlflow.send import headers_for, send
from collector.delivery.verdicts import Verdict
from collector.journal import TraceMemory
from collector.mlflow.client import MAX_CONTENT_BYTES, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk
from collector.model.batch import Route


async def write_content(
    work: LogWindow,
    content: Sequence[tuple[SortedRecord, Place]],
    stored: Mapping[str, StoredTrace],
    traces: TraceMemory,
) -> None:
    by_trace: defaultdict[str, list[SortedRecord]] = defaultdict(list)
    for item, place in content:
        by_trace[place.trace_id].append(item)
    await _leave_unsent(work, by_trace)
    async with work.target.joins.turns.take(CONSUMER, frozenset(map(bytes.fromhex, by_trace))):
        await _leave_unsent(work, by_trace)  # it may have been a while
        for trace_id, items in by_trace.items():
            await _join(work, trace_id, items, stored[trace_id], traces)


async def _leave_unsent(work: LogWindow, by_trace: dict[str, list[SortedRecord]]) -> None:
    """A span that is still to be sent would take the place of the joined one: what waits for such."""
    for trace_id in await work.target.spans.awaiting(frozenset(map(bytes.fromhex, by_trace))):
        items = by_trace.pop(trace_id.hex())
        work.wait(items, f"spans of the trace {trace_id.hex()} are on their way")


async def _join(
    work: LogWindow, trace_id: str, items: Sequence[SortedRecord], trace: StoredTrace, traces: TraceMemory
) -> None:
    by_span: defaultdict[str, list[LogRecord]] = defaultdict(list)
    for item in items:
        by_span[item.context[1] or ""].append(item.record)
    try:
        answer = await work.api.trace(trace_id)
    except MlflowUnreachable as error:
        raise NoAnswer(str(error)) from error
    if answer.status == 404:
        return work.wait(items, f"no trace with the id {trace_id} has arrived")
    if answer.status != 200:
        raise MlflowSilent(CannotAsk(message=f"MLflow answered {answer.status}: {answer.error}"))
    if answer.is_cut:
        return work.refuse(items, "too_large", f"the trace has over {MAX_CONTENT_BYTES} bytes")
    try:
        joined = await asyncio.to_thread(join, answer.body, by_span)
    except ValueError as error:
        return work.refuse(items, "refused", str(error))
    absent = [item for item in items if item.context[1] not in joined.found]
    work.wait(absent, f"no span with this id has arrived in the trace {trace_id}")
    there = [item for item in items if item.context[1] in joined.found]
    if not joined.payload:
        work.counts["repeated"] += len(there)
    else:
        await _send(work, trace_id, joined, there, trace, traces)


async def _send(
    work: LogWindow,
    trace_id: str,
    joined: JoinedSpans,
    items: Sequence[SortedRecord],
    trace: StoredTrace,
    traces: TraceMemory,
) -> None:
    """The spans once more, with their content: MLflow puts them in the place of those that it has."""
    target = work.target
    id = bytes.fromhex(trace_id)
    notes = await traces.recall(target.spans.name, [id])
    forwarded = await asyncio.to_thread(_forwarded, target, joined.payload, notes)
    route = Route(experiment_id=trace.experiment_id or work.experiment_id, workspace=work.route.workspace)
    if not forwarded.body:  # the settings leave nothing to send
        work.counts["joined"] += len(items)
        return
    known = await target.joins.known(traces, CONSUMER, [id])
    span_ids = {bytes.fromhex(item.context[1] or "") for item in items}
    work.joined[id] = noted(known.get(id, b""), span_ids)
    target.joins.joined(work.joined)
    async with target.in_flight:
        sent = await send(
            forwarded.body,
            target.mlflow,
            headers=headers_for(route, str(route.experiment_id)),
            compress=target.compress,
            metrics=target.metrics,
        )
    match sent.verdict:
        case Verdict.TAKEN:
            target.health.successes += 1
            work.counts["joined"] += len(items)
        case Verdict.PASSING:
            work.trouble.append(sent.message)
        case Verdict.NO_EXPERIMENT:
            work.wait(items, sent.message)
        case Verdict.SUSPECT if not is_guilty(target, trace_id):
            work.trouble.append(sent.message)
        case _:
            work.refuse(items, "refused", sent.message)


def _forwarded(target: LogTarget, payload: bytes, notes: Mapping[bytes, bytes]) -> Forwarded:
    """The copy to send; where a bug keeps it from being made, the spans with their content alone."""
    if target.forward is None:
        return unchanged(payload)
    try:
        return target.forward(payload, notes, {})
    except Exception as error:
        target.fault_log.tell_of("a joined span is sent to MLflow without additions", error)
        return unchanged(payload)
