"""What is answered to which question. Pure; the forms of the providers are in the modules beside it.

    What is the weather in Paris?     a call of the tool that is offered, then "It is sunny in Paris."
    What is the weather in Nowhere?   the same; scene.py's tool raises for this city
    Tell me all about the sea.        an answer that is cut off by the limit of tokens
    Please fail.                      400

The usage grows with every result of a tool in the conversation, so that no two calls of a run are equal and
a sum shows which of them are in it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.data.capture.provider import dspy

ANSWERING = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o": "gpt-4o-2024-08-06",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
CITY = re.compile(r"weather in (\w+)")
CUT_OFF, FAILING = "all about the sea", "Please fail"
# tools by which a framework takes the final answer instead of doing something
FINAL = ("final_answer", "final_result")
THOUGHT = "The user asks about the weather."


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """As they are counted here: `cached` and `cache_write` are parts of `input`, `reasoning` of `output`."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request. `text` is all that it says, `results` how many results of tools it brings.

    `fields` are those that DSPy wants in the text of the answer.
    """

    model: str
    text: str
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fields: Sequence[str] = ()
    results: int = 0
    stream: bool = False
    thinks: bool = False


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """A call that the model wishes."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`finish` is stop, tool, length or error; a reply that failed has no tokens."""

    model: str
    asks: str
    finish: str
    text: str = ""
    thought: str = ""
    uses: Sequence[ToolUse] = ()
    tokens: Tokens | None = None


def reply(ask: Ask, *, writes_cache: bool = False, reasons: bool = True) -> Reply:
    """The answer to `ask`; not every provider counts tokens written to the cache, or spent on reasoning."""
    model, asks = ANSWERING.get(ask.model, ask.model), subject(ask.text)
    if asks == "fail":
        return Reply(model=model, asks=asks, finish="error")
    tokens = Tokens(
        input=120 + 30 * ask.results,
        output=20 + 10 * ask.results,
        cached=40 + 20 * ask.results,
        cache_write=10 + 10 * ask.results if writes_cache else 0,
        reasoning=5 + 5 * ask.results if reasons else 0,
    )
    thought = THOUGHT if ask.thinks else ""
    if asks == "sea":
        return Reply(model=model, asks=asks, finish="length", text="The sea is", tokens=tokens)
    uses = _uses(ask, asks)
    text = "" if uses else f"It is sunny in {asks}."
    if ask.fields:
        tool = "finish" if ask.results else "weather"
        text = dspy.answer(ask.fields, text=text, tool=tool, city=asks)
    finish = "tool" if uses else "stop"
    return Reply(model=model, asks=asks, finish=finish, text=text, thought=thought, uses=uses, tokens=tokens)


def subject(text: str) -> str:
    """The word by which a truth names its calls: the city, `sea`, `fail`, or nothing."""
    if FAILING in text:
        return "fail"
    if CUT_OFF in text:
        return "sea"
    match = CITY.search(text)
    return match[1] if match else ""


def _uses(ask: Ask, city: str) -> tuple[ToolUse, ...]:
    working = [name for name in ask.tools if name not in FINAL]
    final = [name for name in ask.tools if name in FINAL]
    if ask.results == 0 and working:
        name = next((each for each in working if "weather" in each), working[0])
    elif final:
        name = final[0]
    else:
        return ()
    return (ToolUse(id=f"call_{city}_{ask.results}", name=name, arguments=_arguments(ask.tools[name], city)),)


def _arguments(schema: Mapping[str, Any], city: str) -> dict[str, Any]:
    """A value for each argument that the tool requires."""
    properties = schema.get("properties", {})
    return {name: _value(name, properties.get(name, {}), city) for name in schema.get("required", ())}


def _value(name: str, schema: Mapping[str, Any], city: str) -> Any:
    match str(schema.get("type", "string")).lower():
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {}
        case _:
            return city if name == "city" else f"It is sunny in {city}."
