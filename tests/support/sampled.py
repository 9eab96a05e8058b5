"""Sampling over a real journal: what is appended, what it lets pass, and the ends of a process."""

import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.journal.sqlite.journal import SqliteJournal, open_journal
from collector.model.batch import Draft, Route, Signal
from collector.processors.keep import SamplingDecision, apply, decision_of
from collector.sampling.consumer import CONSUMER, Sampler
from collector.settings import JournalSettings
from collector.settings.keep import KeepSettings
from collector.telemetry.metrics import Metrics
from tests.support.logs import logs
from tests.support.otlp import all_spans, new_span_id
from tests.support.spans import SECOND, START

ONE, TWO = Route(experiment_id="1").lane, Route(experiment_id="2").lane
NONE_OF_THE_REST = 10**18


def span(
    trace_id: bytes, *, root: bool = False, error: bool = False, seconds: float = 1.0, name: str = "span"
) -> Span:
    return Span(
        trace_id=trace_id,
        span_id=new_span_id(),
        parent_span_id=b"" if root else b"p" * 8,
        name=name,
        start_time_unix_nano=START,
        end_time_unix_nano=START + int(seconds * SECOND),
        status=Status(code=Status.STATUS_CODE_ERROR) if error else None,
    )


def draft(*spans: Span, lane: str = ONE) -> Draft:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return Draft(
        lane=lane,
        payload=request.SerializeToString(),
        span_count=len(spans),
        trace_ids=frozenset(span.trace_id for span in spans),
    )


@dataclass
class Sampled:
    """A journal on disk and the sampler over it. `crash` goes on with a copy of the files as they are."""

    base: Path
    values: dict[str, Any] = field(default_factory=dict)
    max_notes: int = 200_000
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    count: int = 0

    async def open(self) -> None:
        self.journal: SqliteJournal = await self.stack.enter_async_context(
            open_journal(
                self.base / str(self.count),
                settings=JournalSettings(min_free_disk_bytes=0, max_notes=self.max_notes),
                consumers=(DELIVERY, CONSUMER),
                log_consumers=(CONSUMER,),
                keep_claims=1000,
            )
        )
        self.delivery = self.journal.consumer(DELIVERY)
        self.metrics = Metrics()
        self.sampler = Sampler(
            self.journal.consumer(CONSUMER), self.journal.traces, self.keep(), self.metrics
        )

    def keep(self) -> KeepSettings:
        return KeepSettings(**{"one_in": NONE_OF_THE_REST} | self.values)

    async def crash(self) -> None:
        old = self.base / str(self.count)
        self.count += 1
        shutil.copytree(old, self.base / str(self.count))
        await self.open()

    async def restart(self) -> None:
        await self.stack.aclose()
        await self.open()

    async def append(self, *spans: Span, lane: str = ONE) -> None:
        await self.journal.log.append([draft(*spans, lane=lane)])

    async def append_logs(self, *records: LogRecord) -> None:
        """In the lane of ONE's log records."""
        await self.journal.log.append(
            [
                Draft(
                    lane=Route(experiment_id="1").lane_of(Signal.LOGS),
                    payload=logs(*records).SerializeToString(),
                    span_count=len(records),
                    trace_ids=frozenset(record.trace_id for record in records if record.trace_id),
                )
            ]
        )

    async def passed(self, lane: str = ONE) -> list[str]:
        """The names of the spans that delivery may see, as they were sent."""
        entries = await self.delivery.read(lane, limit_bytes=2**30, behind=CONSUMER)
        return [
            span.name
            for entry in entries
            for span in all_spans(ExportTraceServiceRequest.FromString(entry.payload))
        ]

    async def delivered(self, lane: str = ONE) -> list[Span]:
        """What delivery would forward now, and its commit."""
        entries = await self.delivery.read(lane, limit_bytes=2**30, behind=CONSUMER)
        found: list[Span] = []
        for entry in entries:
            export = ExportTraceServiceRequest.FromString(entry.payload)
            apply(export, await self.decisions(entry.trace_ids))
            found += all_spans(export)
        if entries:
            await self.delivery.commit(lane, through=entries[-1].position)
        return found

    async def decisions(self, trace_ids: frozenset[bytes]) -> dict[bytes, SamplingDecision]:
        notes = await self.journal.traces.recall(CONSUMER, trace_ids)
        return {trace_id: decision_of(note) for trace_id, note in notes.items()}

    async def reason(self, trace_id: bytes) -> str | None:
        decision = (await self.decisions(frozenset({trace_id}))).get(trace_id)
        return decision.reason.value if decision else None

    def counted(self, decision: str, reason: str) -> float:
        labels = {"decision": decision, "reason": reason}
        return self.metrics.registry.get_sample_value("sidespan_sampled_traces_total", labels) or 0.0
