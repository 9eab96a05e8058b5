"""One window of a lane of log records: sort -> place -> look up -> write | join | wait -> outcome.

What a window has written is found again by its key if the window comes a second time, so a crash, a time-out
and a repeated request all end in one assessment.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from collector.delivery.logs.assessments import assessment_of
from collector.delivery.logs.content import write_content
from collector.delivery.logs.lookup import Place, Places, StoredTrace, of_response, of_session, stored_traces
from collector.delivery.logs.outcome import NO_TRACE, settled_of
from collector.delivery.logs.sorting import RecordKind, SortedRecord, sort_records
from collector.delivery.logs.work import LogTarget, LogWindow, MlflowSilent, NoAnswer, PlacedScore, is_guilty
from collector.delivery.mlflow.answers import verdict_of
from collector.delivery.mlflow.turns import DOUBT_SECONDS, Turn
from collector.delivery.settle import Deferred, Settled
from collector.delivery.verdicts import Verdict
from collector.journal import Consumer, TraceMemory
from collector.mlflow.client import MAX_CONTENT_BYTES, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk, NoSuchExperiment, Resolved
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Entry, Route
from collector.processors.keep import decision_of
from collector.spans.scores import Score

RESEND_PAUSE_SECONDS = 0.2


async def deliver_logs(
    entries: Sequence[Entry], *, lane: str, consumer: Consumer, traces: TraceMemory, target: LogTarget
) -> Settled | Deferred | None:
    """Bring what the window's records say to MLflow, or say why not now.

    Settled: each record is in MLflow, dropped, refused, or in a follow-up that waits; the caller commits.
    Deferred: nothing may be committed. None: every record goes on waiting, and there is nothing to commit.
    """
    route = Route.from_lane(lane)
    api = MlflowApi(connection=target.mlflow, workspace=route.workspace, max_bytes=MAX_CONTENT_BYTES)
    work = LogWindow(target=target, api=api, lane=lane, route=route)
    if any(entry.attempts >= target.quarantine_after_crashes for entry in entries):  # it comes alone
        items = await asyncio.to_thread(sort_records, entries)
        work.refuse(items, "quarantined", "the service died each time it worked on this entry")
        return await settled_of(work, entries)
    await consumer.mark(lane, through=entries[-1].position)
    items = await asyncio.to_thread(sort_records, entries)
    await consumer.processed(lane)
    wanted = [item for item in items if item.kind in (RecordKind.SCORE, RecordKind.CONTENT)]
    idle = (RecordKind.UNSAMPLED, RecordKind.OTHER)
    work.counts.update(item.kind.value for item in items if item.kind in idle)
    try:
        if wanted and (later := await _deliver(work, wanted, traces)):
            return later
        return await settled_of(work, entries)
    except MlflowSilent as error:
        cannot = error.cannot
        return Deferred(
            message=cannot.message,
            retry_after_seconds=cannot.retry_after_seconds,
            timed_out=cannot.timed_out,
        )
    except NoAnswer as error:
        return Deferred(message=str(error), retry_after_seconds=DOUBT_SECONDS)


async def _deliver(work: LogWindow, wanted: Sequence[SortedRecord], traces: TraceMemory) -> Deferred | None:
    match await work.target.experiments.resolve(work.route):
        case CannotAsk() as cannot:
            raise MlflowSilent(cannot)
        case NoSuchExperiment(message=message):
            work.refuse(wanted, "unknown_experiment", message)
            return None
        case Resolved(experiment_id=experiment_id):
            work.experiment_id = experiment_id
    await _let_doubts_pass(work.target, wanted)
    async with work.target.turns.take(work.lane, _to_be_placed(wanted)) as placing:
        placed = await _placed(work, wanted)
        ids = frozenset(bytes.fromhex(place.trace_id) for _, place in placed)
        async with work.target.turns.take(work.lane, ids) as turn:
            try:
                await _write_all(work, placed, traces, turn)
            finally:
                placing.in_doubt = turn.in_doubt
    return Deferred(message=work.trouble[0]) if work.trouble else None


def _to_be_placed(items: Sequence[SortedRecord]) -> frozenset[bytes]:
    """The judgements whose traces MLflow has to tell: until one is written, no other lane places it.

    Longer than a trace id, so that nobody's trace id is one of them.
    """
    scores = (item.score for item in items if item.context[0] is None and item.score is not None)
    return frozenset(b"key:" + bytes.fromhex(score.key) for score in scores)


async def _let_doubts_pass(target: LogTarget, wanted: Sequence[SortedRecord]) -> None:
    """A killed process may have left a write that MLflow still works on: look once it is done."""
    if min(item.entry.received_unix_ns for item in wanted) < target.started_unix_ns:
        passed_seconds = (time.time_ns() - target.started_unix_ns) / 1e9
        await asyncio.sleep(max(0.0, DOUBT_SECONDS - max(0.0, passed_seconds)))


async def _placed(work: LogWindow, items: Sequence[SortedRecord]) -> list[tuple[SortedRecord, Place]]:
    """The records with the traces and spans that they speak of, as far as MLflow or they know them."""
    asked: dict[tuple[str, str], Places] = {}
    found: list[tuple[SortedRecord, Place]] = []
    for item in items:
        trace_id, span_id = item.context
        if trace_id is not None:
            found.append((item, Place(trace_id=trace_id, span_id=span_id)))
        elif (score := item.score) is None or (question := _question(score)) is None:
            work.refuse([item], NO_TRACE, "it names no trace, no response and no session")
        else:
            if question not in asked:
                asked[question] = await _ask(work, *question)
            if (place := asked[question].of(score.key)) is not None:
                found.append((item, place))
            else:
                work.wait([item], f"MLflow has no trace with the {question[0]} {question[1][:200]!r}")
    return found


def _question(score: Score) -> tuple[str, str] | None:
    """What a judgement without a trace names: the kind of it, and its id."""
    if score.response_id is not None:
        return "response", score.response_id
    return None if score.session is None else ("session", score.session)


async def _ask(work: LogWindow, kind: str, id: str) -> Places:
    ask = of_response if kind == "response" else of_session
    answer = await ask(work.api, work.experiment_id, id)
    if isinstance(answer, CannotAsk):
        raise MlflowSilent(answer)
    return answer


async def _write_all(
    work: LogWindow, placed: Sequence[tuple[SortedRecord, Place]], traces: TraceMemory, turn: Turn
) -> None:
    stored = await stored_traces(work.api, {place.trace_id for _, place in placed})
    if isinstance(stored, CannotAsk):
        raise MlflowSilent(stored)
    work.target.health.successes += 1
    absent = [(item, place) for item, place in placed if place.trace_id not in stored]
    await _leave_absent(work, absent, traces)
    here: list[tuple[SortedRecord, Place]] = []
    for item, place in placed:
        if place.trace_id in stored and not _is_foreign(work, item, stored[place.trace_id]):
            here.append((item, place))
    await _write_scores(work, here, stored, turn)
    content = [(item, place) for item, place in here if item.kind is RecordKind.CONTENT]
    await write_content(work, content, stored, traces)


def _is_foreign(work: LogWindow, item: SortedRecord, trace: StoredTrace) -> bool:
    if not work.target.check_owners or trace.experiment_id == work.experiment_id:
        return False
    work.refuse([item], "foreign_experiment", "it speaks of a trace of another experiment")
    return True


async def _leave_absent(
    work: LogWindow, absent: Sequence[tuple[SortedRecord, Place]], traces: TraceMemory
) -> None:
    """What speaks of traces that MLflow doesn't have: sampled out, or to be waited for."""
    ids = {bytes.fromhex(place.trace_id) for _, place in absent}
    sampling = work.target.sampling
    decisions = await traces.recall(sampling, ids) if sampling and ids else {}
    for item, place in absent:
        note = decisions.get(bytes.fromhex(place.trace_id))
        if note is not None and not decision_of(note).kept:
            work.counts["sampled_out"] += 1
        else:
            work.wait([item], f"no trace with the id {place.trace_id} has arrived")


async def _write_scores(
    work: LogWindow,
    here: Sequence[tuple[SortedRecord, Place]],
    stored: Mapping[str, StoredTrace],
    turn: Turn,
) -> None:
    writes: list[Awaitable[None]] = []
    seen: set[tuple[str, str]] = set()
    for item, place in here:
        if item.score is None:
            continue
        _note_place(work, item, item.score, place, stored[place.trace_id])
        key = (place.trace_id, item.score.key)
        if key in seen or item.score.key in stored[place.trace_id].keys:
            work.counts["repeated"] += 1
            continue
        seen.add(key)
        writes.append(_write_score(work, item, place, turn))
    results = await asyncio.gather(*writes, return_exceptions=True)
    if error := next((result for result in results if isinstance(result, BaseException)), None):
        raise error


def _note_place(work: LogWindow, item: SortedRecord, score: Score, place: Place, trace: StoredTrace) -> None:
    experiment_id = trace.experiment_id or work.experiment_id
    if score.trace_id is None or experiment_id != work.experiment_id:
        placed = PlacedScore(item=item, score=score, place=place, experiment_id=experiment_id)
        work.placed.append(placed)


async def _write_score(work: LogWindow, item: SortedRecord, place: Place, turn: Turn) -> None:
    target, score = work.target, item.score
    assert score is not None
    document = assessment_of(
        score,
        trace_id=place.trace_id,
        span_id=place.span_id,
        received_unix_ns=item.entry.received_unix_ns,
        max_characters=target.max_characters,
    )
    for attempt in range(1, target.settings.suspect_resends + 2):
        async with target.in_flight:
            if target.stopping:
                raise NoAnswer("the service is stopping")
            try:
                answer = await work.api.create_assessment(place.trace_id, document)
            except MlflowUnreachable as error:
                turn.in_doubt = True
                raise NoAnswer(str(error)) from error
        verdict = verdict_of(answer.status, answer.error_code if answer.status == 400 else None)
        if verdict is not Verdict.SUSPECT:
            break
        await asyncio.sleep(RESEND_PAUSE_SECONDS * attempt)
        if await _is_there(work, place, score.key):  # it failed after it had written
            verdict = Verdict.TAKEN
            break
    _note_written(work, item, score.key, verdict, f"MLflow answered {answer.status}: {answer.error}")


async def _is_there(work: LogWindow, place: Place, key: str) -> bool:
    stored = await stored_traces(work.api, [place.trace_id])
    if isinstance(stored, CannotAsk):
        raise MlflowSilent(stored)
    return place.trace_id in stored and key in stored[place.trace_id].keys


def _note_written(work: LogWindow, item: SortedRecord, key: str, verdict: Verdict, said: str) -> None:
    match verdict:
        case Verdict.TAKEN:
            work.target.health.successes += 1
            work.counts["assessment"] += 1
            work.target.suspects.pop(key, None)
        case Verdict.NO_EXPERIMENT:  # its trace is gone since we looked
            work.wait([item], said)
        case Verdict.SUSPECT if is_guilty(work.target, key):
            work.refuse([item], "poison", said)
        case Verdict.SUSPECT | Verdict.PASSING:
            work.trouble.append(said)
        case _:
            work.refuse([item], "refused", said)


@dataclass(slots=True, kw_only=True)
class LogDelivery(LogTarget):
    """MLflow as a worker of log records sees it."""

    async def deliver(
        self,
        entries: Sequence[Entry],
        *,
        lane: str,
        consumer: Consumer,
        traces: TraceMemory,
        request_bytes: int,
    ) -> Settled | Deferred | None:
        """One window of log records (`deliver_logs`)."""
        return await deliver_logs(entries, lane=lane, consumer=consumer, traces=traces, target=self)
