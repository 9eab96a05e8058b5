"""OpenAI's forms of a request and an answer: chat completions, responses and embeddings. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.data.capture.provider import dspy
from tests.data.capture.provider.script import Ask, Reply, Tokens, ToolUse

CREATED = 1_790_000_000
FINISH = {"stop": "stop", "tool": "tool_calls", "length": "length"}
FAILURE = {
    "error": {
        "message": "The model refuses.",
        "type": "invalid_request_error",
        "param": None,
        "code": "refused",
    }
}
# how a result begins in such a text
TOLD = re.compile(r"Observation:|Error:\\n")
Event = tuple[str, Mapping[str, Any] | str]


def chat_ask(body: Mapping[str, Any]) -> Ask:
    messages = body.get("messages", ())
    tools = [each["function"] for each in body.get("tools") or () if "function" in each]
    text = json.dumps(messages)
    return Ask(
        model=body["model"],
        text=text,
        tools={tool["name"]: tool.get("parameters") or {} for tool in tools},
        fields=dspy.fields(text),
        results=sum(map(_is_result, messages)) + dspy.results(text),
        stream=bool(body.get("stream")),
    )


def _is_result(message: Mapping[str, Any]) -> bool:
    """Some frameworks (smolagents) bring a tool's result as a text of the user's."""
    return message["role"] == "tool" or (
        message["role"] == "user" and TOLD.search(json.dumps(message["content"])) is not None
    )


def chat_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def chat_answer(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.uses:
        message["tool_calls"] = [_function(use) for use in reply.uses]
    assert reply.tokens is not None
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": reply.model,
        "choices": [
            {"index": 0, "message": message, "finish_reason": FINISH[reply.finish], "logprobs": None}
        ],
        "usage": chat_usage(reply.tokens),
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def chat_events(reply: Reply, *, with_usage: bool) -> Iterator[Event]:
    """The chunks of a streamed answer; the usage comes only if it was asked for."""
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": reply.model}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> Event:
        return "", {**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": None if reply.uses else ""})
    for index, use in enumerate(reply.uses):
        yield chunk({"tool_calls": [{"index": index, **_function(use)}]})
    for word in _words(reply.text):
        yield chunk({"content": word})
    yield chunk({}, FINISH[reply.finish])
    if with_usage and reply.tokens:
        yield "", {**whole, "choices": [], "usage": chat_usage(reply.tokens)}
    yield "", "[DONE]"


def responses_ask(body: Mapping[str, Any]) -> Ask:
    said = body.get("input") or ()
    items = [] if isinstance(said, str) else [item for item in said if isinstance(item, dict)]
    return Ask(
        model=body["model"],
        text=json.dumps([said, body.get("instructions")]),
        tools={
            tool["name"]: tool.get("parameters") or {}
            for tool in body.get("tools") or ()
            if tool.get("type") == "function"
        },
        results=sum(item.get("type") == "function_call_output" for item in items),
        stream=bool(body.get("stream")),
        thinks=bool(body.get("reasoning")),
    )


def responses_answer(reply: Reply) -> dict[str, Any]:
    assert reply.tokens is not None
    tokens = reply.tokens
    cut_off = reply.finish == "length"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if cut_off else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut_off else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": reply.model,
        "output": list(_items(reply)),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
            "total_tokens": tokens.input + tokens.output,
        },
    }


def responses_events(reply: Reply) -> Iterator[Event]:
    whole = responses_answer(reply)
    empty = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": empty}]
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "output_index": index, "item": _begun(item)})
        if item["type"] == "message":
            events += _text_events(item, {**place, "content_index": 0})
        if item["type"] == "function_call":
            said = item["arguments"]
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": said})
            events.append(
                {
                    "type": "response.function_call_arguments.done",
                    **place,
                    "arguments": said,
                    "name": item["name"],
                }
            )
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    end = "response.incomplete" if reply.finish == "length" else "response.completed"
    events.append({"type": end, "response": whole})
    for number, event in enumerate(events):
        yield event["type"], {**event, "sequence_number": number}


def embeddings_answer(model: str, texts: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": [0.25, 0.5, 0.25]} for index in range(texts)
        ],
        "model": model,
        "usage": {"prompt_tokens": 8 * texts, "total_tokens": 8 * texts},
    }


def _function(use: ToolUse) -> dict[str, Any]:
    function = {"name": use.name, "arguments": json.dumps(use.arguments)}
    return {"id": use.id, "type": "function", "function": function}


def _items(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.thought:
        yield {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": reply.thought}],
        }
    for use in reply.uses:
        yield {
            "id": f"fc_{use.id}",
            "type": "function_call",
            "call_id": use.id,
            "name": use.name,
            "arguments": json.dumps(use.arguments),
            "status": "completed",
        }
    if reply.text:
        content = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        yield {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    nothing = {"content": []} if "content" in item else {"arguments": ""} if "arguments" in item else {}
    return {**item, **nothing, "status": "in_progress"}


def _text_events(item: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    (part,) = item["content"]
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for word in _words(part["text"]):
        yield {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


def _words(text: str) -> list[str]:
    return [f"{word} " for word in text.split(" ")[:-1]] + text.split(" ")[-1:] if text else []
