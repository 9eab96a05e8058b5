"""Summaries of recorded traces, and of any trace: against a plain walk over the spans."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.spans.conventions import ObservationKind
from collector.spans.facts import export_facts
from collector.spans.summary_models import TraceStatus
from collector.spans.values import SpanFacts
from tests.support.otlp import all_spans
from tests.support.spans import payload, spanfacts
from tests.support.summaries import summary_of

# ---- real payloads, against a plain walk over them


@pytest.mark.parametrize(
    "name",
    [
        "benchmark_trace",
        "pydantic_ai_v2_openinference",
        "pydantic_ai_v5_openinference",
        "pydantic_ai_v5_plain",
        "pydantic_ai_v5_tool_error",
        "pydantic_ai_v5_tool_retry",
    ],
)
def test_real_runs_are_summed_as_a_plain_walk_does_and_as_the_agent_says(name: str) -> None:
    request = payload(name)
    walked = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
    aggregated, cost, operations = {}, 0.0, []
    for span in all_spans(request):
        for attribute in span.attributes:
            if attribute.key in walked:
                walked[attribute.key] += attribute.value.int_value
            if attribute.key.startswith("gen_ai.aggregated_usage."):
                aggregated[attribute.key.replace("aggregated_usage", "usage")] = attribute.value.int_value
            if attribute.key == "operation.cost":
                cost += attribute.value.double_value
            if attribute.key == "gen_ai.operation.name":
                operations.append(attribute.value.string_value)
    found = summary_of(*export_facts(request))
    assert {
        "gen_ai.usage.input_tokens": found.tokens.input,
        "gen_ai.usage.output_tokens": found.tokens.output,
    } == (walked)
    assert aggregated == walked
    assert found.cost.usd == pytest.approx(cost, abs=1e-12)
    assert found.model_call_count == operations.count("chat")
    assert found.tool_call_count == operations.count("execute_tool")
    assert found.span_count == len(all_spans(request))
    assert found.missing_parents == 0


def test_the_failed_run_tells_its_error() -> None:
    found = summary_of(*export_facts(payload("pydantic_ai_v5_tool_error")))
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.ERROR, 2, 0)
    assert found.errors[1].message == "document index unreachable"
    assert (found.service, found.service_version, found.environment) == ("weather-agent", "1.4.2", "test")


def test_the_run_that_recovered_is_fine() -> None:
    found = summary_of(*export_facts(payload("pydantic_ai_v5_tool_retry")))
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)


# ---- properties

IDS = [f"{number:02x}" for number in range(12)]
spans_of_a_trace = st.lists(
    st.builds(
        spanfacts,
        st.sampled_from(IDS),
        st.none() | st.sampled_from([*IDS, "gone"]),
        st.sampled_from(list(ObservationKind)),
        start=st.sampled_from([0, 0.5, 1, 2.25]),
        seconds=st.sampled_from([0, 0.5, 1, 3]),
        usage=st.none() | st.tuples(st.integers(0, 50), st.integers(0, 50)),
        aggregated=st.none() | st.tuples(st.integers(0, 50), st.integers(0, 50)),
        cost=st.none() | st.floats(0, 1),
        is_error=st.booleans(),
        is_http=st.booleans(),
        agent=st.none() | st.sampled_from(["x", "y"]),
        session=st.none() | st.sampled_from(["s", "t"]),
    ),
    max_size=20,
)


@given(spans_of_a_trace, st.data())
def test_duplicates_and_shuffles_give_the_same_summary(spans: list[SpanFacts], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(spans), max_size=10)) if spans else []
    shuffled = data.draw(st.permutations([*spans, *again]))
    assert summary_of(*shuffled) == summary_of(*spans)


@given(spans_of_a_trace)
def test_every_span_is_in_the_tree_once_and_sums_stay_within_what_was_sent(spans: list[SpanFacts]) -> None:
    found = summary_of(*spans)
    assert sorted(row.span_id for row in found.spans) == sorted({span.span_id for span in spans})
    assert found.complete == any(row.parent_span_id is None for row in found.spans)
    depths = [row.depth for row in found.spans]
    assert all(following <= depth + 1 for depth, following in zip(depths, depths[1:], strict=False))
    assert all(0 <= row.self_seconds <= row.duration_seconds for row in found.spans)
    most = sum(max(span.tokens.total or 0, span.aggregated_tokens.total or 0) for span in spans)
    assert (found.tokens.total or 0) <= most
    json.dumps(found.to_json(), allow_nan=False)
