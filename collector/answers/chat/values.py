"""Messages and their parts. Pure values."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class MediaKind(StrEnum):
    """What a part that is no text holds."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Text; `is_reasoning`: what the model thought, not what it said."""

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool that the model asked for."""

    id: str | None
    name: str | None
    arguments: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool returned."""

    id: str | None
    name: str | None
    content: Any
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, a sound or a file: `data` is base64, `url` where it is."""

    kind: MediaKind
    mime_type: str | None = None
    data: str | None = None
    url: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Anything else."""

    value: Any


ChatPart = Words | Call | Result | Media | Other


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """What one speaker said. `role` is `user`, `assistant`, `system`, `tool`, or what the sender calls it."""

    role: str
    parts: tuple[ChatPart, ...]
    name: str | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a span says of why it failed."""

    type: str | None
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A tool's own span: what it was given and returned, and how long it took."""

    span_id: str
    name: str | None
    call_id: str | None
    start_unix_ns: int
    duration_seconds: float
    arguments: Any
    result: Any
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredCall:
    """A call with its result, from the messages or from the tool's span, as far as either is known."""

    call: Call
    result: Result | None = None
    run: ToolRun | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMessage:
    """A message of a trace, the span that said it, and when: its start, or its end for what it returned."""

    role: str
    name: str | None
    parts: tuple[ChatPart | AnsweredCall, ...]
    span_id: str
    time_unix_ns: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """The messages of one trace; before the question, its first model call was given `earlier_messages`."""

    messages: tuple[ThreadMessage, ...]
    earlier_messages: int
