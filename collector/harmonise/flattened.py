"""Lists in attributes with numbers in their names: `llm.input_messages.0.message.content`. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from collector.harmonise.messages import without_binary
from collector.spans.facts import decode

View = Mapping[str, AnyValue]

# nobody sends a million messages; a number of thousands of digits is none to Python
_NUMBER = "([0-9]{1,6})"
_PART = rf"contents\.{_NUMBER}\.message_content\.(type|text)"
_MEMBER = rf"\.(?:message\.)?(?:(role|content)|{_PART})"
PROMPT = re.compile(rf"(?:gen_ai\.prompt|llm\.input_messages)\.{_NUMBER}{_MEMBER}")
COMPLETION = re.compile(rf"(?:gen_ai\.completion|llm\.output_messages)\.{_NUMBER}{_MEMBER}")
# OpenInference's lists of objects (https://arize-ai.github.io/openinference/spec/semantic_conventions.html)
RETRIEVED = re.compile(
    rf"(?:retrieval\.documents|reranker\.output_documents)\.{_NUMBER}\.document\.(content|id|score|metadata)"
)
EMBEDDED = re.compile(rf"embedding\.embeddings\.{_NUMBER}\.embedding\.(text)")
PREFIXES: Mapping[re.Pattern[str], tuple[str, ...]] = {
    PROMPT: ("gen_ai.prompt.", "llm.input_messages."),
    COMPLETION: ("gen_ai.completion.", "llm.output_messages."),
    RETRIEVED: ("retrieval.documents.", "reranker.output_documents."),
    EMBEDDED: ("embedding.embeddings.",),
}


def flattened_messages(view: View, names: re.Pattern[str]) -> str | None:
    """JSON of the messages that have any text: a list of objects with `role` and `content`."""
    messages: dict[int, dict[str, Any]] = {}
    parts: dict[int, dict[int, dict[str, str]]] = {}
    for key, value in view.items():
        if not key.startswith(PREFIXES[names]) or not (match := names.fullmatch(key)):
            continue
        number, member, part, of_part = match.groups()
        if member:
            messages.setdefault(int(number), {})[member] = value.string_value
        else:
            parts.setdefault(int(number), {}).setdefault(int(part), {})[of_part] = value.string_value
    for at, listed in parts.items():
        texts = [each["text"] for _, each in sorted(listed.items()) if _is_text(each)]
        if texts and not messages.setdefault(at, {}).get("content"):
            messages[at]["content"] = "\n".join(texts)
    whole = [messages[number] for number in sorted(messages) if messages[number].get("content")]
    return without_binary(json.dumps(whole, ensure_ascii=False)) if whole else None


def flattened_members(view: View, names: re.Pattern[str]) -> str | None:
    """JSON of the list of objects that the names spell out."""
    members: dict[int, dict[str, Any]] = {}
    for key, value in view.items():
        if key.startswith(PREFIXES[names]) and (match := names.fullmatch(key)):
            members.setdefault(int(match[1]), {})[match[2]] = decode(value)
    listed = [members[number] for number in sorted(members)]
    return json.dumps(listed, ensure_ascii=False, default=str) if listed else None


def _is_text(part: Mapping[str, str]) -> bool:
    return part.get("type", "text") in ("text", "") and bool(part.get("text"))
