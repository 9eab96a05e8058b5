"""A span as it leaves: OpenInference's attributes where they add something, without what they break.

OpenInference's own processor writes on the span that ended (0.1.30): it sets status OK on every span that
isn't an error, makes good spans errors when it fails itself, writes a run's id over the session, and has no
cached tokens. Here the same attributes go on a copy, behind what the span says itself, and every other
processor of the process keeps the span as it was.

Both conventions repeat the conversation. MLflow, and Sidespan's summaries, read OpenTelemetry's list of
messages, so OpenInference's flattened copies of it are left out where the list is there.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

_log = logging.getLogger("instrumentation")

Attributes = dict[str, Any]
Translate = Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]]
# an attribute's name and value -> what is sent in its place; None: nothing
Redact = Callable[[str, Any], Any]

HIDDEN = "__REDACTED__"
AGENT_MARKS = ("gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.tool.name", "agent_name")
# what OpenInference 0.1.30 doesn't translate
CACHED = {
    "gen_ai.usage.cache_read.input_tokens": "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.cache_creation.input_tokens": "llm.token_count.prompt_details.cache_write",
    "gen_ai.usage.cache_write.input_tokens": "llm.token_count.prompt_details.cache_write",
    "gen_ai.usage.details.reasoning_tokens": "llm.token_count.completion_details.reasoning",
    "gen_ai.usage.details.input_audio_tokens": "llm.token_count.prompt_details.audio",
    "gen_ai.usage.details.output_audio_tokens": "llm.token_count.completion_details.audio",
}
MESSAGES_IN, MESSAGES_OUT = "gen_ai.input.messages", "gen_ai.output.messages"
# pieces -> the attribute that holds them all
REPEATED = {
    "llm.input_messages.": MESSAGES_IN,
    "llm.output_messages.": MESSAGES_OUT,
    "llm.tools.": "gen_ai.tool.definitions",
    # of a model call MLflow would show this, the last text, in the place of the messages
    "input.": MESSAGES_IN,
    "output.": MESSAGES_OUT,
}
# describes the other attributes for another backend
NEVER = frozenset({"logfire.json_schema"})
# what went in; both ways in one attribute counts as both
INPUTS = (
    "input.",
    MESSAGES_IN,
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "llm.input_messages.",
    "llm.prompts",
    "tool_arguments",
    "tool.parameters",
    "gen_ai.tool.call.arguments",
)
OUTPUTS = (
    "output.",
    MESSAGES_OUT,
    "gen_ai.completion",
    "llm.output_messages.",
    "final_result",
    "tool_response",
    "gen_ai.tool.call.result",
)
BOTH = ("pydantic_ai.all_messages", "all_messages_events", "events")
MODELS_ROLES = frozenset({"assistant", "model", "tool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """How spans are to leave. `translate` None: without OpenInference's attributes."""

    translate: Translate | None = None
    repeat_content: bool = False
    hide_inputs: bool = False
    hide_outputs: bool = False
    redact: Redact | None = None

    def mend(self, span: ReadableSpan) -> ReadableSpan:
        """The copy that is sent. Whatever fails on the way leaves out what it would have added."""
        own = dict(span.attributes or {})
        attributes = self._translated(own) if any(mark in own for mark in AGENT_MARKS) else own
        if not self.repeat_content:
            attributes = without_copies(attributes)
        attributes = self._hidden(attributes)
        if self.redact is not None:
            attributes = redacted(attributes, self.redact)
        hides = self.hide_inputs or self.hide_outputs
        return ReadableSpan(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            events=[_without_words(event) for event in span.events] if hides else span.events,
            links=span.links,
            kind=span.kind,
            status=_without_description(span.status) if hides else span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _translated(self, own: Attributes) -> Attributes:
        if self.translate is None:
            return own
        try:
            added = dict(self.translate(own))
        except Exception as error:  # KeyError 'arguments' without content, say: the span itself is fine
            _log.debug("OpenInference's attributes could not be made: %r", error)
            added = {}
        cached = {name: own[key] for key, name in CACHED.items() if key in own}
        return {**added, **cached, **own}

    def _hidden(self, attributes: Attributes) -> Attributes:
        hidden = (INPUTS if self.hide_inputs else ()) + (OUTPUTS if self.hide_outputs else ())
        if not hidden:
            return attributes
        kept = {key: value for key, value in attributes.items() if not key.startswith((*hidden, *BOTH))}
        if self.hide_outputs and MESSAGES_IN in kept:  # the history holds earlier answers
            kept[MESSAGES_IN] = _hide_roles(kept[MESSAGES_IN], MODELS_ROLES)
        return kept


def without_copies(attributes: Attributes) -> Attributes:
    """Without what another attribute holds in full, and without what only describes the others."""
    gone = tuple(prefix for prefix, whole in REPEATED.items() if whole in attributes)
    return {
        key: value
        for key, value in attributes.items()
        if key not in NEVER and not (gone and key.startswith(gone))
    }


def redacted(attributes: Attributes, redact: Redact) -> Attributes:
    """What `redact` makes of each value; one that it fails on is left out."""
    found: Attributes = {}
    for key, value in attributes.items():
        try:
            new = redact(key, value)
        except Exception as error:
            _log.warning("redact failed on the attribute %s, which is not sent: %r", key, error)
            continue
        if new is not None:
            found[key] = new
    return found


def _hide_roles(messages: Any, roles: frozenset[str]) -> Any:
    try:
        parsed = json.loads(messages)
        for message in parsed:
            if message.get("role") in roles:
                message["parts"] = [{"type": "text", "content": HIDDEN}]
        return json.dumps(parsed, ensure_ascii=False)
    except (ValueError, TypeError, AttributeError):
        return HIDDEN


def _without_words(event: Event) -> Event:
    """An exception's type alone: its words may quote what is hidden."""
    if event.name != "exception":
        return event
    kept = {"exception.type": (event.attributes or {}).get("exception.type", "")}
    return Event(event.name, kept, event.timestamp)


def _without_description(status: Status) -> Status:
    if status.status_code is not StatusCode.ERROR or not status.description:
        return status
    return Status(StatusCode.ERROR, HIDDEN)
