"""One trace: its summary, the content of its spans, and where its facts come from.

the index          answers in milliseconds, if it is sure to have all of the trace
journal + MLflow   else: what waits for delivery and what was delivered (trace_source.py)
the index again    where neither has it (sampled away, or gone from MLflow), or MLflow can't be asked;
                   the answer then says why it may be incomplete
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.chat.rendering import ChatBounds
from collector.answers.content import Extract, content
from collector.answers.conversation import ConversationPage, conversation
from collector.answers.encoding import EncodedJson, encode_json
from collector.answers.retention import with_archived
from collector.answers.rights import ReadRights
from collector.answers.span_detail import span_detail
from collector.answers.trace_source import FoundTrace, Unanswered
from collector.spans.summary import summarise
from collector.spans.summary_models import RowsOfSpans, ScoreRow

TRACE_ID = re.compile(r"(?:tr-)?([0-9a-f]{32})", re.IGNORECASE)

# where the content of a trace (32 hex digits) is; None: it isn't archived
Where = Callable[[str], Awaitable[dict[str, Any] | None]]
# the explanation (explain.py) of the spans of a trace (its 16 bytes) in an export, which it changes
Explain = Callable[[ExportTraceServiceRequest, bytes], dict[str, object]]

# what is wanted of the spans of a trace (its 16 bytes) in an export, which it may change
Reads = Callable[[ExportTraceServiceRequest, bytes], Mapping[str, object] | None]


class ReadsTraces(Protocol):
    """Where traces are read from; `TraceSource` is one."""

    async def export(self, trace_id: str) -> ExportTraceServiceRequest | Unanswered | None:
        """The trace's spans; None and Unanswered as in `read`."""

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        """The trace; None: nobody knows it; Unanswered: it can't be told at this moment."""


class ReadsIndex(Protocol):
    """The index; `IndexedTraces` is one. Answers are summaries as JSON."""

    async def whole(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None
    ) -> bytes | None:
        """The trace, if the index is sure to have all of it."""

    async def anything(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None, why: str
    ) -> bytes | None:
        """What the index has of it, where nobody else has more."""

    async def scores(self, trace_id: str, *, experiments: Sequence[str] | None) -> Sequence[ScoreRow]:
        """The scores that it has of the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnswers:
    """Answers on one trace. `delivered` knows only what MLflow has: for clients that may not see the rest."""

    everything: ReadsTraces
    delivered: ReadsTraces
    explain: Explain
    index: ReadsIndex | None = None
    where: Where | None = None

    async def summary(
        self, trace_id: str, rows: RowsOfSpans, *, rights: ReadRights
    ) -> EncodedJson | Unanswered | None:
        """The summary of a trace (32 hex digits, lower case) with `rows` of its spans.

        Of an archived trace it says where the content is (`archived`). None: nobody knows the trace.
        Unanswered: the journal doesn't, and MLflow can't be asked.
        """
        found = await self._summary(trace_id, rows, rights)
        if self.where is None or found is None or isinstance(found, Unanswered):
            return found
        return with_archived(found, await self.where(trace_id))

    async def _summary(
        self, trace_id: str, rows: RowsOfSpans, rights: ReadRights
    ) -> EncodedJson | Unanswered | None:
        experiments = rights.experiment_ids
        if self.index is not None:
            indexed = await self.index.whole(trace_id, rows, experiments=experiments)
            if indexed is not None:
                return EncodedJson(indexed)
        found = await self._source(rights).read(trace_id)
        if isinstance(found, FoundTrace):
            known = await self.index.scores(trace_id, experiments=experiments) if self.index else ()
            return await asyncio.to_thread(_summary, found, rows, known or found.scores)
        if self.index is not None:
            indexed = await self.index.anything(
                trace_id, rows, experiments=experiments, why=_why_incomplete(found)
            )
            if indexed is not None:
                return EncodedJson(indexed)
        return found

    async def explanation(self, trace_id: str, *, rights: ReadRights) -> EncodedJson | Unanswered | None:
        """Where the facts of a trace come from (explain.py). None and Unanswered as in `summary`."""
        return await self._read(trace_id, rights, self.explain)

    async def content(
        self, trace_id: str, wanted: Extract, *, rights: ReadRights
    ) -> EncodedJson | Unanswered | None:
        """Inputs and outputs of the spans of a trace (content.py). None and Unanswered as in `summary`."""
        return await self._read(trace_id, rights, lambda export, id: content(export, id, wanted))

    async def conversation(
        self, trace_id: str, wanted: ConversationPage, *, rights: ReadRights
    ) -> EncodedJson | Unanswered | None:
        """What was asked, done and answered in a trace (conversation.py).

        None and Unanswered as in `summary`.
        """
        return await self._read(trace_id, rights, lambda export, id: conversation(export, id, wanted))

    async def span(
        self, trace_id: str, span_id: str, bounds: ChatBounds, *, rights: ReadRights
    ) -> EncodedJson | Unanswered | None:
        """Everything that one span (16 hex digits) says (span_detail.py).

        None: nobody knows the trace, or it has no such span. Unanswered as in `summary`.
        """
        wanted = bytes.fromhex(span_id)
        return await self._read(trace_id, rights, lambda export, id: span_detail(export, id, wanted, bounds))

    async def _read(self, trace_id: str, rights: ReadRights, read: Reads) -> EncodedJson | Unanswered | None:
        export = await self._source(rights).export(trace_id)
        if isinstance(export, ExportTraceServiceRequest):
            return await asyncio.to_thread(_encoded, export, bytes.fromhex(trace_id), read)
        return export

    def _source(self, rights: ReadRights) -> ReadsTraces:
        return self.everything if rights.pending else self.delivered


def parse_trace_id(text: str) -> str | None:
    """32 lower-case hex digits from what people copy, with `tr-` or capitals; None if it is no trace id."""
    match = TRACE_ID.fullmatch(text.strip())
    return match.group(1).lower() if match else None


def _why_incomplete(unanswered: Unanswered | None) -> str:
    if unanswered is None:
        return "MLflow does not have this trace"
    return f"MLflow could not be queried: {unanswered.reason}"


def _encoded(export: ExportTraceServiceRequest, trace_id: bytes, read: Reads) -> EncodedJson | None:
    document = read(export, trace_id)
    return None if document is None else encode_json(document)


def _summary(found: FoundTrace, rows: RowsOfSpans, scores: Sequence[ScoreRow]) -> EncodedJson:
    summary = summarise(
        found.spans,
        trace_id=found.trace_id,
        experiment_id=found.experiment_id,
        experiment_name=found.experiment_name,
        incomplete=found.incomplete,
        labels=found.labels,
        max_spans=rows.most,
    )
    return encode_json(replace(summary, scores=tuple(scores)).to_json(omit_empty=rows.omit_empty))
