"""Asking Sidespan, and telling it things: does a span arrive, where is a trace shown, what was it worth."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from instrumentation.context import current_trace_id, labels_of
from instrumentation.handle import Instrumentation, current, open_wire
from instrumentation.settings import TRACES_PATH

# what an answer to an export says to somebody who sets things up
ADVICE = {
    None: "no server answers there: start Sidespan (`sidespan up`), or give another endpoint",
    400: "the server there does not accept OTLP traces: is it Sidespan?",
    401: "credentials are missing or wrong: give token, or set SIDESPAN_TOKEN",
    403: "this client may not send traces there",
    404: "it has no such path or experiment: check the endpoint and the experiment",
    413: "it refuses a request of one span: check its limits",
    415: "it does not accept protobuf",
    429: "it is busy at the moment",
    503: "it can't store anything at the moment: see its /-/ready",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether a span arrived; if not, why and what to do. `trace_id` is the span's (32 hex digits)."""

    ok: bool
    reason: str
    trace_id: str

    def __bool__(self) -> bool:
        return self.ok


def check() -> Check:
    """Send one span named `sidespan check` now, and say whether it was taken. Never raises for an endpoint.

    Raises RuntimeError before `configure`.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    handle = current()
    maker = TracerProvider(resource=handle.provider.resource, sampler=ALWAYS_ON, shutdown_on_exit=False)
    span = maker.get_tracer("sidespan").start_span("sidespan check")
    span.end()
    trace_id = f"{span.get_span_context().trace_id:032x}"
    wire = open_wire(handle.endpoint, handle.headers, None)
    try:
        refused, later = wire.send([span])  # type: ignore[list-item]
        status, said = wire.status, wire.reason
    finally:
        wire.give_up()
        wire.close()
    if not refused and not later:
        return Check(ok=True, reason=f"{handle.endpoint} has accepted it", trace_id=trace_id)
    advice = ADVICE.get(status, "it refuses the span")
    return Check(ok=False, reason=f"{handle.endpoint}: {said}; {advice}", trace_id=trace_id)


def trace_url(trace_id: str | None = None) -> str | None:
    """Where a person looks at a trace (None: the one that this code runs in): its page at Sidespan.

    The page links to MLflow's UI. None outside of any trace. Raises RuntimeError before `configure`.
    """
    trace_id = trace_id or current_trace_id()
    return None if trace_id is None else f"{_base(current())}/-/#trace={quote(_plain_id(trace_id), safe='')}"


def feedback(
    trace_id: str,
    name: str,
    value: float | int | bool | str | list[Any] | dict[str, Any],
    *,
    rationale: str | None = None,
    source: str | None = None,
    span_id: str | None = None,
    timeout_seconds: float = 10.0,
) -> str:
    """Record what somebody thinks of a trace, as an MLflow assessment; the identifier that it carries.

    It goes the way of spans: an endpoint that is away delays it, and where its trace isn't in MLflow yet it
    waits in Sidespan. `source`: who says so (else the user of the block this runs in, else "user"). `span_id`
    names one span of the trace. Waits up to `timeout_seconds` until it is sent; later it goes in the
    background. Raises RuntimeError before `configure`, where log records are switched off or refused.
    """
    from opentelemetry._logs import LogRecord

    handle = current()
    pipeline, provider = handle._log_pipeline, handle.logger_provider
    if pipeline is None or provider is None:
        raise RuntimeError("feedback is a log record, and they are switched off here: configure(logs=True)")
    identifier = uuid.uuid4().hex
    said: dict[str, Any] = {
        "gen_ai.evaluation.name": name,
        "sidespan.evaluation.source_type": "HUMAN",
        "sidespan.evaluation.source_id": source or labels_of().user or "user",
        "sidespan.evaluation.identifier": identifier,
        **_score(value),
        **({} if rationale is None else {"gen_ai.evaluation.explanation": rationale}),
    }
    now_ns = time.time_ns()
    refused_before = pipeline.refused
    provider.get_logger("sidespan").emit(
        LogRecord(
            timestamp=now_ns,
            observed_timestamp=now_ns,
            context=_context_of(_plain_id(trace_id), span_id),
            attributes=said,
            event_name="gen_ai.evaluation.result",
        )
    )
    handle.flush(timeout_seconds)
    if pipeline.refused > refused_before:
        raise RuntimeError(f"feedback on trace {_plain_id(trace_id)} was refused: {pipeline.reason}")
    return identifier


def _score(value: Any) -> dict[str, Any]:
    """The value in the words of the event of an evaluation; exactly, where they have none for it."""
    if isinstance(value, str):
        return {"gen_ai.evaluation.score.label": value}
    exact = {"sidespan.evaluation.value": json.dumps(value, ensure_ascii=False)}
    if isinstance(value, bool):
        said = {"gen_ai.evaluation.score.label": "pass" if value else "fail"}
        return exact | said | {"gen_ai.evaluation.score.value": float(value)}
    return (
        exact | {"gen_ai.evaluation.score.value": float(value)} if isinstance(value, int | float) else exact
    )


def _context_of(trace_id: str, span_id: str | None) -> Any:
    """A context whose current span has these ids. Raises ValueError if they are none."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    flags = TraceFlags(TraceFlags.SAMPLED)
    ids = int(trace_id, 16), int(span_id, 16) if span_id else 0
    return set_span_in_context(NonRecordingSpan(SpanContext(*ids, is_remote=True, trace_flags=flags)))


def _base(handle: Instrumentation) -> str:
    return handle.endpoint.removesuffix(TRACES_PATH)


def _plain_id(trace_id: str) -> str:
    return trace_id.strip().lower().removeprefix("tr-")
