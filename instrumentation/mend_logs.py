"""A log record as it leaves: without what is to be hidden, redacted as spans are.

Messages of a model call stand in events of the GenAI conventions, in their body or their attributes; what an
evaluator explains, and what any other record says, may quote either side.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from instrumentation.mend import HIDDEN, INPUTS, MESSAGES_IN, MODELS_ROLES, OUTPUTS, Redact, redacted

ASKED = re.compile(r"gen_ai\.(?:system|user|tool|assistant)\.message")
# the history of a conversation holds earlier answers
ANSWERED = re.compile(r"gen_ai\.(?:choice|assistant\.message)")
# where a message stands in an event
CONTENT = frozenset({"content", "message", "tool_calls", "arguments", "gen_ai.event.content"})
EXPLANATION = "gen_ai.evaluation.explanation"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMending:
    """How log records are to leave."""

    hide_inputs: bool = False
    hide_outputs: bool = False
    redact: Redact | None = None

    def mend(self, record: Any) -> Any:
        """The copy that is sent; the record itself, if nothing is to be done."""
        if not (self.hide_inputs or self.hide_outputs or self.redact):
            return record
        mended = copy.copy(record)
        mended.log_record = said = copy.copy(record.log_record)
        said.attributes = self._attributes(said.event_name or "", dict(said.attributes or {}))
        said.body = self._body(said.event_name or "", said.body)
        return mended

    def _attributes(self, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
        hidden = (INPUTS if self.hide_inputs else ()) + (OUTPUTS if self.hide_outputs else ())
        if hidden:
            attributes = {
                key: value
                for key, value in attributes.items()
                if not key.startswith(hidden)
                and key != EXPLANATION
                and not (key in CONTENT and self._is_hidden(name))
            }
        if self.hide_outputs and MESSAGES_IN in attributes:  # the history holds earlier answers
            attributes[MESSAGES_IN] = _without_answers(attributes[MESSAGES_IN])
        return attributes if self.redact is None else redacted(attributes, self.redact)

    def _body(self, name: str, body: Any) -> Any:
        if body is None or self._is_hidden(name):
            return None
        return body if self.redact is None else redacted({"body": body}, self.redact).get("body")

    def _is_hidden(self, name: str) -> bool:
        """Whether the content of an event is on a hidden side; of any other record nobody knows the side."""
        asked, answered = ASKED.fullmatch(name) is not None, ANSWERED.fullmatch(name) is not None
        if not asked and not answered:
            return self.hide_inputs or self.hide_outputs
        return (asked and self.hide_inputs) or (answered and self.hide_outputs)


def _without_answers(messages: Any) -> Any:
    """Of a list of messages those of users; of anything else nothing."""
    if not isinstance(messages, list | tuple):
        return HIDDEN
    others = (each for each in messages if isinstance(each, Mapping))
    return [each for each in others if each.get("role") not in MODELS_ROLES]


def log_mending(chosen: Mapping[str, bool], redact: Redact | None) -> LogMending:
    """As the switches say."""
    return LogMending(hide_inputs=chosen["hide_inputs"], hide_outputs=chosen["hide_outputs"], redact=redact)
