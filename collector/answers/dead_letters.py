"""Dead letters, and delivery again: for those who run the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal import Consumer, DeadLetters
from collector.model.batch import DeadLetter, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterAnswers:
    """What the target of one consumer refused for good."""

    consumer: Consumer
    letters: DeadLetters

    async def page(self, *, limit: int, after: int) -> dict[str, Any]:
        """{"dead_letters": those with an id over `after`, oldest first, "total": how many there are}."""
        letters = await self.letters.list(limit=limit, after=after)
        state = await self.consumer.state()
        return {"dead_letters": [letter_json(letter) for letter in letters], "total": state.dead_letters}

    async def one(self, id: int) -> DeadLetter | None:
        """One with its payload; None: there is none with this id."""
        return await self.letters.one(id)

    async def retry(self, ids: Sequence[int] | None) -> int:
        """Put them (None: all) back into the journal, to be delivered again; how many there were."""
        return await self.letters.retry(ids)

    async def drop(self, ids: Sequence[int]) -> int:
        """Delete them for good; how many there were."""
        return await self.letters.drop(ids)

    async def replay(self, *, since_unix_ns: int) -> int:
        """Deliver again what the journal still holds of what it received since then; how many entries."""
        return await self.consumer.replay(since_unix_ns=since_unix_ns)


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter without its spans."""
    return {
        "id": letter.id,
        "consumer": letter.consumer,
        "parked_unix_ns": letter.parked_unix_ns,
        "received_unix_ns": letter.received_unix_ns,
        "reason": letter.reason,
        "message": letter.message,
        "span_count": letter.span_count,
        "size_bytes": letter.size_bytes,
        "client": letter.client,
        "route": Route.from_lane(letter.lane).to_json(),
        "trace_ids": sorted(trace_id.hex() for trace_id in letter.trace_ids),
    }


def export_json(payload: bytes) -> dict[str, Any]:
    """An export as OTLP JSON: ids in hex (OTLP 1.11, "JSON Protobuf Encoding")."""
    export = ExportTraceServiceRequest.FromString(payload)
    document: dict[str, Any] = json_format.MessageToDict(export, use_integers_for_enums=True)
    for resource_spans, shown_resource in zip(
        export.resource_spans, document.get("resourceSpans", []), strict=True
    ):
        for scope_spans, shown_scope in zip(
            resource_spans.scope_spans, shown_resource.get("scopeSpans", []), strict=True
        ):
            for span, shown in zip(scope_spans.spans, shown_scope.get("spans", []), strict=True):
                _put_hex_ids(span, shown)
                for link, shown_link in zip(span.links, shown.get("links", []), strict=True):
                    _put_hex_ids(link, shown_link)
    return document


def _put_hex_ids(message: Any, shown: dict[str, Any]) -> None:
    names = (("trace_id", "traceId"), ("span_id", "spanId"), ("parent_span_id", "parentSpanId"))
    for field, key in names:
        if key in shown:
            shown[key] = getattr(message, field).hex()
