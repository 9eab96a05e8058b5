"""The service's own paths for those who run it: health, metrics, dead letters, replay.

    GET  /-/healthy                   the process lives
    GET  /-/ready                     200 or 503, a reason for each part
    GET  /-/metrics                   Prometheus
    GET  /-/dead-letters              ?limit= &after=
    GET  /-/dead-letters/{id}         with its spans as OTLP JSON; ?format=protobuf for the bytes
    POST /-/dead-letters/retry        {"ids": [1, 2]} or {"all": true}
    POST /-/dead-letters/drop         {"ids": [1, 2]}
    POST /-/replay                    {"since_unix_ns": n}

Errors are {"error": {"parameter", "value", "message"}}.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as HttpRoute

from collector.answers.health import ReadHealth, age_seconds
from collector.api.access import UNKNOWN_CALLER
from collector.journal import Consumer, DeadLetters
from collector.model.batch import DeadLetter, Route
from collector.model.parameters import BadParameter, error_answer, read_object
from collector.telemetry.metrics import Metrics

MAX_LIMIT = 1000


def operations_routes(
    consumer: Consumer, dead_letters: DeadLetters, metrics: Metrics, read_health: ReadHealth
) -> list[HttpRoute]:
    """The routes above. `consumer` is delivery, `dead_letters` are its own."""

    async def healthy(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:
        health = await read_health()
        if request.scope.get(UNKNOWN_CALLER):  # a probe: reasons name addresses and files
            health = {"ready": health["ready"]}
        return JSONResponse(health, status_code=200 if health["ready"] else 503)

    async def show_metrics(request: Request) -> Response:
        state = await consumer.state()
        metrics.journal_bytes.set(state.size_bytes)
        metrics.pending_spans.set(state.pending_spans)
        metrics.oldest_pending.set(age_seconds(state))
        metrics.dead_letters.set(state.dead_letters)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def list_letters(request: Request) -> Response:
        limit = _integer(request, "limit", default=100, low=1, high=MAX_LIMIT)
        after = _integer(request, "after", default=0, low=0, high=2**62)
        letters = await dead_letters.list(limit=limit, after=after)
        state = await consumer.state()
        document = {"dead_letters": [letter_json(letter) for letter in letters], "total": state.dead_letters}
        return JSONResponse(document)

    async def show_letter(request: Request) -> Response:
        id = int(request.path_params["id"])
        letter = await dead_letters.one(id)
        if letter is None:
            return error_answer(404, {"parameter": "id", "value": id, "message": "no such dead letter"})
        if request.query_params.get("format") == "protobuf":
            return Response(letter.payload, media_type="application/x-protobuf")
        return JSONResponse(letter_json(letter) | {"export": export_json(letter.payload)})

    async def retry(request: Request) -> Response:
        document = await read_object(request)
        ids = None if document.get("all") is True else _ids(document)
        return JSONResponse({"retried": await dead_letters.retry(ids)})

    async def drop(request: Request) -> Response:
        return JSONResponse({"dropped": await dead_letters.drop(_ids(await read_object(request)))})

    async def replay(request: Request) -> Response:
        since = (await read_object(request)).get("since_unix_ns")
        if not isinstance(since, int) or isinstance(since, bool) or since < 0:
            raise BadParameter("since_unix_ns", since, "must be a time in nanoseconds since 1970")
        return JSONResponse({"replayed": await consumer.replay(since_unix_ns=since)})

    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/-/healthy", healthy),
        ("GET", "/-/ready", ready),
        ("GET", "/-/metrics", show_metrics),
        ("GET", "/-/dead-letters", list_letters),
        ("GET", "/-/dead-letters/{id:int}", show_letter),
        ("POST", "/-/dead-letters/retry", retry),
        ("POST", "/-/dead-letters/drop", drop),
        ("POST", "/-/replay", replay),
    ]
    return [HttpRoute(path, endpoint, methods=[method]) for method, path, endpoint in table]


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as the API and the CLI show it, without its spans."""
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


def _integer(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise BadParameter(name, text, f"must be an integer from {low} to {high}")
    return int(text)


def _ids(document: dict[str, Any]) -> list[int]:
    ids = document.get("ids")
    if not isinstance(ids, list) or not ids or not all(type(id) is int for id in ids):
        raise BadParameter("ids", ids, "must be a list of dead letter ids")
    return ids
