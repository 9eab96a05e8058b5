"""Messages that stand in a span's events. Pure.

    gen_ai.user.message, gen_ai.choice, ...             OpenTelemetry GenAI up to 1.36, Strands, Azure
    gen_ai.client.inference.operation.details           OpenTelemetry GenAI since 1.37
    gen_ai.content.prompt, gen_ai.content.completion    before 1.28, Spring AI
    memory.query, memory.content, memory.results        Strands

MLflow 3.17 reads `content` of the first and the third kind, of any span (mlflow/tracing/otel/translation).
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.messages import ASSISTANT, USER, said, without_binary
from collector.spans.facts import decode_attributes
from collector.spans.json_text import read_json

DETAILS = "gen_ai.client.inference.operation.details"
INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
CHOICE = "gen_ai.choice"
_MESSAGE = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
# event -> the attribute that MLflow reads of it
READ_AS_INPUT = {f"gen_ai.{role}.message": "content" for role in ("system", "user", "assistant")} | {
    "gen_ai.content.prompt": "gen_ai.prompt"
}
READ_AS_OUTPUT = {CHOICE: "content", "gen_ai.content.completion": "gen_ai.completion"}
# where a message stands in an event, the first that is there
BODIES = ("content", "message", "gen_ai.event.content")
MEMORY_INPUTS = ("memory.query", "memory.content")

Event = tuple[str, dict[str, Any]]


def decoded(events: Iterable[Span.Event]) -> list[Event]:
    """(name, attributes) of those that may hold messages."""
    return [
        (event.name, decode_attributes(event.attributes))
        for event in events
        if event.name.startswith(("gen_ai.", "memory."))
    ]


def are_read(events: Sequence[Event], read: dict[str, str]) -> bool:
    """Whether MLflow finds anything in the events that it reads."""
    return any(name in read and attributes.get(read[name]) for name, attributes in events)


def event_input(events: Sequence[Event]) -> str | None:
    """What came in: the messages as JSON, or the one text there is."""
    for name, attributes in events:
        if name == DETAILS and (text := _as_text(attributes.get(INPUT_MESSAGES))):
            return without_binary(text)
        if name in MEMORY_INPUTS and (text := _as_text(attributes.get("content"))):
            return text
    listed = [(match[1], body) for name, attributes in events if (match := _MESSAGE.fullmatch(name))
              and (body := _body(attributes))]  # fmt: skip
    if len(listed) == 1 and listed[0][0] == "tool":
        return listed[0][1]
    messages = [{"role": role, "content": _as_value(body)} for role, body in listed]
    return without_binary(json.dumps(messages, ensure_ascii=False)) if messages else None


def event_output(events: Sequence[Event]) -> str | None:
    """What came out last."""
    for name, attributes in reversed(events):
        text = None
        if name == DETAILS:
            text = _as_text(attributes.get(OUTPUT_MESSAGES))
        elif name == CHOICE:
            text = _body(attributes)
        elif name == "gen_ai.content.completion":
            text = _as_text(attributes.get("gen_ai.completion"))
        elif name == "memory.results":
            text = _as_text(attributes.get("content"))
        if text:
            return without_binary(text)
    return None


def question_in(events: Sequence[Event]) -> str | None:
    """What the user asked last."""
    for name, attributes in reversed(events):
        if name == DETAILS:
            text = _as_text(attributes.get(INPUT_MESSAGES))
        elif name == "gen_ai.user.message":
            text = _body(attributes)
        else:
            text = _as_text(attributes.get("gen_ai.prompt")) if name == "gen_ai.content.prompt" else None
        if asked := said(text, role=USER):
            return asked
    return None


def answer_in(events: Sequence[Event]) -> str | None:
    """What was answered, in words."""
    return said(event_output(events), role=ASSISTANT)


def _body(attributes: dict[str, Any]) -> str | None:
    return next((text for key in BODIES if (text := _as_text(attributes.get(key)))), None)


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, list | dict) and value
        else None
    )


def _as_value(text: str) -> Any:
    value = read_json(text) if text[:1] in ("[", "{") else None
    return text if value is None else value
