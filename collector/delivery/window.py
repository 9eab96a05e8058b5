"""One window of one lane: resolve -> claim -> group -> forward -> send -> outcome."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.batch import Entry, Route
from collector.delivery.answers import Sent, Verdict
from collector.delivery.bisect import fit, split
from collector.delivery.file_tags import without_file_tags
from collector.delivery.forward import Forward, Forwarded
from collector.delivery.group import MAX_LINKED_TRACES, Request, group
from collector.delivery.owners import foreign_traces
from collector.delivery.send import headers_for, missing_spans, send
from collector.delivery.settle import Deferred, Health, Refusal, Settled, combine, settle
from collector.experiments import CannotAsk, Experiments, NoSuchExperiment, Resolved
from collector.journal import Journal
from collector.metrics import Metrics
from collector.mlflow import Mlflow, MlflowUnreachable
from collector.process.keep import Decision, decision_of
from collector.settings import Delivery as DeliverySettings

CONSUMER = "delivery"
VERIFY_RESENDS = 2
STOPPING = "the service is stopping"


@dataclass(slots=True, kw_only=True)
class Memory:
    """What a window knows of its traces: earlier notes, sampling, what it learns; and copies made ready."""

    notes: dict[bytes, bytes]
    decisions: Mapping[bytes, Decision]
    learned: dict[bytes, bytes] = field(default_factory=dict)
    ready: dict[Request, Forwarded] = field(default_factory=dict)

    def taken(self, request: Request, forwarded: Forwarded) -> None:
        """MLflow has it: only now its notes hold, for a try that failed has told MLflow nothing."""
        self.ready.pop(request, None)
        self.notes.update(forwarded.notes)
        self.learned.update(forwarded.notes)


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
    # clients are told apart, so MLflow is asked whose each trace is
    check_owners: bool = False
    # set by a worker that is to end: requests in flight are the last
    stopping: bool = False
    health: Health = field(default_factory=Health)
    sample: random.Random = field(default_factory=random.Random)


async def deliver_window(
    entries: Sequence[Entry], *, lane: str, journal: Journal, target: Target, request_bytes: int
) -> Settled | Deferred:
    """Bring the window's entries to MLflow, or say why not now.

    Settled: each span is in MLflow or among the refusals; the caller commits. Deferred: nothing may be
    committed. Spans may reach MLflow more than once; it upserts them.
    """
    quarantined = [e for e in entries if e.attempts >= target.quarantine_after_crashes]
    if quarantined:  # such an entry comes alone
        return _refuse_all(entries, "quarantined", "the service died each time it worked on this entry")
    route = Route.from_lane(lane)
    resolution = await target.experiments.resolve(route)
    match resolution:
        case CannotAsk(message=message, retry_after_seconds=at_least):
            return Deferred(message=message, retry_after_seconds=at_least)
        case NoSuchExperiment(message=message):
            return _refuse_all(entries, "unknown_experiment", message)
        case Resolved(experiment_id=experiment_id):
            pass
    run = await _check_run(route, experiment_id, target)
    if isinstance(run, Deferred):
        return run
    if isinstance(run, str):
        return _refuse_all(entries, "unknown_run", run)
    owner = f"{route.workspace or ''}/{experiment_id}"
    claims = {trace_id: owner for entry in entries for trace_id in entry.trace_ids}
    owners = await journal.begin(CONSUMER, lane, through=entries[-1].sequence, claims=claims)
    foreign = frozenset(trace_id for trace_id, found in owners.items() if found != owner)
    if target.settings.foreign_trace == "allow":
        foreign = frozenset()
    elif target.check_owners:
        theirs = await foreign_traces(
            target.mlflow, claims, experiment_id=experiment_id, workspace=route.workspace
        )
        if isinstance(theirs, CannotAsk):
            return Deferred(message=theirs.message, retry_after_seconds=theirs.retry_after_seconds)
        foreign |= theirs
    memory = await _recall(journal, claims, target)
    requests, refusals = await asyncio.to_thread(_prepare, entries, foreign, run, request_bytes)
    if target.forward is not None:
        memory.ready = await asyncio.to_thread(_forward_all, requests, target.forward, memory)
    await journal.processed(CONSUMER, lane)
    try_once = partial(
        _send_and_verify,
        route=run,
        experiment_id=experiment_id,
        target=target,
        memory=memory,
        turn=asyncio.Lock(),
    )
    outcomes = await asyncio.gather(
        *(
            settle(request, try_once, health=target.health, resends=target.settings.suspect_resends)
            for request in requests
        )
    )
    outcome = combine((*outcomes, Settled(delivered_spans=0, refusals=refusals)))
    return replace(outcome, notes=memory.learned) if isinstance(outcome, Settled) else outcome


async def _check_run(route: Route, experiment_id: str, target: Target) -> Route | Deferred | str:
    """The route to send with; a text: the run is unknown, and that is a reason to refuse."""
    if route.run_id is None:
        return route
    found = await target.experiments.run_experiment(route)
    if isinstance(found, CannotAsk):
        return Deferred(message=found.message, retry_after_seconds=found.retry_after_seconds)
    if found is not None and (found == experiment_id or not target.check_owners):
        return route
    if target.settings.unknown_run == "deliver-without-link":
        target.metrics.unknown_runs.inc()
        return Route(
            experiment_id=route.experiment_id,
            experiment_name=route.experiment_name,
            workspace=route.workspace,
        )
    return f"MLflow has no run {route.run_id!r} (x-mlflow-run-id) in this experiment"


def _prepare(
    entries: Sequence[Entry], foreign: frozenset[bytes], route: Route, request_bytes: int
) -> tuple[list[Request], tuple[Refusal, ...]]:
    """The requests of a window, and what belongs to another experiment's traces. Pure but slow: a thread."""
    max_traces = MAX_LINKED_TRACES if route.run_id is not None else None
    requests: list[Request] = []
    refusals: list[Refusal] = []
    for request in group(entries, request_bytes=request_bytes, max_traces=max_traces):
        theirs, ours = split(request, foreign.__contains__) if foreign else (None, request)
        if theirs is not None:
            refusals.append(
                Refusal(
                    request=theirs,
                    reason="foreign_trace",
                    message="the trace belongs to another experiment; MLflow would merge it into that one",
                )
            )
        if ours is not None:
            requests += fit(ours, request_bytes=request_bytes, max_traces=max_traces)
    return requests, tuple(refusals)


async def _recall(journal: Journal, claims: Mapping[bytes, str], target: Target) -> Memory:
    notes = await journal.recall(CONSUMER, claims) if target.forward else {}
    decided = await journal.recall(target.sampling, claims) if target.sampling else {}
    decisions = {trace_id: decision_of(note) for trace_id, note in decided.items()}
    return Memory(notes=dict(notes), decisions=decisions)


def _forward_all(requests: Sequence[Request], forward: Forward, memory: Memory) -> dict[Request, Forwarded]:
    return {request: forward(request.payload, memory.notes, memory.decisions) for request in requests}


async def _forwarded(request: Request, target: Target, memory: Memory) -> Forwarded:
    """The copy to send: made ready before, or made now for a part that halving left."""
    if request in memory.ready:
        return memory.ready[request]
    if target.forward is None:
        body, spans = await asyncio.to_thread(without_file_tags, request.payload)
        return Forwarded(body=body, counts={("file_tags", "removed"): spans} if spans else {})
    return await asyncio.to_thread(target.forward, request.payload, memory.notes, memory.decisions)


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
    """One try; with `delivery.verify` a 200 counts only when MLflow returns the spans."""
    forwarded = await _forwarded(request, target, memory)
    if not forwarded.body:
        sent = Sent(verdict=Verdict.TAKEN, message="the settings leave nothing to send")
    else:
        async with _in_flight(target, turn):
            if target.stopping:
                return Sent(verdict=Verdict.PASSING, message=STOPPING)
            sent = await _try(forwarded.body, route, experiment_id, target)
    if sent.verdict is not Verdict.TAKEN:
        return sent
    memory.taken(request, forwarded)
    target.metrics.count_processed(forwarded.counts)
    return replace(sent, withheld_spans=forwarded.withheld_spans)


async def _try(body: bytes, route: Route, experiment_id: str, target: Target) -> Sent:
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
        if sent.verdict is not Verdict.TAKEN or not _is_to_verify(target):
            return sent
        try:
            missing = await missing_spans(_span_ids(body), target.mlflow, workspace=route.workspace)
        except MlflowUnreachable as error:
            return Sent(verdict=Verdict.PASSING, message=str(error))
        if not missing:
            return sent
        target.metrics.spans_missing.inc(len(missing))
    return Sent(
        verdict=Verdict.REFUSED,
        message=f"MLflow answered 200 {1 + VERIFY_RESENDS} times and does not return {len(missing)} spans",
    )


def _is_to_verify(target: Target) -> bool:
    match target.settings.verify:
        case "off":
            return False
        case "all":
            return True
        case "sample":
            return target.sample.random() < target.settings.verify_sample_ratio


def _span_ids(body: bytes) -> dict[bytes, frozenset[bytes]]:
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                found[span.trace_id].add(span.span_id)
    return {trace_id: frozenset(ids) for trace_id, ids in found.items()}


def _refuse_all(entries: Sequence[Entry], reason: str, message: str) -> Settled:
    refusals = tuple(
        Refusal(
            request=Request(
                payload=entry.payload,
                span_count=entry.span_count,
                trace_ids=entry.trace_ids,
                received_unix_ns=entry.received_unix_ns,
                client=entry.client,
            ),
            reason=reason,
            message=message,
        )
        for entry in entries
    )
    return Settled(delivered_spans=0, refusals=refusals)
