"""Conversations in what frameworks really sent, and in traces made for one case each."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.answers.chat.rendering import ChatBounds, render_thread_message
from collector.answers.chat.thread import thread_of
from tests.data.capture.environments import FRAMEWORKS
from tests.data.capture.files import requests
from tests.support.otlp import all_spans
from tests.support.spans import START, TRACE_ID, otlp_span

BOUNDS = ChatBounds(max_characters=10_000, max_media_characters=10_000)
QUESTION, CITY = "What is the weather in Paris?", "Paris"
# what the sender does not tell
SILENT = {"autogen", "opentelemetry_openai_v2"}
NO_QUESTION = {"semantic_kernel"}
NO_RESULT = {"openinference_haystack"}
# the scenario has no tool for Paris, or its sender has no span and no message of it
NO_TOOL = {"litellm_otel", "openinference_google_genai", "openinference_instructor", "openlit"}
# a structured answer: the arguments of the tool that takes it
NO_ANSWER = {"openinference_instructor"}
CAPTURES = sorted(folder.name for folder in FRAMEWORKS.iterdir() if (folder / "capture.binpb").exists())


def conversations(name: str) -> list[list[dict[str, Any]]]:
    whole = ExportTraceServiceRequest()
    for request in requests(FRAMEWORKS / name):
        whole.MergeFrom(request)
    ids = dict.fromkeys(span.trace_id for span in all_spans(whole))
    return [shown(whole, id) for id in ids]


def shown(export: ExportTraceServiceRequest, trace_id: bytes) -> list[dict[str, Any]]:
    return [render_thread_message(message, BOUNDS) for message in thread_of(export, trace_id).messages]


def text_of(message: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in message["parts"] if part["type"] == "text")


def calls_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in message["parts"] if part["type"] == "tool_call"]


@pytest.mark.parametrize("name", sorted({*CAPTURES} - SILENT))
def test_what_a_framework_sends_reads_as_a_question_a_tool_and_an_answer(name: str) -> None:
    found = next(each for each in conversations(name) if CITY in json.dumps(each))
    asked = [text_of(message) for message in found if message["role"] == "user"]
    assert name in NO_QUESTION or QUESTION in asked[0]
    if name not in NO_TOOL:
        call = next(part for part in calls_of(found) if CITY in part["arguments"]["text"])
        assert call["name"].endswith("weather")
        assert name in NO_RESULT or "sunny in Paris" in call["result"]["text"]
        assert name in NO_RESULT or (call["span_id"] and call["duration_seconds"] >= 0)
        assert len([part for part in calls_of(found) if part["name"] == call["name"]]) == 1
    assert name in NO_ANSWER or "sunny in Paris" in text_of(found[-1])


@pytest.mark.parametrize("name", sorted({*CAPTURES} - SILENT))
def test_a_call_that_was_refused_says_why(name: str) -> None:
    failing = [each for each in conversations(name) if "Please fail." in json.dumps(each)]
    for messages in failing:
        error = messages[-1]["error"] or {}
        said = json.dumps(error) + text_of(messages[-1])
        assert any(word in said for word in ("refuse", "400", "Rejected", "Error"))


def at(
    seconds: int, kind: str, attributes: dict[str, Any], *, id: int, parent: int = 0, **fields: Any
) -> Span:
    """A span of 1 s, `seconds` after the start."""
    start = START + seconds * 10**9
    return otlp_span(
        {"openinference.span.kind": kind, **attributes},
        span_id=id.to_bytes(8),
        parent_span_id=parent.to_bytes(8) if parent else b"",
        start_time_unix_nano=start,
        end_time_unix_nano=start + 10**9,
        **fields,
    )


def told(*spans: Span) -> list[dict[str, Any]]:
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.extend(spans)
    return shown(export, bytes.fromhex(TRACE_ID))


def chat(given: list[dict[str, Any]], returned: list[dict[str, Any]]) -> dict[str, str]:
    return {"gen_ai.input.messages": json.dumps(given), "gen_ai.output.messages": json.dumps(returned)}


def says(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def asks(id: str, name: str = "look", **arguments: Any) -> dict[str, Any]:
    part = {"type": "tool_call", "id": id, "name": name, "arguments": arguments}
    return {"role": "assistant", "parts": [part]}


def gets(id: str, result: str) -> dict[str, Any]:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": id, "response": result}]}


EARLIER = [says("user", "hi"), says("assistant", "hello")]


def roles_and_texts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in messages]


def test_earlier_turns_that_a_call_is_given_again_are_left_out_and_counted() -> None:
    span = at(
        0,
        "LLM",
        chat([says("system", "be brief"), *EARLIER, says("user", "and?")], [says("assistant", "so")]),
        id=1,
    )
    assert roles_and_texts(told(span)) == [("user", "and?"), ("assistant", "so")]
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.append(span)
    assert thread_of(export, bytes.fromhex(TRACE_ID)).earlier_messages == 2


def test_the_same_words_said_twice_are_shown_twice() -> None:
    first = at(0, "LLM", chat([says("user", "go")], [asks("a", x=1)]), id=1)
    again = [says("user", "go"), asks("a", x=1), gets("a", "no"), says("user", "go")]
    second = at(2, "LLM", chat(again, [says("assistant", "ok")]), id=2)
    assert roles_and_texts(told(first, second)) == [
        ("user", "go"),
        ("assistant", ""),
        ("user", "go"),
        ("assistant", "ok"),
    ]


def test_an_agent_behind_a_tool_talks_to_the_tool_and_not_to_the_user() -> None:
    messages = told(
        at(0, "AGENT", {}, id=1),
        at(0, "LLM", chat([says("user", "plan")], [asks("a")]), id=2, parent=1),
        at(1, "TOOL", {"tool.name": "look", "tool_call.id": "a", "output.value": "done"}, id=3, parent=1),
        at(1, "AGENT", {}, id=4, parent=3),
        at(1, "LLM", chat([says("user", "inner question")], [says("assistant", "inner")]), id=5, parent=4),
        at(
            2,
            "LLM",
            chat([says("user", "plan"), asks("a"), gets("a", "done")], [says("assistant", "planned")]),
            id=6,
            parent=1,
        ),
    )
    assert "inner" not in json.dumps(messages)
    assert roles_and_texts(messages)[-1] == ("assistant", "planned")
    (call,) = calls_of(messages)
    assert (call["result"]["text"], call["span_id"]) == ("done", (3).to_bytes(8).hex())


def test_parallel_calls_of_one_tool_get_their_own_results_and_spans() -> None:
    both = {"role": "assistant", "parts": [asks("a", x=1)["parts"][0], asks("b", x=2)["parts"][0]]}
    messages = told(
        at(0, "LLM", chat([says("user", "go")], [both]), id=1),
        at(1, "TOOL", {"tool.name": "look", "tool_call.id": "b", "output.value": "two"}, id=2),
        at(1, "TOOL", {"tool.name": "look", "tool_call.id": "a", "output.value": "one"}, id=3),
        at(
            2,
            "LLM",
            chat([says("user", "go"), both, gets("b", "two"), gets("a", "one")], [says("assistant", "ok")]),
            id=4,
        ),
    )
    assert [(call["id"], call["result"]["text"], call["span_id"][-1]) for call in calls_of(messages)] == [
        ("a", "one", "3"),
        ("b", "two", "2"),
    ]


def test_a_tool_without_messages_stands_where_it_ran() -> None:
    messages = told(
        at(
            0,
            "AGENT",
            {"input.value": "go", "output.value": "gone"},
            id=1,
        ),
        at(
            0,
            "TOOL",
            {"tool.name": "look", "input.value": '{"x": 1}', "output.value": "seen"},
            id=2,
            parent=1,
        ),
    )
    assert [message["role"] for message in messages] == ["user", "assistant", "assistant"]
    (call,) = calls_of(messages)
    assert (call["arguments"]["text"], call["arguments"]["is_json"]) == ('{"x": 1}', True)
    assert roles_and_texts(messages)[-1] == ("assistant", "gone")


def test_a_tool_that_failed_says_so_at_its_call() -> None:
    messages = told(
        at(0, "LLM", chat([says("user", "go")], [asks("a")]), id=1),
        at(
            1,
            "TOOL",
            {"tool.name": "look", "tool_call.id": "a"},
            id=2,
            status=Status(code=Status.STATUS_CODE_ERROR, message="no such place"),
        ),
    )
    (call,) = calls_of(messages)
    assert call["is_error"]
    assert call["error"]["message"]["text"] == "no such place"


def test_results_of_an_earlier_trace_go_to_no_call_of_this_one() -> None:
    given = [gets("earlier", "old"), says("user", "go")]
    messages = told(at(0, "LLM", chat(given, [asks("a")]), id=1))
    (call,) = calls_of(messages)
    assert call["result"] is None


def test_a_trace_without_content_has_no_messages() -> None:
    assert told(at(0, "LLM", {}, id=1)) == []


@pytest.mark.parametrize(
    "value",
    [
        "[[[[[[[[",
        '{"role": {"role": []}}',
        '[{"role": "user", "parts": 7}]',
        '[{"role": 7}]',
        "[null, 1]",
        '{"messages": {}}',
    ]
    + [
        '[{"role": "tool"}]',
        '[{"type": "tool_use"}]',
        '{"kwargs": 1, "id": [1]}',
        '[{"role": "user", "content": [[[]]]}]',
    ]
    + [
        '{"choices": [{"message": null}]}',
        '[{"role": "assistant", "tool_calls": [1, null, {"function": []}]}]',
        '"',
    ],
)
def test_malformed_messages_do_no_harm(value: str) -> None:
    names = ("gen_ai.input.messages", "gen_ai.output.messages", "pydantic_ai.all_messages", "input.value")
    assert isinstance(told(at(0, "LLM", dict.fromkeys(names, value), id=1)), list)


def test_long_texts_and_images_are_bounded() -> None:
    image = {"type": "blob", "mime_type": "image/png", "content": "A" * 100}
    given = [{"role": "user", "parts": [{"type": "text", "content": "x" * 100}, image]}]
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.append(at(0, "LLM", chat(given, []), id=1))
    bounds = ChatBounds(max_characters=10, max_media_characters=50)
    (message, *_) = thread_of(export, bytes.fromhex(TRACE_ID)).messages
    text, picture = render_thread_message(message, bounds)["parts"]
    assert (text["text"], text["characters"]) == ("x" * 10, 100)
    assert (picture["data"], picture["characters"]) == (None, 100)
