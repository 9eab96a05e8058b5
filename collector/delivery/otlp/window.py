"""One window of one lane on its way to another backend: select -> copy -> send -> outcome."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from collector.delivery.bisect import fit
from collector.delivery.group import Request, merged
from collector.delivery.mlflow.forward import Forwarded
from collector.delivery.otlp.copy import Copy
from collector.delivery.otlp.endpoint import OtlpEndpoint
from collector.delivery.otlp.selection import ForwardFilter
from collector.delivery.settle import Deferred, Settled, TargetHealth, combine, refuse_all, settle
from collector.delivery.verdicts import Sent, Verdict
from collector.journal import Consumer, TraceMemory
from collector.model.batch import Entry, Route, Signal, is_verbatim, signal_of
from collector.processors.keep import SamplingDecision, decision_of
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics

_log = logging.getLogger("sidespan.delivery")

# how often a request is sent again unchanged after a 500
RESENDS = 2


@dataclass(slots=True, kw_only=True)
class OtlpWindow:
    """What is known of the traces of one window, and what is learned on its way."""

    notes: dict[bytes, bytes]
    decisions: Mapping[bytes, SamplingDecision]
    copies: dict[Request, Forwarded] = field(default_factory=dict)
    learned: dict[bytes, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class OtlpTarget:
    """Another backend as a worker sees it. `copy` None: it gets what the client sent."""

    endpoint: OtlpEndpoint
    selection: ForwardFilter
    copy: Copy | None
    metrics: Metrics
    quarantine_after_crashes: int
    health: TargetHealth
    # the consumer whose decisions on traces it follows
    sampling: str | None = None
    stopping: bool = False
    fault_log: FaultLog = field(default_factory=FaultLog)

    @property
    def requests_a_window(self) -> int:
        """One: were there more, a request that waits would make the others come again."""
        return 1

    async def deliver(
        self,
        entries: Sequence[Entry],
        *,
        lane: str,
        consumer: Consumer,
        traces: TraceMemory,
        request_bytes: int,
    ) -> Settled | Deferred:
        """One window of spans or log records."""
        if any(entry.attempts >= self.quarantine_after_crashes for entry in entries):  # it comes alone
            return refuse_all(entries, "quarantined", "the service died each time it worked on this entry")
        if is_verbatim(lane) or not self.selection.takes_route(Route.from_lane(lane)):
            count = sum(entry.span_count for entry in entries)
            return Settled(delivered_spans=0, counts={"withheld": count})
        if self.copy is not None:
            await consumer.mark(lane, through=entries[-1].position)
        window = await self._recall(entries, consumer, traces)
        requests = await asyncio.to_thread(self._prepare, entries, window, request_bytes)
        if self.copy is not None:
            await consumer.processed(lane)
        return await self._send_all(requests, window)

    def committed(self, outcome: Settled) -> None:
        """Count what has become of a window."""
        for name, count in outcome.counts.items():
            self.metrics.forwarded.labels(target=self.endpoint.name, outcome=name).inc(count)
        for refusal in outcome.refusals:
            labels = {"target": self.endpoint.name, "reason": refusal.reason}
            self.metrics.forward_dead_lettered.labels(**labels).inc(refusal.request.span_count)

    async def _recall(self, entries: Sequence[Entry], consumer: Consumer, traces: TraceMemory) -> OtlpWindow:
        if self.copy is None or signal_of(entries[0].lane) is not Signal.TRACES:
            return OtlpWindow(notes={}, decisions={})
        trace_ids = frozenset().union(*(entry.trace_ids for entry in entries))
        decided = await traces.recall(self.sampling, trace_ids) if self.sampling else {}
        return OtlpWindow(
            notes=dict(await traces.recall(consumer.name, trace_ids)),
            decisions={trace_id: decision_of(note) for trace_id, note in decided.items()},
        )

    def _prepare(self, entries: Sequence[Entry], window: OtlpWindow, request_bytes: int) -> Sequence[Request]:
        """The requests of a window, nearly always one, with their copies. Pure but slow: a thread."""
        requests = fit(merged(entries), request_bytes=request_bytes)
        if self.copy is not None:
            window.copies = {each: self.copy(each, window.notes, window.decisions) for each in requests}
        return requests

    async def _send_all(self, requests: Sequence[Request], window: OtlpWindow) -> Settled | Deferred:
        outcomes: list[Settled | Deferred] = []
        for request in requests:
            outcomes.append(
                await settle(
                    request, lambda part: self._try(part, window), health=self.health, resends=RESENDS
                )
            )
            if isinstance(outcomes[-1], Deferred):
                return outcomes[-1]
        outcome = combine(outcomes)
        if isinstance(outcome, Deferred):
            return outcome
        window.counts["delivered"] = outcome.delivered_spans - window.counts["rejected"]
        return replace(outcome, notes=window.learned, counts=+window.counts)

    async def _try(self, request: Request, window: OtlpWindow) -> Sent:
        copy = await self._copy(request, window)
        if not copy.body:
            window.counts["withheld"] += copy.withheld_spans
            message = "the settings leave nothing to send"
            return Sent(verdict=Verdict.TAKEN, message=message, withheld_spans=request.span_count)
        if self.stopping:
            return Sent(verdict=Verdict.PASSING, message="the service is stopping")
        sent = await self.endpoint.export(copy.body, request)
        if sent.verdict is Verdict.TAKEN:
            self._took(request, copy, sent, window)
        return replace(sent, withheld_spans=copy.withheld_spans)

    async def _copy(self, request: Request, window: OtlpWindow) -> Forwarded:
        """The copy to send: made ready before, or made now for a part that halving left."""
        if self.copy is None:
            return Forwarded(body=request.payload)
        if request not in window.copies:
            made = await asyncio.to_thread(self.copy, request, window.notes, window.decisions)
            window.copies[request] = made
        made = window.copies[request]
        self.fault_log.tell("a span is sent on without what a step was to add", made.faults)
        return made

    def _took(self, request: Request, copy: Forwarded, sent: Sent, window: OtlpWindow) -> None:
        """Only now the notes hold: a try that failed has told the target nothing."""
        window.copies.pop(request, None)
        window.notes.update(copy.notes)
        window.learned.update(copy.notes)
        window.counts["withheld"] += copy.withheld_spans
        window.counts["rejected"] += sent.rejected_spans
        if sent.rejected_spans:
            told = {"target": self.endpoint.name, "rejected": sent.rejected_spans, "why": sent.message}
            _log.warning("a target has taken a request but for a part, which is not sent again", extra=told)
