"""Asking Sidespan, and telling it things: does a span arrive, where is a trace shown, what was it worth."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from instrumentation.context import current_trace_id, labels_of
from instrumentation.handle import Instrumentation, current, open_wire
from instrumentation.settings import TRACES_PATH

ASSESSMENTS = "/api/3.0/mlflow/traces/tr-{trace_id}/assessments"
# a trace is delivered a moment after it ended
PAUSE_SECONDS = 0.25

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
    timeout_seconds: float = 10.0,
) -> str:
    """Record what somebody thinks of a trace, as an MLflow assessment; its id.

    `source`: who says so (else the user of the block this runs in, else "user"). Waits up to
    `timeout_seconds` for the trace to be in MLflow. Raises RuntimeError if it can't be recorded, with what
    Sidespan or MLflow says. Source: POST /api/3.0/mlflow/traces/{trace_id}/assessments.
    """
    handle = current()
    handle.flush(timeout_seconds)
    plain = _plain_id(trace_id)
    document = {
        "assessment": {
            "assessment_name": name,
            "trace_id": f"tr-{plain}",
            "source": {"source_type": "HUMAN", "source_id": source or labels_of().user or "user"},
            "feedback": {"value": value},
            **({"rationale": rationale} if rationale is not None else {}),
        }
    }
    deadline = time.monotonic() + timeout_seconds
    while True:
        status, answer = _post(handle, ASSESSMENTS.format(trace_id=plain), document)
        if status == 200:
            return str(answer.get("assessment", {}).get("assessment_id", ""))
        if status != 404 or time.monotonic() > deadline:
            said = answer.get("message") or answer.get("error") or "no answer"
            raise RuntimeError(f"feedback on trace {plain} could not be recorded ({status}): {said}")
        time.sleep(PAUSE_SECONDS)


def _post(handle: Instrumentation, path: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer; 0 if nobody answered."""
    headers = {"content-type": "application/json"}
    headers |= {key: value for key, value in handle.headers.items() if key == "authorization"}
    request = urllib.request.Request(
        _base(handle) + path, data=json.dumps(document).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, _object(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _object(error.read())
    except OSError as error:
        return 0, {"message": f"{_base(handle)} can't be reached: {error}"}


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _base(handle: Instrumentation) -> str:
    return handle.endpoint.removesuffix(TRACES_PATH)


def _plain_id(trace_id: str) -> str:
    return trace_id.strip().lower().removeprefix("tr-")
