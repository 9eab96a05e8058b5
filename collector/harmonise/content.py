"""Inputs and outputs of a span where MLflow finds none, or only a part. Pure.

MLflow takes the first attribute of its list that isn't empty JSON. It misses: pydantic-ai's own names on
agents and (version 2) tools; arguments `{}` and results such as `[]`; the messages of a model call once
OpenInference has put the last user text into `input.value`; flattened messages but for the first.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from collector.harmonise.parts import Addition, Part
from collector.spans.conventions import ObservationKind
from collector.spans.facts import decode
from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json

STRUCTURES = frozenset({"array_value", "kvlist_value"})
INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
View = Mapping[str, AnyValue]

# what MLflow 3.17 reads, in its order (mlflow/tracing/otel/translation)
INPUTS_READ = (
    INPUTS,
    "input.value",
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "traceloop.entity.input",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.tool_call_args",
    "ai.prompt",
    "ai.prompt.messages",
    "ai.toolCall.args",
    "ai.value",
    "ai.values",
    "agent.messages",
    "llm.messages",
    "input",
    "lmnr.span.input",
    "langfuse.observation.input",
    "user_prompt",
    "new_context",
    "tool_input",
)
OUTPUTS_READ = (
    OUTPUTS,
    "output.value",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "traceloop.entity.output",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_response",
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.toolCall.result",
    "ai.response.object",
    "ai.embedding",
    "ai.embeddings",
    "output",
    "lmnr.span.output",
    "langfuse.observation.output",
    "response.model_output",
)
# what it doesn't read, beside pydantic-ai's messages of a whole run
INPUTS_UNREAD = ("tool_arguments",)
OUTPUTS_UNREAD = ("tool_response", "final_result")
# nobody sends a million messages; a number of thousands of digits is none to Python
PROMPT = re.compile(r"(?:gen_ai\.prompt|llm\.input_messages)\.([0-9]{1,6})\.(?:message\.)?(role|content)")
COMPLETION = re.compile(
    r"(?:gen_ai\.completion|llm\.output_messages)\.([0-9]{1,6})\.(?:message\.)?(role|content)"
)
# parts of a message whose content is nothing that somebody said
NO_WORDS = frozenset({"blob", "reasoning"})
EMPTY: tuple[Any, ...] = ({}, [], "", 0)
FLATTENED = ("gen_ai.prompt.", "llm.input_messages.", "gen_ai.completion.", "llm.output_messages.")


def content_additions(kind: ObservationKind, view: View) -> list[Addition]:
    """Attributes that give MLflow a span's inputs and outputs; nothing where it reads them whole."""
    found = ((INPUTS, _inputs(kind, view)), (OUTPUTS, _outputs(kind, view)))
    return [
        Addition(part=Part.CONTENT, key=key, value=value)
        for key, value in found
        if value is not None and key not in view
    ]


def shown(view: View, keys: Sequence[str]) -> str | None:
    """What MLflow would show of `keys`: the first text that isn't empty JSON."""
    texts = (_text(view, key) for key in keys if key in view)
    return next((text for text in texts if text and not _is_empty(text)), None)


def _inputs(kind: ObservationKind, view: View) -> str | None:
    if kind is ObservationKind.LLM and "input.value" in view:
        if messages := _text(view, "gen_ai.input.messages"):
            return messages
    if shown(view, INPUTS_READ) is not None:
        return None
    return (
        _last_of(_text(view, "pydantic_ai.all_messages"), role="user")
        or _first_text(view, INPUTS_UNREAD)
        or _flattened(view, PROMPT)
        or _first_text(view, INPUTS_READ)
    )


def _outputs(kind: ObservationKind, view: View) -> str | None:
    if kind is ObservationKind.LLM and "output.value" in view:
        if messages := _text(view, "gen_ai.output.messages"):
            return messages
    if shown(view, OUTPUTS_READ) is not None:
        return None
    return (
        _first_text(view, OUTPUTS_UNREAD) or _flattened(view, COMPLETION) or _first_text(view, OUTPUTS_READ)
    )


def _text(view: View, key: str) -> str | None:
    """An attribute's text; JSON where it is a structure, which MLflow makes of it too."""
    value = view.get(key)
    if value is None:
        return None
    if value.WhichOneof("value") in STRUCTURES:
        return json.dumps(decode(value), ensure_ascii=False, default=str)
    return value.string_value or None


def _first_text(view: View, keys: Iterable[str]) -> str | None:
    return next((text for key in keys if (text := _text(view, key))), None)


def _is_empty(text: str) -> bool:
    # only short texts can be `{}`, `[]`, `0`, `false`, `null`, `""`
    if len(text) > 8:
        return False
    # what is no JSON reads as None too, and is not empty
    return text.strip() == "null" or read_json(text) in EMPTY


def last_text(value: str | None, *, role: str) -> str | None:
    """What the last message of `role` says, where `value` is a list of messages; else `value` itself."""
    return _last_of(value, role=role) or value


def _last_of(messages: str | None, *, role: str) -> str | None:
    """The text of the last message of `role`, in OpenTelemetry's form (parts) or OpenAI's (content)."""
    if not messages or not messages.startswith("["):
        return None
    parsed = read_json(messages, max_characters=MAX_CONTENT_CHARACTERS)
    for message in reversed(parsed) if isinstance(parsed, list) else ():
        if isinstance(message, dict) and message.get("role") == role:
            parts = message.get("parts")
            listed = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
            said = [part for part in (*listed, message) if isinstance(part.get("content"), str)]
            # of other kinds of parts than text some hold a file in base64, or what the model only thought
            best = [part for part in said if part.get("type", "text") == "text"] or [
                part for part in said if part.get("type") not in NO_WORDS
            ]
            return (str(best[0]["content"]) or None) if best else None
    return None


def _flattened(view: View, names: re.Pattern[str]) -> str | None:
    """JSON of the messages that `prefix.N.role` and `prefix.N.content` spell out."""
    messages: dict[int, dict[str, Any]] = {}
    for key, value in view.items():
        if key.startswith(FLATTENED) and (match := names.fullmatch(key)):
            content = value.string_value
            messages.setdefault(int(match[1]), {})[match[2]] = content
    whole = [messages[number] for number in sorted(messages) if messages[number].get("content")]
    return json.dumps(whole, ensure_ascii=False) if whole else None
