"""One request brought to an end, against a scripted MLflow: no sockets, no time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.group import Request
from collector.delivery.settle import Deferred, RefusedRequest, Settled, TargetHealth, combine, settle
from collector.delivery.verdicts import Sent, Verdict
from tests.support.otlp import all_spans, export, trace_ids_of

RESENDS = 2


@dataclass
class Script:
    """Answers each try by what is in it; remembers what was asked and what it took."""

    verdict: Callable[[set[str]], Verdict]
    tries: list[set[str]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    pauses: list[float] = field(default_factory=list)
    retry_after_seconds: float | None = None

    async def send(self, request: Request) -> Sent:
        names = names_in(request)
        self.tries.append(names)
        verdict = self.verdict(names)
        if verdict is Verdict.TAKEN:
            self.taken |= names
        return Sent(verdict=verdict, message=verdict.name, retry_after_seconds=self.retry_after_seconds)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def settle(self, request: Request, health: TargetHealth | None = None) -> Settled | Deferred:
        return await settle(
            request, self.send, health=health or TargetHealth(), resends=RESENDS, pause=self.pause
        )


def names_in(request: Request) -> set[str]:
    return {span.name for span in all_spans(ExportTraceServiceRequest.FromString(request.payload))}


def request_of(*names: str, traces: int = 1) -> Request:
    """Spans with these names, dealt out to `traces` traces."""
    made = export(traces=1, spans=len(names))
    ids = [number.to_bytes(16, "big") for number in range(1, traces + 1)]
    for number, (span, name) in enumerate(zip(all_spans(made), names, strict=True)):
        span.name, span.trace_id = name, ids[number % traces]
    return Request(
        payload=made.SerializeToString(),
        span_count=len(names),
        trace_ids=frozenset(trace_ids_of(made)),
        received_unix_ns=1,
    )


def answers(verdict: Verdict) -> Callable[[set[str]], Verdict]:
    return lambda names: verdict


def chokes_on(*poison: str, verdict: Verdict = Verdict.SUSPECT) -> Callable[[set[str]], Verdict]:
    return lambda names: verdict if names & set(poison) else Verdict.TAKEN


def refused_names(outcome: Settled | Deferred) -> dict[str, str]:
    assert isinstance(outcome, Settled), outcome
    return {name: refusal.reason for refusal in outcome.refusals for name in names_in(refusal.request)}


async def healthy() -> TargetHealth:
    """MLflow has taken something before, and would take it again."""
    health, script = TargetHealth(), Script(answers(Verdict.TAKEN))
    health.took(script.send, request_of("control"))
    return health


async def test_what_is_taken_is_delivered_at_once() -> None:
    script = Script(answers(Verdict.TAKEN))
    assert await script.settle(request_of("a", "b")) == Settled(delivered_spans=2)
    assert (len(script.tries), script.pauses) == (1, [])


@pytest.mark.parametrize("verdict", [Verdict.PASSING, Verdict.NO_EXPERIMENT])
async def test_passing_trouble_defers_after_one_try(verdict: Verdict) -> None:
    script = Script(answers(verdict), retry_after_seconds=7)
    outcome = await script.settle(request_of("a", "b"))
    assert outcome == Deferred(message=verdict.name, retry_after_seconds=7)
    assert len(script.tries) == 1


async def test_a_suspect_that_was_passing_is_delivered_by_a_plain_resend() -> None:
    verdicts = iter([Verdict.SUSPECT, Verdict.SUSPECT, Verdict.TAKEN])
    script = Script(lambda names: next(verdicts))
    assert await script.settle(request_of("a", "b")) == Settled(delivered_spans=2)
    assert script.tries == [{"a", "b"}] * 3
    assert len(script.pauses) == 2
    assert script.pauses == sorted(script.pauses)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(Verdict.SUSPECT, "poison"), (Verdict.REFUSED, "refused"), (Verdict.TOO_LARGE, "too_large")],
)
@pytest.mark.parametrize("traces", [1, 3, 8])
async def test_one_bad_span_is_found_and_its_neighbours_are_delivered(
    verdict: Verdict, reason: str, traces: int
) -> None:
    names = [f"span {n}" for n in range(8)]
    script = Script(chokes_on("span 5", verdict=verdict))
    outcome = await script.settle(request_of(*names, traces=traces))
    assert refused_names(outcome) == {"span 5": reason}
    assert isinstance(outcome, Settled)
    assert outcome.delivered_spans == 7
    assert script.taken == set(names) - {"span 5"}


@given(st.sets(st.integers(0, 19)), st.integers(1, 20))
async def test_exactly_the_bad_spans_are_refused(bad: set[int], traces: int) -> None:
    names = [f"span {n}" for n in range(20)]
    poison = {f"span {n}" for n in bad}
    script = Script(chokes_on(*poison))
    outcome = await script.settle(request_of(*names, traces=traces), await healthy())
    assert set(refused_names(outcome)) == poison
    assert script.taken == set(names) - poison


async def test_finding_one_span_of_a_thousand_takes_few_requests() -> None:
    names = [f"span {n}" for n in range(1000)]
    script = Script(chokes_on("span 700"))
    await script.settle(request_of(*names, traces=100))
    assert len(script.tries) < 40


async def test_what_is_too_large_is_sent_in_smaller_parts() -> None:
    names = [f"span {n}" for n in range(16)]
    script = Script(lambda names: Verdict.TOO_LARGE if len(names) > 3 else Verdict.TAKEN)
    assert await script.settle(request_of(*names, traces=16)) == Settled(delivered_spans=16)
    assert script.pauses == []


async def test_a_server_that_takes_nothing_is_sick_and_nothing_is_refused() -> None:
    script = Script(answers(Verdict.SUSPECT))
    outcome = await script.settle(request_of("a", "b", traces=2), TargetHealth())
    assert isinstance(outcome, Deferred)
    assert "takes nothing at all" in outcome.message


async def test_a_sick_server_that_took_something_yesterday_is_still_sick() -> None:
    sick = Script(answers(Verdict.SUSPECT))
    health = TargetHealth()
    health.took(sick.send, request_of("control"))
    assert isinstance(await sick.settle(request_of("a"), health), Deferred)


async def test_a_lone_bad_span_is_refused_when_the_control_proves_mlflow_well() -> None:
    script = Script(chokes_on("poison"))
    outcome = await script.settle(request_of("poison"), await healthy())
    assert refused_names(outcome) == {"poison": "poison"}


async def test_a_server_that_falls_ill_meanwhile_is_no_proof_against_the_spans() -> None:
    """Another request succeeds just after the first try here; from then on MLflow fails at everything."""
    health = TargetHealth()
    sick = Script(answers(Verdict.SUSPECT))

    def one_last_success(names: set[str]) -> Verdict:
        if health.successes == 0:
            health.took(sick.send, request_of("elsewhere"))
        return Verdict.SUSPECT

    script = Script(one_last_success)
    assert isinstance(await script.settle(request_of("a", "b", traces=2), health), Deferred)


async def test_spans_that_failed_while_mlflow_was_ill_get_another_chance_when_it_is_well() -> None:
    """It recovers between the last try and the control."""
    ill = True

    async def recovering(request: Request) -> Sent:
        nonlocal ill
        ill = False
        return Sent(verdict=Verdict.TAKEN, message="well again")

    health = TargetHealth()
    health.took(recovering, request_of("control"))
    script = Script(lambda names: Verdict.SUSPECT if ill else Verdict.TAKEN)
    outcome = await script.settle(request_of("a", "b", traces=2), health)
    assert outcome == Settled(delivered_spans=2)
    assert script.taken == {"a", "b"}


@pytest.mark.parametrize("verdict", [Verdict.NO_EXPERIMENT, Verdict.REFUSED, Verdict.TOO_LARGE])
async def test_a_control_that_has_had_its_day_is_no_proof_of_illness_for_ever(verdict: Verdict) -> None:
    """Its experiment was deleted, say: then what MLflow takes next is the proof."""
    health = TargetHealth()
    health.took(Script(answers(verdict)).send, request_of("control"))
    poisonous = Script(chokes_on("poison"))
    assert isinstance(await poisonous.settle(request_of("poison"), health), Deferred)
    assert await poisonous.settle(request_of("healthy"), health) == Settled(delivered_spans=1)
    assert refused_names(await poisonous.settle(request_of("poison"), health)) == {"poison": "poison"}


async def test_neighbours_in_the_same_request_prove_it_too() -> None:
    script = Script(chokes_on("poison"))
    outcome = await script.settle(request_of("good", "poison", traces=2), TargetHealth())
    assert refused_names(outcome) == {"poison": "poison"}


async def test_trouble_in_the_middle_of_halving_defers_all_of_it() -> None:
    script = Script(lambda names: Verdict.SUSPECT if len(names) > 1 else Verdict.PASSING)
    assert isinstance(await script.settle(request_of("a", "b", traces=2), await healthy()), Deferred)


def refusal(name: str) -> RefusedRequest:
    return RefusedRequest(request=request_of(name), reason="poison", message="m")


def test_a_window_is_settled_if_each_request_is() -> None:
    one, other = refusal("a"), refusal("b")
    combined = combine(
        [Settled(delivered_spans=1, refusals=(one,)), Settled(delivered_spans=2, refusals=(other,))]
    )
    assert combined == Settled(delivered_spans=3, refusals=(one, other))
    assert combine([]) == Settled(delivered_spans=0)


def test_one_deferred_request_defers_the_window_until_the_longest_wish() -> None:
    outcomes = [
        Settled(delivered_spans=5, refusals=(refusal("a"),)),
        Deferred(message="no wish"),
        Deferred(message="long", retry_after_seconds=9),
        Deferred(message="short", retry_after_seconds=1),
    ]
    for order in (outcomes, outcomes[::-1]):
        assert combine(order) == Deferred(message="long", retry_after_seconds=9)
