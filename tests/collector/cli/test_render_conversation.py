"""What was said, on a terminal: nothing that was recorded controls it."""

import io
from typing import Any

from rich.console import Console

from collector.answers.chat.rendering import ChatBounds
from collector.answers.conversation import ConversationPage, conversation
from collector.cli.render_conversation import render_conversation
from tests.support.conversations import message, model_call
from tests.support.otlp import agent_export, all_spans


def printed(request: Any, max_characters: int = 10_000) -> str:
    bounds = ChatBounds(max_characters=max_characters, max_media_characters=0)
    found = conversation(request, all_spans(request)[0].trace_id, ConversationPage(bounds=bounds))
    told = io.StringIO()
    render_conversation(found["messages"], Console(file=told, width=100))
    return told.getvalue()


def test_a_conversation_is_printed_with_tool_calls_and_failures() -> None:
    said = printed(agent_export("pydantic_ai_v5_tool_error.binpb"))
    assert said.startswith("user\n  ")
    assert "  → search_docs {" in said
    assert "failed: RuntimeError: document index unreachable" in said


def test_control_characters_are_replaced_and_cut_texts_say_so() -> None:
    evil = "\x1b[31mred\u202e [bold]x[/bold]\nsecond " + "long " * 100
    said = printed(model_call([message("user", evil)], [message("assistant", "done")], session="a"), 60)
    assert "\x1b" not in said and "\u202e" not in said
    assert "[bold]x[/bold]" in said and "\n  second" in said
    assert "more characters" in said


def test_no_messages_are_told_of() -> None:
    assert "No messages" in printed(model_call([], [], session="a"))
