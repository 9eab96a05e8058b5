"""What one span holds costs that span's extras at most: never its delivery, never its neighbours."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.spans.facts import decode_attributes
from tests.support.hostile import KINDS, NAMES, VALUES, Outcome, hostile_span, request_with, way_of
from tests.support.otlp import all_spans

SLICES = 6


def check(outcome: Outcome, *, requests: int, spans: int) -> None:
    """Nothing is lost, nothing waits, and the good neighbours have all that they would have alone."""
    assert outcome.accepted + outcome.rejected == spans
    assert outcome.delivered + outcome.dead == outcome.accepted
    assert outcome.pending == 0
    assert (outcome.failed, outcome.index_failed, outcome.unreadable) == (0, 0, 0)
    assert outcome.indexed == outcome.accepted
    assert outcome.indexed_good == len(outcome.good_in_mlflow) == 2 * requests
    for span in outcome.good_in_mlflow:
        assert decode_attributes(span.attributes)["mlflow.spanType"] == "CHAT_MODEL"


@pytest.mark.parametrize("slice", range(SLICES))
async def test_every_name_with_every_hostile_value_passes(tmp_path: Path, slice: int) -> None:
    names = NAMES[slice::SLICES]
    requests = [
        request_with(*(hostile_span({name: value}, kind=KINDS[at % 2]) for name in names))
        for at, value in enumerate(VALUES.values())
    ]
    outcome = await way_of(tmp_path, requests)
    check(outcome, requests=len(requests), spans=sum(len(all_spans(request)) for request in requests))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
escapes = st.sampled_from(["\\ud83d", "\\udc00", "\\u0000", "\\ud83d\\ude00", "\\\\ud83d", "x"])
escaped = st.lists(escapes, max_size=4).map(lambda parts: f'{{"a": "{"".join(parts)}"}}')
leaves = st.none() | st.booleans() | numbers | texts | st.binary(max_size=8) | escaped
nested = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
values = (
    st.sampled_from(list(VALUES.values())) | nested | nested.map(lambda value: json.dumps(value, default=str))
)
attributes = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=12)
times = st.sampled_from([0, 1, 1_790_000_000_000_000_000, 2**63 - 1])
hostile_traces = st.lists(
    st.lists(st.tuples(attributes, times, times, st.integers(0, 3)), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(hostile_traces)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_spans_hold_their_neighbours_are_delivered_and_indexed(
    traces: list[list[tuple[dict[str, Any], int, int, int]]],
) -> None:
    hostile = []
    for number, trace in enumerate(traces):
        for place, (held, start, end, parent) in enumerate(trace):
            hostile.append(
                hostile_span(
                    held,
                    trace_id=bytes([number + 1] * 16),
                    span_id=bytes([place + 1] * 8),
                    parent_span_id=bytes([parent] * 8) if parent else b"",
                    start_time_unix_nano=start,
                    end_time_unix_nano=end,
                )
            )
    request = request_with(*hostile)
    with TemporaryDirectory() as folder:
        outcome = asyncio.run(way_of(Path(folder), [request]))
    check(outcome, requests=1, spans=len(all_spans(request)))


NAMED: dict[str, dict[str, Any]] = {
    "half_a_pair_in_metadata": {"metadata": '{"a": "\\ud83d"}'},
    "half_a_pair_in_a_prompt": {"gen_ai.input.messages": '[{"role": "user", "content": "cut \\ud83d"}]'},
    "a_clients_own_mark": {"sidespan.replaced": "no json", "session.id": "s" * 300},
    "a_cost_of_1e308": {"gen_ai.usage.cost": 1e308},
    "a_tag_key_of_17_MB": {"mlflow.traceTag." + "k" * 17_000_000: "v"},
    "metadata_of_25_MB": {"metadata": json.dumps({name * 12_500_000: "v" for name in "kl"})},
    "2^53_input_tokens": {"gen_ai.usage.input_tokens": 2**53, "gen_ai.usage.output_tokens": 2**53},
}


@pytest.mark.parametrize("held", NAMED.values(), ids=NAMED.keys())
async def test_no_span_blocks_what_is_behind_it(tmp_path: Path, held: dict[str, Any]) -> None:
    pair = [hostile_span(held, trace_id=b"t" * 16) for _ in range(2)]
    requests = [request_with(*pair), *(request_with() for _ in range(20))]
    outcome = await way_of(tmp_path, requests)
    check(outcome, requests=21, spans=44)


async def test_a_prompt_cut_in_an_emoji_may_name_a_web_request(tmp_path: Path) -> None:
    """What its trace is about is kept in a note, while the request is open."""
    prompt = '[{"role": "user", "content": "cut \\ud83d"}]'
    child = hostile_span(
        {"gen_ai.input.messages": prompt, "http.route": "/chat"},
        trace_id=b"t" * 16,
        parent_span_id=b"p" * 8,
    )
    outcome = await way_of(tmp_path, [request_with(child), request_with()])
    check(outcome, requests=2, spans=5)


async def test_a_span_refused_for_its_depth_leaves_its_traces_summary(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    trace_id = b"t" * 16
    request = request_with(hostile_span({}, trace_id=trace_id), hostile_span({"x": deep}, trace_id=trace_id))
    outcome = await way_of(tmp_path, [request])
    assert (outcome.accepted, outcome.rejected, outcome.pending) == (3, 1, 0)
    found = [each["span_count"] for each in outcome.summaries if each["trace_id"] == trace_id.hex()]
    assert found[0] == 1
