"""Inputs and outputs of a span where MLflow finds none, or only a part. Pure.

MLflow takes the first attribute of its list that isn't empty JSON. It misses: pydantic-ai's own names on
agents and (version 2) tools; arguments `{}` and results such as `[]`; the messages of a model call once
OpenInference has put the last user text into `input.value`; flattened messages but for the first; queries and
documents of a retrieval; and most events (events.py).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.events import (
    READ_AS_INPUT,
    READ_AS_OUTPUT,
    answer_in,
    are_read,
    decoded,
    event_input,
    event_output,
    question_in,
)
from collector.harmonise.flattened import (
    COMPLETION,
    EMBEDDED,
    PROMPT,
    RETRIEVED,
    flattened_members,
    flattened_messages,
)
from collector.harmonise.messages import ASSISTANT, USER, as_chat, said, spoken, without_binary
from collector.harmonise.parts import Addition, Part
from collector.spans.conventions import ObservationKind
from collector.spans.facts import decode
from collector.spans.json_text import read_json

INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
View = Mapping[str, AnyValue]

# what MLflow 3.17 reads, in its order (mlflow/tracing/otel/translation)
INPUTS_READ = (
    INPUTS,
    "input.value",
    "gen_ai.input.messages",
    "gen_ai.tool.call.arguments",
    "traceloop.entity.input",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.tool_call_args",
    "ai.prompt",
    "ai.prompt.messages",
    "ai.toolCall.args",
    "ai.value",
    "ai.values",
    "agent.messages",
    "llm.messages",
    "input",
    "lmnr.span.input",
    "langfuse.observation.input",
    "user_prompt",
    "new_context",
    "tool_input",
)
OUTPUTS_READ = (
    OUTPUTS,
    "output.value",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "traceloop.entity.output",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_response",
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.toolCall.result",
    "ai.response.object",
    "ai.embedding",
    "ai.embeddings",
    "output",
    "lmnr.span.output",
    "langfuse.observation.output",
    "response.model_output",
)
# what it doesn't read, beside pydantic-ai's messages of a whole run
INPUTS_UNREAD = (
    "tool_arguments",
    "gen_ai.prompt",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.query",
    "gen_ai.memory.query.text",
    "reranker.query",
    "mastra.agent_run.input",
    "mastra.model_generation.input",
    "mastra.model_step.input",
)
OUTPUTS_UNREAD = (
    "tool_response",
    "final_result",
    "gen_ai.completion",
    "gen_ai.retrieval.documents",
    "gen_ai.memory.records",
    "mastra.agent_run.output",
    "mastra.model_generation.output",
)
# calls of tools are no answer
ANSWERS = tuple(key for key in (*OUTPUTS_READ, *OUTPUTS_UNREAD) if key != "ai.response.toolCalls")
QUESTIONS = (*INPUTS_READ, "pydantic_ai.all_messages", *INPUTS_UNREAD)
# what holds a conversation, or may
CONVERSING = frozenset(
    {
        ObservationKind.AGENT,
        ObservationKind.CHAIN,
        ObservationKind.EMBEDDING,
        ObservationKind.LLM,
        ObservationKind.OTHER,
        ObservationKind.TASK,
        ObservationKind.WORKFLOW,
    }
)
EMPTY: tuple[Any, ...] = ({}, [], "", 0)
Events = Sequence[Span.Event]


def content_additions(
    kind: ObservationKind, view: View, events: Events = (), *, is_root: bool = False
) -> list[Addition]:
    """Attributes that give MLflow a span's inputs and outputs; nothing where it reads them whole.

    Those of a root are what it shows of the trace: messages get the form from which it takes the text.
    """
    inputs = None if INPUTS in view else _inputs(kind, view, events)
    outputs = None if OUTPUTS in view else _outputs(kind, view, events)
    if is_root and kind in CONVERSING:
        told = decoded(events) if events else ()
        inputs = _chat(inputs, view, INPUTS_READ, event_input(told), role=USER) or inputs
        outputs = _chat(outputs, view, OUTPUTS_READ, event_output(told), role=ASSISTANT) or outputs
    found = ((INPUTS, inputs), (OUTPUTS, outputs))
    return [Addition(part=Part.CONTENT, key=key, value=value) for key, value in found if value is not None]


def shown(view: View, keys: Sequence[str]) -> str | None:
    """What MLflow would show of `keys`: the first value that isn't empty JSON."""
    texts = (_text(view, key) for key in keys if key in view)
    return next((text for text in texts if text and not _is_empty(text)), None)


def question(view: View, events: Events) -> str | None:
    """What a model call or an agent was asked, in words: the last text of the user, no arguments in JSON."""
    asked = (spoken(text, role=USER) for text in _values(view, QUESTIONS))
    if found := next(filter(None, asked), None):
        return found
    return said(flattened_messages(view, PROMPT), role=USER) or (
        question_in(decoded(events)) if events else None
    )


def answer(view: View, events: Events) -> str | None:
    """What a model call or an agent answered, in words; None where it only called tools."""
    answered = (said(text, role=ASSISTANT) for text in _values(view, ANSWERS))
    if found := next(filter(None, answered), None):
        return found
    return said(flattened_messages(view, COMPLETION), role=ASSISTANT) or (
        answer_in(decoded(events)) if events else None
    )


def _inputs(kind: ObservationKind, view: View, events: Events) -> str | None:
    if kind is ObservationKind.LLM and "input.value" in view:
        if messages := _text(view, "gen_ai.input.messages"):
            return without_binary(messages)
    if shown(view, INPUTS_READ) is not None:
        return None
    found = (
        said(_text(view, "pydantic_ai.all_messages"), role=USER)
        or _first_text(view, INPUTS_UNREAD)
        or flattened_messages(view, PROMPT)
        or flattened_members(view, EMBEDDED)
    )
    if found is None and events:
        told = decoded(events)
        found = None if are_read(told, READ_AS_INPUT) else event_input(told)
    return found or (_first_text(view, INPUTS_READ) if kind is ObservationKind.TOOL else None)


def _outputs(kind: ObservationKind, view: View, events: Events) -> str | None:
    if kind is ObservationKind.LLM and "output.value" in view:
        if messages := _text(view, "gen_ai.output.messages"):
            return without_binary(messages)
    if shown(view, OUTPUTS_READ) is not None:
        return None
    found = (
        _first_text(view, OUTPUTS_UNREAD)
        or flattened_messages(view, COMPLETION)
        or flattened_members(view, RETRIEVED)
    )
    if found is None and events:
        told = decoded(events)
        found = None if are_read(told, READ_AS_OUTPUT) else event_output(told)
    return found or (_first_text(view, OUTPUTS_READ) if kind is ObservationKind.TOOL else None)


def _chat(
    given: str | None, view: View, keys: Sequence[str], in_events: str | None, *, role: str
) -> str | None:
    if keys[0] in view:
        return None
    value = given or shown(view, keys) or in_events
    return None if value is None else as_chat(value, role=role)


def _text(view: View, key: str) -> str | None:
    """An attribute as text; lists and objects as JSON."""
    value = view.get(key)
    if value is None:
        return None
    return value.string_value or _json(value)


def _json(value: AnyValue) -> str | None:
    if value.WhichOneof("value") not in ("array_value", "kvlist_value"):
        return None
    return json.dumps(decode(value), ensure_ascii=False, default=str)


def _values(view: View, keys: Iterable[str]) -> Iterable[str]:
    return (text for key in keys if key in view and (text := _text(view, key)) and not _is_empty(text))


def _first_text(view: View, keys: Iterable[str]) -> str | None:
    found = next((text for key in keys if (text := _text(view, key))), None)
    return None if found is None else without_binary(found)


def _is_empty(text: str) -> bool:
    # only short texts can be `{}`, `[]`, `0`, `false`, `null`, `""`
    if len(text) > 8:
        return False
    # what is no JSON reads as None too, and is not empty
    return text.strip() == "null" or read_json(text) in EMPTY
