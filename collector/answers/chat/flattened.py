"""Lists of messages whose places stand in the names of attributes. Pure.

llm.input_messages.0.message.tool_calls.0.tool_call.function.name = "weather"     OpenInference
gen_ai.prompt.0.tool_calls.0.name = "weather"                                     OpenLLMetry
-> [{"tool_calls": [{"function": {"name": "weather"}}]}]
"""

from collections.abc import Mapping
from typing import Any

# OpenInference names the kind of each member once more
WRAPPERS = frozenset({"message", "tool_call", "message_content", "image"})
MAX_MEMBERS = 20_000
MAX_LEVELS = 12


def listed(attributes: Mapping[str, Any], prefix: str) -> list[Any] | None:
    """The list that the names behind `prefix` spell out; None where there are none."""
    tree: dict[str, Any] = {}
    for key in _below(attributes, prefix):
        _put(tree, key[len(prefix) + 1 :].split("."), attributes[key])
    found = _unwrapped(tree)
    return found if isinstance(found, list) and found else None


def _below(attributes: Mapping[str, Any], prefix: str) -> list[str]:
    return [key for key in attributes if key.startswith(f"{prefix}.")][:MAX_MEMBERS]


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    if len(path) > MAX_LEVELS:
        return
    for step in path[:-1]:
        inner = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(path[-1], value)


def _unwrapped(tree: Any) -> Any:
    """Objects whose names are numbers as lists; wrappers of one member taken off."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isascii() and key.isdigit() and len(key) <= 6 for key in tree):
        return [_unwrapped(tree[key]) for key in sorted(tree, key=int)]
    inner = {key: _unwrapped(each) for key, each in tree.items()}
    if inner.keys() <= WRAPPERS and all(isinstance(each, dict) for each in inner.values()):
        return {key: value for each in inner.values() for key, value in each.items()}
    return inner
