"""GET /-/traces/{trace_id}: one trace, summarised; /explanation: where its facts come from. Thin.

    200   the summary (models.py), the explanation (explain.py)
    400   the id or a parameter can't be right
    404   nobody knows the trace
    503   it isn't in the journal, and MLflow can't be asked: try again

The index is asked first: it answers in milliseconds, if it is sure to have all of the trace.

Errors have one form: {"error": {"parameter": …, "value": …, "message": …}}.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.answers.rights import DELIVERED_ONLY, visible
from collector.answers.trace_source import FoundTrace, Unanswered
from collector.model.parameters import error_answer
from collector.spans.summary import MAX_SPANS, summarise

TRACE_ID = re.compile(r"(?:tr-)?([0-9a-f]{32})", re.IGNORECASE)
MOST_SPANS = 30_000

# what is told of the spans of a trace (its 16 bytes) and of what is done to them; uses the export up
Explain = Callable[[ExportTraceServiceRequest, bytes], dict[str, object]]


class ReadsTraces(Protocol):
    """Where traces are read from; `TraceSource` is one."""

    async def export(self, trace_id: str) -> ExportTraceServiceRequest | Unanswered | None:
        """The trace's spans; None and Unanswered as in `read`."""

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        """The trace; None: nobody knows it; Unanswered: it can't be told at this moment."""


class ReadsIndex(Protocol):
    """The index; `IndexedTraces` is one. Answers are summaries as JSON."""

    async def whole(
        self, trace_id: str, *, max_spans: int, experiments: Sequence[str] | None
    ) -> bytes | None:
        """The trace, if the index is sure to have all of it."""

    async def anything(
        self, trace_id: str, *, max_spans: int, experiments: Sequence[str] | None, why: str
    ) -> bytes | None:
        """What the index has of it, where nobody else has more."""


def trace_routes(
    everything: ReadsTraces, delivered: ReadsTraces, explain: Explain, index: ReadsIndex | None = None
) -> list[Route]:
    """The routes of trace summaries and explanations.

    `delivered` knows only what MLflow has: it is asked where the request's scope has DELIVERED_ONLY.
    `index` is asked first, and last where nobody else knows the trace.
    """

    def source_for(request: Request) -> ReadsTraces:
        return delivered if request.scope.get(DELIVERED_ONLY) else everything

    async def trace(request: Request) -> Response:
        given = request.path_params["trace_id"]
        trace_id = normal_trace_id(given)
        if trace_id is None:
            return _no_trace_id(given)
        wanted = request.query_params.get("max_spans", str(MAX_SPANS))
        max_spans = _whole_number(wanted)
        if max_spans is None or max_spans > MOST_SPANS:
            return _error(400, "max_spans", wanted, f"a whole number from 0 to {MOST_SPANS} is allowed")
        allowed = visible(request)
        if index is not None:
            body = await index.whole(trace_id, max_spans=max_spans, experiments=allowed)
            if body is not None:
                return Response(body, media_type="application/json")
        answer = await source_for(request).read(trace_id)
        if index is not None and not isinstance(answer, FoundTrace):
            why = (
                f"MLflow could not be asked: {answer.reason}" if answer else "MLflow does not have this trace"
            )
            body = await index.anything(trace_id, max_spans=max_spans, experiments=allowed, why=why)
            if body is not None:
                return Response(body, media_type="application/json")
        match answer:
            case None:
                return _unknown(given)
            case Unanswered(reason=reason):
                return _unanswered(given, reason)
            case FoundTrace() as found:
                return JSONResponse(await asyncio.to_thread(_summary, found, max_spans))

    async def explanation(request: Request) -> Response:
        given = request.path_params["trace_id"]
        trace_id = normal_trace_id(given)
        if trace_id is None:
            return _no_trace_id(given)
        match await source_for(request).export(trace_id):
            case None:
                return _unknown(given)
            case Unanswered(reason=reason):
                return _unanswered(given, reason)
            case ExportTraceServiceRequest() as export:
                return JSONResponse(await asyncio.to_thread(explain, export, bytes.fromhex(trace_id)))

    return [
        Route("/-/traces/{trace_id}", trace, methods=["GET"], name="trace_summary"),
        Route("/-/traces/{trace_id}/explanation", explanation, methods=["GET"]),
    ]


def _no_trace_id(given: str) -> Response:
    return _error(400, "trace_id", given, "a trace id is 32 hex digits, with or without `tr-` in front")


def _unknown(given: str) -> Response:
    return _error(404, "trace_id", given, "neither the journal nor MLflow knows this trace")


def _unanswered(given: str, reason: str) -> Response:
    message = f"the journal has nothing of it, and MLflow could not be asked: {reason}"
    return _error(503, "trace_id", given, message)


def normal_trace_id(text: str) -> str | None:
    """32 lower-case hex digits from what people copy, with `tr-` or capitals; None if it is no trace id."""
    match = TRACE_ID.fullmatch(text.strip())
    return match.group(1).lower() if match else None


def _summary(found: FoundTrace, max_spans: int) -> dict[str, object]:
    summary = summarise(
        found.spans,
        trace_id=found.trace_id,
        experiment_id=found.experiment_id,
        experiment_name=found.experiment_name,
        incomplete=found.incomplete,
        max_spans=max_spans,
    )
    return summary.to_json()


def _whole_number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _error(status: int, parameter: str, value: str, message: str) -> Response:
    return error_answer(status, {"parameter": parameter, "value": value[:200], "message": message})
