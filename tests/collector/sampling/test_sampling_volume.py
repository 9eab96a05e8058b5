"""Sampling over 100,000 traces, with a crash in the middle: what must be kept is, the rest is one in N."""

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.sampling.consumer import HELD_FOR_EACH_OPEN
from tests.support.sampled import ONE, TWO, Sampled, draft, span

TRACES = 100_000
ROUNDS = 25
ONE_IN = 10
SPANS_A_DRAFT = 200
# less than begin in a round, so that the bound is at work
MAX_OPEN = 3_000


@dataclass(frozen=True)
class Made:
    """A generated trace: the round it begins in, the one its root comes in, maybe one for late spans."""

    trace_id: bytes
    begins: int
    ends: int
    late: int | None
    error: bool
    slow: bool
    lane: str

    @property
    def must_be_kept(self) -> bool:
        return self.error or self.slow

    @property
    def spans(self) -> int:
        return 2 + (self.late is not None)


def generated(chance: random.Random) -> list[Made]:
    made = []
    for _ in range(TRACES):
        begins = chance.randrange(ROUNDS - 3)
        ends = begins + (chance.random() < 0.05)
        late = ends + 1 + chance.randrange(ROUNDS - ends - 1) if chance.random() < 0.1 else None
        made.append(
            Made(
                trace_id=chance.randbytes(16),
                begins=begins,
                ends=ends,
                late=late,
                error=chance.random() < 0.02,
                slow=chance.random() < 0.02,
                lane=TWO if chance.random() < 0.3 else ONE,
            )
        )
    return made


async def append_round(sampled: Sampled, traces: list[Made], number: int, chance: random.Random) -> None:
    """The spans of a round, those of a trace not far from each other, in entries that hold many traces."""
    for lane in (ONE, TWO):
        of_lane = [made for made in traces if made.lane == lane]
        spans = [span(made.trace_id, error=made.error) for made in of_lane if made.begins == number]
        spans += [
            span(made.trace_id, root=True, seconds=60 if made.slow else 1)
            for made in of_lane
            if made.ends == number
        ]
        # an error that comes late changes nothing any more
        spans += [span(made.trace_id, error=True) for made in of_lane if made.late == number]
        nearby(spans, chance)
        for at in range(0, len(spans), SPANS_A_DRAFT):
            await sampled.journal.log.append([draft(*spans[at : at + SPANS_A_DRAFT], lane=lane)])


def nearby(spans: list[Span], chance: random.Random) -> None:
    """In order of their traces, then each moved by up to a tenth of the whole."""
    places = {trace_id: chance.random() for trace_id in {span.trace_id for span in spans}}
    spans.sort(key=lambda span: places[span.trace_id] + chance.random() / 10)


def of_rounds(traces: list[Made]) -> list[list[Made]]:
    rounds: list[list[Made]] = [[] for _ in range(ROUNDS)]
    for made in traces:
        for number in {made.begins, made.ends, made.late} - {None}:
            rounds[number or 0].append(made)
    return rounds


async def sampled_traces(sampled: Sampled, rounds: list[list[Made]], chance: random.Random) -> Counter[bytes]:
    """How many spans of each trace were forwarded; in the middle the process dies twice."""
    forwarded: Counter[bytes] = Counter()
    for number, traces in enumerate(rounds):
        await append_round(sampled, traces, number, chance)
        if number % 10 == 5:
            await sampled.crash()
        await sampled.sampler.look()
        assert sampled.sampler.open_traces <= MAX_OPEN
        assert sampled.sampler.held_traces <= MAX_OPEN * HELD_FOR_EACH_OPEN
        if number % 10 == 7:
            await sampled.crash()
        for lane in (ONE, TWO):
            forwarded.update(span.trace_id for span in await sampled.delivered(lane))
    return forwarded


@pytest.mark.slow
async def test_everything_that_must_be_kept_is_and_of_the_rest_one_in_n(tmp_path: Path) -> None:
    chance = random.Random(20)
    traces = generated(chance)
    sampled = Sampled(tmp_path, {"one_in": ONE_IN, "slower_than_seconds": 30, "max_open_traces": MAX_OPEN})
    await sampled.open()
    forwarded = await sampled_traces(sampled, of_rounds(traces), chance)
    assert sampled.sampler.held_traces == 0
    assert (await sampled.delivery.state()).pending_entries == 0
    halves = [made for made in traces if forwarded[made.trace_id] not in (0, made.spans)]
    assert halves == [], "late spans follow the decision on their trace"
    lost = [made for made in traces if made.must_be_kept and not forwarded[made.trace_id]]
    assert lost == []
    rest = [made for made in traces if not made.must_be_kept]
    kept = sum(forwarded[made.trace_id] > 0 for made in rest)
    # five standard deviations of the binomial distribution
    assert abs(kept - len(rest) / ONE_IN) < 5 * (len(rest) * (1 - 1 / ONE_IN) / ONE_IN) ** 0.5
    await sampled.stack.aclose()
