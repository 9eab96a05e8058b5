"""What harmonising adds to spans, as tables. What MLflow makes of it: tests/system/test_harmonise.py."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.harmonise.apply import harmonise
from collector.harmonise.note import Note
from collector.spans.conventions import ObservationKind
from collector.spans.facts import export_facts
from collector.spans.keys import KEYS
from tests.support.harmonised import (
    AGENT,
    ALL,
    CHAT,
    MESSAGES,
    NAME,
    USED,
    attributes_of,
    given_to,
    one,
    request,
    span,
    usage,
    values,
)
from tests.support.otlp import all_spans
from tests.support.spans import payload, read_back

TYPES = {
    "semconv_chat": (CHAT, "CHAT_MODEL"),
    "semconv_completion": ({"gen_ai.operation.name": "text_completion"}, "LLM"),
    "semconv_agent": ({"gen_ai.operation.name": "invoke_agent"}, "AGENT"),
    "semconv_tool": ({"gen_ai.operation.name": "execute_tool"}, "TOOL"),
    "semconv_workflow": ({"gen_ai.operation.name": "invoke_workflow"}, "WORKFLOW"),
    "semconv_retrieval": ({"gen_ai.operation.name": "retrieval"}, "RETRIEVER"),
    "openinference": ({"openinference.span.kind": "RERANKER"}, "RERANKER"),
    "openinference_that_does_not_know": (
        {"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "retrieval"},
        "RETRIEVER",
    ),
    "openllmetry": ({"traceloop.span.kind": "task"}, "TASK"),
    "openllmetry_chat": ({"llm.request.type": "chat"}, "CHAT_MODEL"),
    "vercel_tool": ({"ai.operationId": "ai.toolCall"}, "TOOL"),
    "langfuse": ({"langfuse.observation.type": "generation"}, "LLM"),
    "laminar": ({"lmnr.span.type": "LLM"}, "LLM"),
    "claude_code": ({"span.type": "claude_code.tool"}, "TOOL"),
    "nothing_known": ({"http.route": "/"}, "UNKNOWN"),
    "mlflows_unknown_is_no_answer": ({"mlflow.spanType": "UNKNOWN", **CHAT}, "CHAT_MODEL"),
}


@pytest.mark.parametrize(("attributes", "type"), TYPES.values(), ids=TYPES.keys())
def test_a_span_gets_its_type(attributes: dict[str, Any], type: str) -> None:
    assert one(attributes)["mlflow.spanType"] == type


def test_a_type_that_the_client_has_set_stays() -> None:
    assert "mlflow.spanType" not in one({"mlflow.spanType": "PARSER", **CHAT})


TOKENS = {
    "semconv": ({**CHAT, **USED}, usage(1000, 100)),
    "openinference_without_the_cache_that_semconv_has": (
        {
            **CHAT,
            **USED,
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 100,
            "gen_ai.usage.cache_read.input_tokens": 400,
        },
        usage(1000, 100, cache_read_input_tokens=400),
    ),
    "openllmetry_names": (
        {
            "llm.request.type": "chat",
            "gen_ai.usage.prompt_tokens": 5,
            "gen_ai.usage.completion_tokens": 6,
            "gen_ai.usage.cache_read_input_tokens": 2,
        },
        usage(5, 6, cache_read_input_tokens=2),
    ),
    "vercel_5": (
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.usage.inputTokens": 5,
            "ai.usage.outputTokens": 6,
            "ai.usage.cachedInputTokens": 2,
        },
        usage(5, 6, cache_read_input_tokens=2),
    ),
    "langfuse": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 5, "output": 6}',
        },
        usage(5, 6),
    ),
    "cache_counted_apart": (
        {**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 90},
        {"input_tokens": 100, "total_tokens": 100, "cache_read_input_tokens": 90},
    ),
}


@pytest.mark.parametrize(("attributes", "used"), TOKENS.values(), ids=TOKENS.keys())
def test_a_model_call_gets_its_tokens(attributes: dict[str, Any], used: dict[str, int]) -> None:
    assert json.loads(one(attributes)["mlflow.chat.tokenUsage"]) == used


def test_reasoning_tokens_get_the_name_of_the_convention() -> None:
    found = one({**CHAT, **USED, "gen_ai.usage.details.reasoning_tokens": 30})
    assert found["gen_ai.usage.reasoning.output_tokens"] == "30"


def test_model_and_provider_are_named_for_mlflow() -> None:
    found = one({"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "m", "ai.model.provider": "p"})
    assert (found["mlflow.llm.model"], found["mlflow.llm.provider"]) == ("m", "p")


COSTS = {
    "the_clients_own_divided_as_the_list_does": (
        {**CHAT, **USED, "operation.cost": 0.007},
        {"input_cost": 0.005, "output_cost": 0.002, "total_cost": 0.007},
    ),
    "the_clients_own_for_a_model_that_is_not_listed": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "ours", **USED, "operation.cost": 0.5},
        {"total_cost": 0.5},
    ),
    "by_the_list": ({**CHAT, **USED}, {"input_cost": 0.0025, "output_cost": 0.001, "total_cost": 0.0035}),
}


@pytest.mark.parametrize(("attributes", "cost"), COSTS.values(), ids=COSTS.keys())
def test_a_model_call_gets_its_cost(attributes: dict[str, Any], cost: dict[str, float]) -> None:
    assert json.loads(one(attributes)["mlflow.llm.cost"]) == pytest.approx(cost)


def test_a_call_that_nobody_can_price_is_left_to_mlflow() -> None:
    assert "mlflow.llm.cost" not in one(
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "ours", **USED}
    )


CONTENT = {
    "agent_of_pydantic_ai": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "pydantic_ai.all_messages": MESSAGES,
            "final_result": "Hi.",
        },
        ("Hello?", "Hi."),
    ),
    "agent_whose_user_sent_a_file_and_parts_of_an_unknown_kind": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "pydantic_ai.all_messages": json.dumps(
                [
                    {
                        "role": "user",
                        "parts": [
                            {"type": "blob", "modality": "image", "content": "iVBORw0KGgo="},
                            {"type": "acme.quote", "content": "Said before."},
                            {"type": "text", "content": "What is this?"},
                        ],
                    }
                ]
            ),
            "final_result": "Hi.",
        },
        ("What is this?", "Hi."),
    ),
    "agent_whose_user_sent_only_a_part_of_an_unknown_kind": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "pydantic_ai.all_messages": MESSAGES.replace('"text"', '"acme.quote"'),
            "final_result": "Hi.",
        },
        (None, "Hi."),  # only text is shown
    ),
    "chat_with_structured_messages_that_openinference_hides": (
        {**CHAT, "gen_ai.input.messages": json.loads(MESSAGES), "input.value": "Hello?"},
        (MESSAGES, None),
    ),
    "tool_of_pydantic_ai_format_2": (
        {"gen_ai.operation.name": "execute_tool", "tool_arguments": '{"a":1}', "tool_response": "x"},
        ('{"a":1}', "x"),
    ),
    "tool_without_arguments_or_results": (
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.call.arguments": "{}",
            "gen_ai.tool.call.result": "[]",
        },
        ("{}", "[]"),
    ),
    "chat_whose_messages_openinference_hides": (
        {
            **CHAT,
            "gen_ai.input.messages": MESSAGES,
            "gen_ai.output.messages": "[1]",
            "input.value": "Hello?",
            "output.value": "Hi.",
        },
        (MESSAGES, "[1]"),
    ),
    "flattened_messages": (
        {
            "llm.request.type": "chat",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "Hello?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Hi.",
        },
        (
            '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]',
            '[{"role": "assistant", "content": "Hi."}]',
        ),
    ),
    "what_mlflow_reads_itself": ({**CHAT, "gen_ai.input.messages": MESSAGES}, (None, None)),
    "what_the_client_set": ({**CHAT, "mlflow.spanInputs": '"x"', "tool_arguments": "y"}, (None, None)),
    "nothing_there": (CHAT, (None, None)),
}


@pytest.mark.parametrize(("attributes", "content"), CONTENT.values(), ids=CONTENT.keys())
def test_a_span_gets_the_inputs_and_outputs_that_mlflow_misses(
    attributes: dict[str, Any], content: tuple[str | None, str | None]
) -> None:
    (found,) = given_to(span(2, 1, attributes))
    assert (found.get("mlflow.spanInputs"), found.get("mlflow.spanOutputs")) == content


def test_a_parents_usage_leaves_the_count_to_its_parts() -> None:
    """Else MLflow counts the parent's alone (strands#1267, agent-framework#4062)."""
    last_call_only = {**AGENT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    *chats, agent = given_to(
        span(3, 1, {**CHAT, **USED}), span(2, 1, {**CHAT, **USED}), span(1, None, last_call_only)
    )
    assert agent["mlflow.chat.tokenUsage"] == ""
    assert all(json.loads(chat["mlflow.chat.tokenUsage"])["total_tokens"] == 1100 for chat in chats)


def test_an_agent_whose_calls_say_nothing_gets_the_sum_over_its_run() -> None:
    summed = {
        **AGENT,
        "gen_ai.aggregated_usage.input_tokens": 7,
        "gen_ai.aggregated_usage.output_tokens": 3,
    }
    _, agent = given_to(span(2, 1, CHAT), span(1, None, summed))
    assert json.loads(agent["mlflow.chat.tokenUsage"]) == usage(7, 3)


def test_mlflows_own_roll_up_stays_unless_its_parts_come_to_more() -> None:
    for total, expected in ((1100, None), (5, usage(1000, 100))):
        own = {
            "mlflow.spanType": "AGENT",
            "mlflow.chat.tokenUsage": json.dumps({"input_tokens": total, "output_tokens": 0}),
        }
        _, agent = given_to(span(2, 1, {**CHAT, **USED}), span(1, None, own))
        found = agent.get("mlflow.chat.tokenUsage")
        assert (json.loads(found) if found else None) == expected


def test_what_was_added_and_replaced_is_marked() -> None:
    long = "s" * 300
    export = request(span(1, None, {"session.id": long}))
    harmonise(export, parts=ALL, notes={})
    found = attributes_of(all_spans(export)[0])
    assert set(found["sidespan.added"]) == {"mlflow.spanType", NAME}
    assert json.loads(found["sidespan.replaced"]) == {"session.id": long}


@pytest.mark.parametrize(
    "name", ["pydantic_ai_v5_openinference", "vercel_ai_v6", "langchain_openinference", "openai_openllmetry"]
)
def test_nothing_that_the_client_sent_is_lost_and_its_facts_are_the_same(name: str) -> None:
    before, after = payload(name), payload(name)
    harmonise(after, parts=ALL, notes={})
    for old, new in zip(all_spans(before), all_spans(after), strict=True):
        assert attributes_of(old).items() <= attributes_of(new).items()
    # read back from MLflow, additions are known as ours
    assert read_back(after) == list(export_facts(before))


def test_each_part_can_be_switched_off() -> None:
    full = payload("openai_openllmetry")
    done = harmonise(full, parts=ALL, notes={})
    for part in done.added:
        without = payload("openai_openllmetry")
        assert part not in harmonise(without, parts=ALL - {part}, notes={}).added
    nothing = payload("openai_openllmetry")
    harmonise(nothing, parts=frozenset(), notes={})
    assert nothing == payload("openai_openllmetry")


def test_a_trace_that_fails_passes_as_it_was_sent_and_the_others_are_harmonised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from collector.harmonise import apply

    def fail_at_two(members: Any, note: Note) -> Any:
        if len(members) == 2:
            raise RuntimeError("a bug")
        return learn(members, note)

    learn = apply.learn
    monkeypatch.setattr(apply, "learn", fail_at_two)
    other = span(9, None, CHAT, trace_id=b"o" * 16)
    export = request(span(1, None, CHAT), span(2, 1, CHAT), other)
    done = harmonise(export, parts=ALL, notes={})
    first, child, second = all_spans(export)
    assert done.faults.count == 2
    assert attributes_of(child) == CHAT
    assert attributes_of(first) == CHAT
    assert attributes_of(second)["mlflow.spanType"] == "CHAT_MODEL"


def test_a_span_that_fails_passes_as_it_was_sent_and_its_trace_is_harmonised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from collector.harmonise import apply

    def fail_at_one(facts: Any, *others: Any) -> Any:
        if facts.name == "span 2" and facts.kind is not ObservationKind.OTHER:
            raise RuntimeError(f"a bug with {facts.model}")
        return span_additions(facts, *others)

    span_additions = apply.span_additions
    monkeypatch.setattr(apply, "span_additions", fail_at_one)
    export = request(span(1, None, AGENT), span(2, 1, CHAT), span(3, 1, CHAT))
    done = harmonise(export, parts=ALL, notes={})
    root, broken, good = (attributes_of(each) for each in all_spans(export))
    assert done.faults.count == 1
    assert "gpt-4o" not in "".join(done.faults.tracebacks.values()), "a message may quote content"
    assert broken == CHAT
    assert (root[NAME], good["mlflow.spanType"]) == ("span 1", "CHAT_MODEL")


KNOWN = sorted(
    KEYS | {"gen_ai.input.messages", "pydantic_ai.all_messages", "input.value", "mlflow.spanInputs"}
)


@given(st.lists(st.dictionaries(st.sampled_from(KNOWN), values, max_size=8), min_size=1, max_size=4))
def test_no_attributes_whatsoever_make_a_trace_fail(spans: list[dict[str, Any]]) -> None:
    made = [span(n + 1, n or None, attributes) for n, attributes in enumerate(spans)]
    assert harmonise(request(*made), parts=ALL, notes={}).faults.count == 0


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=10))
def test_no_shape_of_a_trace_makes_it_fail(shape: list[tuple[int, int]]) -> None:
    """Repeated spans, missing parents, spans that are each other's parents, several roots."""
    made = [span(number, parent or None, {**AGENT, **USED}) for number, parent in shape]
    assert harmonise(request(*made), parts=ALL, notes={}).faults.count == 0
