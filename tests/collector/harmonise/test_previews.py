"""What a trace shows as its question and its answer: text, and only text, from wherever it stands."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.apply import harmonise
from collector.harmonise.events import BODIES, DETAILS, MEMORY_INPUTS, READ_AS_INPUT, READ_AS_OUTPUT
from collector.harmonise.messages import as_chat, is_binary, said, spoken, without_binary
from collector.harmonise.parts import Part
from collector.spans.facts import decode_attributes
from tests.support.harmonised import (
    ALL,
    CHAT,
    attributes_of,
    given_to,
    in_requests,
    request,
    span,
    values,
)
from tests.support.otlp import all_spans
from tests.support.spans import any_value

CONTENT = frozenset({Part.CONTENT})
BLOB = "iVBORw0KGgo" * 10_000
INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"


def messages(role: str, *parts: dict[str, Any]) -> str:
    return json.dumps([{"role": role, "parts": list(parts)}])


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


TOOL_CALL = {"type": "tool_call", "name": "get_weather", "id": "1", "arguments": {"city": "Paris"}}
ANSWERS = {
    "opentelemetry": (messages("assistant", text("Sunny.")), "Sunny."),
    "opentelemetry_reasoning_comes_first": (
        messages("assistant", {"type": "reasoning", "content": "Let me think."}, text("Sunny.")),
        "Sunny.",
    ),
    "opentelemetry_thinking": (
        messages("assistant", {"type": "thinking", "content": "Let me think."}, text("Sunny.")),
        "Sunny.",
    ),
    "opentelemetry_blob": (
        messages("assistant", {"type": "blob", "content": BLOB}, text("A map.")),
        "A map.",
    ),
    "opentelemetry_only_a_tool_call": (messages("assistant", TOOL_CALL), None),
    "opentelemetry_only_a_blob": (messages("assistant", {"type": "blob", "content": BLOB}), None),
    "several_texts": (messages("assistant", text("Sunny."), text("Warm.")), "Sunny.\nWarm."),
    "openai": ('[{"role": "assistant", "content": "Sunny."}]', "Sunny."),
    "openai_response": (
        '{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Sunny."}}]}',
        "Sunny.",
    ),
    "openai_response_that_calls_a_tool": (
        '{"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}}]}',
        None,
    ),
    "openai_responses_api": (
        '{"output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant",'
        ' "content": [{"type": "output_text", "text": "Sunny."}]}]}',
        "Sunny.",
    ),
    "openai_responses_api_calls_a_tool": (
        '{"output": [{"type": "function_call", "name": "f", "arguments": "{}"}]}',
        None,
    ),
    "openai_refusal": (
        '[{"role": "assistant", "content": [{"type": "refusal", "refusal": "I can\'t."}]}]',
        "I can't.",
    ),
    "anthropic": (
        '{"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."},'
        ' {"type": "text", "text": "Sunny."}]}',
        "Sunny.",
    ),
    "bedrock_parts": ('[{"text": "Sunny."}]', "Sunny."),
    "bedrock_tool_use": ('[{"toolUse": {"name": "f", "input": {}}}]', None),
    "bedrock_reasoning": ('[{"reasoningContent": {"reasoningText": {"text": "Hm."}}}]', None),
    "gemini": (
        '{"content": {"parts": [{"text": "Hm.", "thought": true}, {"text": "Sunny."}], "role": "model"}}',
        "Sunny.",
    ),
    "gemini_calls_a_tool": (
        '{"content": {"parts": [{"function_call": {"name": "f"}}], "role": "model"}}',
        None,
    ),
    "gemini_candidates": (
        '{"candidates": [{"content": {"role": "model", "parts": [{"text": "Sunny."}]}}]}',
        "Sunny.",
    ),
    "langchain": (
        '{"generations": [[{"text": "Sunny.", "message": {"lc": 1, "type": "constructor", "id": ["langchain",'
        ' "AIMessage"], "kwargs": {"content": "Sunny.", "type": "ai"}}}]]}',
        "Sunny.",
    ),
    "langgraph_state": (
        '{"messages": [{"type": "human", "content": "Weather?"}, {"type": "ai", "content": "Sunny."}]}',
        "Sunny.",
    ),
    "a_calls_name_and_arguments": ('{"name": "get_weather", "arguments": "{}"}', None),
    "vercel_tool_calls": ('[{"toolCallId": "1", "toolName": "f", "args": {}}]', None),
    "crewai": ('{"raw": "Sunny.", "pydantic": null, "json_dict": null, "tasks_output": []}', "Sunny."),
    "dspy": ('["Sunny."]', "Sunny."),
    "plain_text": ("Sunny.", "Sunny."),
    "a_text_in_json": ('"Sunny."', "Sunny."),
    "an_object_of_the_applications_own": ('{"degrees": 21}', '{"degrees": 21}'),
    "text_that_only_looks_like_json": ("[sic] sunny", "[sic] sunny"),
    "a_data_url": (f"data:image/png;base64,{BLOB}", None),
    "nothing": ("  ", None),
    "no_value": (None, None),
}


@pytest.mark.parametrize(("value", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_its_text(value: str | None, answer: str | None) -> None:
    assert said(value, role="assistant") == answer


QUESTIONS = {
    "the_last_of_the_user": (
        '[{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."},'
        ' {"role": "user", "content": "Weather?"}, {"role": "tool", "content": "21"}]',
        "Weather?",
    ),
    "a_picture_first": (
        messages("user", {"type": "blob", "mime_type": "image/png", "content": BLOB}, text("What is it?")),
        "What is it?",
    ),
    "a_picture_by_its_address": (
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}},'
        ' {"type": "text", "text": "What is it?"}]}]',
        "What is it?",
    ),
    "gemini_request": (
        '{"model": "gemini-2.5-flash", "config": {"system_instruction": "Be brief."},'
        ' "contents": [{"parts": [{"text": "Weather?"}], "role": "user"}]}',
        "Weather?",
    ),
    "openai_request": (
        '{"model": "gpt-4o", "messages": [{"role": "system", "content": "Be brief."},'
        ' {"role": "user", "content": "Weather?"}]}',
        "Weather?",
    ),
    "langchain_request": (
        '{"messages": [[{"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"],'
        ' "kwargs": {"content": "Weather?", "type": "human"}}]]}',
        "Weather?",
    ),
    "responses_api_request": ('{"input": [{"role": "user", "content": "Weather?"}]}', "Weather?"),
}


@pytest.mark.parametrize(("value", "question"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_is_the_users_text(value: str, question: str) -> None:
    assert said(value, role="user") == question


def one(
    attributes: dict[str, Any],
    events: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    parent: int | None = 1,
) -> dict[str, Any]:
    """What a span is given, alone in its request."""
    made = span(2, parent, attributes)
    for name, members in events:
        event = made.events.add(name=name)
        for key, value in members.items():
            event.attributes.add(key=key, value=any_value(value))
    return given_to(made, parts=CONTENT)[0]


UNREAD = {
    "retrieval_query_and_documents": (
        {"gen_ai.retrieval.query.text": "weather", "gen_ai.retrieval.documents": '[{"id": "1"}]'},
        ("weather", '[{"id": "1"}]'),
    ),
    "retrieval_documents_as_a_list": (
        {"gen_ai.retrieval.documents": [{"id": "1", "score": 0.5}]},
        (None, '[{"id": "1", "score": 0.5}]'),
    ),
    "documents_in_numbered_names": (
        {
            "retrieval.documents.0.document.content": "Sunny in May.",
            "retrieval.documents.0.document.score": 0.5,
            "retrieval.documents.1.document.content": "Rain in June.",
        },
        (None, '[{"content": "Sunny in May.", "score": 0.5}, {"content": "Rain in June."}]'),
    ),
    "parts_in_numbered_names": (
        {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "image",
            "llm.input_messages.0.message.contents.0.message_content.image.image.url": f"data:;base64,{BLOB}",
            "llm.input_messages.0.message.contents.1.message_content.type": "text",
            "llm.input_messages.0.message.contents.1.message_content.text": "What is it?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
            "llm.output_messages.0.message.contents.0.message_content.text": "Hm.",
            "llm.output_messages.0.message.contents.1.message_content.type": "text",
            "llm.output_messages.0.message.contents.1.message_content.text": "A map.",
        },
        ('[{"role": "user", "content": "What is it?"}]', '[{"role": "assistant", "content": "A map."}]'),
    ),
    "prompt_and_completion": ({"gen_ai.prompt": "Hello?", "gen_ai.completion": "Hi."}, ("Hello?", "Hi.")),
    "embedded_texts": (
        {"openinference.span.kind": "EMBEDDING", "embedding.embeddings.0.embedding.text": "May"},
        ('[{"text": "May"}]', None),
    ),
}


@pytest.mark.parametrize(("attributes", "content"), UNREAD.values(), ids=UNREAD)
def test_attributes_that_mlflow_does_not_read_are_given_to_it(
    attributes: dict[str, Any], content: tuple[str | None, str | None]
) -> None:
    found = one(attributes)
    assert (found.get(INPUTS), found.get(OUTPUTS)) == content


EVENTS = {
    "strands": (
        [
            ("gen_ai.user.message", {"content": '[{"text": "Weather?"}]'}),
            ("gen_ai.choice", {"finish_reason": "tool_use", "message": '[{"toolUse": {}}]'}),
            ("gen_ai.choice", {"finish_reason": "end_turn", "message": '[{"text": "Sunny."}]'}),
        ],
        # MLflow reads the question itself
        (None, '[{"text": "Sunny."}]'),
    ),
    "strands_today": (
        [
            (DETAILS, {"gen_ai.input.messages": messages("user", text("Weather?"))}),
            (DETAILS, {"gen_ai.output.messages": messages("assistant", text("Sunny."))}),
        ],
        (messages("user", text("Weather?")), messages("assistant", text("Sunny."))),
    ),
    "strands_tool": (
        [("gen_ai.tool.message", {"content": '{"city": "Paris"}'}), ("gen_ai.choice", {"message": "21"})],
        ('{"city": "Paris"}', "21"),
    ),
    "azure": (
        [
            ("gen_ai.user.message", {"gen_ai.event.content": '{"role": "user", "content": "Weather?"}'}),
            ("gen_ai.choice", {"gen_ai.event.content": '{"message": {"content": "Sunny."}}'}),
        ],
        (
            '[{"role": "user", "content": {"role": "user", "content": "Weather?"}}]',
            '{"message": {"content": "Sunny."}}',
        ),
    ),
    "spring_is_read_by_mlflow": (
        [
            ("gen_ai.content.prompt", {"gen_ai.prompt": "Weather?"}),
            ("gen_ai.content.completion", {"gen_ai.completion": "Sunny."}),
        ],
        (None, None),
    ),
    "strands_memory": (
        [("memory.query", {"content": "weather"}), ("memory.results", {"content": '[{"content": "x"}]'})],
        ("weather", '[{"content": "x"}]'),
    ),
    "others": ([("exception", {"exception.message": "no"})], (None, None)),
}


@pytest.mark.parametrize(("events", "content"), EVENTS.values(), ids=EVENTS)
def test_messages_in_events_are_given_to_mlflow(
    events: Sequence[tuple[str, Mapping[str, Any]]], content: tuple[str | None, str | None]
) -> None:
    found = one(CHAT, events)
    assert (found.get(INPUTS), found.get(OUTPUTS)) == content


@pytest.mark.parametrize("key", ["gen_ai.input.messages", "pydantic_ai.all_messages", "gen_ai.prompt"])
def test_a_picture_is_not_copied_as_text(key: str) -> None:
    picture = messages("user", {"type": "blob", "content": BLOB}, text("What is it?"))
    found = one({**CHAT, key: picture, "input.value": "What is it?" if "messages" in key else ""})
    assert len(found.get(INPUTS, "")) < 500
    if INPUTS in found:
        assert "What is it?" in found[INPUTS]


@given(st.text(max_size=3000) | st.from_regex(r"[A-Za-z0-9+/]{900,1200}", fullmatch=True))
def test_only_binary_data_is_left_out_of_a_copy(content: str) -> None:
    copied = json.loads(without_binary(json.dumps([{"role": "user", "content": content}])))
    assert (copied[0]["content"] == content) != is_binary(content)


MEMBERS = (
    "role content parts type text messages id kwargs name data prompt choices message output system thought"
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(["user", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS.split()), inner),
    max_leaves=12,
)


@given(json_values)
def test_no_messages_whatsoever_raise(value: Any) -> None:
    for role in ("user", "assistant"):
        for read in (said, spoken, as_chat):
            assert isinstance(read(json.dumps(value), role=role), str | None)


EVENT_NAMES = sorted({*READ_AS_INPUT, *READ_AS_OUTPUT, *MEMORY_INPUTS, "memory.results", DETAILS})
EVENT_KEYS = [*BODIES, "gen_ai.prompt", "gen_ai.completion", "gen_ai.output.messages", "finish_reason"]


@given(
    st.lists(
        st.tuples(st.sampled_from(EVENT_NAMES), st.dictionaries(st.sampled_from(EVENT_KEYS), values)),
        max_size=4,
    )
)
def test_no_events_whatsoever_make_a_trace_fail(events: list[tuple[str, dict[str, Any]]]) -> None:
    made = [span(1, None, {}), span(2, 1, CHAT)]
    for each in made:
        for name, attributes in events:
            added = each.events.add(name=name)
            for key, value in attributes.items():
                added.attributes.add(key=key, value=any_value(value))
    assert harmonise(request(*made), parts=ALL, notes={}).faults.count == 0


# roots

AGENT = {"openinference.span.kind": "AGENT"}
QUESTION = {"gen_ai.input.messages": '[{"role": "user", "content": "Weather?"}]'}
CALLS_A_TOOL = {"gen_ai.output.messages": messages("assistant", TOOL_CALL)}
SUNNY = {"gen_ai.output.messages": messages("assistant", text("Sunny."))}


def timed(number: int, parent: int | None, attributes: dict[str, Any], end: int) -> Span:
    made = span(number, parent, attributes)
    made.end_time_unix_nano = made.start_time_unix_nano + end * 1_000_000_000
    return made


SILENT_AGENTS = [
    timed(1, None, {}, 9),
    timed(2, 1, AGENT, 8),
    timed(3, 2, {**CHAT, **QUESTION, **CALLS_A_TOOL}, 1),
    timed(4, 2, {"gen_ai.operation.name": "execute_tool", "input.value": '{"city": "Paris"}'}, 2),
    timed(5, 2, {**CHAT, **QUESTION, **SUNNY}, 5),
]


def test_a_plain_root_shows_the_first_question_and_the_last_answer() -> None:
    root, agent, *_ = given_to(*SILENT_AGENTS, parts=CONTENT)
    assert (root[INPUTS], root[OUTPUTS]) == ("Weather?", "Sunny.")
    assert agent == {}


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])), ids=str)
def test_question_and_answer_come_out_right_when_calls_come_in_any_order(order: Sequence[int]) -> None:
    first, agent, last = [SILENT_AGENTS[2]], [SILENT_AGENTS[1], SILENT_AGENTS[3]], [SILENT_AGENTS[4]]
    pieces = [[first, agent, last][at] for at in order]
    sent, _ = in_requests([*pieces, [SILENT_AGENTS[0]]])
    root = attributes_of(all_spans(sent[-1])[0])
    assert (root[INPUTS], root[OUTPUTS]) == ("Weather?", "Sunny.")


def test_what_an_agent_says_itself_is_shown() -> None:
    spans = [*SILENT_AGENTS]
    spans[1] = timed(2, 1, {**AGENT, "input.value": "What about Paris?", "output.value": "Sunny there."}, 8)
    root, *_ = given_to(*spans, parts=CONTENT)
    assert (root[INPUTS], root[OUTPUTS]) == ("What about Paris?", "Sunny there.")


def test_a_root_keeps_what_it_shows_itself() -> None:
    spans = [timed(1, None, {"input.value": "mine"}, 9), *SILENT_AGENTS[1:]]
    root, *_ = given_to(*spans, parts=CONTENT)
    assert root == {OUTPUTS: "Sunny."}


def test_a_trace_that_only_calls_tools_shows_no_answer() -> None:
    root, *_ = given_to(*SILENT_AGENTS[:4], parts=CONTENT)
    assert root == {INPUTS: "Weather?"}


def test_a_web_servers_root_that_waits_is_told_of_an_answer_once() -> None:
    web = span(1, None, {"http.request.method": "POST"})
    sent, _ = in_requests([[web], SILENT_AGENTS[1:3], [SILENT_AGENTS[4]], [SILENT_AGENTS[4]]])
    assert [len(all_spans(export)) for export in sent] == [1, 3, 2, 1]
    told = attributes_of(all_spans(sent[2])[-1])
    assert (told[INPUTS], told[OUTPUTS]) == ("Weather?", "Sunny.")


# numbers of MLflow's own


def test_usage_in_an_object_stays_an_object() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    found = given_to(span(1, None, {"mlflow.spanType": "LLM", "mlflow.chat.tokenUsage": usage}))[0]
    assert "mlflow.chat.tokenUsage" not in found


def test_what_is_replaced_is_kept_as_json_of_its_own_type() -> None:
    wrong = {"input_tokens": "many", "raw": b"\x00\xff", "rate": float("nan")}
    made = span(1, None, {"mlflow.chat.tokenUsage": wrong})
    export = request(made)
    harmonise(export, parts=ALL, notes={})
    found = decode_attributes(all_spans(export)[0].attributes)
    assert json.loads(found["sidespan.replaced"]) == {
        "mlflow.chat.tokenUsage": {"input_tokens": "many", "raw": "AP8=", "rate": "nan"}
    }


OWN_MESSAGES = {
    "opentelemetry": (
        "gen_ai.output.messages",
        json.dumps(
            [
                {"role": "assistant", "parts": [TOOL_CALL]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "response": "21"}]},
                {"role": "assistant", "parts": [text("Sunny.")], "finish_reason": "stop"},
            ]
        ),
        [
            {"role": "assistant", "parts": [TOOL_CALL], "content": ""},
            {"role": "tool", "parts": [{"type": "tool_call_response", "response": "21"}], "content": ""},
            {"role": "assistant", "finish_reason": "stop", "content": "Sunny."},
        ],
    ),
    "langgraph_state": (
        "output.value",
        '{"messages": [{"type": "human", "data": {"content": "Weather?"}},'
        ' {"type": "ai", "data": {"content": "Sunny."}}]}',
        [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Sunny."}],
    ),
    "langgraph_pairs": (
        "output.value",
        '{"messages": [["user", "Weather?"], ["assistant", "Sunny."]]}',
        [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Sunny."}],
    ),
    "gemini": (
        "output.value",
        '{"candidates": [{"content": {"role": "model", "parts": [{"text": "Sunny."}]}}], "usage": {}}',
        [{"role": "assistant", "content": "Sunny."}],
    ),
}


@pytest.mark.parametrize(("key", "value", "chat"), OWN_MESSAGES.values(), ids=OWN_MESSAGES)
def test_messages_of_a_root_get_the_form_whose_text_mlflow_shows(
    key: str, value: str, chat: list[dict[str, Any]]
) -> None:
    assert json.loads(one({**AGENT, key: value}, parent=None)[OUTPUTS]) == {"messages": chat}


LEFT = {
    "text": ("output.value", "Sunny."),
    "messages_that_mlflow_reads": (
        "output.value",
        '{"messages": [{"role": "assistant", "content": "Sunny."}]}',
    ),
    "a_response_that_mlflow_reads": (
        "output.value",
        '{"choices": [{"message": {"role": "assistant", "content": "Sunny."}}]}',
    ),
    "the_applications_own_object": ("output.value", '{"degrees": 21}'),
    "no_text_at_all": ("gen_ai.output.messages", messages("assistant", TOOL_CALL)),
    "what_the_client_set_for_mlflow": (OUTPUTS, messages("assistant", text("Sunny."))),
}


@pytest.mark.parametrize(("key", "value"), LEFT.values(), ids=LEFT)
def test_what_a_root_shows_well_is_left_as_it_is(key: str, value: str) -> None:
    assert one({**AGENT, key: value}, parent=None) == {}


def test_texts_that_are_no_conversation_keep_their_form() -> None:
    found = one({"openinference.span.kind": "RETRIEVER", "output.value": '[{"text": "May"}]'}, parent=None)
    assert found == {}


def test_messages_below_a_root_keep_their_form() -> None:
    *_, child = given_to(span(1, None, {}), span(2, 1, {**AGENT, **SUNNY}), parts=CONTENT)
    assert child == {}


def test_a_plain_root_that_came_first_is_told_of_question_and_answer_later() -> None:
    sent, _ = in_requests([SILENT_AGENTS[:1], SILENT_AGENTS[2:3], SILENT_AGENTS[1:2] + SILENT_AGENTS[3:]])
    roots = [each for export in sent for each in all_spans(export) if not each.parent_span_id]
    told = attributes_of(roots[-1])
    assert (told[INPUTS], told[OUTPUTS]) == ("Weather?", "Sunny.")


def test_arguments_of_an_agent_in_json_are_no_question() -> None:
    crew = {**AGENT, "input.value": '{"agent": {"role": "weather_agent"}, "task": {"id": 1}}'}
    spans = [SILENT_AGENTS[0], timed(2, 1, crew, 8), *SILENT_AGENTS[2:]]
    root, *_ = given_to(*spans, parts=CONTENT)
    assert root[INPUTS] == "Weather?"


def test_an_empty_list_is_no_content_of_an_agent() -> None:
    root, *_ = given_to(
        timed(1, None, {**AGENT, "gen_ai.input.messages": "[]"}, 9), *SILENT_AGENTS[2:], parts=CONTENT
    )
    assert root[INPUTS] == "Weather?"


PROMPTS = {
    "vercel": ("ai.prompt", '{"system": "Be brief.", "prompt": "Weather?"}'),
    "smolagents": ("input.value", '{"task": "Weather?", "stream": false, "additional_args": null}'),
}


@pytest.mark.parametrize(("key", "value"), PROMPTS.values(), ids=PROMPTS)
def test_a_frameworks_prompt_is_its_users_question(key: str, value: str) -> None:
    found = json.loads(one({**AGENT, key: value}, parent=None)[INPUTS])
    assert found["messages"][-1] == {"role": "user", "content": "Weather?"}


QUOTED = {
    "mlflow.spanType": ('"CHAT_MODEL"', "CHAT_MODEL"),
    "mlflow.llm.model": ('"gpt-4o-mini"', "gpt-4o-mini"),
    "mlflow.llm.provider": ('"openai"', "openai"),
}


def test_mlflow_groups_by_values_of_its_own_sdk_without_json_quotes() -> None:
    client = {key: quoted for key, (quoted, _) in QUOTED.items()}
    export = request(span(1, None, client))
    harmonise(export, parts=ALL, notes={})
    found = attributes_of(all_spans(export)[0])
    assert {key: found[key] for key in QUOTED} == {key: plain for key, (_, plain) in QUOTED.items()}
    assert json.loads(found["sidespan.replaced"]) == client


def test_without_content_no_root_waits_for_words() -> None:
    sent, _ = in_requests([SILENT_AGENTS[:1], SILENT_AGENTS[1:]], parts=ALL - CONTENT)
    assert [len(all_spans(export)) for export in sent] == [1, 4]
