"""One part of a message, by what it holds rather than by who wrote it. Pure.

    {"type": "text", "content" | "text"}                                     text
    {"type": "reasoning" | "thinking"}, {"thought": true}                    reasoning
    {"type": "tool_call" | "tool_use" | "function_call" | "tool-call"}       a call: `id`, `name`, `arguments`
    {"type": "tool_call_response" | "tool_result" | "function_call_output"}  its result
    {"type": "image_url" | "blob" | "uri" | "file"}, {"inline_data"}         an image, a sound or a file

The names of fields differ between OpenTelemetry, OpenAI, Anthropic, Bedrock, Gemini, the Vercel AI SDK,
LangChain and Haystack; each table lists all of them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from collector.answers.chat.values import Call, ChatPart, Media, MediaKind, Other, Result, Words
from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json

TEXT_TYPES = frozenset({"text", "input_text", "output_text", "refusal", "summary_text"})
REASONING_TYPES = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_content"})
CALL_ENDINGS = ("tool_call", "tool-call", "tool_use", "function_call", "toolcall", "_call")
RESULT_ENDINGS = ("_response", "_result", "-result", "-return", "_output", "toolresult")
MEDIA_TYPES = frozenset(
    {
        "image",
        "image_url",
        "image-url",
        "input_image",
        "audio",
        "input_audio",
        "audio-url",
        "video",
        "video-url",
    }
    | {"blob", "uri", "binary", "file", "input_file", "media", "document", "document-url"}
)
# what a part without a type has inside: Gemini, Bedrock, Haystack
CALLS_INSIDE = ("function_call", "functionCall", "toolUse", "tool_call")
RESULTS_INSIDE = ("function_response", "functionResponse", "toolResult", "tool_call_result")
MEDIA_INSIDE = ("inline_data", "inlineData", "file_data", "fileData", "image", "audio", "video", "document")
TEXTS = ("text", "content", "refusal", "thinking", "reasoning", "summary", "reasoningText", "value")
IDS = ("call_id", "tool_call_id", "toolCallId", "tool_use_id", "toolUseId", "id")
NAMES = ("name", "toolName", "tool_name", "function_name")
ARGUMENTS = ("arguments", "args", "input", "toolInput", "parameters")
CONTENTS = ("response", "result", "output", "content", "value")
URLS = ("url", "uri", "image_url", "file_uri", "fileUri", "file_url", "image", "source")
DATA = ("data", "bytes", "content", "base64", "base64_data", "file_data", "image")
MIME_TYPES = ("mime_type", "mimeType", "media_type", "mediaType", "format")
DATA_URL, BASE64 = "data:", ";base64,"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def part_of(value: Any) -> ChatPart | None:
    """The part; None where there is nothing in it."""
    if isinstance(value, str):
        return Words(text=value) if value and not value.isspace() else None
    if not isinstance(value, dict):
        return None if value in (None, [], {}) else Other(value=value)
    type = value.get("type") if isinstance(value.get("type"), str) else value.get("block_type")
    return _of_type(type.lower(), value) if isinstance(type, str) else _without_type(value)


def is_part(value: Any) -> bool:
    """Whether an object is a part of a message rather than a message or anything else."""
    if not isinstance(value, dict) or "role" in value:
        return False
    found = part_of(value)
    return found is not None and not isinstance(found, Other)


def call_of(value: Mapping[str, Any]) -> Call:
    """A call of a tool; OpenAI keeps name and arguments in `function`."""
    inner = value.get("function")
    both = (inner, value) if isinstance(inner, dict) else (value,)
    return Call(
        id=_text_at(both[::-1], IDS),
        name=_text_at(both, NAMES),
        arguments=read(_first_at(both, ARGUMENTS)),
    )


def result_of(value: Mapping[str, Any]) -> Result:
    """What a tool returned."""
    origin = value.get("origin")  # Haystack: the call
    return Result(
        id=_text_at((value, origin), IDS),
        name=_text_at((value, origin), NAMES),
        content=plain(_first_at((value,), CONTENTS)),
        is_error=bool(value.get("is_error") or value.get("error") or value.get("status") == "error"),
    )


def read(value: Any) -> Any:
    """JSON that stands as text, decoded; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        decoded = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
        return value if decoded is None else decoded
    return value


def unquoted(text: str) -> str:
    """The text within a text that was encoded as JSON; any other as it is."""
    decoded = read_json(text, max_characters=MAX_CONTENT_CHARACTERS) if text[:1] == text[-1:] == '"' else None
    return decoded if isinstance(decoded, str) else text


def plain(value: Any) -> Any:
    """The text of a list of text parts, or what a wrapper around one value holds; else the value, decoded."""
    value = unquoted(value) if isinstance(value, str) else value
    value = read(value)
    if isinstance(value, list) and value:
        texts = [part.text if isinstance(part, Words) else None for part in map(part_of, value)]
        if all(text is not None for text in texts):
            return read("\n".join(filter(None, texts)))
        if len(value) == 1 and isinstance(value[0], dict) and value[0].keys() == {"json"}:  # Bedrock
            return value[0]["json"]
    if isinstance(value, dict) and value.keys() == {"type", "value"}:  # the Vercel AI SDK
        return value["value"]
    return value


def _of_type(type: str, value: Mapping[str, Any]) -> ChatPart | None:
    if type in TEXT_TYPES:
        return _words(value, is_reasoning=value.get("thought") is True)
    if type in REASONING_TYPES:
        return _words(value, is_reasoning=True)
    if type in MEDIA_TYPES:
        return _media(type, value) or Other(value=value)
    if type.endswith(RESULT_ENDINGS):
        return result_of(value)
    if type.endswith(CALL_ENDINGS) or (type == "function" and isinstance(value.get("function"), dict)):
        return call_of(value)
    return _without_type(value)


def _without_type(value: Mapping[str, Any]) -> ChatPart | None:
    if inner := _object_at(value, CALLS_INSIDE):
        return call_of({"id": value.get("id"), **inner} if "id" in value else inner)
    if inner := _object_at(value, RESULTS_INSIDE):
        return result_of(inner)
    if media := _media_inside(value):
        return media
    if isinstance(value.get("reasoningContent"), dict):
        return _words(value["reasoningContent"], is_reasoning=True)
    if isinstance(value.get("text"), str):
        return _words(value, is_reasoning=bool(value.get("thought")))
    if value.get("tool_name") or value.get("toolName"):
        return call_of(value)
    return Other(value=dict(value)) if value else None


def _words(value: Mapping[str, Any], *, is_reasoning: bool) -> Words | None:
    text = "\n".join(_texts(_first_at((value,), TEXTS)))
    return Words(text=text, is_reasoning=is_reasoning) if text and not text.isspace() else None


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        yield from _texts(_first_at((value,), TEXTS))


def _media_inside(value: Mapping[str, Any]) -> Media | None:
    for key in MEDIA_INSIDE:
        if isinstance(value.get(key), dict):
            return _media(key, value)
    return None


def _media(type: str, value: Mapping[str, Any]) -> Media | None:
    """Data or address may stand in an object of their own: `source`, `image_url`, `inline_data`, ..."""
    inner = [each for each in value.values() if isinstance(each, dict)]
    places = (value, *inner, *(each["source"] for each in inner if isinstance(each.get("source"), dict)))
    mime_type, url = _text_at(places, MIME_TYPES), _text_at(places, URLS)
    data = _text_at(places, DATA)
    if url and not _ADDRESS.match(url):
        data, url = data or url, None
    for each in (url, data):
        if each and each.startswith(DATA_URL):
            head, _, data = each.partition(BASE64)
            mime_type, url = head.removeprefix(DATA_URL) or mime_type, None
    name = _text_at(places, ("filename", "file_name", "name", "file_id"))
    if not (data or url or name):
        return None
    kind = _kind(type, mime_type, str(value.get("modality") or ""))
    return Media(kind=kind, mime_type=_mime_type(kind, mime_type), data=data, url=url, name=name)


def _kind(type: str, mime_type: str | None, modality: str) -> MediaKind:
    said = f"{type} {modality} {(mime_type or '').partition('/')[0]}"
    named = (kind for kind in (MediaKind.IMAGE, MediaKind.AUDIO, MediaKind.VIDEO) if kind in said)
    return next(named, MediaKind.FILE)


def _mime_type(kind: MediaKind, said: str | None) -> str | None:
    """Bedrock and OpenAI name the format alone."""
    return f"{kind}/{said}" if said and "/" not in said and kind is not MediaKind.FILE else said


def _object_at(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any] | None:
    return next((value[name] for name in names if isinstance(value.get(name), dict)), None)


def _first_at(places: Iterable[Any], names: Iterable[str]) -> Any:
    known = [place for place in places if isinstance(place, dict)]
    return next((place[n] for place in known for n in names if place.get(n) is not None), None)


def _text_at(places: Iterable[Any], names: Iterable[str]) -> str | None:
    known = [place for place in places if isinstance(place, dict)]
    found = (place[name] for place in known for name in names if isinstance(place.get(name), str))
    return next((text for text in found if text), None)
