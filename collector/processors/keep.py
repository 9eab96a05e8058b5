"""Whole-trace sampling: what is known of a trace, and whether it is forwarded. Pure.

    spans -> TraceState (folded, in any order) -> decision -> note -> decision -> spans go or stay

    1. error         an error that is no recovered retry
    2. slow          longer than slower_than_seconds
    3. costly        more than costlier_than_usd
    4. session       a chosen session
    5. score         a chosen score
    6. sampled       one in N of the rest, by a hash of the trace id
       not_sampled   the others: dropped whole

Every fact of a state only grows, so more spans never turn a kept trace into a dropped one.
"""

import hashlib
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.model.faults import Faults
from collector.model.score_condition import ScoreCondition, score_condition
from collector.settings.keep import KeepSettings
from collector.spans.conventions import TABLE, ObservationKind
from collector.spans.facts import facts
from collector.spans.score_facts import ScoreFact, fact_of, record_fact
from collector.spans.scores import carries_scores, span_scores
from collector.spans.values import SpanFacts

# the tag of a kept trace in MLflow that says why: `sidespan.kept`
KEPT_ATTRIBUTE = "mlflow.traceTag.sidespan.kept"
MODEL_KINDS = frozenset({ObservationKind.LLM, ObservationKind.EMBEDDING})
PICO = 1_000_000_000_000
# with its tokens a call can be priced where the client has not done it
COST_KEYS = frozenset(
    source.key
    for fact in ("cost_usd", "input_tokens", "output_tokens", "total_tokens")
    for source in TABLE[fact]
)
SESSION_KEYS = frozenset(source.key for source in TABLE["session"])


class KeepReason(StrEnum):
    """Why a trace is kept or dropped."""

    ERROR = "error"
    SLOW = "slow"
    COSTLY = "costly"
    SESSION = "session"
    SCORE = "score"
    SAMPLED = "sampled"
    UNREADABLE = "unreadable"
    """Its spans could not be judged: kept."""
    NOT_SAMPLED = "not_sampled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDecision:
    """What becomes of a whole trace."""

    reason: KeepReason

    @property
    def kept(self) -> bool:
        """Whether the trace is forwarded."""
        return self.reason is not KeepReason.NOT_SAMPLED


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceState:
    """What has been seen of a trace. Times are nanoseconds since 1970, 0 where there was none.

    Costs are whole picodollars, so that their sum doesn't depend on the order.
    """

    first_received_unix_ns: int = 0
    start_unix_ns: int = 0
    end_unix_ns: int = 0
    model_cost_pico_usd: int = 0
    largest_cost_pico_usd: int = 0
    has_error: bool = False
    has_chosen_session: bool = False
    has_chosen_score: bool = False
    has_root: bool = False

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return (self.end_unix_ns - self.start_unix_ns) / 1e9

    @property
    def cost_usd(self) -> float:
        """The sum over model calls, or what another span says of the whole, if that is more.

        A call that is reported by two spans counts twice: it may keep a trace, never drop one.
        """
        return max(self.model_cost_pico_usd, self.largest_cost_pico_usd) / PICO


def of_span(span: SpanFacts, *, received_unix_ns: int, settings: KeepSettings) -> TraceState:
    """What one span alone says of its trace."""
    cost = round((span.cost_usd or 0.0) * PICO)
    return TraceState(
        first_received_unix_ns=received_unix_ns,
        start_unix_ns=span.start_unix_ns,
        end_unix_ns=span.end_unix_ns,
        model_cost_pico_usd=cost if span.kind in MODEL_KINDS else 0,
        largest_cost_pico_usd=cost,
        has_error=span.is_error and not span.is_recovered_retry,
        has_chosen_session=_is_chosen(span.session, settings),
        has_root=span.parent_span_id is None,
    )


def merged(one: TraceState, other: TraceState) -> TraceState:
    """What both have seen; the order doesn't matter."""
    return TraceState(
        first_received_unix_ns=_earlier(one.first_received_unix_ns, other.first_received_unix_ns),
        start_unix_ns=_earlier(one.start_unix_ns, other.start_unix_ns),
        end_unix_ns=max(one.end_unix_ns, other.end_unix_ns),
        model_cost_pico_usd=one.model_cost_pico_usd + other.model_cost_pico_usd,
        largest_cost_pico_usd=max(one.largest_cost_pico_usd, other.largest_cost_pico_usd),
        has_error=one.has_error or other.has_error,
        has_chosen_session=one.has_chosen_session or other.has_chosen_session,
        has_chosen_score=one.has_chosen_score or other.has_chosen_score,
        has_root=one.has_root or other.has_root,
    )


def _earlier(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def _is_chosen(session: str | None, settings: KeepSettings) -> bool:
    return session is not None and any(fnmatchcase(session, glob) for glob in settings.sessions)


def fold(
    payload: bytes, *, received_unix_ns: int, settings: KeepSettings, faults: Faults | None = None
) -> dict[bytes, TraceState]:
    """What the spans of one entry say, by trace id. `payload`: an ExportTraceServiceRequest.

    A trace with a span that a bug keeps from being judged is left out: nothing is known that could drop it.
    """
    keys, judge = _keys(settings), settings.scores and carries_scores(payload)
    states: dict[bytes, TraceState] = {}
    unknown: set[bytes] = set()
    for resource_spans in ExportTraceServiceRequest.FromString(payload).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                try:
                    state = _judged(span, keys, received_unix_ns, settings)
                    if judge and _any_chosen(map(fact_of, span_scores(span)), settings):
                        state = replace(state, has_chosen_score=True)
                except Exception as error:
                    if faults is None:
                        raise
                    faults.add(error)
                    unknown.add(span.trace_id)
                    continue
                before = states.get(span.trace_id)
                states[span.trace_id] = merged(before, state) if before is not None else state
    return {trace_id: state for trace_id, state in states.items() if trace_id not in unknown}


def fold_scores(payload: bytes, *, received_unix_ns: int, settings: KeepSettings) -> dict[bytes, TraceState]:
    """The traces that log records give a chosen score. `payload`: an ExportLogsServiceRequest."""
    chosen = {
        fact.trace_id
        for resource_logs in ExportLogsServiceRequest.FromString(payload).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
        if (fact := record_fact(record, received_unix_ns=received_unix_ns)) and _any_chosen([fact], settings)
    }
    state = TraceState(first_received_unix_ns=received_unix_ns, has_chosen_score=True)
    return {bytes.fromhex(trace_id): state for trace_id in chosen}


def _any_chosen(scores: Iterable[ScoreFact | None], settings: KeepSettings) -> bool:
    conditions = _conditions(settings.scores)
    return any(
        condition.holds(score.name, score.value, score.label)
        for score in scores
        if score is not None
        for condition in conditions
    )


@lru_cache(maxsize=16)
def _conditions(texts: tuple[str, ...]) -> Sequence[ScoreCondition]:
    return [score_condition(text) for text in texts]


def _judged(span: Span, keys: frozenset[str], received_unix_ns: int, settings: KeepSettings) -> TraceState:
    if span.status.code == Status.STATUS_CODE_ERROR or _has_any(span, keys):
        return of_span(facts(span, {}), received_unix_ns=received_unix_ns, settings=settings)
    return _plain(span, received_unix_ns=received_unix_ns)


def _keys(settings: KeepSettings) -> frozenset[str]:
    """Attributes without which a span says nothing of cost and session; all facts take far longer."""
    costs = COST_KEYS if settings.costlier_than_usd is not None else frozenset()
    return costs | SESSION_KEYS if settings.sessions else costs


def _has_any(span: Span, keys: frozenset[str]) -> bool:
    return bool(keys) and any(attribute.key in keys for attribute in span.attributes)


def _plain(span: Span, *, received_unix_ns: int) -> TraceState:
    """What a span says that has neither failed nor any of the attributes."""
    start = span.start_time_unix_nano or span.end_time_unix_nano
    return TraceState(
        first_received_unix_ns=received_unix_ns,
        start_unix_ns=start,
        end_unix_ns=max(start, span.end_time_unix_nano),
        has_root=not span.parent_span_id,
    )


def decide(trace_id: bytes, state: TraceState, settings: KeepSettings) -> SamplingDecision:
    """Whether a trace is forwarded; the first condition that holds is the reason."""
    slow, costly = settings.slower_than_seconds, settings.costlier_than_usd
    conditions = (
        (KeepReason.ERROR, settings.errors and state.has_error),
        (KeepReason.SLOW, slow is not None and state.seconds > slow),
        (KeepReason.COSTLY, costly is not None and state.cost_usd > costly),
        (KeepReason.SESSION, state.has_chosen_session),
        (KeepReason.SCORE, state.has_chosen_score),
        (KeepReason.SAMPLED, is_one_in(trace_id, settings.one_in)),
    )
    return SamplingDecision(
        reason=next((reason for reason, holds in conditions if holds), KeepReason.NOT_SAMPLED)
    )


def is_one_in(trace_id: bytes, n: int) -> bool:
    """Whether the id is among one in `n`. Who is among one in 10 is also among one in 5.

    By a hash, because not every client makes its ids at random (W3C Trace Context only asks for it).
    """
    number = int.from_bytes(hashlib.blake2b(trace_id, digest_size=8).digest(), "big")
    return number * n < 2**64


def due_in_seconds(state: TraceState, *, now_unix_ns: int, wait_seconds: float) -> float:
    """How much longer to wait for the rest of a trace; at most `wait_seconds`, wherever the clock went."""
    age_seconds = (now_unix_ns - state.first_received_unix_ns) / 1e9
    return min(max(0.0, wait_seconds - age_seconds), wait_seconds)


def note_of(decision: SamplingDecision) -> bytes:
    """The decision as the journal remembers it."""
    return decision.reason.value.encode()


def decision_of(note: bytes) -> SamplingDecision:
    """Undo `note_of`. What can't be read, as a reason of a later version, keeps the trace."""
    try:
        return SamplingDecision(reason=KeepReason(note.decode()))
    except ValueError:
        return SamplingDecision(reason=KeepReason.UNREADABLE)


def apply(export: ExportTraceServiceRequest, decisions: Mapping[bytes, SamplingDecision]) -> int:
    """Remove the spans of dropped traces from `export`; how many. Roots of kept ones get the reason.

    A trace without a decision stays as it is.
    """
    removed = 0
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            removed += _apply(scope_spans.spans, decisions)
    if removed:
        for resource_spans in export.resource_spans:
            _remove(resource_spans.scope_spans, [not scope.spans for scope in resource_spans.scope_spans])
        _remove(export.resource_spans, [not resource.scope_spans for resource in export.resource_spans])
    return removed


def _apply(spans: MutableSequence[Span], decisions: Mapping[bytes, SamplingDecision]) -> int:
    found = [decisions.get(span.trace_id) for span in spans]
    for span, decision in zip(spans, found, strict=True):
        if decision is not None and decision.kept and not span.parent_span_id:
            _tag(span, decision.reason)
    return _remove(spans, [decision is not None and not decision.kept for decision in found])


def _tag(root: Span, reason: KeepReason) -> None:
    for attribute in root.attributes:
        if attribute.key == KEPT_ATTRIBUTE:
            attribute.value.string_value = reason
            return
    root.attributes.add(key=KEPT_ATTRIBUTE).value.string_value = reason


def _remove(items: MutableSequence[Any], goes: list[bool]) -> int:
    """Take out the items whose mark is set; from behind, because the places of the others move."""
    marked = [place for place, marked in enumerate(goes) if marked]
    if len(marked) == len(goes):
        del items[:]
        return len(marked)
    for place in reversed(marked):
        del items[place]
    return len(marked)
