"""What one answer of a conversation holds at most, however much was said."""

import json
from typing import Any

import pytest

from collector.answers import conversation as module
from collector.answers.chat.rendering import ChatBounds
from collector.answers.conversation import ConversationPage, conversation
from tests.support.conversations import message, model_call
from tests.support.otlp import all_spans

LONG = "word " * 4_000
PAGE = 1_000_000
WHOLE = ChatBounds(max_characters=1_000_000, max_media_characters=8_000_000)


def pages(request: Any) -> list[dict[str, Any]]:
    """All pages, each from where the one before ended."""
    trace_id, found, read = all_spans(request)[0].trace_id, [], 0
    while True:
        page = conversation(request, trace_id, ConversationPage(from_message=read, bounds=WHOLE))
        found.append(page)
        read += len(page["messages"])
        if not page["messages"] or read >= page["message_count"]:
            return found


def size_of(page: dict[str, Any]) -> int:
    return len(json.dumps(page["messages"], ensure_ascii=False))


def test_many_long_messages_come_in_pages_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_CHARACTERS", PAGE)
    request = model_call([message("user", f"{number} {LONG}") for number in range(120)], [], session="a")
    found = pages(request)
    assert len(found) == 3
    assert all(size_of(page) < PAGE * 1.01 for page in found)
    said = [each["parts"][0] for page in found for each in page["messages"]]
    assert [int(part["text"].split()[0]) for part in said] == list(range(120))
    assert all(len(part["text"]) == part["characters"] for part in said)


def test_a_message_of_many_long_parts_has_less_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_CHARACTERS", PAGE // 10)
    request = model_call([message("user", *[LONG] * 50), message("user", "and now?")], [], session="a")
    [page] = pages(request)
    assert size_of(page) <= PAGE // 10
    long, short = page["messages"]
    assert len(long["parts"]) == 50 and all(len(part["text"]) < part["characters"] for part in long["parts"])
    assert short["parts"][0]["text"] == "and now?"
