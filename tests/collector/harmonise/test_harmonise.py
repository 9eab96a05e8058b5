"""What harmonising adds to spans, as tables. What MLflow makes of it: tests/system/test_harmonise.py."""

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.apply import harmonise
from collector.harmonise.mlflow_limits import capped, tag_name
from collector.harmonise.note import Note, Telling
from collector.harmonise.parts import Part
from collector.harmonise.previews import Preview
from collector.spans.conventions import KEYS, ObservationKind
from collector.spans.facts import decode_attributes, export_facts
from tests.support.otlp import all_spans
from tests.support.spans import START, TRACE_ID, otlp_span, payload, read_back

ALL = frozenset(Part)
TRACE = bytes.fromhex(TRACE_ID)
NAME = "mlflow.traceTag.mlflow.traceName"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
USED = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
REMOTE_KNOWN, REMOTE = 0x100, 0x300


def span(number: int, parent: int | None, attributes: dict[str, Any], **fields: Any) -> Span:
    """Span `number` of the trace; it starts `number` ms after it."""
    return otlp_span(
        attributes,
        **{
            "span_id": bytes([number] * 8),
            "parent_span_id": b"" if parent is None else bytes([parent] * 8),
            "start_time_unix_nano": START + number * 1_000_000,
            "name": f"span {number}",
            "flags": REMOTE_KNOWN,
            **fields,
        },
    )


def request(*spans: Span, resource: Mapping[str, str] | None = None) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    for key, value in (resource or {}).items():
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    resource_spans.scope_spans.add().spans.extend(spans)
    return export


def attributes_of(found: Span) -> dict[str, Any]:
    return decode_attributes(found.attributes)


def given_to(
    *spans: Span, parts: frozenset[Part] = ALL, resource: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """What each span is given, in the order of the request."""
    export = request(*spans, resource=resource)
    harmonise(export, parts=parts, notes={})
    before = {bytes(each.span_id): attributes_of(each) for each in spans}
    return [
        {
            key: value
            for key, value in attributes_of(after).items()
            if before[bytes(after.span_id)].get(key) != value and not key.startswith("sidespan.")
        }
        for after in all_spans(export)
    ]


def one(attributes: dict[str, Any], parts: frozenset[Part] = ALL) -> dict[str, Any]:
    return given_to(span(1, None, attributes), parts=parts)[0]


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


def usage(input: int, output: int, **more: int) -> dict[str, int]:
    return {"input_tokens": input, "output_tokens": output, "total_tokens": input + output, **more}


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


MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "Hello?"}]}]'
CONTENT = {
    "agent_of_pydantic_ai": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "pydantic_ai.all_messages": MESSAGES,
            "final_result": "Hi.",
        },
        ("Hello?", "Hi."),
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


WEB = {"http.request.method": "POST", "http.route": "/ask"}
AGENT = {"gen_ai.operation.name": "invoke_agent"}


def test_a_trace_is_named_after_its_root() -> None:
    assert one({}, frozenset({Part.NAMES})) == {NAME: "span 1"}


def test_a_web_servers_trace_is_named_after_its_first_agent_and_shows_its_content() -> None:
    served = {**AGENT, "input.value": "Hello?", "output.value": "Hi."}
    chat, agent, root = given_to(span(3, 2, CHAT), span(2, 1, served), span(1, None, WEB))
    assert root[NAME] == "span 2"
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ("Hello?", "Hi.")
    assert NAME not in agent
    assert NAME not in chat


def test_messages_are_shown_on_a_web_servers_root_as_their_last_text() -> None:
    answer = '[{"role": "assistant", "content": "Hi."}]'
    _, root = given_to(
        span(2, 1, {**CHAT, "gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": answer}),
        span(1, None, WEB),
    )
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ("Hello?", "Hi.")


def test_a_name_that_the_client_has_given_counts() -> None:
    assert NAME not in one({NAME: "ours"})
    assert one({"langfuse.trace.name": "ours"})[NAME] == "ours"


def test_tags_are_those_of_the_root_and_what_mlflow_does_not_take_from_the_resource() -> None:
    resource = {"service.name": "shop", "deployment.environment": "test"}
    attributes = {"tag.tags": ["beta"], "metadata": '{"plan": "gold", "mlflow.user": "x", "a$b": "c"}'}
    (found,) = given_to(span(1, None, attributes), parts=frozenset({Part.TAGS}), resource=resource)
    assert found == {
        "mlflow.traceTag.beta": "true",
        "mlflow.traceTag.plan": "gold",
        "mlflow.traceTag.a_b": "c",
        "mlflow.traceTag.deployment.environment.name": "test",
    }


def test_a_root_without_tags_gets_those_that_all_tagged_spans_share() -> None:
    tagged = [span(n, 1, {"metadata": json.dumps({"plan": "gold", "step": n})}) for n in (2, 3)]
    *_, root = given_to(*tagged, span(1, None, {}), parts=frozenset({Part.TAGS}))
    assert root == {"mlflow.traceTag.plan": "gold"}


SESSIONS: dict[str, tuple[Sequence[tuple[int | None, dict[str, Any]]], list[str | None]]] = {
    "the_run_stands_for_the_session_where_there_is_none": (
        [(1, {"gen_ai.conversation.id": "run"}), (None, {"gen_ai.conversation.id": "run"})],
        [None, None],
    ),
    "the_roots_session_comes_before_a_childs_run": (
        [(1, {"gen_ai.conversation.id": "run"}), (None, {"session.id": "s"})],
        ["s", None],
    ),
    "openinferences_copy_of_the_run_gives_way": (
        [(1, {"gen_ai.conversation.id": "run", "session.id": "run"}), (None, {"langfuse.session.id": "s"})],
        ["s", None],
    ),
    "a_name_that_mlflow_does_not_read": ([(1, {}), (None, {"langfuse.session.id": "s"})], [None, "s"]),
    "nothing": ([(1, {}), (None, {})], [None, None]),
}


@pytest.mark.parametrize(("spans", "sessions"), SESSIONS.values(), ids=SESSIONS.keys())
def test_mlflow_is_shown_the_traces_session_first(
    spans: Sequence[tuple[int | None, dict[str, Any]]], sessions: list[str | None]
) -> None:
    made = [span(len(spans) - at, parent, attributes) for at, (parent, attributes) in enumerate(spans)]
    found = given_to(*made, parts=frozenset({Part.SESSIONS}))
    assert [each.get("session.id") for each in found] == sessions


def test_a_childs_own_session_comes_after_the_roots() -> None:
    export = request(span(2, 1, {"session.id": "sub"}), span(1, None, {"session.id": "main"}))
    harmonise(export, parts=ALL, notes={})
    assert [attributes_of(each)["session.id"] for each in all_spans(export)] == ["main", "sub"]


def test_a_run_does_not_take_the_place_of_the_session_that_is_still_to_come() -> None:
    (found,) = given_to(span(2, 1, {"gen_ai.conversation.id": "run"}), parts=frozenset({Part.SESSIONS}))
    assert found == {"session.id": ""}


@pytest.mark.parametrize("flags", [0, REMOTE], ids=["sender_does_not_tell", "root_is_elsewhere"])
def test_a_run_is_the_session_where_no_root_can_be_waited_for(flags: int) -> None:
    child = span(2, 1, {"gen_ai.conversation.id": "run"}, flags=flags)
    assert given_to(child, parts=frozenset({Part.SESSIONS})) == [{}]


def test_a_user_gets_the_name_that_mlflow_reads() -> None:
    assert one({"enduser.id": "ann"}, frozenset({Part.SESSIONS})) == {"user.id": "ann"}


CAPS = {
    "session": ({"session.id": "s" * 251}, "session.id"),
    "run_that_stands_for_the_session": ({"gen_ai.conversation.id": "s" * 251}, "session.id"),
    "name": ({NAME: "n" * 4097}, NAME),
}


@pytest.mark.parametrize(("attributes", "key"), CAPS.values(), ids=CAPS.keys())
def test_what_mlflow_would_refuse_the_request_for_is_cut(attributes: dict[str, Any], key: str) -> None:
    assert len(one(attributes)[key]) == 250
    assert len(one(attributes, frozenset({Part.CAPS}))[key]) == 250


UNREADABLE = {
    "usage_with_words": ("mlflow.chat.tokenUsage", '{"input_tokens": "many"}', ""),
    "cost_that_is_no_object": ("mlflow.llm.cost", "3", "{}"),
    "cost_with_words": ("mlflow.llm.cost", '{"total_cost": "much"}', "{}"),
}


@pytest.mark.parametrize(("key", "value", "safe"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_numbers_that_mlflow_would_fail_at_are_replaced(key: str, value: str, safe: str) -> None:
    assert one({key: value}, frozenset({Part.CAPS})) == {key: safe}


def test_cut_texts_stay_different() -> None:
    assert capped("x" * 400 + "a") != capped("x" * 400 + "b")
    assert capped("short") == "short"
    assert tag_name("a b/c:d.e-f_ü€") == "a b/c:d.e-f_ü_"


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


# a trace in parts


def in_requests(
    spans: Sequence[Sequence[Span]], parts: frozenset[Part] = ALL
) -> tuple[list[ExportTraceServiceRequest], dict[bytes, bytes]]:
    """The spans as one request after the other, with what each leaves for the next."""
    notes: dict[bytes, bytes] = {}
    sent = []
    for some in spans:
        export = request(*(copied(each) for each in some))
        notes |= harmonise(export, parts=parts, notes=notes).notes
        sent.append(export)
    return sent, notes


def copied(original: Span) -> Span:
    copy = Span()
    copy.CopyFrom(original)
    return copy


def as_mlflow_takes_it(sent: Sequence[ExportTraceServiceRequest]) -> dict[str, Any]:
    """Name, session and user as MLflow 3.17 makes them of requests, one after the other."""
    taken: dict[str, Any] = {"name": None, "session": None, "user": None}
    for export in sent:
        found = [attributes_of(each) for each in all_spans(export)]
        for key, names in (
            ("session", ("session.id", "gen_ai.conversation.id")),
            ("user", ("user.id",)),
        ):
            said = next((f[n] for f in found for n in names if n in f), None)
            taken[key] = taken[key] or said or None
        for each in all_spans(export):
            if not each.parent_span_id:
                taken["name"] = attributes_of(each).get(NAME, taken["name"])
    return taken


PARTED = [
    span(1, None, {**WEB, "session.id": "main", "enduser.id": "ann"}),
    span(2, 1, {**AGENT, "gen_ai.conversation.id": "run", "session.id": "run"}),
    span(3, 2, {**CHAT, **USED, "gen_ai.conversation.id": "run"}),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_trace_in_three_requests_comes_out_right_in_any_order(order: tuple[int, ...]) -> None:
    sent, _ = in_requests([[PARTED[number]] for number in order])
    assert as_mlflow_takes_it(sent) == {"name": "span 2", "session": "main", "user": "ann"}


@given(st.permutations(PARTED), st.sets(st.integers(1, 2)), st.booleans())
def test_however_a_trace_is_cut_and_repeated_it_comes_out_right(
    spans: list[Span], cuts: set[int], again: bool
) -> None:
    edges = [0, *sorted(cuts), len(spans)]
    pieces = [spans[start:end] for start, end in itertools.pairwise(edges)]
    sent, _ = in_requests(pieces + pieces if again else pieces)
    assert as_mlflow_takes_it(sent) == {"name": "span 2", "session": "main", "user": "ann"}


def test_a_whole_trace_leaves_no_note() -> None:
    _, notes = in_requests([[PARTED[2], PARTED[1], PARTED[0]]])
    assert notes == {}


def test_a_root_is_sent_once_more_only_for_what_it_was_waiting_for() -> None:
    sent, _ = in_requests([[PARTED[0]], [span(4, 1, {})], [PARTED[1]], [PARTED[2]]])
    assert [len(all_spans(export)) for export in sent] == [1, 1, 2, 1]


def test_an_agents_own_usage_is_left_out_when_its_calls_came_earlier() -> None:
    own = {**AGENT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    sent, _ = in_requests([[span(2, 1, {**CHAT, **USED})], [span(1, None, own)]])
    assert attributes_of(all_spans(sent[1])[0])["mlflow.chat.tokenUsage"] == ""


NOTES = {
    "full": Note(
        session="s",
        conversation="c",
        user="u",
        telling=Telling(start_unix_ns=5, name="n"),
        preview=Preview(question=(5, "q"), answer=None),
        counted=True,
        root_seen=True,
        root=b"\x00\xff",
    ),
    "empty": Note(),
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_a_note_reads_back_as_it_was_written(note: Note) -> None:
    assert Note.from_bytes(note.to_bytes()) == note


@given(st.binary(max_size=200))
def test_a_note_that_cannot_be_read_is_an_empty_one(content: bytes) -> None:
    assert isinstance(Note.from_bytes(content), Note)


def test_a_note_is_bounded() -> None:
    preview = Preview(question=(1, "q" * 10**6), answer=(2, "a" * 10**6))
    for root in (b"r" * 10**6, random.Random(1).randbytes(10_000), b"r" * 60_000):
        assert len(Note(preview=preview, root=root).to_bytes()) < 3000


def test_the_root_of_a_usual_web_request_is_kept_in_a_kilobyte() -> None:
    (root,) = [each for each in all_spans(payload("openai_openllmetry")) if not each.parent_span_id]
    content = request(root).resource_spans[0].SerializeToString()
    note = Note(root=content)
    assert len(note.to_bytes()) < 1024
    assert Note.from_bytes(note.to_bytes()).root == content


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


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=8),
    st.lists(st.text(max_size=5), max_size=3),
    st.sampled_from(["{}", "[]", "null", '{"input_tokens": 3}', MESSAGES, "[[[[", "s" * 300]),
)
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
