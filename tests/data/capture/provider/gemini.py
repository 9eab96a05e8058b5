"""Gemini's generateContent and embedContent. Pure.

`candidatesTokenCount` leaves out the tokens of thoughts, which stand beside it.
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.data.capture.provider.script import Ask, Reply, Tokens

FINISH = {"stop": "STOP", "tool": "STOP", "length": "MAX_TOKENS"}
FAILURE = {"error": {"code": 400, "message": "The model refuses.", "status": "INVALID_ARGUMENT"}}


def ask(model: str, body: Mapping[str, Any], *, stream: bool) -> Ask:
    parts = [part for content in body.get("contents", ()) for part in content.get("parts", ())]
    declared = [
        function for tool in body.get("tools") or () for function in tool.get("functionDeclarations") or ()
    ]
    return Ask(
        model=model,
        text=json.dumps([body.get("systemInstruction"), body.get("contents")]),
        tools={each["name"]: _schema(each) for each in declared},
        results=sum("functionResponse" in part for part in parts),
        stream=stream,
    )


def _schema(declared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a tool's arguments; the client sends it under one of these names."""
    names = ("parameters", "parametersJsonSchema", "parameters_json_schema")
    return next((declared[name] for name in names if declared.get(name)), {})


def answer(reply: Reply) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    parts += [{"functionCall": {"name": use.name, "args": dict(use.arguments)}} for use in reply.uses]
    assert reply.tokens is not None
    return {
        "candidates": [
            {
                "content": {"role": "model", "parts": parts},
                "finishReason": FINISH[reply.finish],
                "index": 0,
            }
        ],
        "usageMetadata": usage(reply.tokens),
        "modelVersion": reply.model,
        "responseId": "response-1",
    }


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "promptTokenCount": tokens.input,
        "cachedContentTokenCount": tokens.cached,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "thoughtsTokenCount": tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.output,
    }


def embedding() -> dict[str, Any]:
    return {"values": [0.25, 0.5, 0.25]}
