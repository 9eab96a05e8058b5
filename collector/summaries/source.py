"""Where one trace's spans are: in the journal until they are delivered, in MLflow from then on.

    journal first, MLflow second: a span that is delivered in between is found twice rather than not at all
    the journal's copy of a span wins: it is what the client sent

MLflow not answering makes an answer incomplete, never an error: what the journal holds is told, and why
there may be more.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.batch import Route
from collector.index.facts import SpanFacts, export_facts
from collector.summaries.mlflow_answer import MlflowTrace, read_trace

TRACE_PATH = "/api/3.0/mlflow/traces/get"
EXPERIMENT_PATH = "/api/2.0/mlflow/experiments/get"
CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """MLflow's answer, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Why there is no answer from MLflow that could be used."""

    reason: str


Get = Callable[[str, Mapping[str, str]], Awaitable[Answered | Unanswered]]
"""Asks MLflow for a path with a query; see `mlflow_get`."""
Pending = Callable[[bytes], Awaitable[Sequence[bytes]]]
"""The export requests (protobuf) in the journal that hold spans of a trace, given its 16 bytes."""
RouteOf = Callable[[bytes], Awaitable[Route | None]]
"""Where the journal's spans of a trace are bound for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrace:
    """The spans of a trace that could be found; `incomplete` says why there may be more."""

    trace_id: str
    spans: Sequence[SpanFacts]
    experiment_id: str | None = None
    experiment_name: str | None = None
    incomplete: str | None = None


async def _no_route(_: bytes) -> Route | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """Reads one trace from wherever its spans are. Safe to use from many tasks at once."""

    pending: Pending
    get: Get
    route_of: RouteOf = field(default=_no_route)

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        """The trace with this id (32 hex digits, lower case).

        None: nobody knows it. Unanswered: the journal doesn't, and MLflow can't be asked.
        """
        id_bytes = bytes.fromhex(trace_id)
        waiting = await asyncio.to_thread(_read_payloads, await self.pending(id_bytes), id_bytes)
        route = await self.route_of(id_bytes) if waiting else None
        stored = await self._ask(trace_id)
        if not waiting and not isinstance(stored, MlflowTrace):
            return stored
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
            incomplete=_incomplete(stored, spans),
        )

    async def _ask(self, trace_id: str) -> MlflowTrace | Unanswered | None:
        """MLflow's trace; None if MLflow is certain to have none."""
        # allow_partial: MLflow would wait 3 s for missing spans, and then know nothing
        answer = await self.get(TRACE_PATH, {"trace_id": f"tr-{trace_id}", "allow_partial": "true"})
        match answer:
            case Unanswered():
                return answer
            case Answered(status=200, body=body):
                try:
                    return await asyncio.to_thread(read_trace, body)
                except ValueError:
                    return Unanswered(reason="its answer can't be read")
            case Answered(status=404, body=body) if _is_unknown(body):
                return None
            case Answered(status=status):
                return Unanswered(reason=f"it answered with status {status}")

    async def _experiment_name(self, experiment_id: str) -> str | None:
        match await self.get(EXPERIMENT_PATH, {"experiment_id": experiment_id}):
            case Answered(status=200, body=body):
                try:
                    name = json.loads(body)["experiment"]["name"]
                except (ValueError, KeyError, TypeError):
                    return None
                return name if isinstance(name, str) else None
            case _:
                return None


def mlflow_get(
    session: aiohttp.ClientSession,
    base_url: str,
    *,
    timeout_seconds: float = 10.0,
    limit_bytes: int = 64 * 1024 * 1024,
) -> Get:
    """A `Get` over `session`, which brings what MLflow wants of headers, credentials and certificates.

    An answer of more than `limit_bytes`, or later than `timeout_seconds`, counts as none.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def get(path: str, query: Mapping[str, str]) -> Answered | Unanswered:
        url = base_url.rstrip("/") + path
        try:
            async with session.get(url, params=query, timeout=timeout, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    body += chunk
                    if len(body) > limit_bytes:
                        return Unanswered(reason=f"its answer is larger than {limit_bytes} bytes")
                return Answered(status=response.status, body=bytes(body))
        except TimeoutError:
            return Unanswered(reason=f"no answer within {timeout_seconds:g} s")
        except aiohttp.ClientConnectorError:
            return Unanswered(reason="no connection")
        except (aiohttp.ClientError, OSError) as error:
            return Unanswered(reason=f"the connection failed ({type(error).__name__})")

    return get


def _read_payloads(payloads: Iterable[bytes], trace_id: bytes) -> list[SpanFacts]:
    return [
        span
        for payload in payloads
        for span in export_facts(ExportTraceServiceRequest.FromString(payload), trace_id=trace_id)
    ]


def _merged(waiting: Sequence[SpanFacts], stored: Sequence[SpanFacts]) -> list[SpanFacts]:
    ids = {span.span_id for span in waiting}
    return [*waiting, *(span for span in stored if span.span_id not in ids)]


def _incomplete(stored: MlflowTrace | Unanswered | None, spans: Sequence[SpanFacts]) -> str | None:
    if isinstance(stored, Unanswered):
        return f"MLflow could not be asked: {stored.reason}"
    return None if spans else "MLflow knows this trace but holds none of its spans"


def _is_unknown(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["error_code"] == "RESOURCE_DOES_NOT_EXIST")
    except (ValueError, KeyError, TypeError):
        return False
