"""Drop what another attribute of the same span holds in full. Pure, in place.

OpenInference writes each message and tool of a conversation once more in pieces, beside OpenTelemetry's list
of them; harmonising may put that list under MLflow's own name. A piece goes only if its text is found in the
list: compared without white space and backslashes, by which JSON inside JSON differs.
"""

import json
import re
from collections.abc import Callable

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.settings.processors import SlimSettings
from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json

SCHEMA = "logfire.json_schema"
INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
# prefix of the pieces -> the attributes that may hold them, in the order in which they are asked
MESSAGES = {
    "llm.input_messages.": (INPUTS, "gen_ai.input.messages", "pydantic_ai.all_messages"),
    "llm.output_messages.": (OUTPUTS, "gen_ai.output.messages", "pydantic_ai.all_messages"),
    "input.value": (INPUTS,),
    "output.value": (OUTPUTS,),
}
TOOLS = {"llm.tools.": ("gen_ai.tool.definitions", "model_request_parameters")}
# the same list under two names: MLflow's is the one that it shows
SAME = {"gen_ai.input.messages": INPUTS, "gen_ai.output.messages": OUTPUTS}
BETWEEN = re.compile(r"[\s\\]+")


def slim(span: Span, settings: SlimSettings) -> bool:
    """Drop the copies; whether there were any."""
    texts = {each.key: each.value.string_value for each in span.attributes}
    held = _Holders(texts)
    pieces = (MESSAGES if settings.messages else {}) | (TOOLS if settings.tools else {})
    going = [
        position
        for position, each in enumerate(span.attributes)
        if (settings.schemas and each.key == SCHEMA)
        or (settings.messages and _is_same(each.key, texts))
        or any(
            each.key.startswith(prefix) and any(held.holds(name, each.value) for name in names)
            for prefix, names in pieces.items()
        )
    ]
    for position in reversed(going):
        del span.attributes[position]
    return bool(going)


def _is_same(key: str, texts: dict[str, str]) -> bool:
    return key in SAME and bool(texts[key]) and texts.get(SAME[key]) == texts[key]


class _Holders:
    """Attributes as they are compared; each is read once."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts
        self._read: dict[str, str] = {}

    def holds(self, name: str, value: AnyValue) -> bool:
        """Whether the text of `value` stands in the attribute `name`."""
        if name not in self._read:
            self._read[name] = _comparable(_plain_json(self._texts.get(name, "")))
        text = _comparable(_as_text(value))
        return bool(text) and text in self._read[name]


def _plain_json(text: str) -> str:
    """JSON without \\u escapes; text that is none as it stands."""
    value = read_json(text, max_characters=MAX_CONTENT_CHARACTERS) if "\\u" in text else None
    return text if value is None else json.dumps(value, ensure_ascii=False)


def _comparable(text: str) -> str:
    return BETWEEN.sub("", text)


def _as_text(value: AnyValue) -> str:
    read: dict[str, Callable[[], str]] = {
        "string_value": lambda: _plain_json(value.string_value),
        "int_value": lambda: str(value.int_value),
        "bool_value": lambda: str(value.bool_value).lower(),
    }
    kind = value.WhichOneof("value")
    return read[kind]() if kind in read else ""
