"""Parts of messages, in the forms in which frameworks and providers write them."""

from typing import Any

import pytest

from collector.answers.chat.parts import part_of
from collector.answers.chat.values import Call, ChatPart, Media, MediaKind, Other, Result, Words

CALL = Call(id="c1", name="weather", arguments={"city": "Paris"})
IMAGE = Media(kind=MediaKind.IMAGE, mime_type="image/png", data="iVBORw0KGgo=")
LINK = Media(kind=MediaKind.IMAGE, url="https://example.com/cat.png")


@pytest.mark.parametrize(
    ("part", "read"),
    [
        pytest.param("hello", Words(text="hello"), id="plain_text"),
        pytest.param({"type": "text", "content": "hello"}, Words(text="hello"), id="opentelemetry_text"),
        pytest.param(
            {"type": "output_text", "text": "hello"}, Words(text="hello"), id="openai_responses_text"
        ),
        pytest.param({"text": "hello"}, Words(text="hello"), id="gemini_and_bedrock_text"),
        pytest.param(
            {"text": "hm", "thought": True}, Words(text="hm", is_reasoning=True), id="gemini_thought"
        ),
        pytest.param(
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            Words(text="hm", is_reasoning=True),
            id="anthropic_thinking",
        ),
        pytest.param(
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            Words(text="hm", is_reasoning=True),
            id="openai_reasoning",
        ),
        pytest.param(
            {"reasoningContent": {"reasoningText": {"text": "hm"}}},
            Words(text="hm", is_reasoning=True),
            id="bedrock_reasoning",
        ),
        pytest.param(
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}},
            CALL,
            id="opentelemetry_call",
        ),
        pytest.param(
            {
                "type": "function",
                "id": "c1",
                "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
            },
            CALL,
            id="openai_call",
        ),
        pytest.param(
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
            Call(id="c1", name="weather", arguments={}),
            id="openai_responses_call",
        ),
        pytest.param(
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}},
            CALL,
            id="anthropic_call",
        ),
        pytest.param(
            {"toolUse": {"toolUseId": "c1", "name": "weather", "input": {"city": "Paris"}}},
            CALL,
            id="bedrock_call",
        ),
        pytest.param(
            {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Paris"}}},
            CALL,
            id="gemini_call",
        ),
        pytest.param(
            {"type": "tool-call", "toolCallId": "c1", "toolName": "weather", "input": {"city": "Paris"}},
            CALL,
            id="vercel_call",
        ),
        pytest.param(
            {"tool_call": {"tool_name": "weather", "arguments": {"city": "Paris"}, "id": "c1"}},
            CALL,
            id="haystack_call",
        ),
        pytest.param(
            {"type": "tool_call_response", "id": "c1", "response": "sunny"},
            Result(id="c1", name=None, content="sunny"),
            id="opentelemetry_result",
        ),
        pytest.param(
            {"type": "function_call_output", "id": "fc_2", "call_id": "c1", "output": '{"sky": "sunny"}'},
            Result(id="c1", name=None, content={"sky": "sunny"}),
            id="openai_responses_result",
        ),
        pytest.param(
            {
                "type": "tool_result",
                "tool_use_id": "c1",
                "content": [{"type": "text", "text": "no"}],
                "is_error": True,
            },
            Result(id="c1", name=None, content="no", is_error=True),
            id="anthropic_result",
        ),
        pytest.param(
            {"toolResult": {"toolUseId": "c1", "content": [{"json": {"sky": "sunny"}}], "status": "success"}},
            Result(id="c1", name=None, content={"sky": "sunny"}),
            id="bedrock_result",
        ),
        pytest.param(
            {
                "type": "tool-result",
                "toolCallId": "c1",
                "toolName": "weather",
                "output": {"type": "text", "value": "ok"},
            },
            Result(id="c1", name="weather", content="ok"),
            id="vercel_result",
        ),
        pytest.param(
            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "iVBORw0KGgo="},
            IMAGE,
            id="opentelemetry_blob",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            IMAGE,
            id="openai_image",
        ),
        pytest.param(
            {"type": "input_image", "image_url": "https://example.com/cat.png"},
            LINK,
            id="openai_responses_image",
        ),
        pytest.param(
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
            },
            IMAGE,
            id="anthropic_image",
        ),
        pytest.param(
            {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}, IMAGE, id="bedrock_image"
        ),
        pytest.param(
            {"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}}, IMAGE, id="gemini_image"
        ),
        pytest.param(
            {"type": "image", "image": "iVBORw0KGgo=", "mediaType": "image/png"}, IMAGE, id="vercel_image"
        ),
        pytest.param(
            {"type": "image-url", "url": "https://example.com/cat.png"}, LINK, id="pydantic_ai_image"
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            Media(kind=MediaKind.AUDIO, mime_type="audio/wav", data="UklGRg=="),
            id="openai_audio",
        ),
        pytest.param(
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
            },
            Media(kind=MediaKind.FILE, mime_type="application/pdf", data="JVBERg==", name="a.pdf"),
            id="openai_file",
        ),
        pytest.param({"odd": 1}, Other(value={"odd": 1}), id="anything_else"),
        pytest.param({"type": "text", "content": ""}, None, id="no_text"),
        pytest.param({"type": 7}, Other(value={"type": 7}), id="a_type_that_is_no_text"),
        pytest.param(
            {"image": {"source": None}}, Other(value={"image": {"source": None}}), id="an_empty_image"
        ),
    ],
)
def test_a_part_is_read_whoever_wrote_it(part: Any, read: ChatPart | None) -> None:
    assert part_of(part) == read
