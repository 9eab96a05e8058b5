"""Dead letters, and delivery again: for those who run the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.journal import Consumer, DeadLetters
from collector.model.batch import DeadLetter, Route, Signal, signal_of
from collector.model.parameters import BadParameter
from collector.settings import MLFLOW

DROPPED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """One consumer that brings data to `target`, and what was refused to it for good."""

    target: str
    consumer: Consumer
    letters: DeadLetters


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterAnswers:
    """What targets refused for good. Ids are unique among all consumers.

    `target` is the name of one, "mlflow" or another backend's; None: all of them. An unknown one raises
    BadParameter.
    """

    consumers: Sequence[Refusals]

    async def page(self, *, limit: int, after: int, target: str | None = None) -> dict[str, Any]:
        """{"dead_letters": those with an id over `after`, oldest first, "total": how many there are}."""
        consumers = self._of(target)
        found = [
            letter_json(letter, target=each.target)
            for each in consumers
            for letter in await each.letters.list(limit=limit, after=after)
        ]
        found.sort(key=lambda letter: int(letter["id"]))
        total = sum([(await each.consumer.state()).dead_letters for each in consumers])
        return {"dead_letters": found[:limit], "total": total}

    async def one(self, id: int) -> tuple[DeadLetter, str] | None:
        """One with its payload, and its target; None: there is none with this id."""
        found = [(await each.letters.one(id), each.target) for each in self.consumers]
        return next(((letter, target) for letter, target in found if letter is not None), None)

    async def retry(self, ids: Sequence[int] | None, *, target: str | None = None) -> int:
        """Put them (None: all) back into the journal, to be delivered again; how many there were."""
        return sum([await each.letters.retry(ids) for each in self._of(target)])

    async def drop(self, ids: Sequence[int] | None, *, target: str | None = None) -> int:
        """Delete them (None: all) for good; how many there were."""
        return sum([await _drop(each.letters, ids) for each in self._of(target)])

    async def replay(self, *, since_unix_ns: int, target: str = MLFLOW) -> int:
        """Deliver again what the journal still holds of what it received since then; how many entries."""
        return sum([await each.consumer.replay(since_unix_ns=since_unix_ns) for each in self._of(target)])

    def _of(self, target: str | None) -> Sequence[Refusals]:
        found = [each for each in self.consumers if target in (None, each.target)]
        if not found:
            known = ", ".join(dict.fromkeys(each.target for each in self.consumers))
            raise BadParameter("target", target, f"must be one of {known}")
        return found


async def _drop(letters: DeadLetters, ids: Sequence[int] | None) -> int:
    if ids is not None:
        return await letters.drop(ids)
    dropped = 0
    while page := await letters.list(limit=DROPPED_AT_ONCE):
        dropped += await letters.drop([letter.id for letter in page])
    return dropped


def letter_json(letter: DeadLetter, *, target: str) -> dict[str, Any]:
    """A dead letter without its spans or log records; `span_count` counts either."""
    return {
        "id": letter.id,
        "target": target,
        "consumer": letter.consumer,
        "signal": signal_of(letter.lane).value,
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


def export_json(letter: DeadLetter) -> dict[str, Any] | None:
    """What a dead letter holds as OTLP JSON: ids in hex (OTLP 1.11, "JSON Protobuf Encoding").

    None: it is no export, which a message of another program's topic may be.
    """
    is_logs = signal_of(letter.lane) is Signal.LOGS
    try:
        return _logs_json(letter.payload) if is_logs else _spans_json(letter.payload)
    except DecodeError:
        return None


def _logs_json(payload: bytes) -> dict[str, Any]:
    export = ExportLogsServiceRequest.FromString(payload)
    document: dict[str, Any] = json_format.MessageToDict(export, use_integers_for_enums=True)
    for of_resource, shown_resource in zip(
        export.resource_logs, document.get("resourceLogs", []), strict=True
    ):
        for of_scope, shown_scope in zip(
            of_resource.scope_logs, shown_resource.get("scopeLogs", []), strict=True
        ):
            for record, shown in zip(of_scope.log_records, shown_scope.get("logRecords", []), strict=True):
                _put_hex_ids(record, shown)
    return document


def _spans_json(payload: bytes) -> dict[str, Any]:
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
