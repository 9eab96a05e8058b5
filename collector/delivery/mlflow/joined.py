"""Spans that have content of log records, when they go to MLflow once more.

A client repeats a request whose answer was lost; harmonise sends a span again of which a later one tells
more. Neither copy has the content, and MLflow would put it in the place of the joined span. So it is noted
which spans of a trace were joined, and such a copy takes the content over from MLflow's.

Joining and delivery take turns by trace: else one could read a span before the other's write, and send it
after that.
"""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.delivery.logs.join import add_events
from collector.delivery.logs.sorting import CONTENT_EVENTS
from collector.delivery.mlflow.turns import Turns
from collector.harmonise.content import INPUTS, OUTPUTS
from collector.harmonise.parts import Addition, Part, write
from collector.journal import TraceMemory
from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk, cannot_ask
from collector.mlflow.rest import MlflowApi
from collector.spans.conventions import ADDED
from collector.spans.facts import decode_attributes
from collector.spans.mlflow_trace import stored_span

SPAN_ID_BYTES = 8
# of a trace; where more are joined, any span of it may be
MAX_NOTED_SPANS = 1000
ANY = b"*"
# joined by this process, and perhaps not committed yet
MAX_FRESH_TRACES = 10_000


@dataclass(slots=True, kw_only=True)
class Joins:
    """What the consumers of spans and of log records share in one process.

    `fresh` are notes that may not be in the journal yet: after a crash before the commit the records are
    joined once more.
    """

    turns: Turns = field(default_factory=Turns)
    fresh: dict[bytes, bytes] = field(default_factory=dict)

    def joined(self, notes: Mapping[bytes, bytes]) -> None:
        """These are on their way, or in MLflow."""
        for trace_id, note in notes.items():
            self.fresh.pop(trace_id, None)
            self.fresh[trace_id] = note
        while len(self.fresh) > MAX_FRESH_TRACES:
            del self.fresh[next(iter(self.fresh))]

    async def known(
        self, traces: TraceMemory, consumer: str | None, trace_ids: Collection[bytes]
    ) -> Mapping[bytes, bytes]:
        """The notes of those of the traces that have joined spans; `consumer` left them."""
        if consumer is None:
            return {}
        noted = await traces.recall(consumer, trace_ids)
        fresh = {trace_id: self.fresh[trace_id] for trace_id in trace_ids if trace_id in self.fresh}
        return {**noted, **fresh}


def noted(before: bytes, span_ids: Collection[bytes]) -> bytes:
    """The note of a trace, with these spans among the joined ones."""
    if before == ANY:
        return ANY
    known = {before[at : at + SPAN_ID_BYTES] for at in range(0, len(before), SPAN_ID_BYTES)}
    known.update(span_ids)
    return ANY if len(known) > MAX_NOTED_SPANS else b"".join(sorted(known))


def is_joined(notes: Mapping[bytes, bytes], span: Span) -> bool:
    """Whether content was joined onto this span, or may have been."""
    note = notes.get(span.trace_id)
    if note is None or note == ANY:
        return note is not None
    # ids stand one after the other: a look for bytes alone would also find halves of two
    return any(note.startswith(span.span_id, at) for at in range(0, len(note), SPAN_ID_BYTES))


async def with_content(
    body: bytes, notes: Mapping[bytes, bytes], mlflow: Mlflow, *, workspace: str | None
) -> bytes | CannotAsk:
    """The export with the content that MLflow's copies of its spans have; `notes`: which were joined."""
    if not notes or not body:
        return body
    export = await asyncio.to_thread(ExportTraceServiceRequest.FromString, body)
    again = [span for span in _spans(export) if is_joined(notes, span)]
    if not again:
        return body
    api = MlflowApi(connection=mlflow, workspace=workspace, max_bytes=MAX_CONTENT_BYTES)
    for trace_id in sorted({span.trace_id for span in again}):
        try:
            answer = await api.trace(trace_id.hex())
        except MlflowUnreachable as error:
            return cannot_ask(error)
        if answer.status == 404 or answer.is_cut:  # nothing to keep; or joined before the trace grew so large
            continue
        if answer.status != 200:
            return CannotAsk(message=f"MLflow answered {answer.status}: {answer.error}")
        await asyncio.to_thread(take_over, [each for each in again if each.trace_id == trace_id], answer.body)
    return await asyncio.to_thread(export.SerializeToString)


def take_over(spans: Sequence[Span], body: bytes) -> None:
    """Put the content that MLflow's copies have (traces/get) on the spans of one trace. Pure; slow."""
    try:
        documents = (json.loads(body).get("trace") or {}).get("spans") or ()
        stored = {copy.span_id: copy for copy in map(stored_span, documents)}
    except (ValueError, AttributeError):  # nothing that can be read was ever joined
        return
    for span in spans:
        if span.span_id in stored:
            _take_over(span, stored[span.span_id])


def _take_over(span: Span, stored: Span) -> None:
    """The events, and what harmonise made of them: a client's own inputs and outputs stay."""
    add_events(span, (event for event in stored.events if CONTENT_EVENTS.fullmatch(event.name)))
    theirs = {each.key: each.value for each in stored.attributes}
    view = {each.key: each.value for each in span.attributes}
    made, mine = _added(stored), _added(span)
    for key in (INPUTS, OUTPUTS):
        if key not in made or key not in theirs or (key in view and key not in mine):
            continue
        if key in view:
            view[key].CopyFrom(theirs[key])
        else:
            write(span, [Addition(part=Part.CONTENT, key=key, value=theirs[key].string_value)], view)


def _added(span: Span) -> list[Any]:
    names = decode_attributes(span.attributes, (ADDED,)).get(ADDED)
    return names if isinstance(names, list) else []


def _spans(export: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans
