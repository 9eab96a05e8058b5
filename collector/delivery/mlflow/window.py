"""One window of one lane: resolve -> claim -> group -> forward -> send -> outcome."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from collector.delivery.group import Request
from collector.delivery.mlflow.carried import carried
from collector.delivery.mlflow.claims import Window, claim
from collector.delivery.mlflow.forward import Forward, Forwarded, as_stored, unchanged
from collector.delivery.mlflow.joined import Joins, with_content
from collector.delivery.mlflow.requests import prepare
from collector.delivery.mlflow.send import headers_for, no_answer, read_back, send, span_ids_of
from collector.delivery.mlflow.turns import Turn, Turns
from collector.delivery.settle import (
    Deferred,
    Settled,
    TargetHealth,
    combine,
    refuse_all,
    settle,
)
from collector.delivery.verdicts import Sent, Verdict
from collector.journal import Consumer, TraceMemory
from collector.mlflow.client import Mlflow, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk, Experiments, NoSuchExperiment, Resolved
from collector.model.batch import Entry, Route, is_verbatim
from collector.model.faults import Faults
from collector.processors.keep import SamplingDecision, decision_of
from collector.settings import DeliverySettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

CONSUMER = "delivery"
Archived = Callable[[Collection[bytes]], Awaitable[Collection[bytes]]]
VERIFY_RESENDS = 2
# between two windows of a lane MLflow has nothing to do; more rounds in one make that rarer
ROUNDS_A_WINDOW = 3
ABOUT_THE_DATA = frozenset({Verdict.SUSPECT, Verdict.TOO_LARGE, Verdict.REFUSED})
STOPPING = "the service is stopping"


@dataclass(slots=True, kw_only=True)
class Memory:
    """What a window knows of its traces: earlier notes, sampling, what it learns; and copies made ready.

    `joined` notes which of their spans have content of log records in MLflow.

    `delivered` are the trace ids of which MLflow has taken spans. `is_verbatim`: they are sent as they are.
    """

    notes: dict[bytes, bytes]
    decisions: Mapping[bytes, SamplingDecision]
    joined: Mapping[bytes, bytes] = field(default_factory=dict)
    learned: dict[bytes, bytes] = field(default_factory=dict)
    ready: dict[Request, Forwarded] = field(default_factory=dict)
    delivered: set[bytes] = field(default_factory=set)
    is_verbatim: bool = False

    def taken(self, request: Request, forwarded: Forwarded) -> None:
        """MLflow has it: only now its notes hold, for a try that failed has told MLflow nothing."""
        self.ready.pop(request, None)
        self.notes.update(forwarded.notes)
        self.learned.update(forwarded.notes)
        self.delivered |= (
            span_ids_of(forwarded.body).keys() if forwarded.withheld_spans else request.trace_ids
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownRun:
    """MLflow answered: the experiment has no such run."""

    message: str


@dataclass(slots=True, kw_only=True)
class Target:
    """MLflow as the windows see it: where to send, what is known of it, how much at a time."""

    mlflow: Mlflow
    experiments: Experiments
    settings: DeliverySettings
    quarantine_after_crashes: int
    compress: bool
    metrics: Metrics
    in_flight: asyncio.Semaphore
    forward: Forward | None = None
    sampling: str | None = None
    # the consumer of log records, which takes up what spans carry of judgements; None: nobody does
    scores_to: str | None = None
    # clients are told apart, so MLflow is asked whose each trace is
    check_owners: bool = False
    # of these traces those that are archived, so that MLflow has them no more; None: nothing is
    archived: Archived | None = None
    turns: Turns = field(default_factory=Turns)
    joins: Joins = field(default_factory=Joins)
    # set by a worker that is to end: requests in flight are the last
    stopping: bool = False
    health: TargetHealth = field(default_factory=TargetHealth)
    fault_log: FaultLog = field(default_factory=FaultLog)
    sample: random.Random = field(default_factory=random.Random)

    @property
    def requests_a_window(self) -> int:
        """See the protocol."""
        return self.settings.max_in_flight * ROUNDS_A_WINDOW

    async def deliver(
        self,
        entries: Sequence[Entry],
        *,
        lane: str,
        consumer: Consumer,
        traces: TraceMemory,
        request_bytes: int,
    ) -> Settled | Deferred:
        """One window of spans."""
        return await deliver_window(
            entries, lane=lane, consumer=consumer, traces=traces, target=self, request_bytes=request_bytes
        )

    def committed(self, outcome: Settled) -> None:
        """Count what has become of a window."""
        self.metrics.spans_delivered.inc(outcome.delivered_spans)
        for refusal in outcome.refusals:
            count = refusal.request.span_count
            self.metrics.spans_dead_lettered.labels(reason=refusal.reason).inc(count)


async def deliver_window(
    entries: Sequence[Entry],
    *,
    lane: str,
    consumer: Consumer,
    traces: TraceMemory,
    target: Target,
    request_bytes: int,
) -> Settled | Deferred:
    """Bring the window's entries to MLflow, or say why not now.

    Settled: each span is in MLflow or among the refusals; the caller commits. Deferred: nothing may be
    committed. Spans may reach MLflow more than once; it upserts them.
    """
    quarantined = [e for e in entries if e.attempts >= target.quarantine_after_crashes]
    if quarantined:  # such an entry comes alone
        return refuse_all(entries, "quarantined", "the service died each time it worked on this entry")
    route = Route.from_lane(lane)
    resolution = await target.experiments.resolve(route)
    match resolution:
        case CannotAsk() as cannot:
            return _later(cannot)
        case NoSuchExperiment(message=message):
            return refuse_all(entries, "unknown_experiment", message)
        case Resolved(experiment_id=experiment_id):
            pass
    run = await _check_run(route, experiment_id, target)
    if isinstance(run, Deferred):
        return run
    if isinstance(run, UnknownRun):
        return refuse_all(entries, "unknown_run", run.message)
    window = Window(entries=entries, lane=lane, route=run, experiment_id=experiment_id)
    async with target.joins.turns.take(CONSUMER, window.trace_ids):
        if not target.check_owners or target.settings.foreign_trace == "allow":
            return await _deliver(window, Turn(), consumer, traces, target, request_bytes=request_bytes)
        async with target.turns.take(window.owner, window.trace_ids) as turn:
            return await _deliver(window, turn, consumer, traces, target, request_bytes=request_bytes)


async def _deliver(
    window: Window,
    turn: Turn,
    consumer: Consumer,
    traces: TraceMemory,
    target: Target,
    *,
    request_bytes: int,
) -> Settled | Deferred:
    """The window once its experiment is known, and none of its trace ids is on its way to another."""
    ask = target.mlflow if target.check_owners and target.settings.foreign_trace != "allow" else None
    foreign = await claim(window, consumer, traces, ask=ask)
    if isinstance(foreign, CannotAsk):
        return _later(foreign)
    if target.settings.foreign_trace == "allow":
        foreign = frozenset()
    archived = await _archived(window, target)
    memory = await _recall(traces, window.trace_ids, target)
    requests, refusals = await asyncio.to_thread(
        prepare, window.entries, foreign, archived, window.route, request_bytes
    )
    memory.is_verbatim = is_verbatim(window.lane)
    if target.forward is not None and not memory.is_verbatim:
        memory.ready = await asyncio.to_thread(_forward_all, requests, target.forward, memory)
    await consumer.processed(window.lane)
    try_once = partial(
        _send_and_verify,
        route=window.route,
        experiment_id=window.experiment_id,
        target=target,
        memory=memory,
        turn=asyncio.Lock(),
    )
    turn.in_doubt = True
    outcomes = await asyncio.gather(
        *(
            settle(request, try_once, health=target.health, resends=target.settings.suspect_resends)
            for request in requests
        )
    )
    outcome = combine((*outcomes, Settled(delivered_spans=0, refusals=refusals)))
    if isinstance(outcome, Deferred):
        return outcome
    turn.in_doubt = False
    delivered = {} if ask is None else dict.fromkeys(memory.delivered, window.owner)
    follow_ups = await carried(window, outcome, to=target.scores_to)
    return replace(outcome, notes=memory.learned, delivered=delivered, follow_ups=follow_ups)


async def _archived(window: Window, target: Target) -> frozenset[bytes]:
    """The archived traces whose spans come late. What comes from the archive itself is never late."""
    if target.archived is None or is_verbatim(window.lane):
        return frozenset()
    return frozenset(await target.archived(window.trace_ids))


def _later(cannot: CannotAsk) -> Deferred:
    return Deferred(
        message=cannot.message,
        retry_after_seconds=cannot.retry_after_seconds,
        timed_out=cannot.timed_out,
    )


async def _check_run(route: Route, experiment_id: str, target: Target) -> Route | Deferred | UnknownRun:
    """The route to send with, without the run where the settings let spans go without it."""
    if route.run_id is None:
        return route
    found = await target.experiments.run_experiment(route)
    if isinstance(found, CannotAsk):
        return _later(found)
    if found is not None and (found == experiment_id or not target.check_owners):
        return route
    if target.settings.unknown_run == "deliver-without-link":
        target.metrics.unknown_runs.inc()
        return Route(
            experiment_id=route.experiment_id,
            experiment_name=route.experiment_name,
            workspace=route.workspace,
        )
    return UnknownRun(message=f"MLflow has no run {route.run_id!r} (x-mlflow-run-id) in this experiment")


async def _recall(traces: TraceMemory, trace_ids: Collection[bytes], target: Target) -> Memory:
    notes = await traces.recall(CONSUMER, trace_ids) if target.forward else {}
    decided = await traces.recall(target.sampling, trace_ids) if target.sampling else {}
    decisions = {trace_id: decision_of(note) for trace_id, note in decided.items()}
    joined = await target.joins.known(traces, target.scores_to, trace_ids)
    return Memory(notes=dict(notes), decisions=decisions, joined=joined)


def _forward_all(requests: Sequence[Request], forward: Forward, memory: Memory) -> dict[Request, Forwarded]:
    return {request: _forward(request, forward, memory) for request in requests}


def _forward(request: Request, forward: Forward, memory: Memory) -> Forwarded:
    """The copy to send; where a bug keeps it from being made, what the client sent."""
    try:
        return forward(request.payload, memory.notes, memory.decisions)
    except Exception as error:
        faults = Faults()
        faults.add(error)
        counts = {("forward", "failed"): request.span_count}
        return replace(unchanged(request.payload), faults=faults, counts=counts)


async def _forwarded(request: Request, target: Target, memory: Memory) -> Forwarded:
    """The copy to send: made ready before, or made now for a part that halving left."""
    if memory.is_verbatim:
        return await asyncio.to_thread(as_stored, request.payload)
    if target.forward is None:
        return await asyncio.to_thread(unchanged, request.payload)
    found = memory.ready.get(request)
    if found is None:
        found = await asyncio.to_thread(_forward, request, target.forward, memory)
    target.fault_log.tell("a span is sent to MLflow as it came, for a step before has failed", found.faults)
    return found


@asynccontextmanager
async def _in_flight(target: Target, turn: asyncio.Lock) -> AsyncIterator[None]:
    """A place among the requests in flight. A window queues for one at a time, so that lanes take turns."""
    async with turn:
        await target.in_flight.acquire()
    try:
        yield
    finally:
        target.in_flight.release()


async def _send_and_verify(
    request: Request,
    *,
    route: Route,
    experiment_id: str,
    target: Target,
    memory: Memory,
    turn: asyncio.Lock,
) -> Sent:
    """One try; with `delivery.verify` a 200 counts only when MLflow returns the spans.

    A single span that MLflow refuses is tried once more as the client sent it: it may be what was added.
    """
    forwarded = await _forwarded(request, target, memory)
    if not forwarded.body:
        sent = Sent(verdict=Verdict.TAKEN, message="the settings leave nothing to send")
    else:
        async with _in_flight(target, turn):
            if target.stopping:
                return Sent(verdict=Verdict.PASSING, message=STOPPING)
            sent = await _try(forwarded.body, route, experiment_id, target, memory)
            if sent.verdict in ABOUT_THE_DATA and target.forward is not None and request.span_count == 1:
                bare = replace(unchanged(request.payload), counts={("harmonise", "withdrawn"): 1})
                again = await _try(bare.body, route, experiment_id, target, memory)
                sent, forwarded = (again, bare) if again.verdict is Verdict.TAKEN else (sent, forwarded)
    if sent.verdict is not Verdict.TAKEN:
        return sent
    memory.taken(request, forwarded)
    target.metrics.count_processed(forwarded.counts)
    return replace(sent, withheld_spans=forwarded.withheld_spans)


async def _try(body: bytes, route: Route, experiment_id: str, target: Target, memory: Memory) -> Sent:
    whole = await with_content(body, memory.joined, target.mlflow, workspace=route.workspace)
    if isinstance(whole, CannotAsk):
        return Sent(verdict=Verdict.PASSING, message=whole.message, timed_out=whole.timed_out)
    body = whole
    for _ in range(1 + VERIFY_RESENDS):
        sent = await send(
            body,
            target.mlflow,
            headers=headers_for(route, experiment_id),
            compress=target.compress,
            metrics=target.metrics,
        )
        if sent.verdict is Verdict.NO_EXPERIMENT:
            target.experiments.forget(route)
        if sent.verdict is Verdict.PARTLY:
            return await _look_after(sent, body, target, route.workspace)
        if sent.verdict is not Verdict.TAKEN or not _is_to_verify(target):
            return sent
        try:
            found = await read_back(span_ids_of(body), target.mlflow, workspace=route.workspace)
        except MlflowUnreachable as error:
            return no_answer(error)
        if not (missing := found.missing):
            return sent
        target.metrics.spans_missing.inc(len(missing))
    return Sent(
        verdict=Verdict.REFUSED,
        message=f"MLflow answered 200 {1 + VERIFY_RESENDS} times and does not return {len(missing)} spans",
    )


async def _look_after(partly: Sent, body: bytes, target: Target, workspace: str | None) -> Sent:
    """What a partial success comes to: taken after all if MLflow returns each span, else refused.

    Halving then finds the spans that it rejects; the others are sent again, which changes nothing.
    """
    try:
        found = await read_back(span_ids_of(body), target.mlflow, workspace=workspace)
    except MlflowUnreachable:  # it takes no questions: its word stands
        return replace(partly, verdict=Verdict.REFUSED)
    doubtful = len(found.missing | found.unseen)
    if not doubtful:
        return replace(partly, verdict=Verdict.TAKEN, rejected_spans=0)
    rejected = min(partly.rejected_spans, doubtful)
    return replace(partly, verdict=Verdict.REFUSED, rejected_spans=rejected)


def _is_to_verify(target: Target) -> bool:
    match target.settings.verify:
        case "off":
            return False
        case "all":
            return True
        case "sample":
            return target.sample.random() < target.settings.verify_sample_ratio
