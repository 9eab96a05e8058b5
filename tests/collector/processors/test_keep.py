"""What whole-trace sampling knows of a trace, and what it decides."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import ValidationError

from collector.processors.keep import (
    KEPT_ATTRIBUTE,
    KeepReason,
    SamplingDecision,
    TraceState,
    apply,
    decide,
    decision_of,
    due_in_seconds,
    fold,
    is_one_in,
    merged,
    note_of,
    of_span,
)
from collector.settings.keep import KeepSettings
from collector.spans.facts import export_facts
from tests.support.otlp import DATA, all_spans
from tests.support.spans import SECOND, START, any_value, payload

FEW = 10**18  # one in so many: none
RECEIVED = START + 60 * SECOND
TRACE, OTHER = b"1" * 16, b"2" * 16
ERROR = Status(code=Status.STATUS_CODE_ERROR)
ROOT, CHILD = b"", b"r" * 8
LLM = {"gen_ai.operation.name": "chat"}


def span(
    attributes: dict[str, Any] | None = None,
    *,
    trace_id: bytes = TRACE,
    parent: bytes = ROOT,
    start: float = 0.0,
    seconds: float = 1.0,
    status: Status | None = None,
) -> Span:
    made = Span(
        trace_id=trace_id,
        span_id=b"s" * 8,
        parent_span_id=parent,
        name="span",
        start_time_unix_nano=START + int(start * SECOND),
        end_time_unix_nano=START + int((start + seconds) * SECOND),
        status=status,
    )
    for key, value in (attributes or {}).items():
        made.attributes.add(key=key, value=any_value(value))
    return made


def export(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return request


def settings(**values: Any) -> KeepSettings:
    return KeepSettings(**{"one_in": FEW} | values)


def judged(spans: list[Span], keep: KeepSettings, trace_id: bytes = TRACE) -> SamplingDecision:
    folded = fold(export(*spans).SerializeToString(), received_unix_ns=RECEIVED, settings=keep)
    return decide(trace_id, folded[trace_id], keep)


COST = "gen_ai.usage.cost"

CAPTURED = sorted(path.stem for path in DATA.glob("*.binpb"))
# without a condition on it the cost is read or not, as it comes
NO_COST: dict[str, Any] = {"model_cost_pico_usd": 0, "largest_cost_pico_usd": 0}

TABLE: dict[str, tuple[list[Span], dict[str, Any], KeepReason]] = {
    "drops what no condition keeps": ([span()], {}, KeepReason.NOT_SAMPLED),
    "keeps everything at one in one": ([span()], {"one_in": 1}, KeepReason.SAMPLED),
    "keeps an error": ([span(), span(parent=CHILD, status=ERROR)], {}, KeepReason.ERROR),
    "drops an error if it is told to": (
        [span(status=ERROR)],
        {"errors": False},
        KeepReason.NOT_SAMPLED,
    ),
    "keeps a slow trace": ([span(seconds=5)], {"slower_than_seconds": 4.9}, KeepReason.SLOW),
    "drops one that takes just the bound": (
        [span(seconds=5)],
        {"slower_than_seconds": 5},
        KeepReason.NOT_SAMPLED,
    ),
    "keeps a trace whose spans together are slow": (
        [span(seconds=1), span(parent=CHILD, start=3, seconds=1)],
        {"slower_than_seconds": 3},
        KeepReason.SLOW,
    ),
    "ignores a span without times": (
        [span(), Span(trace_id=TRACE, span_id=b"t" * 8, parent_span_id=CHILD)],
        {"slower_than_seconds": 10},
        KeepReason.NOT_SAMPLED,
    ),
    "keeps a trace whose calls together are costly": (
        [span(LLM | {COST: 0.06}), span(LLM | {COST: 0.05}, parent=CHILD)],
        {"costlier_than_usd": 0.1},
        KeepReason.COSTLY,
    ),
    "drops one that costs just the bound": (
        [span(LLM | {COST: 0.1}), span(LLM | {COST: 0.2}, parent=CHILD)],
        {"costlier_than_usd": 0.3},
        KeepReason.NOT_SAMPLED,
    ),
    "does not add the sum of an agent to its calls": (
        [span({"gen_ai.operation.name": "invoke_agent", COST: 0.06}), span(LLM | {COST: 0.06}, parent=CHILD)],
        {"costlier_than_usd": 0.1},
        KeepReason.NOT_SAMPLED,
    ),
    "keeps a trace of which only the agent says the cost": (
        [span({"gen_ai.operation.name": "invoke_agent", COST: 0.2})],
        {"costlier_than_usd": 0.1},
        KeepReason.COSTLY,
    ),
    "keeps a chosen session": (
        [span({"session.id": "vip-7"}, parent=CHILD)],
        {"sessions": ("vip-*",)},
        KeepReason.SESSION,
    ),
    "drops a session that is not chosen": (
        [span({"session.id": "other"})],
        {"sessions": ("vip-*",)},
        KeepReason.NOT_SAMPLED,
    ),
    "names the error before the rest": (
        [span({"session.id": "vip"}, seconds=9, status=ERROR)],
        {"slower_than_seconds": 1, "sessions": ("vip",), "one_in": 1},
        KeepReason.ERROR,
    ),
}


@pytest.mark.parametrize(("spans", "values", "reason"), TABLE.values(), ids=TABLE)
def test_the_first_condition_that_holds_decides(
    spans: list[Span], values: dict[str, Any], reason: KeepReason
) -> None:
    assert judged(spans, settings(**values)) == SamplingDecision(reason=reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("pydantic_ai_v5_tool_retry", KeepReason.NOT_SAMPLED), ("pydantic_ai_v5_tool_error", KeepReason.ERROR)],
    ids=["a recovered retry is no error", "an error that ended the run is one"],
)
def test_real_agent_runs_are_judged_by_how_they_ended(name: str, reason: KeepReason) -> None:
    keep = settings()
    folded = fold(payload(name).SerializeToString(), received_unix_ns=RECEIVED, settings=keep)
    assert {decide(trace_id, state, keep).reason for trace_id, state in folded.items()} == {reason}


@pytest.mark.parametrize("name", CAPTURED)
@pytest.mark.parametrize(
    "values",
    [{}, {"costlier_than_usd": 0.1}, {"sessions": ("*",)}, {"costlier_than_usd": 0, "sessions": ("*",)}],
    ids=["plain", "cost", "session", "both"],
)
def test_spans_that_are_read_in_part_say_the_same(name: str, values: dict[str, Any]) -> None:
    keep = settings(**values)
    request = payload(name)
    expected: dict[bytes, TraceState] = {}
    for known in export_facts(request):
        id, state = bytes.fromhex(known.trace_id), of_span(known, received_unix_ns=RECEIVED, settings=keep)
        expected[id] = merged(expected[id], state) if id in expected else state
    folded = fold(request.SerializeToString(), received_unix_ns=RECEIVED, settings=keep)
    if "costlier_than_usd" not in values:
        expected = {id: replace(state, **NO_COST) for id, state in expected.items()}
        folded = {id: replace(state, **NO_COST) for id, state in folded.items()}
    assert folded == expected


def test_one_trace_says_nothing_of_another() -> None:
    keep = settings()
    both = [span(), span(trace_id=OTHER, status=ERROR)]
    assert judged(both, keep) == SamplingDecision(reason=KeepReason.NOT_SAMPLED)
    assert judged(both, keep, OTHER) == SamplingDecision(reason=KeepReason.ERROR)


spans = st.builds(
    span,
    st.one_of(
        st.just({}),
        st.builds(lambda cost: LLM | {COST: cost}, st.floats(0, 0.1)),
        st.builds(lambda cost: {COST: cost}, st.floats(0, 0.1)),
        st.builds(lambda session: {"session.id": session}, st.sampled_from(["vip", "other"])),
    ),
    parent=st.sampled_from([ROOT, CHILD]),
    start=st.floats(0, 10),
    seconds=st.floats(0, 10),
    status=st.one_of(st.none(), st.just(ERROR)),
)
keeps = st.builds(
    KeepSettings,
    one_in=st.just(FEW),
    errors=st.booleans(),
    slower_than_seconds=st.one_of(st.none(), st.floats(0, 15)),
    costlier_than_usd=st.one_of(st.none(), st.floats(0, 0.2)),
    sessions=st.sampled_from([(), ("vip",)]),
)


@given(data=st.data(), keep=keeps, seen=st.lists(spans, min_size=1, max_size=8))
def test_the_order_of_spans_never_changes_a_decision(
    data: st.DataObject, keep: KeepSettings, seen: list[Span]
) -> None:
    assert judged(data.draw(st.permutations(seen)), keep) == judged(seen, keep)


@given(data=st.data(), keep=keeps, seen=st.lists(spans, min_size=1, max_size=8))
def test_entries_say_together_what_they_hold(
    data: st.DataObject, keep: KeepSettings, seen: list[Span]
) -> None:
    def state(part: list[Span], received: int) -> Any:
        return fold(export(*part).SerializeToString(), received_unix_ns=received, settings=keep)[TRACE]

    cut = data.draw(st.integers(0, len(seen)))
    parts = [part for part in (seen[:cut], seen[cut:]) if part]
    states = [state(part, RECEIVED + number) for number, part in enumerate(parts)]
    whole = state(seen, RECEIVED)
    assert (merged(*states) if len(states) == 2 else states[0]) == whole
    assert (merged(*reversed(states)) if len(states) == 2 else states[0]) == whole


@given(keep=keeps, seen=st.lists(spans, min_size=2, max_size=8))
def test_more_spans_never_turn_a_kept_trace_into_a_dropped_one(keep: KeepSettings, seen: list[Span]) -> None:
    kept = [judged(seen[: count + 1], keep).kept for count in range(len(seen))]
    assert kept == sorted(kept)


def test_one_in_n_is_chosen_by_the_id_alone_and_within_one_another() -> None:
    ids = [number.to_bytes(16, "big") for number in range(20_000)]
    chosen = {n: {id for id in ids if is_one_in(id, n)} for n in (1, 5, 10)}
    assert len(chosen[1]) == len(ids)
    assert chosen[10] < chosen[5]
    # five standard deviations of the binomial distribution
    assert abs(len(chosen[5]) - 4000) < 5 * (20_000 * 0.2 * 0.8) ** 0.5
    assert is_one_in(bytes(16), 1) is True


def test_the_choice_is_the_same_on_every_machine() -> None:
    chosen = [number for number in range(40) if is_one_in(number.to_bytes(16, "big"), 10)]
    assert chosen == [7, 8, 10, 24]


@pytest.mark.parametrize(
    ("age_seconds", "due_in"),
    [(0, 30), (10, 20), (30, 0), (3600, 0), (-3600, 30)],
    ids=["waits", "waits the rest", "is over", "was over while we were down", "a clock set back waits once"],
)
def test_a_trace_is_waited_for_no_longer_than_its_time(age_seconds: int, due_in: float) -> None:
    keep = settings()
    state = fold(export(span()).SerializeToString(), received_unix_ns=RECEIVED, settings=keep)[TRACE]
    now = RECEIVED + age_seconds * SECOND
    assert due_in_seconds(state, now_unix_ns=now, wait_seconds=keep.wait_seconds) == due_in


@pytest.mark.parametrize("reason", KeepReason)
def test_a_note_brings_the_decision_back(reason: KeepReason) -> None:
    assert decision_of(note_of(SamplingDecision(reason=reason))) == SamplingDecision(reason=reason)


@pytest.mark.parametrize("note", [b"", b"\xff", b"a later version's reason"])
def test_a_note_that_cant_be_read_keeps_the_trace(note: bytes) -> None:
    assert decision_of(note).kept


DROPPED = SamplingDecision(reason=KeepReason.NOT_SAMPLED)
KEPT = SamplingDecision(reason=KeepReason.SLOW)


def tags(request: ExportTraceServiceRequest) -> dict[bytes, str]:
    return {
        span.span_id: attribute.value.string_value
        for span in all_spans(request)
        for attribute in span.attributes
        if attribute.key == KEPT_ATTRIBUTE
    }


def test_spans_of_dropped_traces_go_and_the_others_stay_in_order() -> None:
    one, two = export(span(), span(trace_id=OTHER), span(parent=CHILD)), export(span(), span())
    request = ExportTraceServiceRequest(resource_spans=[*one.resource_spans, *two.resource_spans])
    request.resource_spans[1].resource.attributes.add(key="service.name")
    assert apply(request, {TRACE: DROPPED}) == 4
    assert [span.trace_id for span in all_spans(request)] == [OTHER]
    assert len(request.resource_spans) == 1, "nothing is left of a resource without spans"
    assert tags(request) == {}


def test_a_trace_without_a_decision_stays_as_it_is() -> None:
    request = export(span(), span(trace_id=OTHER, parent=CHILD))
    before = request.SerializeToString(deterministic=True)
    assert apply(request, {b"3" * 16: DROPPED}) == 0
    assert request.SerializeToString(deterministic=True) == before


def test_the_root_of_a_kept_trace_says_why() -> None:
    root, child = span(), span(parent=CHILD)
    child.span_id = b"c" * 8
    request = export(root, child)
    assert apply(request, {TRACE: KEPT}) == 0
    assert tags(request) == {root.span_id: "slow"}
    assert apply(request, {TRACE: SamplingDecision(reason=KeepReason.ERROR)}) == 0
    assert tags(request) == {root.span_id: "error"}, "one attribute, not two"
    assert len(all_spans(request)[0].attributes) == 1


@given(dropped=st.lists(st.booleans(), max_size=20), scopes=st.integers(1, 4))
def test_exactly_the_dropped_spans_are_removed(dropped: list[bool], scopes: int) -> None:
    request = ExportTraceServiceRequest()
    expected = []
    for number in range(scopes):
        group = request.resource_spans.add().scope_spans.add().spans
        for place, is_dropped in enumerate(dropped):
            made = span(trace_id=TRACE if is_dropped else OTHER)
            made.span_id = bytes([number, place]) * 4
            group.append(made)
            expected += [] if is_dropped else [made.span_id]
    assert apply(request, {TRACE: DROPPED, OTHER: KEPT}) == scopes * sum(dropped)
    assert [span.span_id for span in all_spans(request)] == expected


@pytest.mark.parametrize(
    "values",
    [{}, {"one_in": 0}, {"one_in": 2, "wait_seconds": 0}, {"one_in": 2, "wait": 3}],
    ids=["needs one_in", "one_in is at least 1", "wait_seconds is over 0", "knows its keys"],
)
def test_settings_that_cant_be_right_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KeepSettings(**values)
