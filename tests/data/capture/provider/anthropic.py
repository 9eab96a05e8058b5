"""Anthropic's messages: a request, an answer and its events. Pure.

Anthropic counts `input_tokens` without what was read from or written to the cache.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.data.capture.provider.openai import Event
from tests.data.capture.provider.script import Ask, Reply, Tokens

FINISH = {"stop": "end_turn", "tool": "tool_use", "length": "max_tokens"}
FAILURE = {"type": "error", "error": {"type": "invalid_request_error", "message": "The model refuses."}}


def ask(body: Mapping[str, Any]) -> Ask:
    blocks = [block for message in body["messages"] for block in _blocks(message["content"])]
    return Ask(
        model=body["model"],
        text=json.dumps([body.get("system"), body["messages"]]),
        tools={tool["name"]: tool.get("input_schema") or {} for tool in body.get("tools") or ()},
        results=sum(block.get("type") == "tool_result" for block in blocks),
        stream=bool(body.get("stream")),
        thinks=(body.get("thinking") or {}).get("type") == "enabled",
    )


def answer(reply: Reply) -> dict[str, Any]:
    assert reply.tokens is not None
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": list(_content(reply)),
        "stop_reason": FINISH[reply.finish],
        "stop_sequence": None,
        "usage": usage(reply.tokens),
    }


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.input - tokens.cached - tokens.cache_write,
        "cache_read_input_tokens": tokens.cached,
        "cache_creation_input_tokens": tokens.cache_write,
        "output_tokens": tokens.output,
        "service_tier": "standard",
    }


def events(reply: Reply) -> Iterator[Event]:
    whole = answer(reply)
    begun = {**whole["usage"], "output_tokens": 1}
    yield _event("message_start", message={**whole, "content": [], "stop_reason": None, "usage": begun})
    for index, block in enumerate(whole["content"]):
        empty, delta = _parts(block)
        yield _event("content_block_start", index=index, content_block=empty)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=end, usage=whole["usage"])
    yield _event("message_stop")


def _event(name: str, **said: Any) -> Event:
    return name, {"type": name, **said}


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [] if isinstance(content, str) else list(content)


def _content(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.thought:
        yield {"type": "thinking", "thinking": reply.thought, "signature": "c2lnbmVk"}
    if reply.text:
        yield {"type": "text", "text": reply.text}
    for use in reply.uses:
        yield {"type": "tool_use", "id": use.id, "name": use.name, "input": dict(use.arguments)}


def _parts(block: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A block as it begins, and what is added to it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        case "thinking":
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            return {**block, "thinking": "", "signature": ""}, thought
        case _:
            said = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            return {**block, "input": {}}, said
