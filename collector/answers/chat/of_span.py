"""The messages that a span was given and those that it returned. Pure.

The first place that holds messages is taken: those of a convention in their whole form first, then flattened
ones, then events, then whatever MLflow shows as input and output. What holds no messages, such as the
arguments of a tool, is one part that is no text.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.answers.chat.flattened import listed
from collector.answers.chat.parts import read
from collector.answers.chat.reading import ASSISTANT, SYSTEM, TOOL, USER, messages_in
from collector.answers.chat.values import Call, ChatMessage, ChatPart, Media, Other, Result, Words
from collector.harmonise.content import INPUTS_READ, INPUTS_UNREAD, OUTPUTS_READ, OUTPUTS_UNREAD
from collector.harmonise.events import CHOICE, DETAILS, INPUT_MESSAGES, OUTPUT_MESSAGES
from collector.spans.facts import decode_attributes

WHOLE_INPUTS = (
    INPUT_MESSAGES,
    "ai.prompt.messages",
    "gcp.vertex.agent.llm_request",
    "mastra.model_step.input",
)
WHOLE_OUTPUTS = (OUTPUT_MESSAGES, "gcp.vertex.agent.llm_response", "mastra.model_step.output")
# pydantic-ai's messages of a whole run, what was returned among them
RUNS = ("pydantic_ai.all_messages", "all_messages_events")
FLAT_INPUTS = ("llm.input_messages", "gen_ai.prompt")
FLAT_OUTPUTS = ("llm.output_messages", "gen_ai.completion")
INSTRUCTIONS = ("gen_ai.system_instructions", "ai.system")
# the Vercel AI SDK's answer: a text, calls and reasoning in attributes of their own
VERCEL = {
    "ai.response.text": "text",
    "ai.response.toolCalls": "toolCalls",
    "ai.response.reasoning": "reasoning",
}
MESSAGE_EVENT, EVENT_END = "gen_ai.", ".message"

Said = Sequence[ChatMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanChat:
    """What a span was given and what it returned."""

    given: Said
    returned: Said


def span_chat(span: Span) -> SpanChat:
    """Never raises on what a client wrote; a span that says nothing has no messages."""
    attributes = decode_attributes(span.attributes)
    events = [(event.name, decode_attributes(event.attributes)) for event in span.events]
    given = _first(_inputs(attributes, events), USER)
    returned = _first(_outputs(attributes, events), ASSISTANT)
    run = _first((attributes.get(key) for key in RUNS), USER, or_else=False)
    if run:
        cut = _end_of_given(run)
        given, returned = run[:cut], run[cut:] or returned
    if given and list(returned[: len(given)]) == list(given):  # LangGraph returns all messages of its state
        returned = returned[len(given) :]
    return SpanChat(given=[*_instructions(attributes, given), *given], returned=returned)


def plain_value(messages: Said) -> Any:
    """What a tool was given or has returned: the one part of the one message; None where there is none."""
    parts = [part for message in messages for part in message.parts]
    if len(parts) != 1:
        return [_value(part) for part in parts] or None
    return _value(parts[0])


def is_in_words(messages: Said) -> bool:
    """Whether there is more in the messages than one value that is no text."""
    return any(not isinstance(part, Other) for message in messages for part in message.parts)


def _first(places: Iterable[Any], role: str, *, or_else: bool = True) -> Said:
    """The messages in the first place that has any; `or_else` the first value as it is."""
    plain: Said = ()
    for value in places:
        if value is None or value in ("", [], {}, "[]", "{}", "null"):
            continue
        found = messages_in(value, role=role)
        if found and is_in_words(found):
            return found
        if not plain and or_else:
            plain = found or (ChatMessage(role=role, parts=(Other(value=read(value)),)),)
    return plain


def _inputs(attributes: Mapping[str, Any], events: Sequence[tuple[str, Any]]) -> Iterator[Any]:
    yield from (attributes.get(key) for key in WHOLE_INPUTS)
    yield from (listed(attributes, prefix) for prefix in FLAT_INPUTS)
    yield from (told.get(INPUT_MESSAGES) for name, told in events if name == DETAILS)
    yield _of_events(events)
    yield from (attributes.get(key) for key in (*INPUTS_READ, *INPUTS_UNREAD))


def _outputs(attributes: Mapping[str, Any], events: Sequence[tuple[str, Any]]) -> Iterator[Any]:
    yield from (attributes.get(key) for key in WHOLE_OUTPUTS)
    yield from (listed(attributes, prefix) for prefix in FLAT_OUTPUTS)
    yield from (told.get(OUTPUT_MESSAGES) for name, told in events if name == DETAILS)
    yield [_event_body(told) for name, told in events if name == CHOICE]
    yield _of_vercel(attributes)
    yield from (attributes.get(key) for key in (*OUTPUTS_READ, *OUTPUTS_UNREAD))


def _of_events(events: Sequence[tuple[str, Any]]) -> list[Any]:
    """`gen_ai.user.message`, ...: the role is in the name."""
    return [
        {**_event_body(told), "role": name.removeprefix(MESSAGE_EVENT).removesuffix(EVENT_END)}
        for name, told in events
        if name.startswith(MESSAGE_EVENT) and name.endswith(EVENT_END)
    ]


def _event_body(told: Mapping[str, Any]) -> dict[str, Any]:
    """The message of an event: OpenTelemetry's and Strands' attributes, or Azure's one text of JSON."""
    whole = read(told.get("gen_ai.event.content"))
    body: Mapping[str, Any] = whole if isinstance(whole, dict) else told
    inner = read(body.get("message"))
    if isinstance(inner, dict):
        return {"role": ASSISTANT, **inner}
    content = inner if isinstance(inner, str | list) else read(body.get("content"))
    return {"role": body.get("role") or ASSISTANT, **body, "content": content}


def _of_vercel(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    said = {name: read(attributes[key]) for key, name in VERCEL.items() if attributes.get(key)}
    return {"role": ASSISTANT, "content": said.pop("text", None), **said} if said else None


def _instructions(attributes: Mapping[str, Any], given: Said) -> Said:
    if any(message.role == SYSTEM for message in given):
        return ()
    told = next((attributes[key] for key in INSTRUCTIONS if attributes.get(key)), None)
    found = messages_in(told, role=SYSTEM) if told else None
    return [message for message in found or () if any(isinstance(part, Words) for part in message.parts)]


def _end_of_given(run: Said) -> int:
    """Where the last answer of a run begins; a run that failed has none."""
    cut = len(run)
    while cut and run[cut - 1].role not in (USER, TOOL, SYSTEM):
        cut -= 1
    return cut


def _value(part: ChatPart) -> Any:
    match part:
        case Words(text=text):
            return text
        case Call(arguments=arguments):
            return arguments
        case Result(content=content):
            return content
        case Other(value=value):
            return value
        case Media():
            return f"({part.kind.value})"
