"""Messages as JSON, with bounds on every text and every image. Pure.

    {"type": "text" | "reasoning", "text", "characters"}
    {"type": "tool_call", "id", "name", "arguments", "result",
     "span_id", "duration_seconds", "is_error", "error"}                 the span of the tool, if there is one
    {"type": "tool_result", "id", "name", "result", "is_error"}           its call is not known
    {"type": "image" | "audio" | "video" | "file", "mime_type", "data", "url", "name", "characters"}
    {"type": "json", "text", "characters"}                                anything else

A text is {"text": its beginning, "characters": how long all of it is}; `is_json` says that it is a value that
is no text. `data` is base64, null where it is longer than allowed. Names and ids are cut to
MAX_NAME_CHARACTERS; an address that is longer than MAX_URL_CHARACTERS is null.
"""

import json
from dataclasses import dataclass
from typing import Any

from collector.answers.chat.values import (
    AnsweredCall,
    Call,
    ChatMessage,
    ChatPart,
    Failure,
    Media,
    Other,
    Result,
    ThreadMessage,
    Words,
)

MAX_NAME_CHARACTERS = 1000
MAX_URL_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBounds:
    """How much of a text, and up to which length an image, in characters of base64."""

    max_characters: int
    max_media_characters: int


def render_text(value: Any, bounds: ChatBounds) -> dict[str, Any] | None:
    """The beginning of a text, or of a value as JSON; None where there is none."""
    if value is None:
        return None
    is_json = not isinstance(value, str)
    whole = json.dumps(value, ensure_ascii=False, default=str) if is_json else value
    return {"text": whole[: bounds.max_characters], "characters": len(whole), "is_json": is_json}


def render_name(text: str | None) -> str | None:
    """The beginning of what something is called."""
    return None if text is None else text[:MAX_NAME_CHARACTERS]


def render_message(message: ChatMessage, bounds: ChatBounds) -> dict[str, Any]:
    """A message of one span."""
    parts = [render_part(part, bounds) for part in message.parts]
    return {"role": render_name(message.role), "name": render_name(message.name), "parts": parts}


def render_thread_message(message: ThreadMessage, bounds: ChatBounds) -> dict[str, Any]:
    """A message of a trace."""
    return {
        "role": render_name(message.role),
        "name": render_name(message.name),
        "span_id": message.span_id,
        "time_unix_ns": message.time_unix_ns,
        "parts": [render_part(part, bounds) for part in message.parts],
        "error": _error(message.failure, bounds),
    }


def render_part(part: ChatPart | AnsweredCall, bounds: ChatBounds) -> dict[str, Any]:
    """One part; nothing of it is interpreted."""
    match part:
        case Words(text=text, is_reasoning=is_reasoning):
            return {"type": "reasoning" if is_reasoning else "text", **_told(text, bounds)}
        case Call():
            return _call(AnsweredCall(call=part), bounds)
        case AnsweredCall():
            return _call(part, bounds)
        case Result(id=id, name=name, content=content, is_error=is_error):
            told = render_text(content, bounds)
            named = {"id": render_name(id), "name": render_name(name)}
            return {"type": "tool_result", **named, "result": told, "is_error": is_error}
        case Media():
            return _media(part, bounds)
        case Other(value=value):
            return {"type": "json", **_told(value, bounds)}


def _call(answered: AnsweredCall, bounds: ChatBounds) -> dict[str, Any]:
    call, result, run = answered.call, answered.result, answered.run
    failure = run.failure if run else None
    return {
        "type": "tool_call",
        "id": render_name(call.id),
        "name": render_name(call.name or (run.name if run else None)),
        "arguments": render_text(_either(call.arguments, run and run.arguments), bounds),
        "result": render_text(_either(result and result.content, run and run.result), bounds),
        "span_id": run.span_id if run else None,
        "duration_seconds": run.duration_seconds if run else None,
        "is_error": failure is not None or bool(result and result.is_error),
        "error": _error(failure, bounds),
    }


def _media(part: Media, bounds: ChatBounds) -> dict[str, Any]:
    length = len(part.data or "")
    return {
        "type": part.kind.value,
        "mime_type": render_name(part.mime_type),
        "data": part.data if length <= bounds.max_media_characters else None,
        "url": part.url if len(part.url or "") <= MAX_URL_CHARACTERS else None,
        "name": render_name(part.name),
        "characters": length,
    }


def _error(failure: Failure | None, bounds: ChatBounds) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"type": render_name(failure.type), "message": render_text(failure.message, bounds)}


def _told(value: Any, bounds: ChatBounds) -> dict[str, Any]:
    return render_text(value, bounds) or {}


def _either(first: Any, second: Any) -> Any:
    return second if first is None or first is False else first
