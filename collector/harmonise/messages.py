"""What is said in the messages that frameworks write into attributes: their text, and nothing else. Pure.

    [{"role", "parts": [{"type": "text", "content"}]}]        OpenTelemetry GenAI
    [{"role", "content": "..." or [{"type": "text", "text"}]}]  OpenAI, Anthropic, Bedrock, LangChain
    {"contents": [{"role", "parts": [{"text"}]}]}             Gemini, Google ADK
    {"messages"}, {"choices": [{"message"}]}, {"output"}, ... what holds them

Images, audio, files, reasoning and tool calls are no text. What has another form is text as a whole.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json

USER, ASSISTANT = "user", "assistant"
ROLES = {
    "user": USER,
    "human": USER,
    "humanmessage": USER,
    "assistant": ASSISTANT,
    "ai": ASSISTANT,
    "aimessage": ASSISTANT,
    "aimessagechunk": ASSISTANT,
    "model": ASSISTANT,
    "agent": ASSISTANT,
}
TEXT_PARTS = frozenset({None, "text", "input_text", "output_text", "refusal"})
TEXTS_OF_PARTS = ("text", "content", "refusal")
SPEAKERS = frozenset(ROLES) | {"system", "developer", "tool"}
# where a text stands in what a framework passes or returns, whose it is, and which others may stand there:
# the Vercel AI SDK's `ai.prompt`, smolagents' run, CrewAI's output
TEXTS_OF_OBJECTS = {
    "prompt": (USER, frozenset({"system"})),
    "task": (
        USER,
        frozenset(
            {"stream", "reset", "images", "additional_args", "max_steps", "return_full_result", "self"}
        ),
    ),
    "raw": (ASSISTANT, frozenset({"pydantic", "json_dict", "tasks_output", "token_usage"})),
}
# where MLflow looks for messages
READ_BY_MLFLOW = ("messages", "input", "output")
# where an object that is no message itself keeps its messages, in the order in which they are looked for
HOLDERS = (
    "messages",
    "choices",
    "contents",
    "candidates",
    "generations",
    "output",
    "input",
    "message",
    "content",
    "kwargs",
    "request",
)
# an object with one of these is a part of a message that has no text
WORDLESS = frozenset(
    {"tool_calls", "toolCalls", "tool_call_id", "toolCallId", "toolUse", "toolResult", "function_call"}
    | {"function_response", "functionCall", "functionResponse", "inline_data", "inlineData"}
    | {"reasoningContent", "image", "image_url", "document", "video", "audio"}
)
ARGUMENTS = frozenset({"arguments", "args"})
MAX_LEVELS = 6
MIN_BINARY_CHARACTERS = 1000
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")

Message = tuple[str | None, Any]


def said(value: str | None, *, role: str) -> str | None:
    """What the last message of `role` with any text says; `value` itself where it holds no messages."""
    return _said(value, role, otherwise=value)


def spoken(value: str | None, *, role: str) -> str | None:
    """As `said`; None where `value` is an object or a list without messages."""
    return _said(value, role, otherwise=None)


def _said(value: str | None, role: str, *, otherwise: str | None) -> str | None:
    if not value or value.isspace():
        return None
    if value.lstrip()[:1] not in ("[", "{", '"'):
        return None if is_binary(value) else value
    decoded = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
    if decoded is None:
        return value
    if isinstance(decoded, str):
        return decoded if decoded.startswith('"') else _said(decoded, role, otherwise=decoded)
    if isinstance(decoded, list) and len(decoded) == 1 and isinstance(decoded[0], str):
        return _text(decoded)
    found = _messages(decoded, MAX_LEVELS)
    if found is None:
        return otherwise
    for spoken_by, content in reversed(found):
        if spoken_by in (None, role) and (text := _text(content)):
            return text
    return None


def as_chat(value: str, *, role: str) -> str | None:
    """Messages as MLflow takes texts from them: {"messages": [{"role", "content"}]}.

    None where there is no text, or where MLflow finds it itself (mlflow/tracing/utils/truncation.py). `role`
    is that of parts without a message around them.
    """
    if value.lstrip()[:1] not in ("[", "{"):
        return None
    decoded = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
    if isinstance(decoded, dict) and _is_read_by_mlflow(decoded):
        return None
    chat = [
        _chat_message(spoken_by or role, each) for spoken_by, each in _messages(decoded, MAX_LEVELS) or ()
    ]
    if not any(message["content"] for message in chat):
        return None
    return without_binary(json.dumps({"messages": chat}, ensure_ascii=False))


def is_binary(text: str) -> bool:
    """Whether a text is binary data in the form of text: a data URL, or base64."""
    if len(text) < MIN_BINARY_CHARACTERS:
        return text.startswith("data:") and ";base64," in text[:200]
    return (text.startswith("data:") and ";base64," in text[:200]) or bool(_BASE64.fullmatch(text))


def without_binary(value: str) -> str:
    """JSON text with a note in the place of each image or file that stands in it as text."""
    if len(value) < MIN_BINARY_CHARACTERS:
        return value
    if value.lstrip()[:1] not in ("[", "{"):
        return _note(value) if is_binary(value) else value
    decoded = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
    if decoded is None or not any(map(is_binary, _texts(decoded))):
        return value
    return json.dumps(_noted(decoded), ensure_ascii=False)


def _messages(value: Any, levels: int) -> list[Message] | None:
    """(role, content) of each message, in order; None where there is nothing like a message."""
    if levels == 0:
        return None
    if isinstance(value, list):
        return _of_list(value, levels)
    if not isinstance(value, dict):
        return None
    if (role := _role(value)) is not None:
        return [(role, value)]
    if not WORDLESS.isdisjoint(value) or ("name" in value and not ARGUMENTS.isdisjoint(value)):
        return []
    if _is_part(value):
        return [(None, [value])]
    if prompt := _prompt(value):
        return prompt
    for key in HOLDERS:
        if isinstance(value.get(key), list | dict):
            found = _messages(value[key], levels - 1)
            if found is not None:
                return found
    return [(None, value)] if isinstance(value.get("parts"), list) else None


def _of_list(values: Sequence[Any], levels: int) -> list[Message] | None:
    if values and all(_is_part(each) for each in values):
        return [(None, list(values))]
    if len(values) == 2 and all(isinstance(each, str) for each in values) and values[0].lower() in SPEAKERS:
        return [(ROLES.get(values[0].lower(), values[0].lower()), values[1])]
    found = [_messages(each, levels - 1) for each in values]
    known = [each for each in found if each is not None]
    return [message for each in known for message in each] if known else None


def _prompt(value: Mapping[str, Any]) -> list[Message] | None:
    """The messages of what a framework passes to its agent or model, or returns."""
    for key, (role, others) in TEXTS_OF_OBJECTS.items():
        if isinstance(value.get(key), str) and others.issuperset(value.keys() - {key}):
            system = [("system", value["system"])] if isinstance(value.get("system"), str) else []
            return [*system, (role, value[key])]
    return None


def _role(value: Mapping[str, Any]) -> str | None:
    """Whose message an object is; None where it is none."""
    said_by = value.get("role")
    if said_by is None and ("content" in value or isinstance(value.get("data"), dict)):  # LangChain
        said_by = type if (type := _type(value)) in SPEAKERS else None
    if said_by is None and isinstance(value.get("id"), list) and isinstance(value.get("kwargs"), dict):
        said_by = str(value["id"][-1]) if value["id"] else ""
    if not isinstance(said_by, str):
        return None
    return ROLES.get(said_by.lower(), said_by.lower())


def _is_part(value: Any) -> bool:
    if not isinstance(value, dict) or "role" in value:
        return False
    if isinstance(value.get("text"), str) or not WORDLESS.isdisjoint(value):
        return True
    return (type := _type(value)) is not None and type not in ROLES and "kwargs" not in value


def _type(value: Mapping[str, Any]) -> str | None:
    return value["type"] if isinstance(value.get("type"), str) else None


def _text(message: Any) -> str | None:
    """The text of a message, of its parts or of one part."""
    if isinstance(message, str):
        return _text_of_string(message)
    if isinstance(message, list):
        return "\n".join(filter(None, map(_text_of_part, message))) or None
    for key in ("parts", "content", "kwargs", "data"):
        if content := message.get(key):
            return _text(content) if isinstance(content, str | list | dict) else None
    return _text_of_part(message)


def _text_of_string(text: str) -> str | None:
    if text.startswith("[{"):  # parts, encoded once more (OpenLLMetry)
        parts = read_json(text, max_characters=MAX_CONTENT_CHARACTERS)
        if isinstance(parts, list) and all(map(_is_part, parts)):
            return _text(parts)
    return None if not text or text.isspace() or is_binary(text) else text


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, str):
        return None if is_binary(part) else part
    if not isinstance(part, dict) or part.get("thought") or _type(part) not in TEXT_PARTS:
        return None
    text = next((part[key] for key in TEXTS_OF_PARTS if isinstance(part.get(key), str)), None)
    return None if text is None or is_binary(text) else text


def _chat_message(role: str, message: Any) -> dict[str, Any]:
    """With its text as its content, and whatever else it holds."""
    others = {}
    if isinstance(message, dict) and "role" in message:
        parts = message.get("parts")
        is_text = isinstance(parts, list) and all(_text_of_part(part) for part in parts)
        left_out = ("content", "parts") if is_text or not parts else ("content",)
        others = {key: each for key, each in message.items() if key not in left_out}
    return {**others, "role": role, "content": _text(message) or ""}


def _is_read_by_mlflow(value: Mapping[str, Any]) -> bool:
    listed = [value[key] for key in READ_BY_MLFLOW if isinstance(value.get(key), list)]
    choices = value.get("choices")
    if isinstance(choices, list):
        listed.append([each.get("message") for each in choices[:1] if isinstance(each, dict)])
    return any(
        isinstance(each, dict) and "role" in each and each.get("content") for each in itertools.chain(*listed)
    )


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)


def _noted(value: Any) -> Any:
    # read_json bounds the levels
    if isinstance(value, dict):
        return {key: _noted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_noted(each) for each in value]
    return _note(value) if isinstance(value, str) and is_binary(value) else value


def _note(binary: str) -> str:
    return f"({len(binary)} characters of binary data)"
