"""The conversation in one trace, as JSON with bounds. Pure."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.chat.rendering import ChatBounds, render_thread_message
from collector.answers.chat.thread import thread_of

MAX_MESSAGES = 200


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
    "message_count", "earlier_messages"}; rendering.py says what parts look like. At most MAX_MESSAGES;
    `message_count` is how many there are.
    """
    thread = thread_of(export, trace_id)
    shown = thread.messages[wanted.from_message : wanted.from_message + MAX_MESSAGES]
    return {
        "trace_id": trace_id.hex(),
        "messages": [render_thread_message(message, wanted.bounds) for message in shown],
        "from_message": wanted.from_message,
        "message_count": len(thread.messages),
        "earlier_messages": thread.earlier_messages,
    }
