"""The conversation in one trace, as JSON with bounds. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.chat.rendering import ChatBounds, render_thread_message
from collector.answers.chat.thread import thread_of
from collector.answers.chat.values import ThreadMessage

MAX_MESSAGES = 200
# one image or file of the greatest length that may be asked for, with room for texts
MAX_PAGE_CHARACTERS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationPage:
    """Which messages, from `from_message` on, and how much of each."""

    from_message: int = 0
    bounds: ChatBounds


def conversation(
    export: ExportTraceServiceRequest, trace_id: bytes, wanted: ConversationPage
) -> dict[str, Any]:
    """What was asked, done and answered in the trace (its 16 bytes).

    {"messages": [{"role", "name", "span_id", "time_unix_ns", "parts": [...], "error"}], "from_message",
    "message_count", "earlier_messages"}; rendering.py says what parts look like. At most MAX_MESSAGES
    that have MAX_PAGE_CHARACTERS together, or one, whose parts are cut; `message_count` is how many there
    are.
    """
    thread = thread_of(export, trace_id)
    shown = thread.messages[wanted.from_message : wanted.from_message + MAX_MESSAGES]
    return {
        "trace_id": trace_id.hex(),
        "messages": _fitting(shown, wanted.bounds),
        "from_message": wanted.from_message,
        "message_count": len(thread.messages),
        "earlier_messages": thread.earlier_messages,
    }


def _fitting(messages: Iterable[ThreadMessage], bounds: ChatBounds) -> list[dict[str, Any]]:
    """The messages up to the bound of a page; the first one in any case."""
    found: list[dict[str, Any]] = []
    left = MAX_PAGE_CHARACTERS
    for message in messages:
        rendered, length = _within_a_page(message, bounds)
        if found and length > left:
            break
        found.append(rendered)
        left -= length
    return found


def _within_a_page(message: ThreadMessage, bounds: ChatBounds) -> tuple[dict[str, Any], int]:
    """A message with its length as JSON; of one with many long parts less of each."""
    while True:
        rendered = render_thread_message(message, bounds)
        length = len(json.dumps(rendered, ensure_ascii=False))
        if length <= MAX_PAGE_CHARACTERS or not (bounds.max_characters or bounds.max_media_characters):
            return rendered, length
        bounds = replace(
            bounds,
            max_characters=bounds.max_characters // 4,
            max_media_characters=bounds.max_media_characters // 4,
        )
