"""Where one trace's spans are: in the journal until they are delivered, in MLflow from then on.

    journal first, MLflow second: a span that is delivered in between is found twice rather than not at all
    the journal's copy of a span wins: it is what the client sent

MLflow not answering makes an answer incomplete, never an error: what the journal holds is told, and why
there may be more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal import CannotTell
from collector.mlflow.client import MAX_CONTENT_BYTES, MlflowAnswer, MlflowTimeout, MlflowUnreachable
from collector.mlflow.rest import Connection, MlflowApi
from collector.model.batch import Route
from collector.spans.facts import export_facts
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.mlflow_trace import MlflowTrace, read_export, read_trace
from collector.spans.score_facts import shown
from collector.spans.summary_models import ScoreRow
from collector.spans.values import SpanFacts

T = TypeVar("T")
UNKNOWN = "RESOURCE_DOES_NOT_EXIST"

Pending = Callable[[bytes], Awaitable[Sequence[bytes] | CannotTell]]
"""The export requests (protobuf) in the journal that hold spans of a trace, given its 16 bytes."""
RouteOf = Callable[[bytes], Awaitable[Route | None]]
"""Where the journal's spans of a trace are bound for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Why there is no answer from MLflow that could be used."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrace:
    """The spans of a trace that could be found; `incomplete` says why there may be more."""

    trace_id: str
    spans: Sequence[SpanFacts]
    experiment_id: str | None = None
    experiment_name: str | None = None
    incomplete: str | None = None
    labels: TraceLabels = NO_LABELS
    scores: Sequence[ScoreRow] = ()


async def _no_route(_: bytes) -> Route | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """Reads one trace from wherever its spans are. Safe to use from many tasks at once."""

    pending: Pending
    mlflow: Connection
    route_of: RouteOf = field(default=_no_route)
    timeout_seconds: float = 10.0

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        """The trace with this id (32 hex digits, lower case).

        None: nobody knows it. Unanswered: the journal doesn't, and MLflow can't be asked; or MLflow doesn't,
        and the journal can't tell.
        """
        id_bytes = bytes.fromhex(trace_id)
        pending = await self.pending(id_bytes)
        unsure = pending if isinstance(pending, CannotTell) else None
        payloads = () if isinstance(pending, CannotTell) else pending
        waiting = await asyncio.to_thread(_read_payloads, payloads, id_bytes)
        route = await self.route_of(id_bytes) if waiting else None
        stored = await self._ask(trace_id)
        if not waiting and not isinstance(stored, MlflowTrace):
            return _unsure(unsure) if stored is None and unsure else stored
        trace = stored if isinstance(stored, MlflowTrace) else MlflowTrace(spans=(), experiment_id=None)
        experiment_id = trace.experiment_id or (route.experiment_id if route else None)
        name = route.experiment_name if route else None
        if experiment_id is not None and isinstance(stored, MlflowTrace):
            name = await self._experiment_name(experiment_id) or name
        spans = _merged(waiting, trace.spans)
        return FoundTrace(
            trace_id=trace_id,
            spans=spans,
            experiment_id=experiment_id,
            experiment_name=name,
            incomplete=_incomplete(stored, spans, unsure),
            labels=trace.labels,
            scores=[shown(score) for score in trace.scores],
        )

    async def export(self, trace_id: str) -> ExportTraceServiceRequest | Unanswered | None:
        """The trace's spans: as the client sent them from the journal, else as MLflow stored them."""
        pending = await self.pending(bytes.fromhex(trace_id))
        if pending and not isinstance(pending, CannotTell):
            return await asyncio.to_thread(ExportTraceServiceRequest.FromString, b"".join(pending))
        stored = await self._ask_for(trace_id, read_export)
        return _unsure(pending) if stored is None and isinstance(pending, CannotTell) else stored

    async def _ask(self, trace_id: str) -> MlflowTrace | Unanswered | None:
        return await self._ask_for(trace_id, read_trace)

    async def _ask_for(self, trace_id: str, read: Callable[[bytes], T]) -> T | Unanswered | None:
        """MLflow's trace; None if MLflow is certain to have none."""
        match await self._answer(self._api.trace(trace_id)):
            case Unanswered() as unanswered:
                return unanswered
            case MlflowAnswer(status=200, is_cut=True):
                return Unanswered(reason=f"its response is larger than {MAX_CONTENT_BYTES} bytes")
            case MlflowAnswer(status=200, body=body):
                try:
                    return await asyncio.to_thread(read, body)
                except ValueError:
                    return Unanswered(reason="its response is unreadable")
            case MlflowAnswer(status=404) as answer if answer.json().get("error_code") == UNKNOWN:
                return None
            case MlflowAnswer(status=status):
                return Unanswered(reason=f"it responded with status {status}")

    async def _experiment_name(self, experiment_id: str) -> str | None:
        match await self._answer(self._api.experiment(experiment_id)):
            case MlflowAnswer(status=200) as answer:
                experiment = answer.json().get("experiment")
                name = experiment.get("name") if isinstance(experiment, dict) else None
                return name if isinstance(name, str) else None
            case _:
                return None

    @property
    def _api(self) -> MlflowApi:
        return MlflowApi(
            connection=self.mlflow, timeout_seconds=self.timeout_seconds, max_bytes=MAX_CONTENT_BYTES
        )

    async def _answer(self, asking: Awaitable[MlflowAnswer]) -> MlflowAnswer | Unanswered:
        """The error's own text names the server, which clients need not know."""
        try:
            return await asking
        except MlflowTimeout:
            return Unanswered(reason=f"no response within {self.timeout_seconds:g} s")
        except MlflowUnreachable:
            return Unanswered(reason="no connection")


def _read_payloads(payloads: Iterable[bytes], trace_id: bytes) -> list[SpanFacts]:
    return [
        span
        for payload in payloads
        for span in export_facts(ExportTraceServiceRequest.FromString(payload), trace_id=trace_id)
    ]


def _merged(waiting: Sequence[SpanFacts], stored: Sequence[SpanFacts]) -> list[SpanFacts]:
    ids = {span.span_id for span in waiting}
    return [*waiting, *(span for span in stored if span.span_id not in ids)]


def _unsure(unsure: CannotTell) -> Unanswered:
    return Unanswered(reason=f"what waits for delivery is not known: {unsure.reason}")


def _incomplete(
    stored: MlflowTrace | Unanswered | None, spans: Sequence[SpanFacts], unsure: CannotTell | None
) -> str | None:
    if isinstance(stored, Unanswered):
        return f"MLflow could not be queried: {stored.reason}"
    if unsure is not None:
        return f"what waits for delivery is not known: {unsure.reason}"
    return None if spans else "MLflow has this trace but none of its spans"
