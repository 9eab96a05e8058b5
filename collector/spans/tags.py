"""What a span says about its whole trace in tags and metadata. Pure."""

from collections.abc import Mapping
from typing import Any

from collector.spans.conventions import TAG_LISTS, TAG_OBJECTS, TAG_PREFIXES
from collector.spans.json_text import read_json
from collector.spans.keys import KEYS
from collector.spans.readers import text

# how LangChain and LangGraph begin the names of what they note about each step
STEP_METADATA = ("langgraph_", "ls_", "lc_", "checkpoint_", "__pregel_")
# what such members say has a row of its own
NO_TAGS = frozenset({"session_id", "thread_id", "user_id", "sessionId", "userId", "mlflow.traceName"})
MAX_TAGS = 50
# a longer name of an attribute or of a member is no tag's
MAX_NAME_CHARACTERS = 500
# names with a row in the table are never tags, whatever they begin with
NOT_TAGS = KEYS - {*TAG_LISTS, *TAG_OBJECTS}


def tags_of(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the client calls tags or metadata, by name; words without a value stand for themselves."""
    if NOT_TAGS.issuperset(attributes):
        return ()
    found: dict[str, str] = {}
    for key in TAG_LISTS:
        for word in _words(attributes.get(key)):
            if name := text(word):
                found.setdefault(name, "")
    for key in TAG_OBJECTS:
        found = {**_members(attributes.get(key)), **found}
    for key, value in attributes.items():
        if not key.startswith(TAG_PREFIXES):
            continue
        for prefix in TAG_PREFIXES:
            if key.startswith(prefix) and (name := key[len(prefix) :]) and (said := text(value)):
                found.setdefault(name, said)
    return tuple(sorted((name, value) for name, value in found.items() if _is_tag(name)))[:MAX_TAGS]


def _is_tag(name: str) -> bool:
    return name not in NO_TAGS and not name.startswith(STEP_METADATA)


def _words(value: Any) -> list[Any]:
    """A list of words, one word, or JSON text of either."""
    if isinstance(value, str) and value.startswith("["):
        decoded = read_json(value)
        value = decoded if isinstance(decoded, list) else value
    return value if isinstance(value, list) else [value]


def _members(value: Any) -> dict[str, str]:
    """The plain members of an object, or of JSON text of one."""
    if isinstance(value, str):
        value = read_json(value)
    if not isinstance(value, dict):
        return {}
    return {
        name: said
        for name, member in value.items()
        if len(name) <= MAX_NAME_CHARACTERS and (said := text(member)) is not None
    }
