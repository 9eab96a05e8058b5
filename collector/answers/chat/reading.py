"""A value of an attribute as messages. Pure.

[{"role", "parts"}]                                       OpenTelemetry GenAI, Gemini
[{"role", "content", "tool_calls"}]                       OpenAI, Anthropic, Bedrock, the Vercel AI SDK
[{"type": "human" | "ai", "content"}], {"id", "kwargs"}   LangChain
{"messages"}, {"choices"}, {"contents"}, {"output"}, ...  what holds them
"text"                                                    one message
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector.answers.chat.parts import call_of, is_part, part_of, plain, read, unquoted
from collector.answers.chat.values import Call, ChatMessage, ChatPart, Result, Words
from collector.harmonise.messages import HOLDERS, MAX_LEVELS, ROLES, SPEAKERS, TEXTS_OF_OBJECTS
from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json

TOOL, SYSTEM, USER, ASSISTANT = "tool", "system", "user", "assistant"
ROLES_HERE = {
    **ROLES,
    "developer": SYSTEM,
    "systemmessage": SYSTEM,
    "toolmessage": TOOL,
    "function": TOOL,
    "tool-response": TOOL,
    "tool-call": ASSISTANT,
    "tool_call": ASSISTANT,
}
SPEAKING = SPEAKERS | ROLES_HERE.keys()
# where a message keeps what it says; the first that is there
CONTENTS = ("parts", "content", "contents", "blocks", "_content", "kwargs", "data", "text", "message")
CALLS = ("tool_calls", "toolCalls")
REASONING = ("reasoning_content", "reasoning")
# what a framework returns beside the text of its answer: the Vercel AI SDK, Mastra
SAYING = frozenset({"text", "toolCalls", "reasoning", "files"})


def messages_in(value: Any, *, role: str) -> list[ChatMessage] | None:
    """The messages in order; None: there are none. `role` says whose words are that nobody is named for."""
    if isinstance(value, str):
        if value.lstrip()[:1] in ("[", "{"):
            decoded = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
            if isinstance(decoded, dict | list):
                return _messages(decoded, role, MAX_LEVELS)
        value = unquoted(value)
        return [ChatMessage(role=role, parts=(Words(text=value),))] if value.strip() else None
    return _messages(value, role, MAX_LEVELS)


def _messages(value: Any, role: str, levels: int) -> list[ChatMessage] | None:
    if levels == 0 or not isinstance(value, dict | list):
        return None
    if isinstance(value, list):
        return _of_list(value, role, levels)
    if (speaker := _speaker(value)) is not None:
        return _message(speaker, value)
    if prompt := _prompt(value):
        return prompt
    if is_part(value) and not _says(value):
        return _of_parts([value], role)
    if _says(value):
        return _message(role, value)
    return _held(value, role, levels)


def _of_list(values: Sequence[Any], role: str, levels: int) -> list[ChatMessage] | None:
    if len(values) == 2 and all(isinstance(each, str) for each in values) and values[0].lower() in SPEAKING:
        said_by = ROLES_HERE.get(values[0].lower(), values[0].lower())
        return [ChatMessage(role=said_by, parts=(Words(text=values[1]),))]
    if values and all(isinstance(each, str) or is_part(each) for each in values):
        return _of_parts(values, role)
    found = [_messages(each, role, levels - 1) for each in values]
    known = [each for each in found if each is not None]
    return [message for each in known for message in each] if known else None


def _held(value: Mapping[str, Any], role: str, levels: int) -> list[ChatMessage] | None:
    system = _parts_of(value.get("system") or value.get("instructions"))
    for key in HOLDERS:
        found = _messages(value.get(key), role, levels - 1)
        if found is not None:
            return [*([ChatMessage(role=SYSTEM, parts=system)] if system else []), *found]
    return _of_parts(value["parts"], role) if isinstance(value.get("parts"), list) else None


def _of_parts(values: Sequence[Any], role: str) -> list[ChatMessage]:
    """Parts without a message around them; a result is a tool's, whoever carries it."""
    parts = _parts_of(list(values))
    if not parts:
        return []
    return [ChatMessage(role=TOOL if _is_result(parts) else role, parts=parts)]


def _prompt(value: Mapping[str, Any]) -> list[ChatMessage] | None:
    """What a framework passes to its agent or model, or returns, as one text."""
    for key, (role, others) in TEXTS_OF_OBJECTS.items():
        if isinstance(value.get(key), str) and others.issuperset(value.keys() - {key}):
            system = _parts_of(value.get("system"))
            told = [ChatMessage(role=SYSTEM, parts=system)] if system else []
            return [*told, ChatMessage(role=role, parts=(Words(text=value[key]),))]
    return None


def _says(value: Mapping[str, Any]) -> bool:
    """Whether an object is an answer with its text and its calls in fields of their own."""
    if "role" in value or any(isinstance(value.get(key), list) for key in CALLS):
        return isinstance(value.get("content"), str) or any(value.get(key) for key in CALLS)
    return isinstance(value.get("text"), str) and value.keys() <= SAYING and len(value) > 1


def _speaker(value: Mapping[str, Any]) -> str | None:
    """Whose message an object is; None where it is none."""
    said_by = value.get("role") or value.get("_role")
    type = value.get("type")
    if said_by is None and isinstance(type, str) and type.lower() in SPEAKING:  # LangChain
        said_by = type if "content" in value or isinstance(value.get("data"), dict) else None
    if said_by is None and isinstance(value.get("id"), list) and isinstance(value.get("kwargs"), dict):
        said_by = str(value["id"][-1]) if value["id"] else ""
    if not isinstance(said_by, str):
        return None
    return ROLES_HERE.get(said_by.lower(), said_by.lower())


def _message(role: str, value: Mapping[str, Any]) -> list[ChatMessage]:
    """The message, after what tools returned: Anthropic and Bedrock let the user say that."""
    said = _inner(value)
    parts = [*_reasoning(said), *_parts_of(_content(said))]
    parts += [call for call in _calls(said) if call not in parts]
    results = tuple(part for part in parts if isinstance(part, Result))
    if role == TOOL and not any(isinstance(part, Call | Result) for part in parts):
        returned = _returned(said)
        return [] if returned.content is None else [ChatMessage(role=TOOL, parts=(returned,))]
    own = tuple(part for part in parts if not isinstance(part, Result))
    told = [ChatMessage(role=TOOL, parts=results)] if results else []
    name = said.get("name") if isinstance(said.get("name"), str) else None
    return [*told, *([ChatMessage(role=role, parts=own, name=name)] if own else [])]


def _inner(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """LangChain keeps the message in `kwargs` or `data`, OpenTelemetry's choice in `message`."""
    for key in ("kwargs", "data", "message"):
        if isinstance(value.get(key), dict) and not value.get("content"):
            return _inner(value[key])
    return value


def _content(value: Mapping[str, Any]) -> Any:
    return next((value[key] for key in CONTENTS if value.get(key) not in (None, "", [])), None)


def _parts_of(content: Any) -> tuple[ChatPart, ...]:
    content = _encoded_parts(content)
    if isinstance(content, dict) and isinstance(content.get("parts"), list):  # Gemini
        content = content["parts"]
    listed = content if isinstance(content, list) else [content]
    return tuple(part for part in map(part_of, listed) if part is not None)


def _encoded_parts(content: Any) -> Any:
    """Parts that were encoded once more (OpenLLMetry)."""
    if isinstance(content, str) and content.startswith("[{"):
        decoded = read(content)
        if isinstance(decoded, list) and all(map(is_part, decoded)):
            return decoded
    return content


def _reasoning(value: Mapping[str, Any]) -> Iterable[ChatPart]:
    texts = (value[key] for key in REASONING if isinstance(value.get(key), str) and value[key].strip())
    return (Words(text=text, is_reasoning=True) for text in texts)


def _calls(value: Mapping[str, Any]) -> Iterable[ChatPart]:
    others = value.get("additional_kwargs")
    both = (value, others) if isinstance(others, dict) else (value,)
    lists = (read(place.get(key)) for place in both for key in CALLS)
    called = next((each for each in lists if isinstance(each, list) and each), [])
    return (call_of(each) for each in called if isinstance(each, dict))


def _returned(value: Mapping[str, Any]) -> Result:
    ids = (value.get(key) for key in ("tool_call_id", "toolCallId", "id"))
    name = value.get("name") or value.get("tool_name")
    return Result(
        id=next((id for id in ids if isinstance(id, str)), None),
        name=name if isinstance(name, str) else None,
        content=plain(_content(value)),
        is_error=value.get("status") == "error",
    )


def _is_result(parts: Iterable[ChatPart]) -> bool:
    return all(isinstance(part, Result) for part in parts)
