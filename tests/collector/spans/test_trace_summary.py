"""The counting rules, each by name, and the tree that holds whatever is sent."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage
from rich.console import Console

from collector.cli.render_trace import render_trace
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.facts import export_facts
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceStatus
from collector.spans.values import SpanFacts, SpanLink, Tokens
from tests.support.spans import START, TRACE_ID, spanfacts
from tests.support.summaries import AGENT, CHAIN, EMBEDDING, LLM, TOOL, counts, summary_of

# ---- rule 1: the model calls are counted, and nothing that repeats them

RULE_1 = {
    "agent_usage_is_not_added_to_its_calls": (
        [
            spanfacts("a", None, AGENT, usage=(30, 3)),
            spanfacts("b", "a", LLM, usage=(10, 1)),
            spanfacts("c", "a", LLM, usage=(20, 2)),
        ],
        (30, 3),
    ),
    "aggregated_usage_is_not_added_to_its_calls": (
        [spanfacts("a", None, AGENT, aggregated=(30, 3)), spanfacts("b", "a", LLM, usage=(10, 1))],
        (10, 1),
    ),
    "tool_and_chain_usage_is_not_added": (
        [
            spanfacts("a", None, CHAIN, usage=(99, 9)),
            spanfacts("b", "a", LLM, usage=(10, 1)),
            spanfacts("c", "a", TOOL, usage=(50, 5)),
        ],
        (10, 1),
    ),
    "embeddings_count": (
        [
            spanfacts("a", None, AGENT),
            spanfacts("b", "a", EMBEDDING, usage=(7, 0)),
            spanfacts("c", "a", LLM, usage=(10, 1)),
        ],
        (17, 1),
    ),
    "of_vercel_parent_and_child_the_deepest_counts": (
        [spanfacts("a", None, LLM, usage=(12, 2)), spanfacts("b", "a", LLM, usage=(10, 1))],
        (10, 1),
    ),
    "a_vercel_parent_counts_if_its_child_has_nothing": (
        [spanfacts("a", None, LLM, usage=(12, 2)), spanfacts("b", "a", LLM)],
        (12, 2),
    ),
    "several_steps_below_one_vercel_parent": (
        [
            spanfacts("a", None, LLM, usage=(30, 3)),
            spanfacts("b", "a", LLM, usage=(10, 1)),
            spanfacts("c", "a", LLM, usage=(20, 2)),
        ],
        (30, 3),
    ),
    "calls_without_usage_are_covered_by_the_agent": (
        [
            spanfacts("a", None, AGENT, aggregated=(30, 3)),
            spanfacts("b", "a", LLM),
            spanfacts("c", "a", LLM),
        ],
        (30, 3),
    ),
    "the_nearest_ancestor_covers": (
        [
            spanfacts("a", None, CHAIN, usage=(99, 9)),
            spanfacts("b", "a", AGENT, aggregated=(30, 3)),
            spanfacts("c", "b", LLM),
        ],
        (30, 3),
    ),
    "an_outer_sum_holds_the_inner_one": (
        [
            spanfacts("a", None, AGENT, aggregated=(100, 10)),
            spanfacts("b", "a", LLM),
            spanfacts("c", "a", AGENT, aggregated=(60, 6)),
            spanfacts("d", "c", LLM),
        ],
        (100, 10),
    ),
    "a_covered_branch_stands_beside_counted_calls": (
        [
            spanfacts("a", None, AGENT),
            spanfacts("b", "a", LLM, usage=(40, 4)),
            spanfacts("c", "a", AGENT, aggregated=(60, 6)),
            spanfacts("d", "c", LLM),
        ],
        (100, 10),
    ),
    "an_agent_alone_counts": ([spanfacts("a", None, AGENT, aggregated=(30, 3))], (30, 3)),
    "an_agent_whose_calls_were_not_sent_counts": (
        [spanfacts("a", None, CHAIN, usage=(30, 3)), spanfacts("b", "a", TOOL)],
        (30, 3),
    ),
    "without_any_call_the_deepest_counts": (
        [spanfacts("a", None, AGENT, usage=(99, 9)), spanfacts("b", "a", AGENT, usage=(30, 3))],
        (30, 3),
    ),
    "no_usage_is_unknown_and_not_zero": ([spanfacts("a", None, LLM)], (None, None)),
}


@pytest.mark.parametrize(("spans", "tokens"), RULE_1.values(), ids=RULE_1.keys())
def test_rule_1_tokens_are_counted_once(spans: list[SpanFacts], tokens: tuple[int, int]) -> None:
    assert counts(*spans) == tokens


def test_rule_1_cost_follows_the_same_way_and_says_what_it_lacks() -> None:
    priced = summary_of(
        spanfacts("a", None, AGENT, cost=9.0),
        spanfacts("b", "a", LLM, cost=0.1),
        spanfacts("c", "a", LLM, cost=0.2),
        spanfacts("d", "a", LLM),
    ).cost
    assert (priced.usd, priced.source, priced.unpriced_model_calls) == (0.3, CostSource.CLIENT, 1)
    covered = summary_of(spanfacts("a", None, AGENT, cost=9.0), spanfacts("b", "a", LLM)).cost
    assert (covered.usd, covered.unpriced_model_calls) == (9.0, 0)
    nothing = summary_of(spanfacts("a", None, LLM)).cost
    assert (nothing.usd, nothing.source, nothing.unpriced_model_calls) == (None, CostSource.NONE, 1)


def test_rule_1_a_call_is_counted_as_one_call_where_two_spans_tell_of_it() -> None:
    found = summary_of(spanfacts("a", None, LLM), spanfacts("b", "a", LLM), spanfacts("c", "b", TOOL))
    assert (found.model_call_count, found.tool_call_count) == (1, 1)


def test_rule_1_an_attempt_that_failed_is_a_call_beside_the_one_that_answered() -> None:
    """pydantic-ai's FallbackModel: what a rejected answer used was billed too."""
    attempt = {"is_error": True, "model_attempt": 0, "model": "small"}
    spans = [
        spanfacts("a", None, AGENT, aggregated=(40, 4)),
        spanfacts("b", "a", LLM, usage=(30, 3), cost=0.03, model="large"),
        spanfacts("c", "b", LLM, usage=(10, 1), cost=0.01, **attempt),
    ]
    found = summary_of(*spans)
    assert counts(*spans) == (40, 4)
    assert found.cost.usd == pytest.approx(0.04)
    assert (found.model_call_count, found.error_span_count, found.recovered_retry_count) == (2, 0, 1)
    assert [(use.model, use.calls, use.errors) for use in found.models] == [("large", 1, 0), ("small", 1, 1)]
    assert [row.depth for row in found.spans] == [0, 1, 2]
    assert counts(*spans[1:]) == (40, 4)  # without anything above it


async def test_rule_1_a_fallback_of_pydantic_ai_is_two_calls_and_no_error() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(status_code=503, model_name="small")

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        used = RequestUsage(input_tokens=10, output_tokens=1)
        return ModelResponse(parts=[TextPart("Hello.")], usage=used)

    models = [
        FunctionModel(does, model_name=name) for does, name in ((fail, "gpt-4o-mini"), (answer, "gpt-4o"))
    ]
    settings = InstrumentationSettings(tracer_provider=provider)
    await Agent(FallbackModel(*models), capabilities=[Instrumentation(settings=settings)]).run("Hello?")
    provider.shutdown()
    found = summary_of(*export_facts(encode_spans(exporter.get_finished_spans())))
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)
    assert (found.tokens.input, found.cost.unpriced_model_calls) == (10, 0)
    assert {(use.model, use.calls, use.errors) for use in found.models} == {
        ("gpt-4o", 1, 0),
        ("gpt-4o-mini", 1, 1),
    }


def test_rule_1_decisions_are_the_calls_of_the_request_above_them() -> None:
    """pydantic-ai's decision models: `chat` holds the sum and the cost, each `decide` its own tokens."""
    spans = [
        spanfacts("a", None, LLM, usage=(30, 3), cost=0.03),
        spanfacts("b", "a", ObservationKind.DECISION, usage=(10, 1)),
        spanfacts("c", "a", ObservationKind.DECISION, usage=(20, 2)),
    ]
    found = summary_of(*spans)
    assert (counts(*spans), found.cost.usd, found.model_call_count) == ((30, 3), 0.03, 2)
    assert found.cost.unpriced_model_calls == 0
    beside = [spanfacts("a", None, AGENT), spanfacts("d", "a", LLM, usage=(5, 1)), spans[1]]
    assert counts(*beside) == (15, 2)


def test_rule_1_an_internal_agent_that_counts_no_cache_takes_nothing_from_its_calls() -> None:
    """OpenTelemetry's internal `invoke_agent` gives sums without their cached part, or none at all."""
    call = replace(spanfacts("b", "a", LLM, usage=(30, 3)), tokens=Tokens(input=30, output=3, cache_read=20))
    for agent in (spanfacts("a", None, AGENT, usage=(30, 3)), spanfacts("a", None, AGENT)):
        assert summary_of(agent, call).tokens.cache_read == 20


def test_links_to_other_spans_are_shown() -> None:
    link = SpanLink(trace_id="ab" * 16, span_id="cd" * 8)
    found = summary_of(spanfacts("a", None, AGENT, links=(link,)))
    assert found.to_json()["spans"][0]["links"] == [{"trace_id": "ab" * 16, "span_id": "cd" * 8}]
    printed = io.StringIO()
    render_trace(json.loads(json.dumps(found.to_json())), Console(file=printed, width=200))
    assert f"links to {'ab' * 16}" in printed.getvalue()


def test_rule_2_cache_and_reasoning_are_parts_and_not_added() -> None:
    call = Tokens(input=200, output=50, total=250, cache_read=100, cache_write=20, reasoning=40)
    other = Tokens(input=10, output=5, total=15)
    found = summary_of(
        spanfacts("a", None, AGENT),
        spanfacts("b", "a", LLM, tokens=call, input_excluded_cache=True),
        spanfacts("c", "a", LLM, tokens=other),
    )
    assert found.tokens == Tokens(
        input=210, output=55, total=265, cache_read=100, cache_write=20, reasoning=40
    )
    assert found.input_excluded_cache


def test_tokens_by_modality_are_summed_beside_the_totals_and_printed() -> None:
    spoken = Tokens(input=200, output=50, total=250, text_input=20, audio_input=180, audio_output=50)
    seen = Tokens(input=300, output=5, total=305, image_input=258)
    run = Tokens(input=500, output=55, total=555, audio_input=180, audio_output=50, image_input=258)
    found = summary_of(
        spanfacts("a", None, AGENT, aggregated_tokens=run),
        spanfacts("b", "a", LLM, tokens=spoken),
        spanfacts("c", "a", LLM, tokens=seen),
    )
    assert found.tokens == replace(run, text_input=20)
    printed = io.StringIO()
    render_trace(json.loads(json.dumps(found.to_json())), Console(file=printed, width=200))
    assert "500→55 tokens (image 258→0, audio 180→50)" in printed.getvalue()


def test_rule_3_an_agents_own_usage_of_its_last_call_gives_way_to_the_calls() -> None:
    last_call_only = spanfacts("a", None, AGENT, usage=(20, 2))
    calls = [spanfacts("b", "a", LLM, usage=(10, 1)), spanfacts("c", "a", LLM, usage=(20, 2))]
    assert counts(last_call_only, *calls) == (30, 3)
    # and where both are on the agent, the sum over the run is the better one
    assert counts(replace(last_call_only, aggregated_tokens=Tokens(input=30, output=3, total=33))) == (30, 3)


RETRY: dict[str, Any] = {"retry_cause": "model_retry", "retry_attempt": 1, "retry_max": 2}


def test_rule_4_the_trace_failed_if_its_root_did_and_retries_stand_apart() -> None:
    children = [
        spanfacts("b", "a", TOOL, is_error=True, tool="t"),
        spanfacts("c", "a", TOOL, is_error=True, tool="t", **RETRY),
    ]
    recovered = summary_of(spanfacts("a", None, AGENT), *children)
    assert recovered.status is TraceStatus.OK
    assert (recovered.error_span_count, recovered.recovered_retry_count) == (1, 1)
    assert (recovered.tools[0].calls, recovered.tools[0].errors, recovered.tools[0].recovered_retries) == (
        2,
        1,
        1,
    )
    assert [(error.span_id, error.recovered) for error in recovered.errors] == [("b", False), ("c", True)]
    assert summary_of(spanfacts("a", None, AGENT, is_error=True), *children).status is TraceStatus.ERROR
    assert summary_of(*children).status is TraceStatus.UNKNOWN


def test_rule_5_duration_is_first_start_to_last_end_beside_the_roots() -> None:
    found = summary_of(
        spanfacts("a", None, start=1, seconds=2),
        spanfacts("b", "a", start=0.5, seconds=1),
        spanfacts("c", "a", start=2, seconds=3),
    )
    assert (found.duration_seconds, found.root_duration_seconds) == (4.5, 2.0)
    assert found.start_unix_ns == START + 500_000_000
    assert (found.complete, found.missing_parents) == (True, 0)


def test_rule_5_a_trace_without_its_root_is_summarised_and_marked() -> None:
    found = summary_of(spanfacts("b", "gone"), spanfacts("c", "gone"), spanfacts("d", "lost"))
    assert (found.complete, found.missing_parents, found.root_duration_seconds) == (False, 2, None)
    assert [row.depth for row in found.spans] == [0, 0, 0]


def test_rule_6_self_time_is_without_the_union_of_the_children() -> None:
    found = summary_of(
        spanfacts("a", None, start=0, seconds=10),
        spanfacts("b", "a", start=1, seconds=3),
        spanfacts("c", "a", start=2, seconds=3),  # beside b: 1 to 5 is 4 s together
        spanfacts("d", "a", start=2.5, seconds=1),  # inside c
        spanfacts("e", "a", start=8, seconds=5),  # ends after its parent: 2 s of it count
        spanfacts("f", "b", start=1, seconds=1),
    )
    times = {row.span_id: row.self_seconds for row in found.spans}
    assert times == {"a": 4.0, "b": 2.0, "c": 3.0, "d": 1.0, "e": 5.0, "f": 1.0}


def test_rule_7_a_span_that_arrives_twice_is_one_span() -> None:
    call = spanfacts("b", "a", LLM, usage=(10, 1), cost=0.1)
    found = summary_of(spanfacts("a", None, AGENT), call, call, replace(call))
    assert (found.span_count, found.model_call_count, found.tokens.input) == (2, 1, 10)
    assert found.cost.usd == 0.1


def test_rule_7_of_two_copies_the_one_that_ended_last_counts() -> None:
    early, late = spanfacts("a", seconds=1), spanfacts("a", seconds=5, is_error=True)
    for order in ([early, late], [late, early]):
        assert summary_of(*order).duration_seconds == 5


# ---- names, sessions, agents


def test_the_name_is_the_roots() -> None:
    assert summary_of(spanfacts("b", "a", LLM), spanfacts("a", name="my run")).name == "my run"


def test_below_a_web_servers_span_the_name_is_the_first_agents() -> None:
    spans = [
        spanfacts("a", None, name="POST /", is_http=True),
        spanfacts("b", "a", name="GET /config", is_http=True, start=0.1),
        spanfacts("d", "a", AGENT, name="planner", start=0.3),
        spanfacts("c", "a", AGENT, name="weather", start=0.2),
    ]
    assert summary_of(*spans).name == "weather"
    assert summary_of(*spans[:2]).name == "POST /"


def test_a_name_that_the_client_gave_the_trace_wins() -> None:
    assert summary_of(spanfacts("a", name="root", trace_name="nightly report")).name == "nightly report"


def test_a_named_session_wins_over_the_conversation_of_a_run() -> None:
    run = spanfacts("a", None, AGENT, conversation="run-1")
    call = spanfacts("b", "a", LLM, conversation="run-1", session="mine")
    assert summary_of(run, call).session == "mine"
    assert summary_of(run).session == "run-1"


def test_a_span_belongs_to_the_agent_above_it() -> None:
    found = summary_of(
        spanfacts("a", None, AGENT, agent="outer"),
        spanfacts("b", "a", AGENT, agent="inner", start=0.1),
        spanfacts("c", "b", TOOL, start=0.2),
        spanfacts("d", "a", TOOL, start=0.3),
    )
    assert {row.span_id: row.agent for row in found.spans} == {
        "a": "outer",
        "b": "inner",
        "c": "inner",
        "d": "outer",
    }


# ---- shapes that senders produce


def test_parents_in_a_circle_are_cut_and_counted() -> None:
    found = summary_of(
        spanfacts("a", None),
        spanfacts("b", "d", start=0.2),
        spanfacts("c", "b", start=0.3),
        spanfacts("d", "c", start=0.4),
        spanfacts("e", "c", start=0.1),  # hangs off the circle, and starts before it
        spanfacts("f", "f", start=0.5),
    )
    assert [(row.span_id, row.depth) for row in found.spans] == [
        ("a", 0),
        ("b", 0),
        ("c", 1),
        ("e", 2),
        ("d", 2),
        ("f", 0),
    ]
    assert found.missing_parents == 2


@pytest.mark.parametrize("chain", [True, False], ids=["in_a_chain", "side_by_side"])
def test_30000_spans_are_summarised_without_recursion(chain: bool) -> None:
    total = 30_000
    spans = [
        spanfacts(
            f"{number:016x}",
            None if number == 0 else f"{number - 1 if chain else 0:016x}",
            LLM if number == total - 1 else CHAIN,
            usage=(10, 1),
            start=number / total,
        )
        for number in range(total)
    ]
    found = summary_of(*spans, max_spans=100)
    assert (found.span_count, len(found.spans), found.spans_omitted) == (total, 100, total - 100)
    assert found.tokens.input == 10


def test_what_is_left_out_is_counted() -> None:
    failing = [
        spanfacts(f"{number}", "root", TOOL, is_error=True, tool=f"t{number}") for number in range(150)
    ]
    found = summary_of(spanfacts("root"), *failing, max_spans=10, max_errors=20)
    assert (len(found.spans), found.spans_omitted) == (10, 141)
    assert (len(found.errors), found.errors_omitted) == (20, 130)
    assert (len(found.tools), found.tools_omitted) == (100, 50)
    assert found.tool_call_count == found.error_span_count == 150


def test_nothing_is_a_summary_too() -> None:
    found = summary_of(incomplete="MLflow was away")
    assert (found.name, found.status, found.span_count) == (TRACE_ID, TraceStatus.UNKNOWN, 0)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["incomplete"] == "MLflow was away"


def test_the_link_is_mlflows_own_and_takes_no_markup_from_the_id() -> None:
    assert summary_of(spanfacts("a"), experiment_id="7").mlflow_path == (
        f"/#/experiments/7/traces?selectedEvaluationId=tr-{TRACE_ID}"
    )
    assert summary_of(spanfacts("a")).mlflow_path is None
    assert "<" not in (summary_of(spanfacts("a"), experiment_id="<a>/?").mlflow_path or "")


def test_a_tools_span_right_under_its_own_is_the_same_call() -> None:
    found = summarise(
        [
            spanfacts("agent", kind=ObservationKind.AGENT),
            spanfacts("a", "agent", ObservationKind.TOOL, tool="weather", start=1),
            spanfacts("b", "a", ObservationKind.TOOL, tool="weather", start=2),
            spanfacts("c", "a", ObservationKind.TOOL, tool="station", start=3),
            spanfacts("d", "agent", ObservationKind.TOOL, tool="weather", start=4),
        ],
        trace_id=TRACE_ID,
    )
    assert found.tool_call_count == 3
    assert {row.tool: row.calls for row in found.tools} == {"weather": 2, "station": 1}


NAMED_AGENTS = {
    "invoke_agent": ("invoke_agent weather", "weather"),
    "smolagents": ("CodeAgent.run", "CodeAgent"),
    "crewai": ("Researcher._execute_core", "Researcher"),
    "claude_code": ("claude_code.interaction", "claude_code"),
    "its_own_name": ("weather agent", "weather agent"),
    "no_name_at_all": ("invoke_agent", None),
    "a_random_id": ("invoke_agent 0a1b2c3d4e5f6071", None),
}


@pytest.mark.parametrize(("name", "agent"), NAMED_AGENTS.values(), ids=NAMED_AGENTS)
def test_an_agent_without_a_name_is_what_its_span_is_named_after(name: str, agent: str | None) -> None:
    spans = [
        spanfacts("a", kind=ObservationKind.AGENT, name=name),
        spanfacts("b", "a", kind=ObservationKind.LLM),
    ]
    found = summarise(spans, trace_id=TRACE_ID)
    assert found.agent == agent
    assert [row.agent for row in found.spans] == [agent, agent]


def test_a_name_that_a_sender_gives_comes_before_that_of_a_span() -> None:
    """OpenAI Agents: the root is an agent named after the trace, the agent stands below it."""
    spans = [
        spanfacts("a", kind=ObservationKind.AGENT, name="Agent workflow"),
        spanfacts("b", "a", kind=ObservationKind.AGENT, name="step", agent="Assistant"),
        spanfacts("c", "b", kind=ObservationKind.AGENT, name="ReAct.run"),
    ]
    found = summarise(spans, trace_id=TRACE_ID)
    assert found.agent == "Assistant"
    assert [row.agent for row in found.spans] == ["Agent workflow", "Assistant", "Assistant"]


def test_a_web_servers_trace_is_named_after_the_agent_that_runs_and_not_after_its_making() -> None:
    spans = [
        spanfacts("a", name="POST /ask", is_http=True),
        spanfacts("b", "a", kind=ObservationKind.AGENT, name="create_agent weather", start=0.1),
        spanfacts("c", "a", kind=ObservationKind.AGENT, name="invoke_agent weather", start=0.2),
    ]
    assert summarise(spans, trace_id=TRACE_ID).name == "invoke_agent weather"
