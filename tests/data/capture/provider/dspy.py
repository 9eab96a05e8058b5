"""DSPy's form of a question and an answer, which is text: fields between marks. Pure.

Respond with the corresponding output fields, starting with the field `[[ ## reasoning ## ]]`, then
`[[ ## answer ## ]]`, and then ending with the marker for `[[ ## completed ## ]]`.
"""

import json
import re
from collections.abc import Sequence

WISH = re.compile(r"starting with the field (.*?) and then ending with")
FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
OBSERVATION = re.compile(r"\[\[ ## observation_(\d+) ## \]\]")


def fields(text: str) -> Sequence[str]:
    """The fields that the last question asks for, in their order; none in other texts."""
    wishes = WISH.findall(text)
    return FIELD.findall(wishes[-1]) if wishes else ()


def results(text: str) -> int:
    """How many results of tools the text brings."""
    return len(set(OBSERVATION.findall(text)))


def answer(asked: Sequence[str], *, text: str, tool: str, city: str) -> str:
    """All fields; `tool` is the next one that is to be called."""
    known = {
        "next_tool_name": tool,
        "next_tool_args": json.dumps({} if tool == "finish" else {"city": city}),
    }
    said = [f"[[ ## {name} ## ]]\n{known.get(name, text)}" for name in asked]
    return "\n\n".join([*said, "[[ ## completed ## ]]"])
